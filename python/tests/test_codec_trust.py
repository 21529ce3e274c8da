"""What a message may make a program do: nothing but build known data."""

import dataclasses
import json
import logging
import os
import pathlib
import sys
import traceback
import types

import pytest

import codec_classes as c
import pymq._log_once as notices
from pymq._codec import Codec, DecodeError, call_plan, plan_for, register

codec = Codec()
declared = Codec(trust="declared")
strict = Codec(strict=True)


@pytest.fixture(autouse=True)
def nothing_is_warned_of_yet(monkeypatch):
    monkeypatch.setattr(notices, "_told", {})


@pytest.fixture(autouse=True)
def no_trace(tmp_path, monkeypatch):
    """Whatever a test decodes: no module, file, file descriptor or process comes of it."""
    monkeypatch.chdir(tmp_path)
    before = traces()
    yield
    assert traces() == before
    assert os.listdir(tmp_path) == []


def traces():
    maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
    libraries = {line.split()[-1] for line in maps if ".so" in line}
    threads = pathlib.Path("/proc/self/task").iterdir()
    # Threads of the tests before may still be on their way out.
    children = {child for thread in threads for child in children_of(thread)}
    modules = {name for name in sys.modules if not name.endswith("_for_test")}
    return modules, len(os.listdir("/proc/self/fd")), libraries, children


def children_of(thread: pathlib.Path) -> list[str]:
    try:
        return thread.joinpath("children").read_text().split()
    except OSError:
        return []


def everywhere(data: bytes):
    """Decodes on each path that a message can take; gives the value of the plainest one."""

    def fn(a, *rest, **more): ...

    doc = json.loads(data)
    call = json.dumps([doc]).encode()
    if isinstance(doc["__type"], str):
        tree = json.dumps({"0": {"0": doc["__type"]}}).encode()
        codec.decode_call(call, b"{}", tree, call_plan(fn))
        result = json.dumps(doc.get("__obj")).encode()
        codec.decode_result(result, doc["__type"], None, plan_for(c.User | str | list))
        codec.decode_result(result, doc["__type"])
    declared.decode(data)
    return codec.decode(data)


@pytest.mark.parametrize(
    "tag",
    [
        "subprocess.Popen",
        "ctypes.CDLL",
        "logging.FileHandler",
        "io.FileIO",
        "tempfile.NamedTemporaryFile",
        "tempfile.TemporaryDirectory",
        "evilmod.X",
        "antigravity",
        "this",
        "this.d",
        "antigravity.geohash",
        "os.system",
        "builtins.eval",
        "eval",
        "open",
        "object",
        "type",
        "pty.spawn",
        "threading.Thread",
        "pymq._codec.Codec",
        "collections.abc.Mapping",
        "unittest.mock.MagicMock",
        "codec_classes.enum.Enum",
        "codec_classes.dataclasses",
        "codec_classes",
    ],
)
def test_a_tag_of_no_known_data_gives_plain_data(tag):
    for value in ("./x", ["./x"], {"args": "./x"}, 5):
        data = json.dumps({"__type": tag, "__obj": value}).encode()
        assert everywhere(data) == value
        assert codec.decode(json.dumps({"__list": [value], "__type": tag}).encode()) == [value]
        nested = {"__types": {"a": tag}, "__obj": {"a": value}, "__type": "dict"}
        assert codec.decode(json.dumps(nested).encode()) == {"a": value}
        with pytest.raises(DecodeError, match="unknown type"):
            strict.decode(data)
    assert codec.decode(json.dumps({"__type": tag, "a": 1}).encode()) == {"a": 1}


@pytest.mark.parametrize(
    "tag", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "ValueError", "BaseException"]
)
def test_exceptions_are_never_built_by_a_tag(tag):
    data = json.dumps({"__type": tag, "__obj": [3]}).encode()
    assert everywhere(data) == [3]
    assert codec.decode_result(b"[3]", tag) == [3]


class Failure(Exception):
    pass


