"""The work that a message asks for is bounded by its size, for every type and every hint."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import decimal
import enum
import fractions
import json
import signal
import threading
import uuid
from typing import Any, Union

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import codec_classes as c
from conftest import HANG_GUARD
from properties import examined
from pymq._codec import Codec, DecodeError, EncodeError, plan_for

codec = Codec()

#: Numbers whose hashes are all 0, in every CPython of 64 bits.
OF_ONE_HASH = [number * (2**61 - 1) for number in range(1, 30_000)]
FLOOD = "more than 100 different elements or keys of one hash"


@pytest.fixture(autouse=True)
def _does_not_stand_still():
    """Each of these took minutes, or for ever; time in which others run does not count."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not done after {HANG_GUARD} s of work")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, HANG_GUARD)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.signal(signal.SIGPROF, before)


# ---- small texts of large values


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        ("fractions.Fraction", "1e500000000"),
        ("fractions.Fraction", "1e-500000000"),
        ("fractions.Fraction", "1e99999999999999999999"),
        ("fractions.Fraction", "9" * 5000),
        ("fractions.Fraction", "1/" + "9" * 5000),
        ("datetime.timedelta", "P" + "9" * 1_000_000 + "D"),
        ("datetime.timedelta", "P999999999999D"),
        ("datetime.datetime", "2024-01-01T00:00:00." + "0" * 1_000_000),
        ("datetime.time", "00:00:00." + "0" * 1_000_000),
        ("datetime.date", "2" * 1_000_000),
        ("uuid.UUID", "{" * 1_000_000),
        ("complex", "1" * 1_000_000),
        ("ipaddress.IPv6Address", ":1" * 1_000_000),
        ("int", "9" * 1_000_000),
    ],
    ids=lambda text: text[:20],
)
def test_a_text_is_not_more_work_than_its_type_needs(tag, text):
    sent = {"__types": {"a": tag}, "__obj": {"a": text}, "__type": "dict"}
    with pytest.raises(DecodeError) as raised:
        codec.decode(json.dumps(sent).encode())
    assert len(str(raised.value)) < 1000
    assert text not in raised.value.redacted


def test_large_exponents_that_are_no_work_pass():
    for value in (decimal.Decimal("1e999999"), fractions.Fraction(10) ** 300, 1e300):
        assert codec.decode(codec.encode(value)) == value
    assert codec.decode(b'"1.5e10"', plan_for(fractions.Fraction)) == 15 * 10**9


class Sub(int):
    pass


@pytest.mark.parametrize("hint", [int, Sub, c.Level])
def test_the_digits_of_a_text_have_a_limit_whatever_the_interpreter_has(hint):
    # `set_int_max_str_digits(0)` would make it quadratic; nothing here asks the interpreter.
    with pytest.raises(DecodeError):
        codec.decode(b'"' + b"9" * 1_000_000 + b'"', plan_for(hint))


# ---- hashes


def numbers() -> str:
    return json.dumps(OF_ONE_HASH)


def keys() -> str:
    # Not by way of a dict of them, which would stand still here.
    return "{" + ",".join(f'"{number}":1' for number in OF_ONE_HASH) + "}"


def tagged(tag: str, value: str, root: str) -> bytes:
    return f'{{"__types":"{tag}","__obj":{value},"__type":"{root}"}}'.encode()


@dataclasses.dataclass(frozen=True)
class Key:
    a: int


class Model(pydantic.BaseModel):
    numbers: set[int] = set()
    names: dict[int, int] = {}
    pairs: set[tuple[int, int]] = set()
    amounts: set[decimal.Decimal] = set()


class Struct(msgspec.Struct):
    numbers: set[int] = set()
    names: dict[int, int] = {}


def texts() -> str:
    return json.dumps([str(number) for number in OF_ONE_HASH])


