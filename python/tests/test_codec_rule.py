"""What the sender accepts some receiver can build, equal to what was sent; the rest is refused."""

from __future__ import annotations

import argparse
import ast
import base64
import collections
import contextlib
import ctypes
import dataclasses
import datetime
import decimal
import email.message
import enum
import fractions
import functools
import http
import importlib
import inspect
import io
import ipaddress
import itertools
import operator
import os
import random
import re
import socket
import string
import subprocess
import sys
import threading
import time
import types
import urllib.parse
import uuid
import warnings
import weakref
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from typing_extensions import Self

import codec_classes as c
from pymq import _encodings, _types
from pymq._codec import Codec, DecodeError, EncodeError, plan_for
from pymq._plans import resolve

codec = Codec()

#: What importing them does is not for tests: they open windows, need a terminal, are all tests
#: themselves or gone from some version.
NOT_IMPORTED = re.compile(r"antigravity|this|idlelib|turtle.*|tkinter|lib2to3|test|_test.*|_xx.*")


def standard_classes() -> list[type]:
    found: dict[type, None] = {}
    for name in sorted(sys.stdlib_module_names):
        if NOT_IMPORTED.fullmatch(name):
            continue
        with warnings.catch_warnings(), contextlib.suppress(ImportError, RuntimeError):
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
            for value in list(vars(module).values()):
                if isinstance(value, type) and not isinstance(value, types.GenericAlias):
                    found[value] = None
    return list(found)


#: Sent as something else, which the table says: exceptions as their arguments.
AS_TOLD = (BaseException, type, types.FunctionType, types.MethodType)


def test_each_class_of_the_standard_library_is_refused_or_built_from_its_tag():
    classes = standard_classes()
    assert len(classes) > 1000
    wrong = []
    for cls in classes:
        if issubclass(cls, AS_TOLD) or cls in (bool, types.NoneType):
            continue
        if not _types.is_tag(_types.fullname(cls)):
            # Of no module (`ssl.Purpose` in Python 3.10): built where a hint names it.
            continue
        encoding = _encodings.encoding_for(cls)
        if encoding.is_refused:
            continue
        plan = resolve(encoding.name, "loaded")
        if plan is None or plan.cls is None or not issubclass(cls, plan.cls):
            wrong.append((cls, encoding.name))
    assert wrong == []


class Node:
    def __init__(self, value: Any, following: Any = None) -> None:
        self.value, self.following = value, following

    def __eq__(self, other: object) -> bool:
        return type(other) is Node and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]


class Named(collections.UserDict):
    pass


T = TypeVar("T")


class Boxed(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is Boxed and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


class Ratio(float, enum.Enum):
    HALF = 0.5
    WHOLE = 1.0


class Odd(enum.Enum):
    BYTES = b"\x00"
    MOMENT = datetime.datetime(2024, 1, 1)
    AMOUNT = decimal.Decimal("1.50")
    PAIR = (1, (2, 3))
    LIST = [1]  # noqa: RUF012
    POINT = c.Point(1, 2)
    OBJECT = c.Frozen(1)


@pytest.mark.parametrize(
    "value",
    [
        ipaddress.ip_address("10.0.0.1"),
        ipaddress.ip_address("fe80::1%eth0"),
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("2001:db8::/32"),
        ipaddress.ip_interface("10.0.0.1/8"),
        ipaddress.ip_interface("2001:db8::1/64"),
        collections.UserDict(a=(1,)),
        collections.UserList([(1,)]),
        collections.UserString("a"),
        collections.ChainMap({"a": 1}, {"b": (2,)}),
        Named(a=1),
        argparse.Namespace(a=(1,)),
        urllib.parse.urlparse("http://x/y?z#a"),
        urllib.parse.urlsplit("http://x/y?z#a"),
        http.HTTPStatus.OK,
        socket.AF_INET,
        uuid.SafeUUID.safe,
        inspect.Parameter.POSITIONAL_ONLY,
        types.SimpleNamespace(a=(1,)),
        Boxed((1,)),
        *Odd,
        {Odd.BYTES: [Odd.AMOUNT]},
        {ipaddress.ip_address("::1"): 1},
        {Ratio.HALF: 1, Ratio.WHOLE: 2},
        Node(1, Node((2,), Node({3}))),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(microseconds=1))),
        datetime.time(1, 2, tzinfo=datetime.timezone(datetime.timedelta(microseconds=-1))),
        fractions.Fraction(-7, 3),
        10**4299,
    ],
    ids=repr,
)
def test_what_is_accepted_comes_back(value):
    for sent in (value, [value], {"a": value}, (value, value), Node(value)):
        read = codec.decode(codec.encode(sent))
        assert type(read) is type(sent)
        assert read == sent
    read = codec.decode_result(*codec.encode_result(value))
    assert type(read) is type(value)
    assert read == value
    assert codec.decode(codec.encode(value), plan_for(type(value))) == value