def test_a_declared_exception_is_not_built_by_a_tag_either():
    register(Failure)
    sent = codec.encode(Failure(1, "a"))
    assert codec.decode(sent) == [1, "a"]
    assert codec.decode_result(*codec.encode_result(Failure(1))) == [1]


def test_an_unknown_tag_is_warned_of_once(caplog):
    with caplog.at_level(logging.WARNING, "pymq"):
        for _ in range(3):
            assert codec.decode(b'{"__type":"nowhere.X","__obj":1}') == 1
            assert codec.decode(b'{"__type":"nowhere.Y","a":1}') == {"a": 1}
    assert [record.name for record in caplog.records] == ["pymq", "pymq"]
    assert "nowhere" not in caplog.text


@pytest.mark.parametrize(
    "tag", [123, None, [], {}, "", "x" * 2**20, "a..b", "\0", "a.b\n", "a b.C"]
)
def test_an_impossible_tag_is_an_unknown_one(tag):
    data = json.dumps({"__type": tag, "a": 1}).encode()
    assert everywhere(data) == {"a": 1}
    with pytest.raises(DecodeError):
        strict.decode(data)


@pytest.mark.parametrize(
    "types", ["5", "null", "[]", '{"a":5}', '{"=":5,"a":"x"}', '{"*":[]}', '{"a":{"=":{}}}']
)
def test_a_malformed_type_tree_is_refused(types):
    data = f'{{"__types":{types},"__obj":{{"a":{{"b":1}}}},"__type":"dict"}}'.encode()
    with pytest.raises(DecodeError, match="malformed type tree"):
        codec.decode(data)


@pytest.mark.parametrize(
    "types", ['{"zz":"tuple"}', '{"a":{"zz":"tuple"}}', '{"a":{"9":"tuple"}}', "{}"]
)
def test_a_type_tree_that_speaks_of_other_places_changes_nothing(types):
    data = f'{{"__types":{types},"__obj":{{"a":{{"b":1}}}},"__type":"dict"}}'.encode()
    assert codec.decode(data) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("types", "value"),
    [
        ('"tuple"', "5"),
        ('"set"', "[[]]"),
        ('"dict:int"', '{"x":1}'),
        ('"dict:*"', "[1]"),
        ('"dict:*"', "[[[],1]]"),
        ('"dict:*"', '{"a":1}'),
        ('"dict:int,str"', '{"1":1,"2":2,"3":3}'),
        ('"datetime.datetime"', '"yesterday"'),
        ('"datetime.timedelta"', "5.0"),
        ('"bytes"', '"?"'),
        ('"codec_classes.Color"', '"no colour"'),
        ('"codec_classes.Point"', "[]"),
        ('"codec_classes.Point"', '"x"'),
        ('"codec_classes.User"', '"x"'),
        ('"int"', '"' + "9" * 5000 + '"'),
        ('"int"', "[]"),
    ],
)
def test_a_value_that_is_not_what_its_tag_says_is_refused(types, value):
    data = f'{{"__types":{{"a":{types}}},"__obj":{{"a":{value}}},"__type":"dict"}}'.encode()
    with pytest.raises(DecodeError, match=r"^event\["):
        codec.decode(data)


def test_a_tag_below_the_top_level_is_data():
    inner = {"__type": "codec_classes.User", "id": 1, "email": "e"}
    assert codec.decode(json.dumps([inner]).encode()) == [inner]
    assert codec.decode(json.dumps({"a": inner}).encode()) == {"a": inner}
    assert codec.decode(json.dumps({"__obj": [inner], "__type": "list"}).encode()) == [inner]


@pytest.mark.parametrize(
    "value",
    [
        {"__type": "x", "a": 1},
        {"__obj": 1},
        {"__list": [1]},
        {"__types": {"a": "tuple"}, "a": [1]},
        {"__types": {"a": "tuple"}, "__type": "dict", "__obj": {"a": [1]}},
        {"a": {"__types": "tuple", "__type": "tuple", "__obj": [1]}},
        {"=": "tuple", "*": "tuple", "/": "tuple", "/=": (1,), "": (2,)},
        [{"__type": "subprocess.Popen", "__obj": "x"}],
        {1: {"__type": "x"}, "__type": (1,)},
    ],
)
def test_honest_data_that_looks_like_tags_comes_back(value):
    assert codec.decode(codec.encode(value)) == value