FLOODS: dict[str, tuple[str | bytes, Any]] = {
    "set": (tagged("set", numbers(), "set"), None),
    "frozenset": (tagged("frozenset", numbers(), "set"), None),
    "dict:int": (tagged("dict:int", keys(), "dict"), None),
    "Counter:int": (tagged("collections.Counter:int", keys(), "dict"), None),
    "dict:Fraction": (tagged("dict:fractions.Fraction", keys(), "dict"), None),
    "dict:Decimal": (tagged("dict:decimal.Decimal", keys(), "dict"), None),
    "dict:*": (tagged("dict:*", json.dumps([[k, 1] for k in OF_ONE_HASH]), "dict"), None),
    "set[int]": (numbers(), set[int]),
    "frozenset[Decimal]": (texts(), frozenset[decimal.Decimal]),
    "set[tuple]": (json.dumps([[k] for k in OF_ONE_HASH]), set[tuple[int, ...]]),
    "set[UUID]": (json.dumps([f"{k:032x}" for k in OF_ONE_HASH]), set[uuid.UUID]),
    "set[Key]": (json.dumps([{"a": k} for k in OF_ONE_HASH]), set[Key]),
    "dict[int]": (keys(), dict[int, int]),
    "Counter[int]": (keys(), collections.Counter[int]),
    "pydantic set": (f'{{"numbers":{numbers()}}}', Model),
    "pydantic dict": (f'{{"names":{keys()}}}', Model),
    "pydantic texts": (f'{{"amounts":{texts()}}}', Model),
    "pydantic tuples": (json.dumps({"pairs": [[k, k] for k in OF_ONE_HASH]}), Model),
    "msgspec set": (f'{{"numbers":{numbers()}}}', Struct),
    "msgspec dict": (f'{{"names":{keys()}}}', Struct),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_one_hash_is_refused(name):
    data, hint = FLOODS[name]
    sent = data.encode() if isinstance(data, str) else data
    with pytest.raises(DecodeError, match=FLOOD):
        codec.decode(sent, None if hint is None else plan_for(hint))


@pytest.mark.parametrize("kind", [set, frozenset, dict.fromkeys, collections.Counter])
def test_the_sender_refuses_it_too(kind):
    few, many = OF_ONE_HASH[:100], OF_ONE_HASH[:101]
    assert codec.decode(codec.encode(kind(few))) == kind(few)
    with pytest.raises(EncodeError, match=FLOOD):
        codec.encode({"a": kind(many)})


def test_equal_elements_are_no_flood():
    assert codec.decode(b"[" + b"7," * 99_999 + b"7]", plan_for(set[int])) == {7}
    many = set(range(-50_000, 50_000))
    assert codec.decode(codec.encode(many)) == many
    powers = {2.0**exponent for exponent in range(-1000, 1000)}
    assert codec.decode(codec.encode(powers)) == powers


# ---- unions


class A:
    def __init__(self, x: Any, a: Any) -> None:
        self.x = x

    x: Union[A, B, None]  # noqa: UP007


class B:
    def __init__(self, x: Any, b: Any) -> None:
        self.x = x

    x: Union[A, B, None]  # noqa: UP007


class Lists:
    parts: list[Union[Lists, MoreLists]]  # noqa: UP007


class MoreLists:
    parts: list[Union[Lists, MoreLists]]  # noqa: UP007
    name: int


def nested(start: str, middle: str, end: str, levels: int) -> bytes:
    return (start * levels + middle + end * levels).encode()


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (nested('{"x":', "1", "}", 190), A | B),
        (nested('{"x":', "null", ',"a":1,"b":1,"c":1}', 190), A | B),
        (nested('{"x":', '{"x":null}', ',"b":1}', 190), A | B),
        (nested('{"parts":[', "", '],"name":"no number"}', 95), MoreLists | Lists),
        (nested('{"parts":[', "1", "]}", 95), MoreLists | Lists),
        (nested("[", "1", "]", 190), list[list[Any] | dict[str, Any] | int] | int),
    ],
)
def test_unions_within_unions_do_not_double_the_work(data, hint):
    before = codec._steps
    with contextlib.suppress(DecodeError):
        codec.decode(data, plan_for(hint))
    assert codec._steps - before < 50 * len(data)


def test_the_innermost_of_sixty_unions_still_decides():
    got = codec.decode(nested('{"x":', "null", ',"b":1}', 60), plan_for(A | B))
    levels = 0
    while got is not None:
        assert type(got) is B
        got, levels = got.x, levels + 1
    assert levels == 60


def test_an_alternative_that_failed_leaves_no_trace():
    hint = dict[str, tuple[int, ...] | frozenset[str] | list[Any]]
    sent = b'{"a":[1,[2]],"b":["x",{"y":[3]}],"c":["x","y"],"d":[1,2]}'
    assert codec.decode(sent, plan_for(hint)) == {
        "a": [1, [2]],
        "b": ["x", {"y": [3]}],
        "c": frozenset({"x", "y"}),
        "d": (1, 2),
    }


# ---- tags


