"""A lane whose thread hands every callback to an executor, whose order and width hold then.

A callback that waits inside of PyMQ keeps its place in the executor; meanwhile a thread of the
lane's stands in for it, so that a nested call ends even where the executor has one place.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Executor

from pymq._lane import Arrival, Lane, first
from pymq._nested_waits import in_turn_of
from pymq._threads import Attendant
from pymq._turns import Turns

logger = logging.getLogger("pymq")


class ExecutorLane(Lane):
    """A lane that has one thread of its own, and an executor for its callbacks."""

    def __init__(self, name: str, executor: Executor) -> None:
        super().__init__(name)
        self._executor = executor
        self._pending: deque[Arrival] = deque()
        self._busy: set[threading.Thread] = set()
        # As many as callbacks wait.
        self._places = Turns(0)

    def wait(self, deadline: float) -> bool:
        """Waits for the thread and for what the executor runs, and shuts the executor down."""
        over = super().wait(deadline)
        self._executor.shutdown(wait=False)
        return over

    def step_aside(self) -> bool:
        """A finaliser within a wait: its place is somebody else's already."""
        places = {thread.ident for thread in self._threads}
        return threading.get_ident() in places and super().step_aside()

    def _others(self, mine: set[threading.Thread]) -> bool:
        return super()._others(mine) or bool(self._pending) or bool(self._busy - mine)

    def discard(self) -> None:
        """What has not begun is not begun any more."""
        super().discard()
        self._pending.clear()

    @property
    def idle(self) -> bool:
        """Whether all that came was handled."""
        return super().idle and not self._pending and not self._busy

    def leave(self) -> None:
        """A callback begins to wait: what is next may be done in its place."""
        self._places.give()
        self._stand_in()

    def come_back(self) -> None:
        """A callback has waited: it goes on when its place is free."""
        self._places.take(returning=True)

    def _handle(self, arrival: Arrival) -> None:
        self._pending.append(arrival)
        del arrival
        try:
            self._executor.submit(self._do_next)
        except RuntimeError:
            logger.exception("a callback was not run: its dispatcher takes no more")
            self._pending.pop()
        self._stand_in()

    def _do_next(self) -> None:
        """Handles the oldest that is left, on whatever thread the executor has for it."""
        thread = threading.current_thread()
        nested = thread in self._busy
        self._busy.add(thread)
        try:
            arrival = first(self._pending)
            if arrival is not None:
                with in_turn_of(self):
                    super()._handle(arrival)
        finally:
            if not nested:
                self._busy.discard(thread)
            self._changed.ring()

    def _stand_in(self) -> None:
        if self._pending and self._places.free:
            Attendant(self._help, "pymq-stand-in").begin()

    def _help(self) -> None:
        while self._pending and self._places.try_take():
            try:
                self._do_next()
            finally:
                self._places.give()
