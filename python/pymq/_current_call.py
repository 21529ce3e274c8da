"""The call that an exposed function is busy with, as the function sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

from pymq._loops import Loops
from pymq._pymq import Call


class RunningCall:
    """The call that an exposed function is busy with."""

    def __init__(self, call: Call, function: str, loops: Loops) -> None:
        self._call = call
        self._loops = loops
        self._afterwards: Callable[[], None] | None = None
        left = call.left
        self._until = None if left is None else time.monotonic() + left
        #: The name that was called.
        self.function = function

    @property
    def cancelled(self) -> bool:
        """Whether the caller has stopped waiting; then nobody will see the result."""
        return self._call.cancelled

    @property
    def left(self) -> float | None:
        """How long the caller still waits, in seconds; `None` where it has not said.

        Calls that are made from here end by then, too.
        """
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def _is_on(self, loops: Loops) -> bool:
        """Whether it is one of the bus of these loops."""
        return self._loops is loops


running: ContextVar[RunningCall | None] = ContextVar("pymq_running_call", default=None)


def current_call() -> RunningCall | None:
    """The call that is being answered here, or `None` outside of an exposed function."""
    return running.get()
