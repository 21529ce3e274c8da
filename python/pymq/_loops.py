"""Coroutines of callbacks: on which event loop they run, and who waits for them how long.

A `Visit` is one coroutine on one loop, and the thread that waits for it. Whatever the coroutine
raises ends with the visit and never reaches the loop; and no visit outlives the loop, the call or
the bus that it was made for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from pymq._gevent import refuse_coroutines
from pymq._threads import Attendant

logger = logging.getLogger("pymq")

T = TypeVar("T")

#: How often a thread that waits for a coroutine looks whether its loop still runs, in seconds.
LOOK = 0.5
#: The same, whether the caller still waits.
LOOK_FOR_CALLER = 0.1
#: How long coroutines may take to end once they were cancelled, in seconds.
ENDING = 1.0


class Visit:
    """A coroutine on a loop, and the thread that waits for it."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], home: asyncio.AbstractEventLoop
    ) -> None:
        #: The thread that waits.
        self.thread = threading.current_thread()
        self.home = home
        self.over = False
        self._coroutine = coroutine
        self._task: asyncio.Task[None] | None = None
        self._stands_still = False
        self._outcome: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def begin(self) -> None:
        """Has the loop run it."""
        self.home.call_soon_threadsafe(self._begin)

    def result(self, gone: Callable[[], bool] | None = None) -> Any:
        """Waits for the end; cancels it when `gone` says that nobody is interested any more."""
        outcome = None
        try:
            while outcome is None:
                try:
                    outcome = self._outcome.get(timeout=LOOK if gone is None else LOOK_FOR_CALLER)
                except queue.Empty:
                    self._look_at_loop()
                    if gone is not None and gone():
                        self.cancel()
                        gone = None
        finally:
            self.over = True
        result, error = outcome
        if error is not None:
            try:
                raise error
            finally:
                # The error's trace holds this frame; the frame must not hold the error.
                del outcome, error
        return result

    def cancel(self) -> None:
        """Has the loop cancel the coroutine, if the loop still comes to that."""
        with contextlib.suppress(RuntimeError):
            self.home.call_soon_threadsafe(self._cancel)

    def give_up(self, why: str) -> None:
        """Whoever waits gets an error that says why; the coroutine is cancelled."""
        self._outcome.put((None, RuntimeError(why)))
        self.cancel()

    def _look_at_loop(self) -> None:
        """One that stands still twice in a row has left its coroutines behind."""
        stood_still, self._stands_still = self._stands_still, not self.home.is_running()
        if self.home.is_closed():
            self.give_up("its event loop was closed before it ended")
        elif stood_still and self._stands_still:
            self.give_up("its event loop stopped before it ended")

    def _begin(self) -> None:
        self._task = self.home.create_task(self._run())
        self._task.add_done_callback(self._ended)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        _visit.set(self)
        try:
            self._outcome.put((await self._coroutine, None))
        except asyncio.CancelledError as error:
            self._outcome.put((None, error))
            raise
        except BaseException as error:
            # Not for the loop, which SystemExit would end.
            self._outcome.put((None, error))
            if _is_ctrl_c(error):
                raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        # Cancelled before it began, it has told nobody.
        self._coroutine.close()
        if task.cancelled():
            self._outcome.put((None, asyncio.CancelledError()))


def _is_ctrl_c(error: BaseException) -> bool:
    """Whether it may be the user's Ctrl-C, which happened to come while a callback ran."""
    return (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )


_visit: ContextVar[Visit | None] = ContextVar("pymq_visit", default=None)


def threads_here() -> set[threading.Thread]:
    """The threads that cannot end before the caller has: its own, and the one that waits for it."""
    here = {threading.current_thread()}
    visit = _visit.get()
    if visit is not None and not visit.over:
        here.add(visit.thread)
    return here