def test_a_program_may_have_a_module_under_a_name_of_the_standard_library(tmp_path, monkeypatch):
    (tmp_path / "profile.py").write_text(
        "import dataclasses\n@dataclasses.dataclass\nclass Profile:\n    a: int\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "profile", raising=False)
    module = importlib.import_module("profile")
    monkeypatch.setitem(sys.modules, "profile", module)
    assert Codec().decode(b'{"a":1,"__type":"profile.Profile"}') == module.Profile(1)
    assert codec.decode(codec.encode([module.Profile(1)])) == [module.Profile(1)]


def test_a_template_and_a_finished_process_come_back():
    assert codec.decode(codec.encode(string.Template("$a"))).template == "$a"
    done = codec.decode(codec.encode(subprocess.CompletedProcess(["x"], 3, b"o", None)))
    assert (type(done), done.args, done.returncode) == (subprocess.CompletedProcess, ["x"], 3)
    assert done.stdout == b"o"


class Bytes(bytes):
    pass


class Structure(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int),)


class OwnPartial(functools.partial):
    pass


class OwnRandom(random.Random):
    pass


class OwnLocal(threading.local):
    pass


class Alike(enum.Enum):
    BYTES = b"x"
    TEXT = base64.b64encode(b"x").decode()


class OfSets(enum.Enum):
    SET = frozenset({1, 2})


