"""The names of attributes, whatever they are and in whatever order they come."""

import gc
import json
from itertools import permutations
from typing import Any

import pytest

from pymq._codec import Codec, DecodeError, plan_for

codec = Codec()


class Bag:
    """Has the attributes that it is given."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


class Part:
    size: int
    name: str

    def __init__(self, size: int, name: str = "") -> None:
        self.size = size
        self.name = name


class Whole:
    first: Part
    rest: list[Part]
    note: str

    def __init__(self, first: Part, rest: list[Part], note: str) -> None:
        self.first, self.rest, self.note = first, rest, note


def bag(attributes, cls=Bag):
    made = cls()
    vars(made).update(attributes)
    return made


TAG = f"{Bag.__module__}.Bag"


@pytest.mark.parametrize(
    "attributes",
    [
        {"a": 1, "b": "two", "c": None, "d": [3]},
        {"d": [3], "c": None, "b": "two", "a": 1},
        {"b": "two", "d": {"e": 1}},
        {"a": {"b": 1}, "other": 2.5, "c": True, "".join(("a", "b")): 1},
        {},
        {
            "=": 1,
            "*": 2,
            "/x": 3,
            'a"b': 4,
            "\\": 5,
            "ü": 6,
            "\ud800": 7,
            "": 8,
            "a" * 28: 9,
            "b" * 29: 10,
            "c" * 500: 11,
        },
        {'"' * length + "x" * 20: length for length in range(20)},
        {f"name{index}": index for index in range(300)},
        {"a": 2**70, "b": "\ud800", "c": [2**70, "\ud800", None]},
    ],
)
def test_objects_of_one_class_may_differ_in_their_attributes(attributes):
    # Of a class that was never sent, and of one of which another object was sent first.
    fresh, known = (type("Bag", (), {"__module__": __name__}) for _ in range(2))
    codec.encode(bag({"b": 1, "a": 2, "other": 3}, known))
    for cls in (fresh, fresh, known):
        message = codec.encode(bag(attributes, cls))
        assert json.loads(message) == attributes | {"__type": TAG}
        decoded = codec.decode(message)
        assert type(decoded).__name__ == "Bag"
        assert list(vars(decoded).items()) == list(attributes.items())


def test_names_that_are_no_attributes_to_send_are_left_out_of_any_object():
    class Own:
        pass

    for name in ("__module__", "__x__", 7):
        own = Own()
        vars(own).update({"a": 1, name: 2, "b": 3})
        assert json.loads(codec.encode(own))["b"] == 3
        assert set(json.loads(codec.encode(own))) <= {"a", "b", "__type"}


@pytest.mark.parametrize("name", ["=", "*", "/x", "//", "a"])
def test_tags_are_found_under_any_name(name):
    decoded = codec.decode(codec.encode(bag({name: (1, 2), "b": [(3,), (4,)]})))
    assert vars(decoded) == {name: (1, 2), "b": [(3,), (4,)]}


def test_fields_may_come_in_any_order_and_with_any_space():
    members = {
        "first": '{"size": 1, "name": "one"}',
        "rest": '[ {"name":"two","size":2} , {"size":3},null ]',
        "note": '"\\u0066in\\n"',
        "more": '{"a": [ ] }',
    }
    for order in permutations(members):
        for space in ("", " ", "\n\t"):
            body = f"{space},{space}".join(
                f'"{name}"{space}:{space}{members[name]}' for name in order
            )
            whole = codec.decode(f"{{{space}{body}{space}}}".encode(), plan_for(Whole))
            assert vars(whole.first) == {"size": 1, "name": "one"}
            assert [part and vars(part) for part in whole.rest] == [
                {"size": 2, "name": "two"},
                {"size": 3, "name": ""},
                None,
            ]
            assert (whole.note, whole.more) == ("fin\n", {"a": []})


def test_a_name_may_be_written_with_escapes():
    part = codec.decode(b'{"si\\u007ae": 1, "\\u006eame": "x"}', plan_for(Part))
    assert vars(part) == {"size": 1, "name": "x"}


def test_the_last_of_equal_fields_counts():
    part = codec.decode(b'{"size": 1, "name": "x", "size": 2}', plan_for(Part))
    assert vars(part) == {"size": 2, "name": "x"}


@pytest.mark.parametrize(
    "text",
    [
        '{}"__types":{"a":"tuple"},"a":[1],"__type":"TAG"}',
        '{}"__obj":[1],"__type":"TAG"}',
        '{"__types":{"a":"tuple"}"a":[1],"__type":"TAG"}',
        '{"a":1,}',
        '{"a":1,,"b":2}',
        '{,"a":1}',
        '{"a" 1}',
        '{"size":1 "name":"x"}',
        '{"size":01}',
        '{"size":1"name":"x"}',
        '{"size":1]',
        '{"size":1}}',
        '{"size":1',
        '{"size":-}',
        '{"size":nul}',
        '{"name":"a\nb","size":1}',
        '{"name":"a","size":[1,]}',
    ],
)
def test_what_is_no_json_is_refused(text):
    for message in (text, text.replace("TAG", TAG)):
        for plan in (None, plan_for(Part), plan_for(Bag)):
            with pytest.raises(DecodeError, match="not valid JSON"):
                codec.decode(message.encode(), plan)


def test_a_tree_that_was_met_before_is_no_other():
    one = codec.encode(bag({"a": (1,)}))
    other = one.replace(b'"a":"tuple"}', b'"a":"tuple","b":"set"}').replace(
        b'"a":[1]', b'"a":[1],"b":[1]'
    )
    for message, attributes in ((one, {"a": (1,)}), (other, {"a": (1,), "b": {1}})) * 2:
        assert vars(codec.decode(message)) == attributes


def test_a_dict_that_changes_while_it_is_written_keeps_names_and_values_together():
    def made():
        return bag({"first": "\ud800", "second": "two"})

    target = made()

    class Last:
        """Runs as garbage while an error for a lone surrogate is made; up to CPython 3.11."""

        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if vars(target).pop("first", None) is not None:
                vars(target)["third"] = "three"

    codec.encode(made())
    thresholds = gc.get_threshold()
    gc.collect()
    gc.disable()
    try:
        Last()
        gc.set_threshold(1, 1, 1)
        gc.enable()
        sent = codec.encode(target)
    finally:
        gc.set_threshold(*thresholds)
        gc.enable()
    read = json.loads(sent)
    assert read.pop("__type") == TAG
    values = {"first": "\ud800", "second": "two", "third": "three"}
    assert read == {name: values[name] for name in read}
