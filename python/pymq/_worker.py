"""Workers: a handler is run for each item of a queue, so many at once.

Every item that a worker took is settled: confirmed when its handler has returned, given back for
later or given up when it raised, returned uncounted when it was not begun or did not end in time.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import threading
import time
import types
import typing
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pymq import _failures
from pymq._loops import Loops, loop_here, refuse_to_freeze
from pymq._options import MOST, seconds
from pymq._threads import Attendant
from pymq._turns import Bell
from pymq.exceptions import ClosedError, DecodeError, PymqError, ShutDown

if TYPE_CHECKING:
    from typing_extensions import Self

    from pymq import _pymq
    from pymq._aio_queue import AsyncDelivery, AsyncQueue
    from pymq._codec import Codec
    from pymq._queue import Delivery, NativeQueue

logger = logging.getLogger("pymq")

#: How long a worker that is ended waits for what is in hand, in seconds.
GRACE = 10.0
# How long a worker waits before it claims again after a failure: at first, and at most.
PAUSES = (0.05, 1.0)


class Handler:
    """A worker's function, and in which form it wants items: as they are, as the delivery where its
    first parameter is hinted so, or both where a later one is."""

    def __init__(self, function: Callable[..., Any], delivery: type) -> None:
        if not callable(function):
            raise TypeError(f"a handler is a function of one item, not {function!r}")
        self.function: Callable[..., Any] = function
        self.is_async: bool = inspect.iscoroutinefunction(
            function if not hasattr(function, "__wrapped__") else inspect.unwrap(function)
        )
        hints = _hints(function)
        first = next(iter(hints), None)
        wants = [name for name, hint in hints.items() if _is_for(hint, delivery, function)]
        self._first: bool = first in wants
        self._later: list[str] = [name for name in wants if name != first]

    def __call__(self, delivery: Any) -> Any:
        beside = dict.fromkeys(self._later, delivery)
        return self.function(delivery if self._first else delivery.item, **beside)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters, each with its hint or nothing."""
    try:
        hints = typing.get_type_hints(function)
        return {name: hints.get(name) for name in inspect.signature(function).parameters}
    except Exception:
        # A hint that cannot be resolved says nothing.
        return {}


def _is_for(hint: Any, delivery: type, function: Callable[..., Any]) -> bool:
    """Whether a parameter of that hint is for the delivery; there may be none in it."""
    either = typing.get_origin(hint) in (typing.Union, types.UnionType)
    arms = [typing.get_origin(arm) or arm for arm in (typing.get_args(hint) if either else [hint])]
    for arm in arms:
        known = getattr(arm, "__module__", None) in ("pymq._queue", "pymq._aio_queue")
        if known and arm is not delivery:
            asked, given = arm.__name__, delivery.__name__
            raise TypeError(f"handler {function!r} asks for {asked}, and is given {given} here")
    return delivery in arms


class Job:
    """The item that a handler is busy with. A bus that it closes ends when it is settled."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.afterwards: Callable[[], None] | None = None
        self._token: Token[Job | None] | None = None

    def is_of(self, codec: Codec) -> bool:
        """Whether it is one of the bus of this codec."""
        return self._codec is codec

    def __enter__(self) -> None:
        self._token = _job.set(self)

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _job.reset(self._token)


_job: ContextVar[Job | None] = ContextVar("pymq_job", default=None)


def current_job() -> Job | None:
    """The item that is being handled here."""
    return _job.get()


class Worker:
    """Items being served by threads, see `Queue.work`; ends with its `with`, or by `close`.

    It holds no lock: a signal handler or a finaliser may break in, and stop or close it.
    """

    def __init__(
        self,
        queue: NativeQueue[Any],
        handler: Handler,
        concurrency: int,
        loops: Loops,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        _check_concurrency(concurrency)
        self._queue = queue
        self._handler = handler
        self._loops = loops
        self._loop = loop
        if handler.is_async:
            loops.declare(loop)
        self._in_hand: dict[threading.Thread, Delivery[Any]] = {}
        self._changed = Bell()
        self._threads = [Attendant(self._run, "pymq-worker") for _ in range(concurrency)]
        # Those that have something to do, or may have.
        self._serving: set[threading.Thread] = set(self._threads)
        try:
            for thread in self._threads:
                thread.begin()
        except BaseException:
            queue.stop()
            raise

    def stop(self) -> None:
        """Take no more; what is in hand is finished. It waits for nothing."""
        self._queue.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, because it was stopped, its queue shut down or its bus closed.

        Says whether it has. It raises `RuntimeError` where that would freeze an event loop, and
        `ClosedError` in a forked child.
        """
        # In a forked child, which has none of its threads, that raises `ClosedError`.
        _ = self._queue.is_stopped
        if timeout is None and self.running:
            refuse_to_freeze("the wait for a worker")
        self._refuse_own_loop()
        if not self._ends_within(timeout):
            return False
        for thread in self._threads:
            if thread is not threading.current_thread():
                # It has nothing more to do.
                thread.join()
        return True

    @property
    def running(self) -> bool:
        """Whether it takes items, or has some in hand."""
        return bool(self._serving - {threading.current_thread()})

    def close(self, grace: float = GRACE) -> None:
        """Take no more, and wait for what is in hand, for up to `grace` seconds.

        What is not finished then goes back uncounted, though its handler may go on. On the thread
        of an event loop that its handlers are busy on it raises `RuntimeError`; it takes no more
        then all the same.
        """
        self.stop()
        self._refuse_own_loop()
        grace = seconds("grace", grace)
        if self._ends_within(grace):
            return
        for delivery in self._in_hand.copy().values():
            if delivery._return():
                logger.warning(
                    "queue %r: a handler did not end within %.1f s; its item goes back",
                    self._queue.name,
                    grace,
                )

    def _refuse_own_loop(self) -> None:
        """Raises `RuntimeError` on the loop that has to run what it would wait for."""
        loop = loop_here()
        on_it = self._handler.is_async and self._loops.home(self._loop) is loop
        if loop is not None and on_it and self._in_hand:
            raise RuntimeError(
                "this would wait for handlers that run on the event loop of this very thread; use "
                "`await asyncio.to_thread(worker.close)`, or `await queue.work(...)` of pymq.aio"
            )

    def _ends_within(self, length: float | None) -> bool:
        deadline = None if length is None else time.monotonic() + length
        while self.running:
            changed = self._changed.listen()
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self.running and not self._changed.rings(changed, left):
                return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._serving.discard(threading.current_thread())
            self._changed.ring()

    def _serve(self) -> None:
        pause = PAUSES[0]
        here = threading.current_thread()
        while True:
            try:
                delivery = self._queue.get_delivery()
            except (ShutDown, ClosedError):
                return
            except DecodeError as error:
                self._queue._handle.report(error)
                continue
            except PymqError as error:
                logger.warning("queue %r: nothing can be taken now: %s", self._queue.name, error)
                time.sleep(pause)
                pause = min(2 * pause, PAUSES[1])
                continue
            pause = PAUSES[0]
            self._in_hand[here] = delivery
            try:
                self._handle(delivery)
            finally:
                del self._in_hand[here]
                del delivery

    def _handle(self, delivery: Delivery[Any]) -> None:
        job = Job(self._queue._handle.codec)
        try:
            with job, delivery._arrived():
                answer = self._handler(delivery)
                if inspect.isawaitable(answer):
                    self._loops.run(_awaited(answer), self._loop)
        except BaseException as raised:
            # Whatever it is, SystemExit included: one item does not end the others.
            error = raised
            _settle(self._queue.name, lambda: delivery._fail(error, at_work=True))
        else:
            _settle(self._queue.name, lambda: None if delivery.settled else delivery._done())
        if job.afterwards is not None:
            job.afterwards()


