"""Options that a user gives: their names and defaults, and their numbers, checked at the door.

Each list of options stands here and nowhere else: the functions that take them pass them on.
"""

from __future__ import annotations

import enum
import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

if TYPE_CHECKING:
    from pymq._retry import Retry

F = TypeVar("F", bound=Callable[..., Any])

#: More threads than any system gives to one process.
MOST = 10_000
#: A length of time that is not meant to be endless, in seconds.
LONGEST = 1e9


def count(name: str, value: object, *, least: int = 1, most: int = MOST) -> int:
    """A whole number of something; raises `ValueError`, or `TypeError` for what is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a whole number from {least} to {most}, not {value!r}")
    if not isinstance(value, numbers.Integral) or not least <= int(value) <= most:
        raise ValueError(f"{name} is a whole number from {least} to {most}, not {value!r}")
    return int(value)


def seconds(name: str, value: object, *, endless: bool = True) -> float:
    """A length of time; raises `ValueError`, or `TypeError` for what is no number."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a length in seconds, not {value!r}")
    try:
        length = float(value)
    except OverflowError:
        length = math.inf
    if math.isnan(length) or length < 0:
        raise ValueError(f"{name} is a length in seconds from 0, not {value!r}")
    if length > LONGEST and not endless:
        raise ValueError(f"{name} is a finite length in seconds, not {value!r}")
    return length


class Order(enum.Enum):
    """In which order callbacks of different subscribers run."""

    #: All of a bus in one row, by arrival, as the original does.
    ONE_ROW = "one row"
    #: Each subscriber and each exposed function for itself.
    SIDE_BY_SIDE = "side by side"


class BusOptions(TypedDict, total=False):
    """The options of a bus, see `NativeEventBus`."""

    namespace: str
    trust: Literal["loaded", "declared"]
    strict: bool
    workers: int | None
    dispatcher: Executor | None
    order: Order
    legacy_grace: float
    wait: float | None
    call_timeout: float | None


class QueueOptions(TypedDict, total=False):
    """The options of a handle on a queue, see `NativeEventBus.queue`."""

    lease: float
    max_deliveries: int
    prefetch: int
    retry: Retry | Iterable[float] | None
    max_dead_letters: int
    priorities: bool


#: What they are where nothing is said.
QUEUE: QueueOptions = {
    "lease": 30.0,
    "max_deliveries": 5,
    "prefetch": 1,
    "retry": None,
    "max_dead_letters": 0,
    "priorities": False,
}


# The longest lease, in seconds, and the most items that are fetched ahead.
LONGEST_LEASE = 366 * 86_400.0
MOST_AHEAD = 10_000


def check_queue(name: str, options: Mapping[str, object]) -> None:
    """Raises `ValueError` for what no handle on a queue can be told, in words that name it."""
    for option, value in options.items():
        holds, wanted = _QUEUE_CHECKS.get(option, _ANYTHING)
        if not holds(value):
            raise ValueError(f"queue {name!r}: {option} is {wanted}, not {value!r}")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_length(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 < value <= LONGEST_LEASE


def _is_count(least: int, end: float) -> Callable[[Any], bool]:
    return lambda value: _is_integer(value) and least <= value < end


_ANYTHING: tuple[Callable[[Any], bool], str] = (lambda value: True, "anything")
_QUEUE_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "text, not empty"),
    "maxsize": (_is_integer, "a number of items, 0 for no bound"),
    "ack": (lambda value: value in ("auto", "manual"), "'auto' or 'manual'"),
    "lease": (_is_length, "a length in seconds, above 0 and up to a year"),
    "max_deliveries": (_is_count(0, 2**32), "a number, 0 for no limit"),
    "prefetch": (_is_count(1, MOST_AHEAD + 1), f"a number of items from 1 to {MOST_AHEAD}"),
    "max_dead_letters": (_is_count(0, math.inf), "a number, 0 for no bound"),
    "priorities": (lambda value: isinstance(value, bool), "True or False"),
}


class PutOptions(TypedDict, total=False):
    """What may be said of an item that is put, see `NativeQueue.put`."""

    delay: float | None
    at: datetime | None
    id: str | None
    window: float
    priority: int
    headers: Mapping[str, str] | None


#: What they are where nothing is said.
PUT: PutOptions = {
    "delay": None,
    "at": None,
    "id": None,
    "window": 3600.0,
    "priority": 0,
    "headers": None,
}


class CallOptions(TypedDict, total=False):
    """The options of a remote function, see `NativeEventBus.stub`."""

    required: bool
    headers: Mapping[str, str] | None
    passed: Mapping[str, str] | None


#: What they are where nothing is said.
CALL: CallOptions = {"required": False, "headers": None, "passed": None}


def known(function: str, options: Mapping[str, object], names: Mapping[str, object]) -> None:
    """Raises `TypeError` for an option that there is not, as Python itself does."""
    for name in options:
        if name not in names:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def shows(options: type, defaults: Mapping[str, object]) -> Callable[[F], F]:
    """Lets `help` show the options of a function that passes them on, each with its default."""
    said = options.__annotations__

    def show(function: F) -> F:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        for name, default in defaults.items():
            hint = getattr(said[name], "__forward_arg__", said[name])
            option = inspect.Parameter(name, _BY_NAME, default=default, annotation=hint)
            own.append(option)
        function.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        return function

    return show


_BY_NAME = inspect.Parameter.KEYWORD_ONLY
