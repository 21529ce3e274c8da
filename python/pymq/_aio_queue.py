"""Queues for event loops: `queue.Queue`'s methods, to be awaited.

Getting items is native (`_pymq.AsyncGetter`): what a wait that is cancelled or interrupted got goes
back. What is open, and for which task, is kept as for threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pymq import _pymq, _telemetry
from pymq._dead_letters import AsyncDeadLetters
from pymq._delivery import HeldItem
from pymq._handle import Handle, KnownQueue, Open, check_timeout, here
from pymq._options import PUT, PutOptions, shows
from pymq._queue import Stats
from pymq._reactor import run
from pymq._retry import Retry
from pymq._steps import awaited
from pymq._telemetry import Watched
from pymq._worker import GRACE, Handler, serve
from pymq.exceptions import ClosedError

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")


class AsyncDelivery(HeldItem[T]):
    """An item on a lease: confirm it, or it comes back.

    With `async with` it is confirmed when the block ends well; when it raises, the item comes again
    as the handle's `retry` says.
    """

    async def ack(self) -> None:
        """Done with: the item is gone. Raises `LeaseLostError` if it belongs to others now."""
        await self._settle("ack", self._native.ack())

    async def requeue(self, delay: float = 0.0) -> None:
        """Back to the head of the queue, counted, or later; see `pymq.Delivery.requeue`."""
        await self._settle("requeue", self._native.requeue(delay))

    async def reject(self, reason: str = "") -> None:
        """To the dead letters at once, for a reason that is kept there."""
        await self._settle("reject", self._native.reject(reason, here()))

    async def _settle(self, verb: str, settle: _pymq.Operation[None]) -> None:
        if _telemetry.observers:
            with self._settling(verb):
                return await run(settle)
        return await run(settle)

    async def _done(self) -> None:
        """Its worker's confirmation, which is part of what the handler did."""
        await run(self._native.ack())

    async def _fail(self, error: BaseException, *, at_work: bool = False) -> None:
        if not self.settled:
            await run(self._handle.failed(self._native, error, at_work=at_work))

    def _return(self) -> None:
        """Gives it back uncounted, if it is open."""
        if not self.settled:
            self._native.give_back()

    async def extend(self, seconds: float) -> None:
        """The lease lasts at least so long from now, even if this process does not."""
        await run(self._native.extend(seconds))

    async def __aenter__(self) -> Self:
        self._entered()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left(error)
        if error is not None:
            await self._fail(error)
        elif not self.settled:
            await self.ack()


