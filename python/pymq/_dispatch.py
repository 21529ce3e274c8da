"""Callbacks: which thread runs them, in which order, and what becomes of what they raise.

A `Lane` is a native intake and the threads that serve it: its callbacks begin in the order of
arrival, `width` at a time, and nothing that one raises stops it. Values and functions are not its
business: a route makes a call out of an arrival.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import wait as wait_for_futures
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from pymq._pymq import Intake, Provider, Subscription

logger = logging.getLogger("pymq")

T = TypeVar("T")


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
        self._intake = Intake()
        self._arrivals: deque[tuple[int, str | None, Any]] = deque()
        self._routes: dict[int, Route] = {}
        self._turns = _Turns(width)
        self._reading = threading.Lock()
        self._changed = threading.Condition()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._discards = False

    def attach(self, source: Subscription | Provider, route: Route) -> int:
        """Begins to serve a source; the number is for `detach`."""
        with self._changed:
            number = self._intake.attach(source)
            self._routes[number] = route
            if not self._threads:
                self._add_thread()
        return number

    def detach(self, number: int) -> None:
        """Nothing of this source is begun any more."""
        with self._changed:
            self._routes.pop(number, None)
        self._intake.detach(number)

    def close(self) -> None:
        """Nothing more comes in; what is there is still handled."""
        self._intake.close()

    def wait(self, deadline: float) -> bool:
        """Waits for the threads to end; says whether they have, but for the one that asks."""
        here = threading.current_thread()
        ended: set[threading.Thread] = set()
        with self._changed:
            while self._threads - {here}:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                ended |= self._threads - {here}
                self._changed.wait(left)
        for thread in ended:
            # They have left the set, and have nothing more to do.
            thread.join()
        return True

    def discard(self) -> None:
        """What has not begun is not begun any more."""
        self._discards = True
        self._arrivals.clear()

    def leave(self) -> None:
        """A callback begins to wait: somebody else's turn."""
        if not self._yields:
            return
        with self._changed:
            if self._idle == 0:
                self._add_thread()
        self._turns.give()

    def come_back(self) -> None:
        """A callback has waited: it goes on before others begin."""
        if self._yields:
            self._turns.take(returning=True)

    def _add_thread(self) -> None:
        # A daemon, or the interpreter would wait for it before `atexit` can end it.
        thread = threading.Thread(target=self._work, name=f"pymq-{self._name}", daemon=True)
        self._threads.add(thread)
        self._idle += 1
        thread.start()

    def _work(self) -> None:
        _here.lane = self
        try:
            while self._take_turn():
                try:
                    while self._arrivals and not self._turns.wanted():
                        try:
                            arrival = self._arrivals.popleft()
                        except IndexError:
                            break
                        self._handle(arrival)
                finally:
                    self._turns.give()
                with self._changed:
                    self._idle += 1
                    self._changed.notify_all()
                    if self._idle > self._width:
                        break
        finally:
            with self._changed:
                self._idle -= 1
                self._threads.discard(threading.current_thread())
                self._changed.notify_all()

    def _take_turn(self) -> bool:
        """Waits until there is something to do and a turn to do it; not, once all is over."""
        with self._reading:
            while not self._arrivals:
                arrivals = self._intake.recv()
                if not arrivals and self._intake.closed:
                    return False
                if not self._discards:
                    self._arrivals.extend(arrivals)
                del arrivals
            self._turns.take()
        with self._changed:
            self._idle -= 1
            if self._idle == 0 and len(self._threads) < self._width:
                self._add_thread()
        return True

    def _handle(self, arrival: tuple[int, str | None, Any]) -> None:
        number, topic, payload = arrival
        route = self._routes.get(number) or self._route(number)
        if route is None:
            return
        if payload is None:
            self._routes.pop(number, None)
        elif topic == "":
            _report_missed(route, payload)
        else:
            _run(route, topic, payload)

    def _route(self, number: int) -> Route | None:
        # `attach` may be about to put it there.
        with self._changed:
            return self._routes.get(number)


class ExecutorLane(Lane):
    """A lane whose thread hands every callback to an executor, whose order and width hold then."""

    def __init__(self, name: str, executor: Executor) -> None:
        super().__init__(name)
        self._executor = executor
        self._running: set[Future[None]] = set()

    def wait(self, deadline: float) -> bool:
        """Waits for the thread and for what the executor runs, and shuts the executor down."""
        over = super().wait(deadline)
        left = max(0.0, deadline - time.monotonic())
        running = wait_for_futures(list(self._running), timeout=left).not_done
        self._executor.shutdown(wait=False)
        return over and not running

    def _handle(self, arrival: tuple[int, str | None, Any]) -> None:
        try:
            future = self._executor.submit(super()._handle, arrival)
        except RuntimeError:
            logger.exception("a callback was not run: its dispatcher takes no more")
            return
        self._running.add(future)
        future.add_done_callback(self._running.discard)