def test_attributes_that_look_like_tags_come_back():
    made = c.bare(__type="x", __obj=1, b=(1,))
    assert codec.decode(codec.encode(made)) == made


def test_dunder_names_are_never_set():
    data = (
        b'{"__type":"codec_classes.Bare","__class__":"x","__dict__":{"y":1},"__init__":1,'
        b'"__slots__":[],"_private":1,"a":1}'
    )
    for got in (codec.decode(data), codec.decode(data, plan_for(c.Bare))):
        assert type(got) is c.Bare
        assert vars(got) == {"_private": 1, "a": 1}
        assert got.__init__.__qualname__.startswith("object")
    with pytest.raises(DecodeError, match="cannot be sent an attribute __class__"):
        strict.decode(data)


def test_ten_thousand_more_fields_are_just_fields():
    doc = {f"k{i}": i for i in range(10_000)}
    got = codec.decode(json.dumps({"__type": "codec_classes.Bare", **doc}).encode())
    assert vars(got) == doc


# ---- what is known


def loaded_module(monkeypatch, **contents):
    module = types.ModuleType("loaded_for_test")
    for name, value in contents.items():
        value.__module__, value.__qualname__ = "loaded_for_test", name
        value.__name__ = name
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "loaded_for_test", module)
    return module


class TestLoadedClasses:
    @pytest.fixture(autouse=True)
    def module(self, monkeypatch):
        class Data:
            pass

        class WithDel:
            def __del__(self): ...

        class WithSetattr:
            def __setattr__(self, name, value): ...

        class Child(WithDel):
            pass

        class Error(Exception):
            pass

        class Meta(type):
            pass

        @dataclasses.dataclass
        class Point:
            a: int

        return loaded_module(
            monkeypatch,
            Data=Data,
            WithDel=WithDel,
            WithSetattr=WithSetattr,
            Child=Child,
            Error=Error,
            Meta=Meta,
            Point=Point,
        )

    def test_data_is_known_by_being_loaded(self, module):
        got = codec.decode(b'{"a":1,"__type":"loaded_for_test.Data"}')
        assert type(got) is module.Data
        assert type(codec.decode(b'{"a":1,"__type":"loaded_for_test.Point"}')) is module.Point

    def test_trust_declared_takes_only_what_was_declared(self, module):
        data = b'{"a":1,"__type":"loaded_for_test.Data"}'
        assert declared.decode(data) == {"a": 1}
        register(module.Data)
        assert type(declared.decode(data)) is module.Data

    @pytest.mark.parametrize("name", ["WithDel", "WithSetattr", "Child", "Error", "Meta"])
    def test_classes_with_tricks_are_not(self, name):
        data = f'{{"a":1,"__type":"loaded_for_test.{name}"}}'.encode()
        assert codec.decode(data) == {"a": 1}

    def test_a_name_is_exact(self, module):
        module.Alias = module.Data
        module.Moved = c.User
        for name in ("Alias", "Moved", "Data.x", "Data.__class__", "__dict__", "data"):
            data = f'{{"a":1,"__type":"loaded_for_test.{name}"}}'.encode()
            assert codec.decode(data) == {"a": 1}

    def test_a_modules_own_getattr_is_not_asked(self, module):
        def refuse(name):
            raise AssertionError(f"asked for {name}")

        module.__getattr__ = refuse
        assert codec.decode(b'{"a":1,"__type":"loaded_for_test.Missing"}') == {"a": 1}

    def test_a_lazy_module_stays_unloaded(self, monkeypatch):
        class Lazy(types.ModuleType):
            def __getattribute__(self, name):
                raise AssertionError(f"asked for {name}")

        monkeypatch.setitem(sys.modules, "lazy_for_test", Lazy("lazy_for_test"))
        assert codec.decode(b'{"a":1,"__type":"lazy_for_test.X"}') == {"a": 1}

    def test_something_else_in_place_of_a_module_is_left_alone(self, monkeypatch):
        class Sly:
            def __getattr__(self, name):
                raise AssertionError(f"asked for {name}")

        monkeypatch.setitem(sys.modules, "sly_for_test", Sly())
        assert codec.decode(b'{"a":1,"__type":"sly_for_test.X"}') == {"a": 1}

    def test_a_module_that_is_loaded_later_is_found_then(self, monkeypatch):
        class Late:
            pass

        data = b'{"a":1,"__type":"loaded_for_test.Late"}'
        assert codec.decode(data) == {"a": 1}
        loaded_module(monkeypatch, Late=Late)
        assert type(codec.decode(data)) is Late