class AsyncQueue(KnownQueue[T], _pymq.AsyncGetter[T]):
    """A handle on a queue, for tasks; see `pymq.queue` for its options."""

    def __init__(self, handle: Handle[T], *, serves: bool = False) -> None:
        self._handle = handle
        self._owner = _Owner(handle.open)
        delivery = functools.partial(AsyncDelivery, handle=handle)
        # Who watches is told of what a worker takes when it is handled.
        self._attach(handle, delivery, self._owner, not serves)

    @shows(PutOptions, PUT)
    async def put(
        self,
        item: T,
        block: bool = True,
        timeout: float | None = None,
        **options: Unpack[PutOptions],
    ) -> bool:
        """Append an item, waiting for space; see `NativeQueue.put`."""
        check_timeout(block, timeout)
        if _telemetry.observers:
            with Watched("put", self.name, bus=self._handle.bus) as watched:
                put = self._handle.to_put([item], options, watched)
                return await self._put(*put, block, timeout)
        return await self._put(*self._handle.to_put([item], options), block, timeout)

    async def _put(
        self, payloads: list[bytes], options: dict[str, Any], block: bool, timeout: float | None
    ) -> bool:
        if not payloads:
            return True
        return await run(self._handle.native.put(payloads, bool(block), timeout, **options))

    async def put_nowait(self, item: T) -> None:
        """Append an item if there is space now, else raise `Full`."""
        await self.put(item, block=False)

    async def put_many(
        self,
        items: Iterable[T],
        block: bool = True,
        timeout: float | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Append several items, in order and all in one step; see `pymq.Queue.put_many`."""
        check_timeout(block, timeout)
        if _telemetry.observers:
            with Watched("put", self.name, bus=self._handle.bus) as watched:
                await self._put(*self._handle.many_to_put(items, headers, watched), block, timeout)
                return
        await self._put(*self._handle.many_to_put(items, headers), block, timeout)

    async def qsize(self) -> int:
        """How many items wait, with those that this handle has fetched ahead."""
        return await awaited(self._handle.waiting())

    async def empty(self) -> bool:
        """Whether no item waits."""
        return await self.qsize() == 0

    async def full(self) -> bool:
        """Whether `maxsize` items wait, now or for later."""
        return await awaited(self._handle.is_full())

    async def unfinished_tasks(self) -> int:
        """How many items wait, are due later or leased, everywhere; `join` waits until it is 0."""
        return await awaited(self._handle.unfinished())

    async def stats(self) -> Stats:
        """How many items there are, by state, on all machines; looking changes nothing."""
        return Stats.of(await run(self._handle.native.stats()))

    async def peek(self, limit: int = 1) -> list[T]:
        """Up to `limit` items from the head, left where they are; `DecodeError` if one is none."""
        return await awaited(self._handle.peek(limit))

    def dead_letters(self) -> AsyncDeadLetters[T]:
        """Items that were given up: to be counted, read, moved back, deleted."""
        return AsyncDeadLetters(self._handle)

    async def work(
        self,
        handler: Callable[..., Any],
        concurrency: int = 1,
        grace: float = GRACE,
        *,
        retry: Retry | Iterable[float] | None = None,
    ) -> None:
        """Serve the queue with a handler, up to `concurrency` items at once, as tasks.

        It ends when the queue is shut down, `stop` is called or the bus closes. Cancelled, it
        takes no more and waits for what is in hand, for up to `grace` seconds; the rest goes back
        uncounted. Handlers are as for `NativeQueue.work`, with `AsyncDelivery`; one that is no
        `async def` runs in a thread.
        """
        queue: AsyncQueue[T] = AsyncQueue(self._handle.with_retry(retry), serves=True)
        await serve(queue, Handler(handler, AsyncDelivery), concurrency, grace)

    async def task_done(self) -> None:
        """Confirm the item that this task got last and has open (of those that one call gave, the
        first); if it has none, the handle's oldest.

        Raises as `pymq.Queue.task_done` does. Cancelled, it goes on, and may be called again.
        """
        owner = self._owner()
        settle = self._handle.native.task_done(self._handle.open, owner)
        if _telemetry.observers:
            with Watched("ack", self.name, bus=self._handle.bus):
                await run(settle)
        else:
            await run(settle)
        self._handle.open.task_ended(owner)

    async def join(self) -> None:
        """Wait until no item waits and none is leased, on any machine."""
        await run(self._handle.native.join())

    async def shutdown(self, immediate: bool = False) -> None:
        """End the queue for everybody, see `pymq.Queue.shutdown`."""
        await awaited(self._handle.shut_down(immediate))

    async def purge(self) -> int:
        """Delete the items that wait, and lift a shutdown; says how many there were."""
        return await run(self._handle.native.purge(False))

    async def close(self) -> None:
        """Requeue what this handle holds open. It may be used again."""
        await run(self._handle.native.let_go(self._handle.open))


class _Owner:
    """The running task as an owner of items, by a number that no other one ever has.

    What a task that failed had open goes back; one that ended well may have passed it on.
    """

    def __init__(self, open: Open) -> None:
        self._open = open
        self._lives: weakref.WeakKeyDictionary[asyncio.Task[Any], _Life] = (
            weakref.WeakKeyDictionary()
        )

    def __call__(self) -> int:
        task = _current_task()
        if task is None:
            return 0
        life = self._lives.get(task)
        if life is None:
            life = self._lives[task] = _Life(self._open)
            task.add_done_callback(life.ended)
        return life.number


class _Life:
    """A task as long as it may still confirm something."""

    __slots__ = ("_hand", "_over", "number")

    def __init__(self, open: Open) -> None:
        self.number = _pymq.OpenItems.new_owner()
        self._hand = weakref.ref(open)
        self._over = False

    def ended(self, task: asyncio.Task[Any]) -> None:
        # `exception()` would count as having looked at it, and the loop would not report it.
        self._end(task.cancelled() or getattr(task, "_exception", None) is not None)

    def __del__(self) -> None:
        # Nobody runs a task of a loop that was closed, or one that is garbage. A forked child's
        # copies are its parent's.
        with contextlib.suppress(ClosedError):
            self._end(failed=True)

    def _end(self, failed: bool) -> None:
        hand = self._hand()
        if hand is not None and not self._over:
            self._over = True
            hand.owner_ended(self.number, failed)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        # No loop runs here: whoever awaits it is not known yet.
        return None
