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
import threading
import time
import weakref
from collections import deque
from typing import Any, Protocol, TypeAlias

from pymq._gevent import patient
from pymq._loops import threads_here
from pymq._nested_waits import here
from pymq._pymq import Call, Intake, Reservation
from pymq._threads import Attendant
from pymq._turns import Bell, Turns

logger = logging.getLogger("pymq")

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

    def expect(self, route: Route) -> Reservation:
        """A place for a source that is about to begin. The source is served there from its first
        moment, so a signal handler that interrupts this thread never waits for it. It is served as
        long as somebody keeps the route, until `detach`."""
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
        mine = threads_here()
        ended: set[threading.Thread] = set()
        while True:
            changed = self._changed.listen()
            if not self._others(mine):
                break
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            ended |= self._threads - mine
            self._changed.rings(changed, left)
        for thread in ended:
            # They have left the set, and have nothing more to do.
            thread.join()
        return True

    def _others(self, mine: set[threading.Thread]) -> bool:
        """Whether others than the caller have something to do."""
        return bool(self._threads - mine)

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
        here.lane = self

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
        here.in_turn = True
        self._turns.take()
        return True

    def _read(self) -> bool:
        """Waits for arrivals, one thread at a time; says whether more may come."""
        self._reading.acquire()
        here.reads = True
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
        if here.reads:
            here.reads = False
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
            here.in_turn = False
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
