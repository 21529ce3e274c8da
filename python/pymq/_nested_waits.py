"""Waiting inside callbacks: a callback that waits gives its turn to others meanwhile.

Each thread of a lane knows its lane, and whether it has a turn there. A thread that serves no lane
just waits.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from pymq._forks import in_child
from pymq._gevent import patient
from pymq._threads import hurry

if TYPE_CHECKING:
    from pymq._lane import Lane
    from pymq._pymq import Operation

T = TypeVar("T")


class _Here(threading.local):
    lane: Lane | None = None
    #: Whether the thread has a turn of the lane, and does not wait.
    in_turn = False
    #: Whether it is the one that reads the lane's intake.
    reads = False


here = _Here()


def _after_fork_in_child() -> None:
    # The child runs no lane, though it may have been forked inside of one's callback.
    here.lane, here.in_turn, here.reads = None, False, False


in_child(_after_fork_in_child)


@contextlib.contextmanager
def in_turn_of(lane: Lane) -> Iterator[None]:
    """What the calling thread does in here, it does in a turn of that lane."""
    before = here.lane, here.in_turn
    here.lane, here.in_turn = lane, True
    try:
        yield
    finally:
        here.lane, here.in_turn = before


def wait_in_turn(operation: Callable[..., T], *args: Any) -> T:
    """Runs an operation that waits; from inside a callback, others have their turn meanwhile."""
    lane = here.lane
    if lane is None:
        hurry()
        return operation(*args)
    if not here.in_turn:
        return _wait_aside(lane, operation, *args)
    here.in_turn = False
    lane.leave()
    try:
        return operation(*args)
    finally:
        lane.come_back()
        here.in_turn = True


def _wait_aside(lane: Lane, operation: Callable[..., T], *args: Any) -> T:
    """The same within a wait, or between callbacks: there only finalisers come in."""
    steps_aside = lane.step_aside()
    try:
        return operation(*args)
    finally:
        if steps_aside:
            lane.step_back()


def wait_for(operation: Operation[Any]) -> None:
    """Waits for a native operation whose result goes another way."""
    wait_in_turn(patient(operation).wait)


class Absence:
    """An `async def` callback's turn, which it gives up at its first wait inside PyMQ."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        # One of `begin`, on the loop, and `end`, on the lane's thread, gets it.
        self._present = deque([None])

    def begin(self) -> None:
        """Gives the turn up, unless that was done, or the callback is over."""
        if self._was_present():
            self._lane.leave()

    def end(self) -> None:
        """Has it back."""
        if not self._was_present():
            self._lane.come_back()

    def _was_present(self) -> bool:
        try:
            self._present.pop()
        except IndexError:
            return False
        return True


_absence: ContextVar[Absence | None] = ContextVar("pymq_absence", default=None)


def yield_turn() -> None:
    """Said by the `async` operations before they wait."""
    absence = _absence.get()
    if absence is not None:
        absence.begin()


@contextlib.contextmanager
def may_be_absent() -> Iterator[None]:
    """The coroutine that the calling callback begins in here may give up the callback's turn."""
    lane = here.lane
    if lane is None:
        yield
        return
    absence = Absence(lane)
    token = _absence.set(absence)
    try:
        yield
    finally:
        _absence.reset(token)
        absence.end()
