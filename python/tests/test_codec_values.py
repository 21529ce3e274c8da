"""Every kind of value comes back as it was sent, with a hint and without."""

# The generics of `typing` are what is tested here.
# ruff: noqa: UP006, UP007, UP035, UP045

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import re
import types
import uuid
from typing import (
    Any,
    Dict,
    FrozenSet,
    Generic,
    List,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    Sequence,
    Tuple,
    TypedDict,
    TypeVar,
    Union,
)

import pytest

import codec_classes as c
from pymq._codec import Codec, DecodeError, EncodeError, plan_for

codec = Codec()

UTC = datetime.timezone.utc
TOKYO = datetime.timezone(datetime.timedelta(hours=9))


class Node:
    def __init__(self, name: str, next: Optional[Node] = None, children: Sequence[Node] = ()):
        self.name, self.next, self.children = name, next, children

    next: Optional[Node]
    children: Sequence[Node]

    def __eq__(self, other):
        return type(other) is Node and vars(self) == vars(other)

    __hash__ = None


class Text(str):
    pass


class Cents(int):
    pass


class Bag(dict):
    pass


class Row(list):
    pass


class Slotted:
    __slots__ = ("__hidden", "a", "b")

    def __init__(self):
        self.a, self.__hidden = 1, (2,)

    def __eq__(self, other):
        return type(other) is Slotted and self.a == other.a and self.hidden == other.hidden

    __hash__ = None

    @property
    def hidden(self):
        return self.__hidden


@dataclasses.dataclass(slots=True, frozen=True)
class SlottedData:
    a: int
    p: c.Point
    total: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass(kw_only=True)
class Keyword:
    a: int
    b: Tuple[int, ...] = ()


@dataclasses.dataclass
class WithInitVar:
    a: int
    seed: dataclasses.InitVar[int]
    b: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, seed):
        self.b = self.a + seed


class StrColor(str, enum.Enum):
    RED = "red"


Untyped = collections.namedtuple("Untyped", "a b")