def test_long_tags_are_not_read_for_each_value():
    long = "x" * 4_000_000
    many = ",".join(["1"] * 500_000)
    sent = f'{{"__types":{{"*":"{long}"}},"__list":[{many}],"__type":"a.B"}}'
    assert len(codec.decode(sent.encode())) == 500_000
    entries = ",".join(f'"{n}":1' for n in range(100_000))
    sent = f'{{"__types":"dict:{long}","__obj":{{{entries}}},"__type":"dict"}}'
    assert len(codec.decode(sent.encode())) == 100_000


# ---- what is sent


def test_a_value_that_holds_one_part_many_times_ends_at_the_limit_of_size():
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    with pytest.raises(EncodeError, match="more than the limit"):
        codec.encode(value)


class Tree:
    def __init__(self, parts: Any) -> None:
        self.parts = parts


@pytest.mark.parametrize(
    "grow",
    [
        lambda inner: {"a": inner, 1: 0},
        lambda inner: collections.OrderedDict({"a": inner, 1: 0}),
        lambda inner: Tree([Tree([]), inner]),
        lambda inner: ((), inner),
        lambda inner: [(1,), (1, inner)],
        lambda inner: [{1: 1}, {"a": inner}],
        lambda inner: {"a": (1,), "b": (inner, 1)},
    ],
)
def test_no_part_is_written_twice(grow):
    value: Any = ()
    for _ in range(60):
        value = grow(value)
    assert len(codec.encode(value)) < 20_000


# ---- signals, and other threads


class Late(Exception):
    pass


@pytest.mark.parametrize("hint", [None, list[list[str] | list[int]], list[tuple[Any, ...]]])
def test_signals_are_seen_to_while_a_large_message_is_read(hint):
    def interrupt(*_: Any) -> None:
        raise Late

    sent = b"[" + b"[1]," * 1_000_000 + b"[1]]"
    plan = None if hint is None else plan_for(hint)
    main = threading.get_ident()
    before = codec._steps
    codec.decode(sent, plan)
    whole = codec._steps - before

    def read(killer: threading.Timer) -> None:
        nonlocal before
        killer.start()
        while True:
            before = codec._steps
            codec.decode(sent, plan)

    def looked_at() -> int:
        """How many values the last reading had looked at when the signal came."""
        killer = threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1))
        with pytest.raises(Late):
            read(killer)
        killer.join()
        return codec._steps - before

    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        # Now and then the signal comes between two readings, or at the very end of one.
        assert any(0 < looked_at() < whole for _ in range(10))
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_a_signal_is_not_lost_while_the_types_of_a_message_are_read():
    heard = []

    def interrupt(*_: Any) -> None:
        heard.append(True)
        raise Late

    def read() -> None:
        while not heard:
            codec.decode(sent)

    # With a lone surrogate they are read in Python, which sees to signals itself.
    types = b",".join(b'"k%d":"\\ud800"' % number for number in range(100_000))
    sent = b'{"__types":{' + types + b'},"a":1,"__type":"somewhere.Else"}'
    main = threading.get_ident()
    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for _ in range(5):
            heard.clear()
            killer = threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1))
            killer.start()
            with pytest.raises(Late):
                read()
            killer.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)


# ---- whatever the message and the hint are


class Kind(enum.Enum):
    ONE = "a"
    TWO = b"x"


class Wide:
    a: Union[A, B, Kind, list[Wide], dict[int, Wide], None]  # noqa: UP007
    b: set[Any]


HINTS = st.sampled_from(
    [
        None,
        A | B,
        Wide,
        Wide | A | Lists,
        list[Wide | int],
        dict[int, Wide | Kind],
        tuple[Wide, ...] | list[A] | set[int],
        Model | Struct | Wide,
    ]
)
NAMES = st.sampled_from(["a", "b", "x", "parts", "1", "__type", "__obj", "__types", "=", "*"])
TAGS = st.sampled_from(
    ["set", "tuple", "dict:int", "dict:*", "nowhere.X", f"{__name__}.A", f"{__name__}.Wide"]
)
DOCUMENTS = st.recursive(
    st.none() | st.integers() | st.floats() | st.sampled_from(["a", "eA==", "1", ""]) | TAGS,
    lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner),
    max_leaves=40,
)


@given(DOCUMENTS, HINTS)
@examined(400)
def test_no_message_is_more_work_than_its_size_allows(document, hint):
    data = json.dumps(document).encode()
    before = codec._steps
    with contextlib.suppress(DecodeError):
        codec.decode(data, None if hint is None else plan_for(hint))
    # So many alternatives has the widest union above, and a failure is read a second time.
    assert codec._steps - before <= 40 * (len(data) + 1)
