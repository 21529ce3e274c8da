"""Options that a user gives: their names and defaults, and their numbers, checked at the door.

Each list of options stands here and nowhere else: the functions that take them pass them on.
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

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