VALUES = {
    "None": None,
    "true": True,
    "zero": 0,
    "int": -17,
    "64 bits": 2**63 - 1,
    "big int": -(10**4000),
    "float": 0.1,
    "minus zero": -0.0,
    "large float": 1e300,
    "infinity": -math.inf,
    "str": 'Grüße "quoted" \\ \n\x00 \u2028 🎉',
    "lone surrogate": "a\ud800b",
    "empty list": [],
    "list": [1, "a", None, 2.5, [True]],
    "list of lists": [[1], [2]],
    "list of dicts": [{"a": 1}, {}],
    "list of None": [None],
    "dict": {"a": 1, "b": {"c": [1, 2]}},
    "empty dict": {},
    "tuple": (1, (2, [3, (4,)])),
    "empty tuple": (),
    "set": {1, 2, 3},
    "frozenset": frozenset({(1, 2), (3, 4)}),
    "tuples in a dict": {"a": (1,), "b": (2,), "c": [3], "d": None},
    "named tuple": c.Point(1, 2, "p"),
    "named tuples": [c.Point(1, 2), c.Point(3, 4, "q")],
    "named tuples and None": [None, c.Point(1, 2), None],
    "mixed list": [c.Point(1, 2), 5, (1,), c.User(1, "e"), {"a": {1}}],
    "untyped named tuple": Untyped((1, 2), {"a": Untyped(1, 2)}),
    "bare object": c.bare(a=1, _private=(1, 2), b=c.Point(1, 2)),
    "object": c.Event(1, c.User(2, "e"), [c.Point(1, 2)]),
    "objects": [c.User(1, "a"), c.User(2, "b")],
    "recursive": Node("a", Node("b", None, []), [Node("c", Node("d"))]),
    "dataclass": c.Order(1, [c.Point(1, 2)], None, {"tags": {"x"}}),
    "frozen dataclass": c.Frozen(1, c.Frozen(2)),
    "slotted": Slotted(),
    "slotted dataclass": SlottedData(1, c.Point(1, 2)),
    "keyword only": Keyword(a=1, b=(2, 3)),
    "InitVar": WithInitVar(1, 2),
    "enum by text": c.Color.RED,
    "enum by number": c.Color.GREEN,
    "enum by tuple": c.Color.MIXED,
    "IntEnum": c.Level.HIGH,
    "str enum": StrColor.RED,
    "flags": c.Right.READ | c.Right.WRITE,
    "enums": [c.Color.RED, c.Color.GREEN, c.Color.MIXED],
    "IntEnums": [c.Level.HIGH, c.Level.LOW],
    "datetime": datetime.datetime(2024, 2, 29, 1, 2, 3, 4),
    "datetime with zone": datetime.datetime(2024, 2, 29, 1, 2, 3, tzinfo=TOKYO),
    "date": datetime.date(1, 1, 1),
    "time": datetime.time(23, 59, 59, 999999, tzinfo=UTC),
    "timedelta": datetime.timedelta(days=-1, microseconds=1),
    "shortest timedelta": datetime.timedelta.min,
    "longest timedelta": datetime.timedelta.max,
    "UUID": uuid.UUID(int=2**127 + 1),
    "Decimal": decimal.Decimal("1.500"),
    "Fraction": fractions.Fraction(-1, 3),
    "complex": complex(1.5, -0.0),
    "bytes": bytes(range(256)),
    "bytearray": bytearray(b"\x00\xff"),
    "Path": pathlib.Path("a/ü b"),
    "PurePosixPath": pathlib.PurePosixPath("/x"),
    "OrderedDict": collections.OrderedDict([("b", 1), ("a", (2,))]),
    "Counter": collections.Counter("abca"),
    "defaultdict": collections.defaultdict(list, {"a": [1]}),
    "deque": collections.deque([1, (2,)]),
    "namespace": types.SimpleNamespace(a=1, b=(2,)),
    "str subclass": Text("x"),
    "int subclass": Cents(5),
    "dict subclass": Bag(a=Bag(b=1)),
    "list subclass": Row([1, Row([2])]),
    "int keys": {1: "a", -2: "b"},
    "keys of several types": {1: 1, "a": 2, None: 3, 2.5: 4, False: 5},
    "colliding keys": {1: "a", "1": "b"},
    "tuple keys": {(1, 2): c.Point(1, 2), (): None},
    "UUID keys": {uuid.UUID(int=1): {datetime.date(2024, 1, 1): 1}},
    "enum keys": {c.Color.RED: 1, c.Level.LOW: 2},
    "number enum keys": {c.Color.GREEN: 1, c.Color.MIXED: 2},
    "Counter of ints": collections.Counter([1, 1, 2]),
    "odd text keys": {'q"\\\n': (1,), "\ud800": (2,), "": {3}, "a.b": (4,)},
    "int keys with odd text": {'q"': (1,), 7: (2,)},
    "everything below": c.holder(
        {"d": [datetime.date(2024, 1, 1), c.Color.GREEN, b"x"]}, (uuid.UUID(int=5), {1: {2}})
    ),
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
class TestEveryValue:
    def test_comes_back_without_a_hint(self, value):
        self.same(codec.decode(codec.encode(value)), value)

    def test_comes_back_under_the_hint_of_its_class(self, value):
        self.same(codec.decode(codec.encode(value), plan_for(type(value))), value)

    def test_comes_back_by_way_of_a_tree(self, value):
        # The fast path leaves a message with a space at its end alone.
        for sent in (codec.encode(value), codec.encode(c.holder(value, [value]))):
            spaced = sent[:-1] + b" }" if sent.endswith(b"}") else sent
            for plan in (None, plan_for(type(value)), plan_for(c.Holder)):
                try:
                    expected = codec.decode(sent, plan)
                except DecodeError as error:
                    with pytest.raises(DecodeError, match=re.escape(str(error))):
                        codec.decode(spaced, plan)
                else:
                    self.same(codec.decode(spaced, plan), expected)

    def test_comes_back_as_a_field_without_a_hint(self, value):
        sent = c.holder(value, [value])
        got = codec.decode(codec.encode(sent))
        self.same(got.a, value)
        self.same(got.b[0], value)

    def test_comes_back_from_a_dict_and_a_tuple(self, value):
        got = codec.decode(codec.encode({"k": (value, value)}))
        self.same(got["k"][1], value)

    def test_comes_back_from_a_call_and_as_a_result(self, value):
        def fn(*args, **kwargs): ...

        from pymq._codec import call_plan

        args, kwargs = codec.decode_call(*codec.encode_call((value,), {"k": value}), call_plan(fn))
        self.same(args[0], value)
        self.same(kwargs["k"], value)
        self.same(codec.decode_result(*codec.encode_result(value)), value)

    def same(self, got, value):
        assert type(got) is type(value)
        assert got == value
        if type(value) in (float, complex, dict):
            assert repr(got) == repr(value)


def test_nan_comes_back():
    assert math.isnan(codec.decode(codec.encode(math.nan)))
    assert codec.encode([math.nan]) == b"[NaN]"


# ---- hints

T = TypeVar("T")
UserId = NewType("UserId", int)


class Box(Generic[T]):
    item: T

    def __init__(self, item):
        self.item = item


class Movie(TypedDict, total=False):
    title: str
    poster: c.Point


class Custom(str):
    def __new__(cls, text):
        return super().__new__(cls, text.upper())


HINTS = [
    (b"3", str, "3"),
    (b'"3"', int, 3),
    (b"3", float, 3.0),
    (b"1", bool, True),
    (b'"3"', UserId, 3),
    (b"null", int, None),
    (b"[1,2]", List[str], ["1", "2"]),
    (b"[[1,2]]", List[c.Point], [c.Point(1, 2)]),
    (b"[[1,2]]", Sequence[c.Point], [c.Point(1, 2)]),
    (b"[1,2]", Tuple[str, int], ("1", 2)),
    (b"[1,2]", Tuple[str, ...], ("1", "2")),
    (b"[1,1]", FrozenSet[int], frozenset({1})),
    (b"[1,1]", set, {1}),
    (b'{"1":[1,2]}', Dict[int, c.Point], {1: c.Point(1, 2)}),
    (
        b'{"title":1,"poster":[1,2],"more":0}',
        Movie,
        {"title": "1", "poster": c.Point(1, 2), "more": 0},
    ),
    (b"[1,2]", Optional[c.Point], c.Point(1, 2)),
    (b"[1,2]", Union[str, c.Point, None], c.Point(1, 2)),
    (b'"a"', Union[int, str], "a"),
    (b"1", Union[str, int], 1),
    (b'{"id":1,"email":"e"}', Union[c.Order, c.User], c.User(1, "e")),
    (b'{"id":1,"lines":[[1,2]]}', Union[c.User, c.Order], c.Order(1, [c.Point(1, 2)])),
    (b'"2024-01-01"', Union[datetime.date, int], datetime.date(2024, 1, 1)),
    (b'"a"', Literal["a", "b"], "a"),
    (b'"red"', Literal[c.Color.RED], c.Color.RED),
    (b'"red"', c.Color, c.Color.RED),
    (b"2", c.Color, c.Color.GREEN),
    (b'"2024-01-01T00:00:00Z"', datetime.datetime, datetime.datetime(2024, 1, 1, tzinfo=UTC)),
    (b'"PT1H30M"', datetime.timedelta, datetime.timedelta(minutes=90)),
    (b'"-P1DT0.5S"', datetime.timedelta, -datetime.timedelta(days=1, milliseconds=500)),
    (b"1.10", decimal.Decimal, decimal.Decimal("1.1")),
    (b'"AP8="', bytes, b"\x00\xff"),
    (b'"x"', pathlib.Path, pathlib.Path("x")),
    (b'{"a":1,"b":[1]}', Any, {"a": 1, "b": [1]}),
    (
        b'{"id":"1","user":{"id":2,"email":"e"},"points":[[1,2]]}',
        c.Event,
        c.Event(1, c.User(2, "e"), [c.Point(1, 2)]),
    ),
    (b'"abc"', Custom, "ABC"),
    (b'["a"]', ValueError, None),
]


@pytest.mark.parametrize(("data", "hint", "value"), HINTS, ids=[str(h) for _, h, _ in HINTS])
def test_a_hint_decides_what_untagged_json_becomes(data, hint, value):
    got = codec.decode(data, plan_for(hint))
    if hint is ValueError:
        assert type(got) is ValueError
        assert got.args == ("a",)
    else:
        assert got == value
        assert type(got) is type(value) or hint in (Movie, Custom)


def test_a_generic_class_hints_its_fields_by_its_argument():
    got = codec.decode(b'{"item":[1,2]}', plan_for(Box[c.Point]))
    assert type(got) is Box
    assert got.item == c.Point(1, 2)


def test_hints_may_be_unions_of_the_new_syntax():
    assert codec.decode(b"[1,2]", plan_for(int | c.Point | None)) == c.Point(1, 2)
    assert codec.decode(b"[[1,2]]", plan_for(list[c.Point])) == [c.Point(1, 2)]


def test_a_field_declared_as_the_base_comes_back_as_the_derived_class():
    class Shipment:
        order: c.Order

        def __init__(self, order):
            self.order = order

    sent = Shipment(c.RushOrder(1, minutes=7))
    got = codec.decode(codec.encode(sent), plan_for(Shipment))
    assert got.order == c.RushOrder(1, minutes=7)
    rushed = codec.decode(codec.encode(sent.order), plan_for(c.Order))
    assert rushed == c.RushOrder(1, minutes=7)


def test_the_hint_wins_over_the_tag_of_its_base():
    got = codec.decode(codec.encode(c.Order(1)), plan_for(c.RushOrder))
    assert got == c.RushOrder(1)


def test_an_unrelated_tag_is_refused():
    with pytest.raises(DecodeError, match=r"expected codec_classes\.User.*Unrelated"):
        codec.decode(codec.encode(c.Unrelated()), plan_for(c.User))


def test_a_hint_of_dict_takes_an_object_as_a_dict():
    assert codec.decode(codec.encode(c.User(1, "e")), plan_for(dict)) == {"id": 1, "email": "e"}


def test_a_hinted_object_goes_through_its_constructor():
    class Loud(c.Plain):
        made = 0

        def __init__(self, a):
            type(self).made += 1
            self.a = a

    got = codec.decode(b'{"a":1,"b":2}', plan_for(Loud))
    assert (Loud.made, got.a, got.b) == (1, 1, 2)


def test_a_tagged_object_is_rebuilt_without_its_constructor():
    class Loud(c.Plain):
        made = 0

        def __init__(self):
            type(self).made += 1

    sent = codec.encode(Loud())
    assert type(codec.decode(sent)) is Loud
    assert Loud.made == 1


def test_a_missing_argument_names_class_and_field():
    with pytest.raises(DecodeError, match=r"event: codec_classes\.User needs a field email"):
        codec.decode(b'{"id":1}', plan_for(c.User))
    with pytest.raises(DecodeError, match=r"event\.user: codec_classes\.User needs a field id"):
        codec.decode(b'{"user":{"email":"e"}}', plan_for(c.Event))


def test_a_wrong_value_names_its_place():
    with pytest.raises(DecodeError, match=r"event\.points\[1\]\.y: no int"):
        codec.decode(b'{"points":[[1,2],[1,"x"]]}', plan_for(c.Event))
    with pytest.raises(DecodeError, match=r"expected int, got list"):
        codec.decode(b"[1]", plan_for(int))


def test_defaults_fill_what_is_not_sent():
    assert codec.decode(b'{"id":1}', plan_for(c.Order)) == c.Order(1)
    assert codec.decode(b"[1,2]", plan_for(c.Point)) == c.Point(1, 2, "")
    with pytest.raises(DecodeError, match="y, which is missing"):
        codec.decode(b"[1]", plan_for(c.Point))


def test_elements_beyond_a_named_tuple_are_ignored():
    assert codec.decode(b'[1,2,"a",4,5]', plan_for(c.Point)) == c.Point(1, 2, "a")


def test_names_that_only_the_type_checker_knows_are_no_hints():
    class Odd:
        a: "NoSuchName"  # noqa: F821, UP037
        b: c.Point

    got = codec.decode(b'{"a":[1],"b":[1,2]}', plan_for(Odd))
    assert got.a == [1]
    assert got.b == c.Point(1, 2)


# ---- what cannot be sent


def test_what_cannot_be_encoded_names_its_path_and_type():
    import threading

    class Line:
        pass

    lines = [Line(), Line()]
    lines[1].lock = threading.Lock()
    with pytest.raises(EncodeError, match=r"^event\.orders\[1\]\.lock: cannot encode threading\.L"):
        codec.encode(c.bare(orders=lines))
    with pytest.raises(TypeError, match=r'^args\[0\]\["k"\]: cannot encode'):
        codec.encode_call(({"k": threading.Lock()},), {})
    for value in (open, iter([]), (i for i in ()), pytest, object(), memoryview(b"")):
        with pytest.raises(EncodeError, match="cannot encode"):
            codec.encode(value)


def test_a_cycle_is_told_as_a_cycle():
    tree = c.bare(a=1)
    tree.children = [c.bare(parent=tree)]
    with pytest.raises(EncodeError, match=r"^event\.children\[0\]\.parent: the value contains it"):
        codec.encode(tree)
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(EncodeError, match=r"^event\[0\]: the value contains itself"):
        codec.encode(loop)


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_depth_has_a_limit_on_both_sides():
    assert codec.decode(codec.encode(nested(200))) == nested(200)
    with pytest.raises(EncodeError, match="nested deeper than 200 levels"):
        codec.encode(nested(201))
    with pytest.raises(DecodeError, match="nested deeper than 200 levels"):
        codec.decode(b"[" * 201 + b"]" * 201)
    with pytest.raises(EncodeError, match="nested deeper than 3 levels"):
        Codec(max_depth=3).encode([[[[]]]])


def test_what_is_encoded_at_the_limit_can_be_decoded():
    value: Any = c.holder(1)
    for _ in range(150):
        value = c.holder((value,), {1: 2})
    with pytest.raises(EncodeError, match="nested deeper"):
        codec.encode(value)
    for depth in range(90, 110):
        value = c.holder(1)
        for _ in range(depth):
            value = c.holder((value,), {1: 2})
        try:
            sent = codec.encode(value)
        except EncodeError:
            assert depth > 98
        else:
            assert codec.decode(sent) == value


def test_size_has_a_limit_on_both_sides():
    small = Codec(max_bytes=10)
    assert small.decode(small.encode("x" * 8)) == "x" * 8
    with pytest.raises(EncodeError, match="the message has 11 bytes, more than the limit of 10"):
        small.encode("x" * 9)
    with pytest.raises(DecodeError, match="the message has 11 bytes"):
        small.decode(b'"' + b"x" * 9 + b'"')


def test_integers_have_at_most_4300_digits():
    assert codec.decode(b"9" * 4300) == int("9" * 4300)
    with pytest.raises(DecodeError):
        codec.decode(b"9" * 4301)
    with pytest.raises(EncodeError, match="more than 4300 digits"):
        codec.encode({"a": 10**4300})


def test_a_dict_that_changes_while_it_is_encoded_is_told():
    class Sly(c.Plain):
        def __getattribute__(self, name):
            target.clear()
            return super().__getattribute__(name)

    target: dict[str, Any] = {"a": Sly(), "b": 1}
    with pytest.raises(EncodeError, match="changed while it was encoded"):
        codec.encode(target)


def test_values_of_local_classes_come_back_by_their_latest_definition():
    def make(marker):
        class Local(NamedTuple):
            a: int

        Local.marker = marker
        return Local

    first, second = make(1), make(2)
    assert codec.decode(codec.encode(first(1))).marker == 1
    assert codec.decode(codec.encode(second(1))).marker == 2
