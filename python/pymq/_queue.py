"""`queue.Queue` between machines, for threads.

A get claims an item on a lease, and the handle knows when it is done with. Whether an item comes
back is the native core's business.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from pymq import _pymq
from pymq._abstract import Queue
from pymq._dispatch import wait_in_turn
from pymq._handle import AT_A_TIME, Handle, check_timeout
from pymq.core import Empty
from pymq.exceptions import DecodeError, LeaseLostError, ShutDown

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("pymq")

T = TypeVar("T")


class Delivery(Generic[T]):
    """An item on a lease: confirm it, or it comes back.

    As a context manager it confirms when the block ends well, and requeues when it raises.
    Dropped without a word it is requeued.
    """

    def __init__(self, item: T, native: _pymq.Delivery) -> None:
        #: What was put.
        self.item = item
        self._native = native

    @property
    def deliveries(self) -> int:
        """How often the item has been handed out, this time included."""
        return self._native.deliveries

    def ack(self) -> None:
        """Done with: the item is gone. Raises `LeaseLostError` if it belongs to others now."""
        self._native.ack().wait()

    def requeue(self) -> None:
        """Back to the head of the queue, counted; to the dead letters after `max_deliveries`."""
        self._native.requeue().wait()

    def reject(self) -> None:
        """To the dead letters at once."""
        self._native.reject().wait()

    def extend(self, seconds: float) -> None:
        """The lease lasts at least so long from now, even if this process does not."""
        self._native.extend(seconds).wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._native.settled:
            self.ack() if kind is None else self.requeue()


class NativeQueue(Queue[T]):
    """A handle on a queue. Options are this handle's, the items are everybody's.

    With `ack="auto"` an item is confirmed within 10 ms of being handed out; with `ack="manual"` it
    is leased until `task_done`, and comes back if its consumer dies.
    """

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

    # ---- putting

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Append an item; waits for space as `queue.Queue.put` does.

        Raises `Full`, `ShutDown`, `EncodeError`, and `OutcomeUnknownError` if the connection was
        lost before the answer came: it is never repeated by itself.
        """
        self._put([item], block, timeout)

    def put_many(
        self, items: Iterable[T], block: bool = True, timeout: float | None = None
    ) -> None:
        """Append several items, in order and all in one step.

        More than `maxsize` never fit in one step: they go in several, each as there is space, if
        `timeout` is None; else that is a `ConfigError`.
        """
        self._put(items, block, timeout)

    def _put(self, items: Iterable[T], block: bool, timeout: float | None) -> None:
        check_timeout(block, timeout)
        payloads = self._handle.encoded(items)
        if not payloads:
            return
        put = self._handle.native.put(payloads, bool(block), timeout)
        if block and self._handle.maxsize > 0:
            wait_in_turn(put.wait)
        else:
            put.wait()

    # ---- getting

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the first item; waits for one as `queue.Queue.get` does.

        Raises `Empty`, `ShutDown`, and `DecodeError` for an item that cannot be read: that one is
        a dead letter then, with its bytes as they were.
        """
        return self._handle.taken(self._claim_one(block, timeout))

    def get_many(self, limit: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Take up to `limit` items in one round trip, waiting for the first one only.

        Over Redis 1,000 come at a time at most. Raises `Empty` if there is none in time.
        """
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        return self._handle.taken_many(self._claim(limit, block, timeout))

    def get_delivery(self, block: bool = True, timeout: float | None = None) -> Delivery[T]:
        """Take the first item as a `Delivery`, whatever the handle's `ack` says."""
        delivery = self._claim_one(block, timeout)
        return Delivery(self._handle.decoded(delivery), delivery)

    def __iter__(self) -> Iterator[T]:
        """Serve items, waiting for each, until the queue is shut down.

        Each is confirmed when the next is asked for; leaving early requeues the one in hand.
        Items that cannot be read are logged and left to the dead letters.
        """
        while True:
            try:
                delivery = self.get_delivery()
            except DecodeError as error:
                self._handle.report(error)
                continue
            except ShutDown:
                return
            try:
                yield delivery.item
            except BaseException:
                # The loop was left; the generator is being closed.
                delivery.requeue()
                raise
            try:
                delivery.ack()
            except LeaseLostError as error:
                logger.warning("queue %r: an item was done too late: %s", self.name, error)

    def _claim_one(self, block: bool, timeout: float | None) -> _pymq.Delivery:
        return self._claim(1, block, timeout)[0]

    def _claim(self, limit: int, block: bool, timeout: float | None) -> list[_pymq.Delivery]:
        check_timeout(block, timeout)
        claim = self._handle.native.claim(limit, bool(block), timeout if block else None)
        claimed = wait_in_turn(claim.wait) if block else claim.wait()
        if not claimed:
            raise Empty
        return claimed

    # ---- knowing

    def qsize(self) -> int:
        """How many items wait, for everybody, with those that this handle has fetched ahead."""
        native = self._handle.native
        return native.stats().wait()[0] + native.fetched_ahead()

    @property
    def unfinished_tasks(self) -> int:
        """How many items wait or are leased, on all machines; `join` waits until it is 0."""
        waiting, leased, _ = self._handle.native.stats().wait()
        return waiting + leased

    def task_done(self) -> None:
        """Confirm the oldest item that this thread took and has open, else the handle's oldest.

        The first call makes an `ack="auto"` handle a manual one. Raises `ValueError` if nothing is
        open, and `LeaseLostError` if the item belongs to others by now.
        """
        delivery = self._handle.done()
        if delivery is not None:
            delivery.ack().wait()

    def join(self) -> None:
        """Wait until no item waits and none is leased, on any machine."""
        wait_in_turn(self._handle.native.join().wait)

    # ---- ending

    def shutdown(self, immediate: bool = False) -> None:
        """End the queue for everybody: `put` raises `ShutDown`, and `get` once it is empty.

        `immediate` deletes what waits. `purge` lifts a shutdown.
        """
        self._handle.native.shut_down().wait()
        if immediate:
            self._drain()

    def _drain(self) -> None:
        # Not `purge`: that would lift the shutdown, and let others put again.
        while True:
            try:
                drained = self._handle.native.claim(AT_A_TIME, False, None).wait()
            except ShutDown:
                return
            if not drained:
                # Empty, and purged by others meanwhile.
                return
            for delivery in drained:
                delivery.ack_soon()

    @property
    def is_shutdown(self) -> bool:
        """Whether the queue was shut down, by whomever."""
        try:
            self._handle.native.put([], False, None).wait()
        except ShutDown:
            return True
        return False

    def purge(self) -> int:
        """Delete the items that wait, and lift a shutdown; says how many there were."""
        return self._handle.native.purge(False).wait()

    def close(self) -> None:
        """Requeue what this handle holds open. It may be used again."""
        self._handle.native.give_back()
        for delivery in reversed(self._handle.open.clear()):
            delivery.requeue().wait()

    def free(self) -> None:
        """Does nothing, as nothing is held outside of the broker."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
