"""Turns: how many callbacks run at a time, and who is next.

Everything here may be interrupted by a signal handler or a finaliser that comes in by the same
door, so no lock is held anywhere: what is shared are deques, whose operations are atomic.
"""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """So many turns; those who come back from a wait get theirs before those who begin."""

    def __init__(self, free: int) -> None:
        self._free = deque([None] * free)
        self._returning: deque[threading.Lock] = deque()
        self._beginning: deque[threading.Lock] = deque()

    def wanted(self) -> bool:
        """Whether somebody wants to come back."""
        return bool(self._returning)

    @property
    def free(self) -> int:
        """How many are to be had at once."""
        return len(self._free)

    def try_take(self) -> bool:
        """Takes one if that needs no wait."""
        try:
            self._free.pop()
        except IndexError:
            return False
        return True

    def take(self, *, returning: bool = False) -> None:
        """Waits for one."""
        mine = threading.Lock()
        mine.acquire()
        (self._returning if returning else self._beginning).append(mine)
        self._match()
        mine.acquire()

    def give(self) -> None:
        """Gives one back."""
        self._free.append(None)
        self._match()

    def _match(self) -> None:
        # Whoever finds nobody for the turn in its hand puts it back and looks again: somebody may
        # have come in between, found no turn, and fallen asleep.
        while self._free and (self._returning or self._beginning):
            if not self.try_take():
                return
            waiting = self._next()
            if waiting is None:
                self._free.append(None)
            else:
                waiting.release()

    def _next(self) -> threading.Lock | None:
        for waiting in (self._returning, self._beginning):
            try:
                return waiting.popleft()
            except IndexError:
                continue
        return None
