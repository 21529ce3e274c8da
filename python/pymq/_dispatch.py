"""Callbacks: which thread runs them, in which order, and what becomes of what they raise.

A `Lane` is a native intake and the threads that serve it: its callbacks begin in the order of
arrival, `width` at a time, and nothing that one raises stops it. Values and functions are not its
business: a route makes a call out of an arrival. A lane keeps no route alive, its bus does.

No lock is held while anything here changes: a signal handler or a finaliser may break in, and wait
for the very callback that would need it. Operations of sets, dicts and deques are atomic.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias, TypeVar

from pymq._gevent import patient
from pymq._loops import threads_here
from pymq._pymq import Call, Intake, Operation, Place
from pymq._threads import Attendant, hurry
from pymq._turns import Bell, Turns

logger = logging.getLogger("pymq")

T = TypeVar("T")

#: How long a thread rests that was interrupted by what nobody foresaw, in seconds.
RESPITE = 0.1

#: A source's number, the topic of an event, and what came: bytes, a `Call`, `Missed`, or the end.
Arrival: TypeAlias = tuple[int, "str | None", Any]


class Route(Protocol):
    """What becomes of the arrivals of one source."""

    #: Channel and callback, for the log.
    label: str

    def __call__(self, topic: str | None, arrival: Any, /) -> None:
        """Handles one event or one call."""
        ...


class Lane:
    """Sources whose callbacks take turns; started with its first source."""

    def __init__(self, name: str, width: int = 1, *, yields: bool = True) -> None:
        self._name = name
        self._width = width
        self._yields = yields
        self._intake = patient(Intake())
        self._arrivals: deque[Arrival] = deque()
        # Weak, because the threads keep the lane: a bus that its own callback mentions is still
        # collected, and its lanes end with it.
        self._routes: dict[int, weakref.ref[Route]] = {}
        self._turns = Turns(width)
        self._reading = threading.Lock()
        self._leaving = threading.Lock()
        self._changed = Bell()
        self._threads: set[threading.Thread] = set()
        # By identity: a thread on its way is none of `threading`'s yet.
        self._at_work: set[int] = set()
        self._discards = False
        #: How many arrivals were begun.
        self.begun: int = 0

    def expect(self, route: Route) -> Place:
        """A place for a source that is about to begin, which is served there from its first moment:
        nothing that breaks into the calling thread waits for what that has still to do. It is
        served as long as somebody keeps the route, until `detach`."""
        place = self._intake.reserve()
        self._routes[place.number] = weakref.ref(route)
        if not self._threads:
            self._start_another()
        return place

    def detach(self, number: int) -> None:
        """Nothing of this source is begun any more."""
        self._routes.pop(number, None)
        self._intake.detach(number)

    def close(self) -> None:
        """Nothing more comes in; what is there is still handled."""
        self._intake.close()

    def wait(self, deadline: float) -> bool:
        """Waits for the threads to end; says whether they have, but for those that cannot before
        the caller does."""
        here = threads_here()
        ended: set[threading.Thread] = set()
        while True:
            changed = self._changed.listen()
            if not self._others(here):
                break
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ended |= self._threads - here
            self._changed.rings(changed, left)
        for thread in ended:
            # They have left the set, and have nothing more to do.
            thread.join()
        return True

    def _others(self, here: set[threading.Thread]) -> bool:
        """Whether others than the caller have something to do."""
        return bool(self._threads - here)

    def discard(self) -> None:
        """What has not begun is not begun any more."""
        self._discards = True
        self._arrivals.clear()

    @property
    def idle(self) -> bool:
        """Whether all that came was handled."""
        # In the order in which an arrival goes through them.
        return self._intake.idle and not self._arrivals and not self._at_work

    def leave(self) -> None:
        """A callback begins to wait: somebody else's turn."""
        if not self._yields:
            return
        if not self._idle:
            self._try_to_start_another()
        self._turns.give()

    def come_back(self) -> None:
        """A callback has waited: it goes on before others begin."""
        if self._yields:
            self._turns.take(returning=True)

    @property
    def _idle(self) -> int:
        """How many threads have nothing to do."""
        return len(self._threads) - len(self._at_work)

    def _start_another(self) -> None:
        thread = Attendant(
            self._work,
            f"pymq-{self._name}",
            enter=self._enter,
            late=self._try_to_start_another,
        )
        self._threads.add(thread)
        try:
            thread.begin()
        except BaseException:
            self._threads.discard(thread)
            self._changed.ring()
            raise

    def _try_to_start_another(self) -> None:
        try:
            self._start_another()
        except RuntimeError:
            # The system gives no more: those that there are do it, one after the other.
            logger.warning("no more threads to be had for callbacks")

    def _enter(self) -> None:
        _here.lane = self

    def _work(self) -> None:
        try:
            # Outside of all that depends on a user's code: whatever comes through, a thread that
            # serves others goes on.
            while not self._serve():
                time.sleep(RESPITE)
        finally:
            self._threads.discard(threading.current_thread())
            self._changed.ring()

    def _serve(self) -> bool:
        """Serves to the end; not so far, if something comes through that nobody foresaw."""
        try:
            while self._take_turn():
                self._serve_turn()
                if self._is_superfluous():
                    break
        except BaseException:
            _pass_over("a callback thread was interrupted")
            return False
        return True

    def _take_turn(self) -> bool:
        """Waits until there is something to do and a turn to do it; not, once all is over."""
        while not self._arrivals:
            if not self._read():
                return False
        # Before and until after: who breaks in gives back a turn too many rather than none.
        _here.in_turn = True
        self._turns.take()
        return True

    def _read(self) -> bool:
        """Waits for arrivals, one thread at a time; says whether more may come."""
        self._reading.acquire()
        _here.reads = True
        try:
            if not self._arrivals:
                arrivals = self._intake.recv()
                if not arrivals and self._intake.closed:
                    return False
                if not self._discards:
                    self._arrivals.extend(arrivals)
            return True
        finally:
            self._stop_reading()

    def _stop_reading(self) -> None:
        if _here.reads:
            _here.reads = False
            self._reading.release()

    def step_aside(self) -> bool:
        """A finaliser that broke into a thread between its callbacks begins to wait; says whether
        that is news."""
        self._stop_reading()
        thread = threading.get_ident()
        if thread in self._at_work:
            return False
        self._at_work.add(thread)
        if not self._idle:
            self._try_to_start_another()
        return True

    def step_back(self) -> None:
        """It has waited."""
        self._at_work.discard(threading.get_ident())

    def _serve_turn(self) -> None:
        thread = threading.get_ident()
        self._at_work.add(thread)
        try:
            if not self._idle and len(self._threads) < self._width:
                self._try_to_start_another()
            while arrival := first(self._arrivals):
                self._handle(arrival)
                # Nobody else keeps a call: one that is dropped is answered at once.
                del arrival
                if self._turns.wanted():
                    break
        finally:
            self._turns.give()
            _here.in_turn = False
            self._at_work.discard(thread)
            self._changed.ring()

    def _is_superfluous(self) -> bool:
        """Whether enough others are idle; then the calling thread counts no more."""
        if self._idle <= self._width or not self._leaving.acquire(blocking=False):
            return False
        # One at a time, or all might leave in view of each other.
        try:
            superfluous = self._idle > self._width
            if superfluous:
                self._threads.discard(threading.current_thread())
            return superfluous
        finally:
            self._leaving.release()

    def _handle(self, arrival: Arrival) -> None:
        """Handles one arrival; raises nothing."""
        number, topic, payload = arrival
        self.begun += 1
        try:
            found = self._routes.get(number)
            route = None if found is None else found()
            if route is None:
                return
            if topic is not None or isinstance(payload, Call):
                _run(route, topic, payload)
            elif payload is None:
                self._routes.pop(number, None)
            else:
                _report_missed(route, payload.count)
        except BaseException:
            _pass_over("a callback was interrupted")


