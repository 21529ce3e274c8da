"""Every type of the table, within every container of the table, comes back as it was sent."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import fractions
import types
import uuid
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import codec_classes as c
from properties import examined
from pymq._codec import Codec, call_plan, plan_for

codec = Codec()


class Text(str):
    pass


class Cents(int):
    pass


class Share(float):
    pass


class Bag(dict):
    pass


class Tally(collections.Counter):
    pass


class Row(list):
    pass


class Couple(tuple):
    pass


class Pair(NamedTuple):
    a: Any
    b: Any = None


class Slots(c.Plain):
    __slots__ = ("a", "b")

    def __eq__(self, other: object) -> bool:
        return form(self) == form(other)

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class Data:
    a: Any
    b: Any = None


@dataclasses.dataclass(slots=True)
class SlotData:
    a: Any
    b: Any = None


@attrs.define
class Attrs:
    a: Any
    b: Any = None


class Model(pydantic.BaseModel):
    a: Any
    b: Any = None


class Struct(msgspec.Struct):
    a: Any
    b: Any = None


#: What arrives as its base, as the table says.
BASES: dict[type, type] = {Tally: collections.Counter}
ATTRIBUTES = (c.Bare, Data, Slots, SlotData, Attrs, Model, Struct, types.SimpleNamespace)


def form(value: Any) -> Any:
    """A value with its types at every depth, for comparing: `1 == True == 1.0` in Python."""
    kind = BASES.get(type(value), type(value))
    if isinstance(value, dict):
        return (kind, [(form(key), form(part)) for key, part in value.items()])
    if isinstance(value, (set, frozenset)):
        return (kind, sorted((form(part) for part in value), key=repr))
    if isinstance(value, (list, tuple, collections.deque)):
        return (kind, [form(part) for part in value], getattr(value, "maxlen", None))
    if kind in ATTRIBUTES:
        names = ("a", "b")
        return (kind, [form(getattr(value, name)) for name in names if hasattr(value, name)])
    if isinstance(value, (datetime.datetime, datetime.time)):
        value = value.replace(fold=0)
    return (kind, repr(value))


def with_attributes(kind: type, a: Any, b: Any) -> Any:
    if kind in (c.Bare, Slots):
        made = kind()
        made.a, made.b = a, b
        return made
    return kind(a=a, b=b)


ZONES = st.none() | st.builds(
    datetime.timezone,
    st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)),
)
HASHABLE_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False),
    st.sampled_from(["", "1", "null", "true", "=", "*", "/", "__type", "0", "str", "a:b", "a,b"]),
    st.text(max_size=5),
    st.characters(categories=["Cs"]),
    st.binary(max_size=5),
    st.datetimes(timezones=ZONES),
    st.dates(),
    st.times(timezones=ZONES),
    st.timedeltas(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.complex_numbers(allow_nan=False),
    st.sampled_from([Path("/a"), Path("a b"), PurePosixPath("x"), PureWindowsPath("c:/y")]),
    st.sampled_from([*c.Color, *c.Level, *c.Right, c.Right.READ | c.Right.WRITE]),
    st.builds(Text, st.text(max_size=3)),
    st.builds(Cents, st.integers()),
    st.builds(Share, st.floats(allow_nan=False)),
)
LEAVES = HASHABLE_LEAVES | st.one_of(
    st.floats(), st.builds(bytearray, st.binary(max_size=5)), st.sampled_from([[], {}, (), set()])
)


def keys_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Couple, st.tuples(inner)),
        st.frozensets(inner, max_size=3),
    )


KEYS = st.recursive(HASHABLE_LEAVES, keys_of, max_leaves=4)
#: Keys of one type, and of any mixture of types.
ALIKE = st.sampled_from(
    [
        st.integers(-3, 3),
        st.text(max_size=2),
        st.booleans(),
        st.floats(allow_nan=False),
        st.none(),
        st.sampled_from(["1", "2", "null", "true"]),
        st.uuids(),
        st.sampled_from(list(c.Color)),
        KEYS,
    ]
)


def dicts_of(kind: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return ALIKE.flatmap(lambda keys: st.dictionaries(keys, values, max_size=3)).map(kind)


def containers_of(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def defaulting(values: dict[Any, Any]) -> collections.defaultdict[Any, Any]:
        return collections.defaultdict(None, values)

    lists = st.lists(inner, max_size=4)
    dicts = st.one_of(
        dicts_of(kind, inner) for kind in (dict, Bag, collections.OrderedDict, defaulting)
    )
    counts = st.one_of(dicts_of(kind, st.integers(-2, 2)) for kind in (collections.Counter, Tally))
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(Row),
        lists.map(Couple),
        lists.map(collections.deque),
        dicts,
        # Neighbours of one class are where one may be taken for another.
        st.lists(dicts, min_size=2, max_size=4),
        st.lists(counts, min_size=2, max_size=4),
        st.dictionaries(st.text(max_size=2), dicts, min_size=2, max_size=3),
        st.sets(KEYS, max_size=3),
        st.frozensets(KEYS, max_size=3),
        st.lists(st.sets(KEYS, max_size=2), min_size=2, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(with_attributes, st.sampled_from(ATTRIBUTES), inner, inner),
    )


VALUES = st.recursive(LEAVES, containers_of, max_leaves=12)

#: What was found once: `[{1: "a"}, {"1": "b"}]` arrived as two dicts with the key 1.
FOUND = [
    [{1: "a"}, {"1": "b"}],
    [{None: 0}, {"": 1, "null": 2}],
    [{1: "a"}, {"abc": "b"}],
    ({True: 1}, {"true": 1}, {1.5: 1}, {"1.5": 1}),
    {"x": {1: "a"}, "y": {"2": "b"}},
    [collections.Counter({1: 1}), collections.Counter("1")],
    [collections.OrderedDict({1: 1}), collections.OrderedDict(a=1)],
    [Bag({1: 1}), Bag(a=1), {1: 1}, {"1": 1}],
    [{(1,): 1}, {"(1,)": 1}, {}],
    [{1: {2: 3}}, {"1": {"2": 3}}],
]


def found(test: Any) -> Any:
    for value in FOUND:
        test = example(value)(test)
    return test


@found
@given(VALUES)
@examined(1500)
def test_a_value_comes_back_with_all_its_types(value):
    assert form(codec.decode(codec.encode(value))) == form(value)


@found
@given(VALUES)
@examined(300)
def test_a_hint_that_says_nothing_changes_nothing(value):
    assert form(codec.decode(codec.encode(value), plan_for(Any))) == form(value)


def anything(a: Any, b: Any, *rest: Any, **names: Any) -> None: ...


@found
@given(VALUES)
@examined(300)
def test_arguments_and_results_come_back_with_all_their_types(value):
    sent = ((value, [value], value), {"k": value, "l": value})
    parts = codec.encode_call(*sent)
    args, names = codec.decode_call(*parts, call_plan(anything))
    assert form((args, names)) == form(sent)
    assert form(codec.decode_result(*codec.encode_result(value))) == form(value)


@found
@given(VALUES)
@examined(300)
def test_what_stands_beside_a_value_does_not_change_it(value):
    beside = [[value, value], {"a": value, "b": value}, (value, 1, None, value)]
    assert form(codec.decode(codec.encode(beside))) == form(beside)


@dataclasses.dataclass
class Hinted:
    by_number: dict[int, str]
    by_name: dict[str, str]
    by_id: dict[uuid.UUID, decimal.Decimal]
    pairs: list[dict[int, fractions.Fraction]]
    either: dict[int, str] | dict[str, str] | None = None


NAMES = st.text(max_size=3)


@given(
    st.builds(
        Hinted,
        st.dictionaries(st.integers(), NAMES, max_size=3),
        st.dictionaries(NAMES, NAMES, max_size=3),
        st.dictionaries(st.uuids(), st.decimals(allow_nan=False), max_size=2),
        st.lists(st.dictionaries(st.integers(), st.fractions(), max_size=2), max_size=3),
    )
)
@examined(200)
def test_hinted_dicts_keep_the_types_of_their_keys(value):
    read = codec.decode(codec.encode([value, value]), plan_for(list[Hinted]))
    assert [form(vars(each)) for each in read] == [form(vars(value))] * 2


@pytest.mark.parametrize("kind", [list, tuple, collections.deque])
def test_neighbours_of_one_class_keep_their_own_keys(kind):
    for value in FOUND:
        assert form(codec.decode(codec.encode(kind([value, value])))) == form(kind([value, value]))
