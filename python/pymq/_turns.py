"""Turns: how many callbacks run at a time, who is next, and who waits for a change.

Everything here may be interrupted by a signal handler or a finaliser that comes in by the same
door, so no lock is held anywhere: what is shared are deques, whose operations are atomic.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque

#: How long those who begin wait for one who comes back while a turn is free, in seconds.
PATIENCE = 0.1


class Turns:
    """So many turns; those who come back from a wait get theirs before those who begin.

    A turn is free or taken, and never on its way: whoever wants one is woken, and takes it itself.
    """

    def __init__(self, free: int) -> None:
        self._free = deque([None] * free)
        self._returning: deque[None] = deque()
        self._changed = Bell()

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
        if not returning:
            self._take(first=False)
            return
        self._returning.append(None)
        try:
            self._take(first=True)
        finally:
            self._returning.pop()
            if self._free:
                # Those who begin have let it go first.
                self._changed.ring()

    def give(self) -> None:
        """Gives one back."""
        self._free.append(None)
        self._changed.ring()

    def _take(self, *, first: bool) -> None:
        while True:
            changed = self._changed.listen()
            if (first or not self._returning) and self.try_take():
                return
            yields = bool(self._free) and not first
            if not self._changed.rings(changed, PATIENCE if yields else None):
                # Whoever comes back was held up on its way, perhaps by what is to begin now.
                first = True


class Bell:
    """Wakes whoever waits for a change. Who listens looks then, so that no change is missed."""

    def __init__(self) -> None:
        self._listening: deque[threading.Lock] = deque()

    def listen(self) -> threading.Lock:
        """What can be acquired once the bell has rung."""
        rung = threading.Lock()
        rung.acquire()
        self._listening.append(rung)
        return rung

    def rings(self, rung: threading.Lock, timeout: float | None = None) -> bool:
        """Waits for that, for so many seconds at most; says whether it rang."""
        if rung.acquire(timeout=-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX)):
            return True
        # Whoever looks again and again leaves nothing behind.
        with contextlib.suppress(ValueError):
            self._listening.remove(rung)
        return False

    def ring(self) -> None:
        """Something has changed."""
        while self._listening:
            # Somebody else may ring too, and take the last one.
            with contextlib.suppress(IndexError):
                self._listening.popleft().release()
