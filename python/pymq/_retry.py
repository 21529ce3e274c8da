"""When an item whose handler failed is tried again."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from numbers import Real
from typing import Any

__all__ = ["Retry"]


@dataclass(frozen=True)
class Retry:
    """When an item whose handler failed comes again: after 1, 4, 16, 64 s by default, each ±20 %.

    A queue's `max_deliveries` bounds it whatever it says. What a handler raises of `give_up_on`
    makes the item a dead letter at once.
    """

    #: The delays one by one, in seconds; `None` takes the three numbers below.
    delays: tuple[float, ...] | None = None
    #: The first delay, and how many times longer the next one is, up to `most`.
    first: float = 1.0
    factor: float = 4.0
    most: float = 64.0
    #: How much longer or shorter a delay may be by chance, as a share of it.
    jitter: float = 0.2
    #: A class of exceptions, or several.
    give_up_on: type[BaseException] | Iterable[type[BaseException]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "give_up_on", _classes(self.give_up_on))
        for number in (self.first, self.factor, self.most, self.jitter, *(self.delays or ())):
            _check_number(number)
        if self.jitter > 1:
            raise ValueError(f"retry: jitter is a share from 0 to 1, not {self.jitter!r}")

    @classmethod
    def never(cls) -> Retry:
        """Not at all: an item that failed is a dead letter."""
        return cls(delays=())

    @classmethod
    def at_once(cls) -> Retry:
        """At once, as often as `max_deliveries` lets it."""
        return cls(first=0.0, most=0.0)

    @classmethod
    def after(
        cls,
        delays: Iterable[float],
        *,
        give_up_on: type[BaseException] | Iterable[type[BaseException]] = (),
    ) -> Retry:
        """After these delays, one for each failure; then it is a dead letter."""
        if isinstance(delays, (str, bytes)) or not isinstance(delays, Iterable):
            raise TypeError(f"retry: delays are a list of seconds, not {delays!r}")
        return cls(delays=tuple(delays), give_up_on=give_up_on)

    @classmethod
    def exponential(
        cls,
        first: float,
        factor: float = 2.0,
        most: float = 3600.0,
        *,
        give_up_on: type[BaseException] | Iterable[type[BaseException]] = (),
    ) -> Retry:
        """After `first` seconds, then `factor` times as long as before, and at most `most`."""
        return cls(first=first, factor=factor, most=most, give_up_on=give_up_on)

    def giving_up_on(self, *errors: type[BaseException]) -> Retry:
        """The same, but for these exceptions an item is a dead letter at once."""
        return replace(self, give_up_on=errors)

    def delay(self, deliveries: int, error: BaseException | None = None) -> float | None:
        """In how many seconds an item that failed in its so-manieth delivery comes again."""
        if error is not None and isinstance(error, _classes(self.give_up_on)):
            return None
        failures = max(0, deliveries - 1)
        if self.delays is None:
            try:
                delay = min(self.most, self.first * self.factor**failures)
            except OverflowError:
                delay = self.most
        elif failures < len(self.delays):
            delay = self.delays[failures]
        else:
            return None
        return delay * (1 + self.jitter * random.uniform(-1, 1))


def _check_number(number: Any) -> None:
    try:
        length = float(number) if isinstance(number, (Real, Decimal)) else math.nan
    except OverflowError:
        length = math.inf
    if isinstance(number, bool) or not 0 <= length < math.inf:
        raise ValueError(f"retry: delays are numbers of seconds from 0, not {number!r}")


def _classes(
    given: type[BaseException] | Iterable[type[BaseException]],
) -> tuple[type[BaseException], ...]:
    classes = (given,) if isinstance(given, type) else tuple(given)
    for one in classes:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            raise TypeError(f"retry: give_up_on names classes of exceptions, not {one!r}")
    return classes


def retry_of(given: Retry | Iterable[float] | None) -> Retry:
    """What the option `retry` says: a `Retry`, a list of delays, or nothing for the default."""
    if given is None:
        return Retry()
    if isinstance(given, Retry):
        return given
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise TypeError(f"retry is a pymq.Retry or a list of delays in seconds, not {given!r}")
    return Retry.after(given)