class _OwnLoop:
    """An event loop on a thread of its own. The thread knows nothing of the bus."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._stops = False
        self.thread = Attendant(self._run, "pymq-loop")
        self.thread.begin()

    def stop(self) -> None:
        """Ends it and what still runs on it, without waiting."""
        self._stops = True
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._stops:
                self._guarded(self.loop.run_forever)
            ending = self.loop.create_task(self._end())
            ending.add_done_callback(lambda _: self.loop.stop())
            # Whoever stops the loop meanwhile, or raises out of it, does not break off the end.
            while not ending.done():
                self._guarded(self.loop.run_forever)
        finally:
            self.loop.close()

    def _guarded(self, runs: Callable[[], Any]) -> None:
        try:
            runs()
        except BaseException:
            # From a task that a callback left on the loop: it does not end the others.
            logger.exception("a task on the bus's event loop raised")

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=ENDING)
            for task in left:
                logger.warning("%r was cancelled and does not end", task.get_coro())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.loop.shutdown_asyncgens(), ENDING)


class Loops:
    """Runs a bus's coroutines: on the loop they were declared on, else on one of the bus's own."""

    def __init__(self) -> None:
        _all.add(self)
        # Those that something was declared on.
        self._declared_on: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        # A finaliser may come in by the same door.
        self._guard = threading.RLock()
        self._own: _OwnLoop | None = None
        self._visits: set[Visit] = set()
        self._closed = False
        self._refused: asyncio.AbstractEventLoop | None = None

    def run(
        self,
        coroutine: Coroutine[Any, Any, T],
        loop: asyncio.AbstractEventLoop | None,
        gone: Callable[[], bool] | None = None,
    ) -> T:
        """Runs a coroutine to its end while this thread waits; cancels it when `gone` says so."""
        try:
            visit = self._visit(coroutine, loop)
        except BaseException:
            coroutine.close()
            raise
        try:
            return visit.result(gone)  # type: ignore[no-any-return]
        finally:
            self._visits.discard(visit)
            if self._closed and not self._visits:
                self._stop_own()

    def declare(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Coroutines will run on that loop."""
        if loop is not None:
            self._declared_on.add(loop)

    def serve(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether coroutines of this bus run on a loop."""
        own = self._own
        return loop in self._declared_on or (own is not None and own.loop is loop)

    def home(self, loop: asyncio.AbstractEventLoop | None) -> asyncio.AbstractEventLoop | None:
        """Where a coroutine that was declared on `loop` would run; `None` if that is to be made."""
        if loop is not None and loop.is_running():
            return loop
        return None if self._own is None else self._own.loop

    def busy_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether others than the caller are under way on a loop."""
        here = threads_here()
        return any(visit.home is loop and visit.thread not in here for visit in list(self._visits))

    def refuse(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins nothing on a loop whose thread waits for the bus to end."""
        self._refused = loop

    def give_up(self, *, stopped_only: bool = False) -> None:
        """Ends what is under way, so that nobody waits for it any more."""
        here = threads_here()
        for visit in list(self._visits):
            if visit.thread in here:
                continue
            if not visit.home.is_running():
                visit.give_up("its event loop stopped before it ended")
            elif not stopped_only:
                visit.give_up("its bus was closed before it ended")

    def close(self, deadline: float) -> None:
        """Ends the loop of our own, and what still runs on it; but if that is the caller, its loop
        ends after it."""
        self._closed = True
        if self._visits & {_visit.get()}:
            return
        own = self._stop_own()
        if own is None or own.thread in threads_here():
            return
        own.thread.join(max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))
        if own.thread.is_alive():
            logger.warning("a coroutine blocks the bus's event loop; its thread was left behind")

    def _stop_own(self) -> _OwnLoop | None:
        with self._guard:
            own, self._own = self._own, None
        if own is not None:
            own.stop()
        return own

    def _visit(
        self, coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop | None
    ) -> Visit:
        home = self.home(loop) or self._own_loop()
        if home is self._refused:
            raise RuntimeError("its event loop waits for the bus to close")
        visit = Visit(coroutine, home)
        # Known before it runs, or a close in this moment would not see it.
        self._visits.add(visit)
        try:
            visit.begin()
        except BaseException:
            self._visits.discard(visit)
            raise
        return visit

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        refuse_coroutines()
        with self._guard:
            if self._closed:
                raise RuntimeError("the bus was closed")
            if self._own is None:
                self._own = _OwnLoop()
                # A bus that was dropped unclosed leaves no thread either.
                weakref.finalize(self, self._own.stop).atexit = False
            return self._own.loop


# ---- which loop something is declared on

_declared_on: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "pymq_declared_on", default=None
)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop that the caller runs on, or stands for."""
    return _declared_on.get() or loop_here()


def loop_here() -> asyncio.AbstractEventLoop | None:
    """The loop that runs on the calling thread."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_all: weakref.WeakSet[Loops] = weakref.WeakSet()


def refuse_to_freeze(what: str, timeout: float | None = None) -> None:
    """Raises `RuntimeError` where a wait for what others do would freeze an event loop: on its
    thread, if the wait has no end of its own, or if callbacks run there, which may be the others.
    """
    loop = loop_here()
    if loop is None:
        return
    if not any(one.serve(loop) for one in list(_all)) and (timeout is not None or _is_notebook()):
        return
    raise RuntimeError(
        f"{what} would wait on the thread of an event loop that runs, and freeze it; await the one "
        "of pymq.aio there, or do it on a thread: `await asyncio.to_thread(...)`"
    )


def _is_notebook() -> bool:
    """Whether programs are cells, which run on the thread of their kernel's loop and wait there."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and bool(kernel.IPKernelApp.initialized())


@contextlib.contextmanager
def as_declared_on(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """What is registered in here was declared on that loop."""
    token = _declared_on.set(loop)
    try:
        yield
    finally:
        _declared_on.reset(token)
