"""Who is declared on a bus: its subscribers and its exposed functions.

No lock is held while anything changes: a signal handler or a finaliser may break in, and wait for a
callback that subscribes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from pymq._bound import Bound, Exposed, Subscribed
from pymq._callables import describe

L = TypeVar("L")


class Registry(Generic[L]):
    """The subscribers by channel, the exposed functions by name, and the lanes that serve them."""

    def __init__(self) -> None:
        self._subscribers: dict[tuple[str, bool], list[Subscribed]] = {}
        self._remotes: dict[str, Exposed] = {}
        self.lanes: set[L] = set()

    def add(self, bound: Subscribed) -> None:
        """Adds a subscriber."""
        key = (bound.channel, bound.pattern)
        every = self._subscribers.setdefault(key, [])
        every.append(bound)
        if self._subscribers.get(key) is not every:
            # It was let go in this moment, empty as it was.
            self._move(every)

    def _move(self, every: list[Subscribed]) -> None:
        while every:
            try:
                bound = every.pop()
            except IndexError:
                # Somebody else moves them too.
                return
            self.add(bound)
            if bound.has_left:
                # While it was on its way.
                self._remove_subscriber(bound)

    def add_remote(self, bound: Exposed) -> None:
        """Adds an exposed function. Raises `ValueError` if its name is taken."""
        if self._remotes.setdefault(bound.channel, bound) is not bound:
            raise ValueError(f"Function on channel {bound.channel} already exposed")

    def find(self, callback: Callable[..., Any], channel: str, pattern: bool) -> Subscribed | None:
        """The subscriber. Raises `ValueError` if the channel has others only."""
        every = list(self._subscribers.get((channel, pattern), ()))
        for bound in every:
            if bound.callback == callback:
                return bound
        if every:
            raise ValueError(f"{describe(callback)} is not subscribed to {channel!r}")
        return None

    def find_remote(self, channel: str) -> Exposed | None:
        """The exposed function of that name."""
        return self._remotes.get(channel)

    def remove(self, bound: Bound) -> bool:
        """Removes one; says whether it was there."""
        if not bound.leave():
            return False
        if isinstance(bound, Subscribed):
            self._remove_subscriber(bound)
        elif self._remotes.get(bound.channel) is bound:
            # A close that breaks in here lets go of all.
            self._remotes.pop(bound.channel, None)
        return True

    def _remove_subscriber(self, bound: Subscribed) -> None:
        key = (bound.channel, bound.pattern)
        every = self._subscribers.get(key, [])
        with contextlib.suppress(ValueError):
            # It may have been moved, or let go of, in this moment.
            every.remove(bound)
        if not every:
            self._move(self._subscribers.pop(key, []))

    def subscribers(self) -> list[Subscribed]:
        """All subscribers."""
        return [bound for every in list(self._subscribers.values()) for bound in list(every)]

    def remotes(self) -> list[Exposed]:
        """All exposed functions."""
        return list(self._remotes.values())

    def all(self) -> list[Bound]:
        """All of both."""
        return [*self.subscribers(), *self.remotes()]

    def clear(self) -> None:
        """Keeps nobody."""
        self._subscribers.clear()
        self._remotes.clear()
        self.lanes.clear()
