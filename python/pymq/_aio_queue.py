"""Queues for event loops: `queue.Queue`'s methods, to be awaited.

What is open, and for which task, is kept by the same handle that threads use. A wait that is
cancelled gives back what came for it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from pymq import _pymq
from pymq._handle import AT_A_TIME, Handle, check_timeout
from pymq._reactor import run
from pymq.core import Empty
from pymq.exceptions import DecodeError, LeaseLostError, ShutDown

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("pymq")

T = TypeVar("T")


class AsyncDelivery(Generic[T]):
    """An item on a lease: confirm it, or it comes back.

    With `async with` it is confirmed when the block ends well, and requeued when it raises.
    """

    def __init__(self, item: T, native: _pymq.Delivery) -> None:
        #: What was put.
        self.item = item
        self._native = native

    @property
    def deliveries(self) -> int:
        """How often the item has been handed out, this time included."""
        return self._native.deliveries

    async def ack(self) -> None:
        """Done with: the item is gone. Raises `LeaseLostError` if it belongs to others now."""
        await run(self._native.ack())

    async def requeue(self) -> None:
        """Back to the head of the queue, counted; to the dead letters after `max_deliveries`."""
        await run(self._native.requeue())

    async def reject(self) -> None:
        """To the dead letters at once."""
        await run(self._native.reject())

    async def extend(self, seconds: float) -> None:
        """The lease lasts at least so long from now, even if this process does not."""
        await run(self._native.extend(seconds))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._native.settled:
            await (self.ack() if kind is None else self.requeue())


class AsyncQueue(Generic[T]):
    """A handle on a queue, for tasks; see `pymq.queue` for its options."""

    def __init__(self, handle: Handle[T]) -> None:
        self._handle = handle

    @property
    def name(self) -> str:
        """The queue's name on the bus."""
        return self._handle.name

    @property
    def maxsize(self) -> int:
        """How many items may wait at a time; 0 is no bound. May be assigned."""
        return self._handle.maxsize

    @maxsize.setter
    def maxsize(self, maxsize: int) -> None:
        self._handle.bound(maxsize)

    async def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Append an item, waiting for space; raises as `pymq.Queue.put` does."""
        await self.put_many([item], block, timeout)

    async def put_nowait(self, item: T) -> None:
        """Append an item if there is space now, else raise `Full`."""
        await self.put(item, block=False)

    async def put_many(
        self, items: Iterable[T], block: bool = True, timeout: float | None = None
    ) -> None:
        """Append several items, in order and all in one step; see `pymq.Queue.put_many`."""
        check_timeout(block, timeout)
        payloads = self._handle.encoded(items)
        if payloads:
            await run(self._handle.native.put(payloads, bool(block), timeout))

    async def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the first item, waiting for one; raises as `pymq.Queue.get` does.

        Cancelled, it loses nothing.
        """
        return self._handle.taken(await self._claim_one(block, timeout))

    async def get_nowait(self) -> T:
        """Take the first item if there is one now, else raise `Empty`."""
        return await self.get(block=False)

    async def get_many(
        self, limit: int, block: bool = True, timeout: float | None = None
    ) -> list[T]:
        """Take up to `limit` items in one round trip, waiting for the first one only."""
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        return self._handle.taken_many(await self._claim(limit, block, timeout))

    async def get_delivery(
        self, block: bool = True, timeout: float | None = None
    ) -> AsyncDelivery[T]:
        """Take the first item on a lease, whatever the handle's `ack` says."""
        delivery = await self._claim_one(block, timeout)
        return AsyncDelivery(self._handle.decoded(delivery), delivery)

    async def __aiter__(self) -> AsyncIterator[T]:
        """Serve items, waiting for each, until the queue is shut down.

        Each is confirmed when the next is asked for; leaving early requeues the one in hand.
        """
        while True:
            try:
                delivery = await self.get_delivery()
            except DecodeError as error:
                self._handle.report(error)
                continue
            except ShutDown:
                return
            # Left early, the delivery is dropped, and that requeues it: here nothing can wait.
            yield delivery.item
            try:
                await delivery.ack()
            except LeaseLostError as error:
                logger.warning("queue %r: an item was done too late: %s", self.name, error)

    async def _claim_one(self, block: bool, timeout: float | None) -> _pymq.Delivery:
        return (await self._claim(1, block, timeout))[0]

    async def _claim(self, limit: int, block: bool, timeout: float | None) -> list[_pymq.Delivery]:
        check_timeout(block, timeout)
        claim = self._handle.native.claim(limit, bool(block), timeout)
        claimed = await run(claim, undo=_give_back)
        if not claimed:
            raise Empty
        return claimed

    async def qsize(self) -> int:
        """How many items wait, with those that this handle has fetched ahead."""
        native = self._handle.native
        waiting, _, _ = await run(native.stats())
        return waiting + native.fetched_ahead()

    async def empty(self) -> bool:
        """Whether no item waits."""
        return await self.qsize() == 0

    async def full(self) -> bool:
        """Whether `maxsize` items wait."""
        return 0 < self.maxsize <= await self.qsize()

    async def task_done(self) -> None:
        """Confirm the oldest item that this task took and has open, else the handle's oldest."""
        delivery = self._handle.done()
        if delivery is not None:
            await run(delivery.ack())

    async def join(self) -> None:
        """Wait until no item waits and none is leased, on any machine."""
        await run(self._handle.native.join())

    async def shutdown(self, immediate: bool = False) -> None:
        """End the queue for everybody, see `pymq.Queue.shutdown`."""
        await run(self._handle.native.shut_down())
        if immediate:
            await self._drain()

    async def _drain(self) -> None:
        # Not `purge`: that would lift the shutdown, and let others put again.
        while True:
            try:
                drained = await self._claim(AT_A_TIME, False, None)
            except (Empty, ShutDown):
                return
            for delivery in drained:
                delivery.ack_soon()

    async def purge(self) -> int:
        """Delete the items that wait, and lift a shutdown; says how many there were."""
        return await run(self._handle.native.purge(False))

    async def close(self) -> None:
        """Requeue what this handle holds open. It may be used again."""
        self._handle.native.give_back()
        for delivery in reversed(self._handle.open.clear()):
            await run(delivery.requeue())


def _give_back(deliveries: list[_pymq.Delivery]) -> None:
    for delivery in reversed(deliveries):
        delivery.give_back()
