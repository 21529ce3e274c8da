"""Callbacks as a bus knows them: subscribers and exposed functions, and where each is served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from pymq import _pymq
from pymq._callbacks import ExposedFunction
from pymq._lane import Lane, Route


class Bound:
    """A callback, and where it is served once the bus runs."""

    def __init__(
        self, callback: Callable[..., Any], route: Route, channel: str, *, width: int = 1
    ) -> None:
        self.callback = callback
        # Its lane keeps it only as long as it is kept here.
        self.route = route
        self.channel = channel
        self.width = width
        self.source: _pymq.Subscription | _pymq.Provider | None = None
        self.lane: Lane | None = None
        self.number = 0
        self._unserved = deque([None])
        self._present = deque([None])

    def begin(self, native: _pymq.Bus, place: _pymq.Reservation) -> _pymq.Operation[Any]:
        """Begins it at the broker: what comes for it goes to that place."""
        raise NotImplementedError

    def claim(self) -> bool:
        """Whether the caller is to serve it: the first who asks."""
        return took(self._unserved)

    def leave(self) -> bool:
        """Whether the caller is to remove it: the first who asks."""
        return took(self._present)

    @property
    def has_left(self) -> bool:
        """Whether it was removed."""
        return not self._present


def took(tokens: deque[None]) -> bool:
    """Whether there was a token: of those who ask for the only one, one gets it."""
    try:
        tokens.pop()
    except IndexError:
        return False
    return True


class Subscribed(Bound):
    """A subscriber."""

    pattern: bool = False

    def begin(
        self, native: _pymq.Bus, place: _pymq.Reservation
    ) -> _pymq.Operation[_pymq.Subscription]:
        return native.subscribe(self.channel, self.pattern, place)


class Exposed(Bound):
    """An exposed function."""

    def __init__(
        self, fn: Callable[..., Any], function: ExposedFunction, channel: str, width: int
    ) -> None:
        super().__init__(fn, function, channel, width=width)
        self._runner = function.runner

    def begin(self, native: _pymq.Bus, place: _pymq.Reservation) -> _pymq.Operation[_pymq.Provider]:
        return native.provide(self.channel, place)

    @property
    def home(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it would run on."""
        return self._runner.home
