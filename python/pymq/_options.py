"""Options that a user gives: their names, and their numbers, checked at the door in a sentence."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from pymq._retry import Retry

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


class CallOptions(TypedDict, total=False):
    """The options of a remote function, see `NativeEventBus.stub`."""

    required: bool
    headers: Mapping[str, str] | None
    passed: Mapping[str, str] | None