async def _awaited(answer: Any) -> Any:
    return await answer


def _settle(name: str, settle: Callable[[], None]) -> None:
    try:
        settle()
    except (PymqError, ValueError) as error:
        logger.warning("queue %r: an item was not settled: %s", name, error)


async def serve(queue: AsyncQueue[Any], handler: Handler, concurrency: int, grace: float) -> None:
    """Serves a queue with so many tasks of the running loop, until it is stopped or cancelled."""
    _check_concurrency(concurrency)
    grace = seconds("grace", grace)
    tasks = [asyncio.create_task(_serve(queue, handler)) for _ in range(concurrency)]
    try:
        # `gather` would cancel the handlers with it, which are to finish.
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        queue.stop()
        _, late = await asyncio.wait(tasks, timeout=grace)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
    await asyncio.gather(*tasks)


async def _serve(queue: AsyncQueue[Any], handler: Handler) -> None:
    pause = PAUSES[0]
    while True:
        try:
            delivery = await queue.get_delivery()
        except (ShutDown, ClosedError):
            return
        except DecodeError as error:
            queue._handle.report(error)
            continue
        except PymqError as error:
            logger.warning("queue %r: nothing can be taken now: %s", queue.name, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSES[1])
            continue
        pause = PAUSES[0]
        job = Job(queue._handle.codec)
        await _handle(queue.name, handler, delivery, job)
        if job.afterwards is not None:
            await asyncio.to_thread(job.afterwards)


async def _handle(name: str, handler: Handler, delivery: AsyncDelivery[Any], job: Job) -> None:
    try:
        with job, delivery._arrived():
            if handler.is_async:
                await handler(delivery)
            else:
                answer = await asyncio.to_thread(handler, delivery)
                if inspect.isawaitable(answer):
                    await answer
    except asyncio.CancelledError:
        # The worker ends, and this did not end in time: it was nobody's fault.
        delivery._return()
        raise
    except BaseException as error:
        await _settled(name, delivery._fail(error, at_work=True))
    else:
        if not delivery.settled:
            await _settled(name, delivery._done())


async def _settled(name: str, settle: Coroutine[Any, Any, None]) -> None:
    try:
        await settle
    except (PymqError, ValueError) as error:
        logger.warning("queue %r: an item was not settled: %s", name, error)


def _check_concurrency(concurrency: Any) -> None:
    whole = isinstance(concurrency, int) and not isinstance(concurrency, bool)
    if not whole or not 1 <= concurrency <= MOST:
        raise ValueError(f"concurrency is a number of items from 1 to {MOST}, not {concurrency!r}")


def report_failure(
    name: str, native: _pymq.Delivery, delay: float | None, error: BaseException
) -> None:
    """One line for each failure: queue, which item, which attempt, and what comes next."""
    metadata = native.metadata
    item = None if metadata is None else metadata.id
    if item is None:
        # It has no name: one of its bytes, the same at each attempt.
        item = hashlib.blake2s(native.payload, digest_size=4).hexdigest()
    then = "it is given up" if delay is None else f"again in {delay:.1f} s"
    logger.error(
        "queue %r: item %s failed at attempt %d: %s; %s",
        name,
        item,
        native.deliveries,
        _failures.name_of(error),
        then,
        exc_info=error,
    )
