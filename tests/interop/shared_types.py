"""Events and remote functions that every Python peer of the interoperation tests has loaded.

All of them import this file under the same module name, as the programs of one user would, so tags
such as ``shared_types.Reading`` mean the same class everywhere. Annotations are real objects here,
never strings, and generics come from ``typing``, because the original understands nothing else.
"""

# ruff: noqa: UP006, UP035

import enum
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, NamedTuple

PEER_NAME = ["unnamed"]
"""The name of the process, set by the peer program: remotes answer it to say who has run."""

CALLS: List[str] = []
"""The names of the remotes that this process has run, oldest first."""

PRODUCTS: List[int] = []
"""The first argument of each ``product`` that this process has run."""

RELEASED = threading.Event()
"""Ends every ``held`` in this process."""


class Reading:
    """The form that the original documents: annotations on the class and a constructor."""

    sensor: str
    celsius: float

    def __init__(self, sensor: str, celsius: float = 20.5) -> None:
        self.sensor = sensor
        self.celsius = celsius


class Marker:
    """Annotations on the class and no constructor: fields are set one by one."""

    x: int
    y: int
    label: str


class Loose:
    """Fields that no annotation mentions."""

    def __init__(self, first: Any = "unset", second: Any = None) -> None:
        self.first = first
        self.second = second


class MyEvent:
    pass


@dataclass
class Order:
    number: int
    items: List[str] = field(default_factory=list)
    note: str = ""


class Point(NamedTuple):
    x: int
    y: int


class Color(enum.Enum):
    RED = "red"
    GREEN = "green"


class Drawing:
    """Holds objects of a class that is nested in it, in a list and in a dict."""

    class Shape:
        kind: str
        sides: int

        def __init__(self, kind: str, sides: int) -> None:
            self.kind = kind
            self.sides = sides

    title: str
    shapes: List[Shape]
    named: Dict[str, Shape]

    def __init__(self, title: str, shapes: List[Shape], named: Dict[str, Shape]) -> None:
        self.title = title
        self.shapes = shapes
        self.named = named


class Folder:
    """Annotated with a class that is not nested, on two levels."""

    order: Order
    readings: List[Reading]

    def __init__(self, order: Order, readings: List[Reading]) -> None:
        self.order = order
        self.readings = readings


class OutOfStock(Exception):
    pass


def with_fields(instance: Any, **fields: Any) -> Any:
    """Sets attributes where only an expression fits."""
    for name, value in fields.items():
        setattr(instance, name, value)
    return instance


def product(a: int, b: int) -> int:
    PRODUCTS.append(a)
    CALLS.append("product")
    return a * b


def echo(value):  # type: ignore[no-untyped-def]
    """No hints at all: what arrives is what travelled."""
    CALLS.append("echo")
    return value


def join_words(first: str, second: str = "world") -> str:
    CALLS.append("join_words")
    return first + " " + second


def fail(code: int) -> None:
    CALLS.append("fail")
    raise ValueError("no such order", code)


def fail_of_stock(item: str) -> None:
    CALLS.append("fail_of_stock")
    raise OutOfStock(item)


def make_reading(sensor: str) -> Reading:
    CALLS.append("make_reading")
    return Reading(sensor, 36.6)


def doubled(reading: Reading) -> float:
    CALLS.append("doubled")
    return reading.celsius * 2


def make_nothing() -> None:
    CALLS.append("make_nothing")


def make_list(length: int) -> List[int]:
    CALLS.append("make_list")
    return list(range(length))


def make_readings(length: int) -> List[Reading]:
    CALLS.append("make_readings")
    return [Reading(f"sensor{number}", float(number)) for number in range(length)]


def make_dict(key: str) -> Dict[str, int]:
    CALLS.append("make_dict")
    return {key: 1, "other": 2}


def make_tuple(a: int, b: str) -> tuple:  # type: ignore[type-arg]
    CALLS.append("make_tuple")
    return (a, b)


def make(expression: str):  # type: ignore[no-untyped-def]
    """Returns whatever value is wanted: decoding an argument could not yield it everywhere."""
    CALLS.append("make")
    return eval(expression)


def who() -> str:
    CALLS.append("who")
    return PEER_NAME[0]


def slow(seconds: float) -> str:
    CALLS.append("slow")
    time.sleep(seconds)
    return PEER_NAME[0]


def held() -> str:
    """Does not return before its process is told to release it: slow without a clock."""
    CALLS.append("held")
    RELEASED.wait()
    return PEER_NAME[0]