def test_what_a_loaded_class_hints_is_not_constructed():
    class Trap(c.Plain):
        made = 0

        def __init__(self, a=0):
            type(self).made += 1

    class Carrier(c.Plain):
        trap: Trap
        shell: types.ModuleType

    register(Carrier)
    data = b'{"trap":{"a":1},"__type":"test_codec_trust.Carrier"}'
    got = codec.decode(data)
    assert type(got.trap) is Trap
    assert Trap.made == 0
    with pytest.raises(DecodeError, match="cannot be built from a message"):
        codec.decode(b'{"shell":{"name":"os"},"__type":"test_codec_trust.Carrier"}')


def test_a_hint_of_the_standard_librarys_machinery_is_refused():
    import subprocess
    import threading

    for hint in (subprocess.Popen, threading.Thread, type, type[c.User], logging.FileHandler):
        with pytest.raises(DecodeError):
            codec.decode(b'"./x"', plan_for(hint))
        with pytest.raises(DecodeError):
            codec.decode(b'{"args":"./x","filename":"x"}', plan_for(hint))


def test_hints_declare_their_classes_recursively():
    class Inner(c.Plain):
        pass

    class Outer(c.Plain):
        inner: dict[str, list[Inner | None]]

    def handler(event: Outer) -> None: ...

    call_plan(handler)
    for name in ("Inner", "Outer"):
        data = f'{{"a":1,"__type":"test_codec_trust.{name}"}}'.encode()
        assert type(declared.decode(data)).__name__ == name


def test_what_this_process_sent_is_known():
    class Sent(c.Plain):
        pass

    assert type(declared.decode(declared.encode(Sent()))) is Sent


# ---- bad bytes


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b'{"a"',
        b"[1,]",
        b"01",
        b"1 2",
        b"tru",
        b"'a'",
        b'"\xff"',
        b'"\xc0\x80"',
        b"\xef\xbb\xbf1",
        b'"\x01"',
        b'"\n"',
        b'"\\x"',
        b"\x00",
        b"-",
        b"1.",
        b".5",
        b"+1",
        b"-NaN",
        b"nan",
        "1".encode("utf-16"),
        b"9" * 5000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"__type":"dict","__types":' + b'{"a":' * 300 + b"1" + b"}" * 301,
    ],
    ids=lambda data: repr(data[:12]),
)
def test_bad_bytes_are_a_decode_error(data):
    with pytest.raises(DecodeError):
        codec.decode(data)


def test_the_codec_still_works_after_all_this():
    assert codec.decode(codec.encode(c.Event(1, c.User(1, "e")))) == c.Event(1, c.User(1, "e"))


# ---- what a class may do when only a tag chose it