def _run(route: Route, topic: str | None, payload: Any) -> None:
    try:
        route(topic, payload)
    except BaseException:
        # Whatever it is, SystemExit included: one callback does not end the others.
        logger.exception("%s raised", route.label)


def _report_missed(route: Route, count: int) -> None:
    if count < 0:
        logger.warning("%s: events may have been missed, the connection was lost", route.label)
    else:
        logger.warning("%s: %d events missed, it is too slow", route.label, count)


class _Turns:
    """So many turns; those who come back from a wait get theirs before those who begin."""

    def __init__(self, free: int) -> None:
        self._guard = threading.Lock()
        self._free = free
        self._returning: deque[threading.Lock] = deque()
        self._beginning: deque[threading.Lock] = deque()

    def wanted(self) -> bool:
        """Whether somebody wants to come back."""
        return bool(self._returning)

    def take(self, *, returning: bool = False) -> None:
        with self._guard:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            (self._returning if returning else self._beginning).append(turn)
        turn.acquire()

    def give(self) -> None:
        with self._guard:
            waiting = self._returning or self._beginning
            if waiting:
                waiting.popleft().release()
            else:
                self._free += 1


# ---- waiting inside callbacks


class _Here(threading.local):
    lane: Lane | None = None


_here = _Here()


def _after_fork_in_child() -> None:
    # The child runs no lane, though it may have been forked inside of one's callback.
    _here.lane = None


os.register_at_fork(after_in_child=_after_fork_in_child)


def wait_in_turn(operation: Callable[..., T], *args: Any) -> T:
    """Runs an operation that waits; from inside a callback, others have their turn meanwhile."""
    lane = _here.lane
    if lane is None:
        return operation(*args)
    lane.leave()
    try:
        return operation(*args)
    finally:
        lane.come_back()


class _Absence:
    """An `async def` callback's turn, which it gives up at its first wait inside PyMQ."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.left = False
        self._over = False

    def begin(self) -> None:
        if not self.left and not self._over:
            self.left = True
            self._lane.leave()

    def end(self) -> None:
        self._over = True
        if self.left:
            self._lane.come_back()


_absence: ContextVar[_Absence | None] = ContextVar("pymq_absence", default=None)


def yield_turn() -> None:
    """Said by the `async` operations before they wait."""
    absence = _absence.get()
    if absence is not None:
        absence.begin()


# ---- callbacks that are coroutines


class Loops:
    """Runs coroutines: on the loop they were registered from, else on one loop of our own."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._own: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop | None) -> T:
        """Runs a coroutine to its end while this thread waits."""
        lane = _here.lane
        absence = _Absence(lane) if lane is not None else None

        async def with_turn() -> T:
            _absence.set(absence)
            return await coroutine

        home = loop if loop is not None and loop.is_running() else self._own_loop()
        try:
            return _result(asyncio.run_coroutine_threadsafe(with_turn(), home), home)
        finally:
            if absence is not None:
                absence.end()

    def close(self) -> None:
        """Ends the loop of our own, and what still runs on it."""
        with self._guard:
            loop, thread, self._own, self._thread = self._own, self._thread, None, None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        with self._guard:
            if self._own is None:
                self._own = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._own,), name="pymq-loop", daemon=True
                )
                self._thread.start()
            return self._own


def _result(future: Future[T], home: asyncio.AbstractEventLoop) -> T:
    """Waits for a coroutine; not for ever, should its loop have ended without a word."""
    while True:
        try:
            return future.result(timeout=1.0)
        except FutureTimeout:
            if future.done():
                raise
            if home.is_closed():
                raise RuntimeError("its event loop was closed before it ended") from None


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


_declared_on: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "pymq_declared_on", default=None
)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that the caller runs on, or stands for."""
    try:
        return _declared_on.get() or asyncio.get_running_loop()
    except RuntimeError:
        return None


@contextlib.contextmanager
def as_declared_on(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """What is registered in here was declared on that loop."""
    token = _declared_on.set(loop)
    try:
        yield
    finally:
        _declared_on.reset(token)
