"""The original's `pymq.json` and `pymq.typing`, for programs that import them."""

import enum
import json
import sys
import typing

import pytest

import codec_classes as c
from pymq.json import DeepDictDecoder, DeepDictEncoder, dumps, loads
from pymq.typing import (
    deep_from_dict,
    deep_to_dict,
    fullname,
    is_generic,
    load_class,
    new_instance,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, '{"__obj": null, "__type": "NoneType"}'),
        (1, "1"),
        ("ä", '"\\u00e4"'),
        ([], "[]"),
        ([1, "a"], '[1, "a"]'),
        ({"a": 1}, '{"a": 1}'),
        ((1, (2,)), '{"__obj": [1, [2]], "__type": "tuple"}'),
        ({1}, '{"__obj": [1], "__type": "set"}'),
        (c.Point(1, 2), '{"__obj": [1, 2, ""], "__type": "codec_classes.Point"}'),
        ([c.Point(1, 2)], '{"__list": [[1, 2, ""]], "__type": "codec_classes.Point"}'),
        ([[1]], '{"__list": [[1]], "__type": "list"}'),
        (c.User(1, "e"), '{"id": 1, "email": "e", "__type": "codec_classes.User"}'),
        (ValueError("a"), '{"__obj": ["a"], "__type": "ValueError"}'),
        (int, '{"__obj": "int", "__type": "int"}'),
    ],
)
def test_the_encoder_writes_what_the_original_writes(value, text):
    assert dumps(value, cls=DeepDictEncoder) == text


def test_the_decoder_reads_it_back():
    for value in (None, 1, [1], (1, 2), {1}, c.Point(1, 2), [c.Point(1, 2)], c.User(1, "e")):
        assert loads(dumps(value, cls=DeepDictEncoder), cls=DeepDictDecoder) == value


def test_the_decoder_takes_a_target_class():
    decoder = DeepDictDecoder.for_type(c.Event)
    got = loads('{"id": "1", "user": {"id": 2, "email": "e"}, "points": [[1, 2]]}', cls=decoder)
    assert got == c.Event(1, c.User(2, "e"), [c.Point(1, 2)])


def test_the_decoder_builds_nothing_dangerous():
    import subprocess

    assert subprocess.Popen
    text = '{"__type": "subprocess.Popen", "__obj": "./x"}'
    assert loads(text, cls=DeepDictDecoder) == "./x"


def test_a_subclass_may_load_classes_in_its_own_way():
    class Own(DeepDictDecoder):
        def _load_class(self, class_name):
            return {"p": c.Point}[class_name]

    assert loads('{"__list": [[1, 2, "a"]], "__type": "p"}', cls=Own) == [c.Point(1, 2, "a")]
    assert loads('{"__obj": [1, 2, "a"], "__type": "p"}', cls=Own) == c.Point(1, 2, "a")
    assert loads("[1]", cls=Own) == [1]


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (int, "int"),
        ("x", "str"),
        (None, "NoneType"),
        (c.User, "codec_classes.User"),
        (c.User(1, "e"), "codec_classes.User"),
        (c.User.__init__, "codec_classes.User.__init__"),
        (c.bare().__eq__, "codec_classes.Plain.__eq__"),
        (json.JSONEncoder, "json.encoder.JSONEncoder"),
    ],
)
def test_fullname(thing, name):
    assert fullname(thing) == name


def test_is_generic():
    for generic in (typing.List[int], typing.Dict[str, int], typing.Tuple[int]):  # noqa: UP006
        assert is_generic(generic)
    for other in (list, int, typing.Any, c.User):
        assert not is_generic(other)


def test_load_class_finds_loaded_classes_and_imports_nothing():
    assert load_class("int") is int
    assert load_class("codec_classes.User") is c.User
    assert load_class("json.JSONDecoder") is json.JSONDecoder
    before = set(sys.modules)
    for name in (
        "this",
        "antigravity.X",
        "nowhere.X",
        "eval",
        "os.system",
        "codec_classes",
        "",
        ".",
    ):
        assert load_class(name) is None
    assert set(sys.modules) == before


def test_new_instance_uses_the_constructor_and_sets_the_rest():
    class Thing:
        def __init__(self, a, b=2):
            self.got = (a, b)

    made = new_instance(Thing, {"a": 1, "z": 3})
    assert (made.got, made.z) == ((1, 2), 3)


def test_deep_to_dict():
    value = c.Event(1, c.User(2, "e"), [c.Point(1, 2)])
    assert deep_to_dict(value) == {
        "id": 1,
        "user": {"id": 2, "email": "e"},
        "points": [(1, 2, "")],
    }
    assert deep_to_dict((1, {2}, int, ValueError("x"))) == (1, [2], "int", ("x",))
    with pytest.raises(TypeError, match="Unhandled type"):
        deep_to_dict(object())


class Shade(enum.Enum):
    DARK = 1


@pytest.mark.parametrize(
    ("doc", "cls", "value"),
    [
        ("3", int, 3),
        (None, int, None),
        (1, typing.Any, 1),
        ([1, 2, "a"], c.Point, c.Point(1, 2, "a")),
        ({"id": "1", "email": "e"}, c.User, c.User(1, "e")),
        ([[1, 2, "a"]], typing.List[c.Point], [c.Point(1, 2, "a")]),  # noqa: UP006
        ({"1": "2"}, typing.Dict[int, int], {1: 2}),  # noqa: UP006
        (["1", 2], typing.Tuple[int, str], (1, "2")),  # noqa: UP006
        (["1"], typing.Set[int], {1}),  # noqa: UP006
        ([1, 2], set, {1, 2}),
        (1, Shade, Shade.DARK),
    ],
)
def test_deep_from_dict(doc, cls, value):
    assert deep_from_dict(doc, cls) == value


def test_deep_from_dict_refuses_types_and_unknown_generics():
    with pytest.raises(TypeError, match="not safe"):
        deep_from_dict("int", type)
    with pytest.raises(TypeError, match="Unknown generic"):
        deep_from_dict([1], typing.Union[int, str])  # noqa: UP007
    with pytest.raises(TypeError, match="Unknown generic"):
        deep_from_dict([1], int | str)
    assert deep_from_dict(["a"], ValueError).args == ("a",)