@pytest.mark.parametrize(
    "value",
    [
        functools.partial(int, "7"),
        OwnPartial(int, "7"),
        random.Random(3),
        OwnRandom(3),
        OwnLocal(),
        Structure(1),
        operator.itemgetter(1),
        operator.attrgetter("a"),
        operator.methodcaller("a"),
        itertools.count(),
        iter([]),
        re.compile("a"),
        re.match("a", "a"),
        time.gmtime(0),
        os.stat("/"),
        sys.version_info,
        sys.flags,
        email.message.EmailMessage(),
        threading.Thread(),
        threading.Event(),
        contextlib.ExitStack(),
        weakref.WeakValueDictionary(),
        weakref.ref(Node(1)),
        datetime.timezone.utc,
        range(3),
        slice(1),
        memoryview(b""),
        io.StringIO(),
        io.BytesIO(b"a"),
        ast.parse("1"),
        inspect.signature(standard_classes),
        types.MappingProxyType({}),
        property(),
        staticmethod(print),
        classmethod(print),
        object(),
        NotImplemented,
        Ellipsis,
        sys,
        Alike.BYTES,
        OfSets.SET,
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_nobody_could_build_is_refused_with_its_place(value):
    with pytest.raises(EncodeError, match=r"^event: cannot encode "):
        codec.encode(value)
    with pytest.raises(EncodeError, match=r'^event\["a"\]\[1\]\.following: cannot encode '):
        codec.encode({"a": [1, Node(1, value)]})
    with pytest.raises(EncodeError, match=r"^args\[0\]: cannot encode "):
        codec.encode_call((value,), {})
    with pytest.raises(EncodeError, match=r"^result: cannot encode "):
        codec.encode_result(value)


def test_what_a_class_raises_while_it_is_encoded_names_the_place():
    class Sly:
        __slots__ = ("a",)

        def __getattribute__(self, name):
            raise RuntimeError("not now")

    class SlySet(set):
        def __iter__(self):
            raise RuntimeError("not now")

    for value in (Sly(), SlySet({1})):
        with pytest.raises(EncodeError, match=r"^event\[1\]: .*not now"):
            codec.encode([1, value])
        with pytest.raises(EncodeError, match=r"^result\[1\]: .*not now"):
            codec.encode_result([1, value])


def test_an_interrupt_stays_one():
    class Sly:
        __slots__ = ("a",)

        def __getattribute__(self, name):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        codec.encode([Sly()])


def test_an_error_reaches_the_caller_whatever_its_arguments_are():
    class Mute:
        def __repr__(self):
            raise RuntimeError("no words")

    for argument in (Mute(), "x" * 17_000_000, object(), b"x", (), [Mute()] * 3):
        value, name, types_tree = codec.encode_result(ValueError("first", argument))
        assert name == "ValueError"
        assert len(value) < 17_000_000 // 4
        assert codec.decode_result(value, name, types_tree)[0].strip("'") == "first"


def test_numpys_floats_and_texts_arrive_as_pythons():
    numpy = pytest.importorskip("numpy")
    for value, cls in ((numpy.float64(1.5), float), (numpy.str_("a"), str)):
        for sent in (value, [value, value]):
            read = codec.decode(codec.encode(sent))
            assert read == sent
            assert type(read if sent is value else read[0]) is cls
        read = codec.decode_result(*codec.encode_result(value))
        assert (read, type(read)) == (value, cls)
    with pytest.raises(EncodeError, match="cannot encode numpy"):
        codec.encode(numpy.int64(1))


def test_what_is_no_moment_is_not_sent_as_one():
    pandas = pytest.importorskip("pandas")
    assert codec.decode(codec.encode(pandas.Timestamp(2024, 1, 2))) == datetime.datetime(2024, 1, 2)
    for value in (pandas.NaT, pandas.Timestamp("2024-01-01T00:00:00.123456789")):
        with pytest.raises(EncodeError, match=r'^event\["at"\]: cannot encode pandas.*not equal'):
            codec.encode({"at": value})


# ---- what the receiver's class does not know


def told(caplog: pytest.LogCaptureFixture, name: str) -> int:
    return sum(f"fields that {__name__}.{name} does not know" in text for text in caplog.messages)


@dataclasses.dataclass
class Plain:
    a: int


@dataclasses.dataclass(slots=True)
class Slots:
    a: int


@dataclasses.dataclass(slots=True, frozen=True)
class FrozenSlots:
    a: int


class Pair(NamedTuple):
    a: int


class WithProperty:
    a: int

    @property
    def added(self) -> int:
        return 3


def extras() -> list[Any]:
    @attrs.define
    class Attrs:
        a: int

    class Strict(pydantic.BaseModel, extra="forbid"):
        a: int

    class Struct(msgspec.Struct, forbid_unknown_fields=True):
        a: int

    class ArrayStruct(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
        a: int

    kinds = (Attrs, Strict, Struct, ArrayStruct)
    return [Plain, Slots, FrozenSlots, Pair, WithProperty, *kinds]


@pytest.mark.parametrize("cls", extras(), ids=lambda cls: cls.__name__)
def test_a_field_that_the_class_does_not_know_costs_nothing_and_is_told_once(
    cls, caplog, monkeypatch
):
    from pymq import _log_once

    monkeypatch.setattr(_log_once, "_told", {})
    for sent in (b'{"a":1,"added":2,"more":[{}]}', b'{"added":2,"a":1}'):
        assert codec.decode(sent, plan_for(cls)).a == 1
        assert codec.decode(b"[" + sent + b"]", plan_for(list[cls]))[0].a == 1
    assert told(caplog, cls.__name__) == (cls not in (Plain,))
    assert "added" not in caplog.text


def test_more_elements_than_a_named_tuple_has_are_dropped_and_told_once(caplog, monkeypatch):
    from pymq import _log_once

    monkeypatch.setattr(_log_once, "_told", {})
    assert codec.decode(b"[1,2,3]", plan_for(Pair)) == Pair(1)
    assert codec.decode(b"[[1,2,3]]", plan_for(list[Pair])) == [Pair(1)]
    assert told(caplog, "Pair") == 1


class Inner(pydantic.BaseModel, extra="forbid"):
    a: int


class Outer(pydantic.BaseModel, extra="forbid"):
    inner: list[Inner]


class InnerStruct(msgspec.Struct, forbid_unknown_fields=True):
    a: int


class OuterStruct(msgspec.Struct):
    inner: list[InnerStruct]


def test_a_field_that_a_model_within_does_not_know_costs_nothing():
    sent = b'{"inner":[{"a":1,"x":2},{"a":1,"x":2,"y":3}]}'
    assert codec.decode(sent, plan_for(Outer)).inner == [Inner(a=1)] * 2
    assert codec.decode(sent, plan_for(OuterStruct)).inner == [InnerStruct(1)] * 2
    for hint in (Outer, OuterStruct):
        with pytest.raises(DecodeError, match="no "):
            codec.decode(b'{"inner":[{"a":"x","x":2}]}', plan_for(hint))


def test_strict_names_the_field():
    strict = Codec(strict=True)
    for cls in (Slots, Pair):
        with pytest.raises(DecodeError, match="has no attribute added") as raised:
            strict.decode(b'{"a":1,"added":2}', plan_for(cls))
        assert "added" not in raised.value.redacted


# ---- a class that speaks of itself


def test_self_is_the_class():
    @dataclasses.dataclass
    class Tree:
        v: int
        left: Self | None = None
        rest: list[Self] = dataclasses.field(default_factory=list)
        named: dict[str, tuple[Self, ...]] = dataclasses.field(default_factory=dict)

    @dataclasses.dataclass
    class Sub(Tree):
        pass

    sent = b'{"v":1,"left":{"v":2},"rest":[{"v":3}],"named":{"a":[{"v":4}]}}'
    for cls in (Tree, Sub):
        got = codec.decode(sent, plan_for(cls))
        assert got == cls(1, cls(2), [cls(3)], {"a": (cls(4),)})
