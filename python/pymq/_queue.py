"""`queue.Queue` between machines.

A handle claims items on leases and says when they are done with; which items it holds open, and
for which thread, is all that it knows. Whether an item comes back is the native core's business.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pymq import _pymq
from pymq._codec import Codec, plan_for
from pymq._dispatch import wait_in_turn
from pymq._pymq import Bus
from pymq.core import Empty, Queue
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
        self._settled = False

    @property
    def deliveries(self) -> int:
        """How often the item has been handed out, this time included."""
        return self._native.deliveries

    def ack(self) -> None:
        """Done with: the item is gone. Raises `LeaseLostError` if it belongs to others now."""
        self._settled = True
        self._native.ack()

    def requeue(self) -> None:
        """Back to the head of the queue, counted; to the dead letters after `max_deliveries`."""
        self._settled = True
        self._native.requeue()

    def reject(self) -> None:
        """To the dead letters at once."""
        self._settled = True
        self._native.reject()

    def extend(self, seconds: float) -> None:
        """The lease lasts at least so long from now, even if this process does not."""
        self._native.extend(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._settled:
            self.ack() if kind is None else self.requeue()


class _Open:
    """Items that a handle gave out and that nobody has confirmed, by the thread that took them."""

    def __init__(self, owner: Callable[[], Hashable]) -> None:
        self._owner = owner
        self._guard = threading.Lock()
        self._numbers = itertools.count()
        self._held: dict[Hashable, deque[tuple[int, _pymq.Delivery]]] = {}
        # In auto mode items are confirmed by themselves; only how many is kept.
        self._confirmed: dict[Hashable, int] = {}

    def add(self, delivery: _pymq.Delivery) -> None:
        with self._guard:
            held = self._held.setdefault(self._owner(), deque())
            held.append((next(self._numbers), delivery))

    def add_confirmed(self, count: int = 1) -> None:
        here = self._owner()
        self._confirmed[here] = self._confirmed.get(here, 0) + count

    def take(self) -> _pymq.Delivery | None:
        """The calling thread's oldest, else anybody's; `None` for one that was confirmed.

        Raises `ValueError` if there is none.
        """
        here = self._owner()
        with self._guard:
            if self._uncount(here):
                return None
            if here in self._held:
                return self._pop(here)
            if any(self._uncount(thread) for thread in list(self._confirmed)):
                return None
            if not self._held:
                raise ValueError("task_done() called too many times")
            return self._pop(min(self._held, key=lambda thread: self._held[thread][0][0]))

    def clear(self) -> list[_pymq.Delivery]:
        with self._guard:
            held = sorted(pair for pairs in self._held.values() for pair in pairs)
            self._held.clear()
            self._confirmed.clear()
        return [delivery for _, delivery in held]

    def _uncount(self, thread: Hashable) -> bool:
        count = self._confirmed.get(thread, 0)
        if count > 1:
            self._confirmed[thread] = count - 1
        else:
            self._confirmed.pop(thread, None)
        return count > 0

    def _pop(self, thread: Hashable) -> _pymq.Delivery:
        _, delivery = self._held[thread].popleft()
        if not self._held[thread]:
            del self._held[thread]
        return delivery


class NativeQueue(Queue[T]):
    """A handle on a queue. Options are this handle's, the items are everybody's.

    With `ack="auto"` an item is confirmed within 10 ms of being handed out; with `ack="manual"` it
    is leased until `task_done`, and comes back if its consumer dies.
    """

    def __init__(
        self,
        bus: Bus,
        codec: Codec,
        name: str,
        *,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        lease: float = 30.0,
        max_deliveries: int = 5,
        prefetch: int = 1,
        type: Any = None,
        owner: Callable[[], Hashable] = threading.get_ident,
    ) -> None:
        _check_options(name, maxsize, ack, lease, max_deliveries, prefetch)
        self._bus = bus
        self._codec = codec
        self._name = name
        self._maxsize = maxsize
        self._manual = ack == "manual"
        self._lease = lease
        self._max_deliveries = max_deliveries
        self._prefetch = prefetch
        self._plan = None if type is None else plan_for(type)
        self._open = _Open(owner)
        self._ready: deque[_pymq.Delivery] = deque()
        self._native = self._connect()

    def _connect(self) -> _pymq.Queue:
        # Below nothing there is no bound, as in `queue.Queue`.
        bound = max(0, self._maxsize)
        return self._bus.queue(self._name, bound, self._lease, self._max_deliveries)

    @property
    def name(self) -> str:
        """The queue's name on the bus."""
        return self._name

    @property
    def maxsize(self) -> int:
        """How many items may wait at a time; 0 is no bound. May be assigned."""
        return self._maxsize

    @maxsize.setter
    def maxsize(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._native = self._connect()

    # ---- putting

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Append an item; waits for space as `queue.Queue.put` does.

        Raises `Full`, `ShutDown`, `EncodeError`, and `OutcomeUnknownError` if the connection was
        lost before the answer came: it is never repeated by itself.
        """
        self._put([self._codec.encode(item, "item")], block, timeout)

    def put_many(
        self, items: Iterable[T], block: bool = True, timeout: float | None = None
    ) -> None:
        """Append several items, in order and all in one step."""
        self._put([self._codec.encode(item, "item") for item in items], block, timeout)

    def _put(self, payloads: list[bytes], block: bool, timeout: float | None) -> None:
        _check_timeout(block, timeout)
        if block and self._maxsize > 0:
            wait_in_turn(self._native.put, payloads, block, timeout)
        elif payloads:
            self._native.put(payloads, block, timeout)

    # ---- getting

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the first item; waits for one as `queue.Queue.get` does.

        Raises `Empty`, `ShutDown`, and `DecodeError` for an item that cannot be read: that one is
        a dead letter then, with its bytes as they were.
        """
        delivery = self._claim_one(block, timeout)
        item = self._decoded(delivery)
        self._hand_out(delivery)
        return item

    def get_many(self, limit: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Take up to `limit` items in one round trip, waiting for the first one only.

        Raises `Empty` if there is none in time.
        """
        if limit < 1:
            raise ValueError(f"limit is at least 1, not {limit}")
        deliveries = self._claim(limit, block, timeout)
        items: list[T] = []
        unreadable: DecodeError | None = None
        for delivery in deliveries:
            try:
                items.append(self._decoded(delivery))
            except DecodeError as error:
                logger.error("queue %r: an item went to the dead letters: %s", self._name, error)
                unreadable = error
            else:
                self._hand_out(delivery)
        if unreadable is not None and not items:
            raise unreadable
        return items

    def get_delivery(self, block: bool = True, timeout: float | None = None) -> Delivery[T]:
        """Take the first item as a `Delivery`, whatever the handle's `ack` says."""
        delivery = self._claim_one(block, timeout)
        return Delivery(self._decoded(delivery), delivery)

    def __iter__(self) -> Iterator[T]:
        """Serve items, waiting for each, until the queue is shut down.

        Each is confirmed when the next is asked for; leaving early requeues the one in hand.
        Items that cannot be read are logged and left to the dead letters.
        """
        while True:
            try:
                delivery = self.get_delivery()
            except DecodeError as error:
                logger.error("queue %r: an item went to the dead letters: %s", self._name, error)
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
                logger.warning("queue %r: an item was done too late: %s", self._name, error)

    def _claim_one(self, block: bool, timeout: float | None) -> _pymq.Delivery:
        return self._claim(1, block, timeout)[0]

    def _claim(self, limit: int, block: bool, timeout: float | None) -> list[_pymq.Delivery]:
        _check_timeout(block, timeout)
        ready = self._take_ready(limit)
        if ready:
            return ready
        wanted = max(limit, self._prefetch)
        if block:
            claimed = wait_in_turn(self._native.claim, wanted, True, timeout)
        else:
            claimed = self._native.claim(wanted, False, None)
        if not claimed:
            raise Empty
        self._ready.extend(claimed[limit:])
        return claimed[:limit]

    def _take_ready(self, limit: int) -> list[_pymq.Delivery]:
        ready: list[_pymq.Delivery] = []
        while self._ready and len(ready) < limit:
            try:
                ready.append(self._ready.popleft())
            except IndexError:
                # Another thread was faster.
                break
        return ready

    def _decoded(self, delivery: _pymq.Delivery) -> T:
        try:
            item: T = self._codec.decode(delivery.payload, self._plan, "item")
        except DecodeError:
            delivery.reject()
            raise
        return item

    def _hand_out(self, delivery: _pymq.Delivery) -> None:
        if self._manual:
            self._open.add(delivery)
        else:
            delivery.ack_soon()
            self._open.add_confirmed()

    # ---- knowing

    def qsize(self) -> int:
        """How many items wait, for everybody, with those that this handle has fetched ahead."""
        return self._native.stats()[0] + len(self._ready)

    def task_done(self) -> None:
        """Confirm the oldest item that this thread took and has open, else the handle's oldest.

        The first call makes an `ack="auto"` handle a manual one. Raises `ValueError` if nothing is
        open, and `LeaseLostError` if the item belongs to others by now.
        """
        delivery = self._open.take()
        self._manual = True
        if delivery is not None:
            delivery.ack()

    def join(self) -> None:
        """Wait until no item waits and none is leased, on any machine."""
        wait_in_turn(self._native.join)

    # ---- ending

    def shutdown(self, immediate: bool = False) -> None:
        """End the queue for everybody: `put` raises `ShutDown`, and `get` once it is empty.

        `immediate` deletes what waits. `purge` lifts a shutdown.
        """
        if immediate:
            self._give_back()
            self._native.purge(False)
        self._native.shut_down()

    def purge(self) -> int:
        """Delete the items that wait, and lift a shutdown; says how many there were."""
        self._give_back()
        return self._native.purge(False)

    def close(self) -> None:
        """Requeue what this handle holds open. It may be used again."""
        self._give_back()
        for delivery in reversed(self._open.clear()):
            delivery.requeue()

    def free(self) -> None:
        """Does nothing, as nothing is held outside of the broker."""

    def _give_back(self) -> None:
        for delivery in reversed(self._take_ready(len(self._ready))):
            delivery.give_back()

    def __del__(self) -> None:
        # Fetched ahead and never handed out: not to be counted as a delivery.
        if hasattr(self, "_ready"):
            self._give_back()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"


def _check_timeout(block: bool, timeout: float | None) -> None:
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


def _check_options(
    name: str, maxsize: int, ack: str, lease: float, max_deliveries: int, prefetch: int
) -> None:
    checks: list[tuple[str, Any, Callable[[Any], bool], str]] = [
        ("name", name, lambda value: isinstance(value, str) and value != "", "a name"),
        ("maxsize", maxsize, lambda value: isinstance(value, int), "a number of items"),
        ("ack", ack, lambda value: value in ("auto", "manual"), "'auto' or 'manual'"),
        ("lease", lease, lambda value: value > 0, "a length in seconds above 0"),
        ("max_deliveries", max_deliveries, lambda value: value >= 0, "a number, 0 for no limit"),
        ("prefetch", prefetch, lambda value: value >= 1, "a number of items from 1"),
    ]
    for option, value, holds, wanted in checks:
        if not holds(value):
            raise ValueError(f"queue {name!r}: {option} is {wanted}, not {value!r}")