class TestClassesWithCodeOfTheirOwn:
    @pytest.fixture(autouse=True)
    def module(self, monkeypatch):
        self.ran = ran = []

        class Asked(type):
            def __getattribute__(cls, name):
                ran.append(name)
                return super().__getattribute__(name)

        class WithMetaclass(metaclass=Asked):
            pass

        class Describing(type):
            @property
            def __fields__(cls):
                ran.append("__fields__")

        class WithProperty(metaclass=Describing):
            pass

        class DictProperty:
            @property
            def __dict__(self):
                return {}

            @__dict__.setter
            def __dict__(self, value):
                ran.append(value)

        class Base:
            __slots__ = ("a",)

        class SlotProperty(Base):
            @property
            def a(self):
                return 1

            @a.setter
            def a(self, value):
                ran.append(value)

        class ClassProperty:
            @property
            def __class__(self):
                ran.append("__class__")
                return type

        module = loaded_module(
            monkeypatch,
            WithProperty=WithProperty,
            DictProperty=DictProperty,
            SlotProperty=SlotProperty,
        )
        type.__setattr__(WithMetaclass, "__module__", "loaded_for_test")
        type.__setattr__(WithMetaclass, "__qualname__", "WithMetaclass")
        module.WithMetaclass, module.proxy = WithMetaclass, ClassProperty()
        ran.clear()

    @pytest.mark.parametrize(
        "name", ["WithMetaclass", "WithProperty", "DictProperty", "SlotProperty", "proxy"]
    )
    def test_none_of_it_runs(self, name):
        data = f'{{"a":1,"__type":"loaded_for_test.{name}"}}'.encode()
        assert codec.decode(data) == {"a": 1}
        nested = f'{{"__types":{{"*":"loaded_for_test.{name}"}},"__list":[{{"a":1}}],"__type":"x"}}'
        assert codec.decode(nested.encode()) == [{"a": 1}]
        assert self.ran == []


# ---- what the log may say


SECRET = "s3cret"


@pytest.mark.parametrize(
    ("hint", "sent"),
    [
        (int, f'"{SECRET}"'),
        (float, f'"{SECRET}"'),
        (c.Color, f'"{SECRET}"'),
        (c.User, f'{{"id":"{SECRET}","email":""}}'),
        (list[int], f'["{SECRET}"]'),
        (dict[str, int], f'{{"{SECRET}":"x"}}'),
        (dict[int, int], f'{{"{SECRET}":1}}'),
        (None, f'{{"__types":{{"*":"uuid.UUID"}},"__obj":{{"{SECRET}":""}},"__type":"dict"}}'),
        (None, f'{{"a":{SECRET}}}'),
        (c.Bare, f'{{"__types":{{"{SECRET}":"uuid.UUID"}},"{SECRET}":"no","__type":"x.Bare"}}'),
    ],
)  # fmt: skip
def test_an_error_has_a_text_without_what_the_message_holds(hint, sent):
    with pytest.raises(DecodeError) as raised:
        codec.decode(sent.encode(), None if hint is None else plan_for(hint))
    assert SECRET not in raised.value.redacted
    assert raised.value.redacted.startswith("event")
    long = sent.replace(SECRET, SECRET * 100_000)
    with pytest.raises(DecodeError) as raised:
        codec.decode(long.encode(), None if hint is None else plan_for(hint))
    assert len(str(raised.value)) < 1000
    assert SECRET not in raised.value.redacted
    assert len("".join(traceback.format_exception(raised.value))) < 10_000


def test_a_tag_is_logged_if_the_program_has_loaded_its_package(caplog):
    codec.decode(b'{"__type":"codec_classes.NotThere","a":1}')
    codec.decode(f'{{"__type":"{SECRET}.X","a":1}}'.encode())
    assert "'codec_classes.NotThere'" in caplog.text
    assert SECRET not in caplog.text


def test_a_deep_place_is_told_in_few_words():
    with pytest.raises(DecodeError) as raised:
        codec.decode(
            (
                '{"__types":' + '{"k":' * 190 + '"uuid.UUID"' + "}" * 190
                + ',"__obj":' + '{"k":' * 190 + '"no"' + "}" * 190 + ',"__type":"dict"}'
            ).encode()
        )  # fmt: skip
    assert len(str(raised.value)) < 500