def first(arrivals: deque[Arrival]) -> Arrival | None:
    """Takes the oldest, if there is one."""
    # Others take from it too: it may be empty although it was not a moment ago.
    try:
        return arrivals.popleft()
    except IndexError:
        return None


def _pass_over(what: str) -> None:
    """Logs the exception that is being handled; if that fails too, nobody can be told."""
    with contextlib.suppress(BaseException):
        logger.exception(what)


def _run(route: Route, topic: str | None, payload: Any) -> None:
    try:
        route(topic, payload)
    except BaseException:
        # Whatever it is, SystemExit included: one callback does not end the others.
        logger.exception("%s raised", route.label)


def _report_missed(route: Route, count: int | None) -> None:
    if count is None:
        logger.warning("%s: events may have been missed, the connection was lost", route.label)
    else:
        logger.warning("%s: %d events missed, it is too slow", route.label, count)


# ---- waiting inside callbacks


class _Here(threading.local):
    lane: Lane | None = None
    #: Whether the thread has a turn of the lane, and does not wait.
    in_turn = False
    #: Whether it is the one that reads the lane's intake.
    reads = False


_here = _Here()


def _after_fork_in_child() -> None:
    # The child runs no lane, though it may have been forked inside of one's callback.
    _here.lane, _here.in_turn, _here.reads = None, False, False


os.register_at_fork(after_in_child=_after_fork_in_child)


@contextlib.contextmanager
def in_turn_of(lane: Lane) -> Iterator[None]:
    """What the calling thread does in here, it does in a turn of that lane."""
    before = _here.lane, _here.in_turn
    _here.lane, _here.in_turn = lane, True
    try:
        yield
    finally:
        _here.lane, _here.in_turn = before


def wait_in_turn(operation: Callable[..., T], *args: Any) -> T:
    """Runs an operation that waits; from inside a callback, others have their turn meanwhile."""
    lane = _here.lane
    if lane is None:
        hurry()
        return operation(*args)
    if not _here.in_turn:
        return _wait_aside(lane, operation, *args)
    _here.in_turn = False
    lane.leave()
    try:
        return operation(*args)
    finally:
        lane.come_back()
        _here.in_turn = True


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
    lane = _here.lane
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
