"""`queue.Queue` between machines, for threads.

Getting items, and confirming them, is native (`_pymq.Getter`) but for the last step, which is read
as an attribute and returned: CPython runs a signal handler after a native call, and none between an
attribute and the end of a function. So whatever a handler raises, an item that was handed over is
where the caller binds it, and any other goes back. The rest of `queue.Queue` stands here.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping
from queue import Full
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from pymq import _pymq, _telemetry
from pymq._abstract import Queue
from pymq._dead_letters import DeadLetters
from pymq._delivery import HeldItem
from pymq._gevent import patient
from pymq._handle import Handle, KnownQueue, check_timeout, here
from pymq._loops import loop_here, refuse_to_freeze
from pymq._nested_waits import wait_in_turn
from pymq._options import PUT, PutOptions, shows
from pymq._retry import Retry
from pymq._steps import waited
from pymq._telemetry import Watched
from pymq._worker import GRACE, Handler, Worker
from pymq.exceptions import ShutDown, UnsupportedError

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

T = TypeVar("T")


class Stats(NamedTuple):
    """How many items a queue has, by state, and what else is known of it."""

    #: Waiting for a consumer.
    waiting: int
    #: Due later.
    delayed: int
    #: Held by consumers.
    leased: int
    #: Given up.
    dead: int
    #: For how many seconds the item at the head has waited, where that is known; over Redis, how
    #: long ago it was sent, of items that were put with `headers` or an `id`.
    oldest: float | None
    #: How many connections hold items or wait for some, where that is known.
    consumers: int | None

    @classmethod
    def of(cls, native: tuple[int, int, int, int, float | None, int | None]) -> Stats:
        """As native code has them."""
        waiting, leased, dead, delayed, oldest, consumers = native
        return cls(waiting, delayed, leased, dead, oldest, consumers)


class Owner(Protocol):
    """The bus of a queue, as far as workers need one."""

    def start_worker(
        self, queue: NativeQueue[Any], handler: Handler, concurrency: int, grace: float
    ) -> Worker:
        """Starts a worker that ends with the bus."""
        ...


class Delivery(HeldItem[T]):
    """An item on a lease: confirm it, or it comes back.

    As a context manager it confirms when the block ends well; when it raises, the item comes again
    as the handle's `retry` says. Dropped without a word it is requeued.
    """

    def __init__(self, item: T, native: _pymq.Delivery, handle: Handle[Any]) -> None:
        super().__init__(item, patient(native), handle)

    def ack(self) -> None:
        """Done with: the item is gone. Raises `LeaseLostError` if it belongs to others now."""
        self._settle("ack", self._native.ack())

    def requeue(self, delay: float = 0.0) -> None:
        """Back to the head of the queue, counted; to the dead letters after `max_deliveries`.

        With a delay, in seconds, it comes again later, behind those that wait then.
        """
        self._settle("requeue", self._native.requeue(delay))

    def reject(self, reason: str = "") -> None:
        """To the dead letters at once, for a reason that is kept there."""
        self._settle("reject", self._native.reject(reason, here()))

    def _settle(self, verb: str, settle: _pymq.Operation[None]) -> None:
        if _telemetry.observers:
            with self._settling(verb):
                return settle.wait()
        return settle.wait()

    def _done(self) -> None:
        """Its worker's confirmation, which is part of what the handler did."""
        self._native.ack().wait()

    def _fail(self, error: BaseException, *, at_work: bool = False) -> None:
        if not self.settled:
            self._handle.failed(self._native, error, at_work=at_work).wait()

    def _return(self) -> bool:
        """Gives it back uncounted, if it is open; says whether it was."""
        try:
            self._native.give_back()
        except ValueError:
            return False
        return True

    def extend(self, seconds: float) -> None:
        """The lease lasts at least so long from now, even if this process does not."""
        self._native.extend(seconds).wait()

    def __enter__(self) -> Self:
        self._entered()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left(error)
        if error is not None:
            self._fail(error)
        elif not self.settled:
            self.ack()


class NativeQueue(KnownQueue[T], _pymq.Getter[T], Queue[T]):
    """A handle on a queue. Options are this handle's, the items are everybody's.

    With `ack="auto"` items come at most once, except that what a process took in the last 10 ms
    before it was killed may come once more: each is confirmed with the next `get` or within 10 ms,
    and when the bus or the process ends well. With `ack="manual"` an item is leased until
    `task_done`, and comes back if its consumer dies.
    """

    def __init__(
        self, handle: Handle[T], owner: Owner | None = None, *, serves: bool = False
    ) -> None:
        self._handle = handle
        self._bus = owner
        # Who watches is told of what a worker takes when it is handled.
        self._attach(handle, functools.partial(Delivery, handle=handle), not serves)

    # ---- putting

    @shows(PutOptions, PUT)
    def put(
        self,
        item: T,
        block: bool = True,
        timeout: float | None = None,
        **options: Unpack[PutOptions],
    ) -> bool:
        """Append an item; waits for space as `queue.Queue.put` does.

        It may be taken after `delay` seconds, or from the time `at` on. With an `id` it is put
        once within a `window` of seconds: a second put does nothing, and gives `False`. On a
        queue with `priorities`, 0 to 9, higher ones come first. `headers` (text by name) and the
        `id` go with it, see `pymq.current_message`.

        Raises `Full`, `ShutDown`, `EncodeError`, `UnsupportedError` for an option that the
        transport lacks, and `OutcomeUnknownError` if the connection was lost before the answer
        came: it is never repeated by itself, and with an `id` repeating it is safe.
        """
        if _telemetry.observers:
            with Watched("put", self.name, bus=self._handle.bus) as watched:
                return self._put(*self._handle.to_put([item], options, watched), block, timeout)
        return self._put(*self._handle.to_put([item], options), block, timeout)

    def put_many(
        self,
        items: Iterable[T],
        block: bool = True,
        timeout: float | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Append several items, in order and all in one step.

        More than `maxsize` never fit in one step: they go in several, each as there is space, if
        `timeout` is None; else that is a `ConfigError`.
        """
        if _telemetry.observers:
            with Watched("put", self.name, bus=self._handle.bus) as watched:
                self._put(*self._handle.many_to_put(items, headers, watched), block, timeout)
                return
        self._put(*self._handle.many_to_put(items, headers), block, timeout)

    def _put(
        self, payloads: list[bytes], options: dict[str, Any], block: bool, timeout: float | None
    ) -> bool:
        check_timeout(block, timeout)
        if not payloads:
            return True
        native = self._handle.native
        put = native.put(payloads, bool(block), timeout, **options)
        if not block or self._handle.maxsize <= 0:
            return put.wait()
        if loop_here() is not None:
            # Only what has to wait for space may be refused.
            with contextlib.suppress(Full):
                return native.put(payloads, False, None, **options).wait()
            refuse_to_freeze("put", timeout)
        return wait_in_turn(put.wait)

    # ---- getting

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the first item; waits for one as `queue.Queue.get` does.

        Raises `Empty`, `ShutDown`, and `DecodeError` for an item that cannot be read: that one is a
        dead letter then, with its bytes as they were. Interrupted, it loses nothing.
        """
        return self._offer(block, timeout).result

    def get_nowait(self) -> T:
        """Take the first item if there is one now, else raise `Empty`."""
        return self._offer(False, None).result

    def get_many(self, limit: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Take up to `limit` items in one round trip, waiting for the first one only.

        Over Redis 1,000 come at a time at most. Raises `Empty` if there is none in time.
        """
        return self._offer_many(limit, block, timeout).result

    def task_done(self) -> None:
        """Confirm the item that this thread got last and has open.

        Of those that one call gave it is the first; if the thread has none, the handle's oldest,
        but for what ended threads left, which goes back.
        The first call makes an `ack="auto"` handle a manual one. Raises `ValueError` if nothing is
        open, and `LeaseLostError` if the item belongs to others by now. Interrupted, it goes on,
        and may be called again.
        """
        if _telemetry.observers:
            with Watched("ack", self.name, bus=self._handle.bus):
                last = self._settle()
            return last.result
        return self._settle().result

    # ---- knowing

    def qsize(self) -> int:
        """How many items wait, for everybody, with those that this handle has fetched ahead."""
        return waited(self._handle.waiting())

    def full(self) -> bool:
        """Whether `maxsize` items wait, now or for later."""
        return waited(self._handle.is_full())

    @property
    def unfinished_tasks(self) -> int:
        """How many items wait, are due later or leased, everywhere; `join` waits until it is 0."""
        return waited(self._handle.unfinished())

    def stats(self) -> Stats:
        """How many items there are, by state, on all machines; looking changes nothing."""
        return Stats.of(self._handle.native.stats().wait())

    def peek(self, limit: int = 1) -> list[T]:
        """Up to `limit` items from the head, left where they are; `DecodeError` if one is none."""
        return waited(self._handle.peek(limit))

    def dead_letters(self) -> DeadLetters[T]:
        """Items that were given up: to be counted, read, moved back, deleted."""
        return DeadLetters(self._handle)

    def join(self) -> None:
        """Wait until no item waits and none is leased, on any machine."""
        if loop_here() is not None and self.unfinished_tasks:
            refuse_to_freeze("join")
        wait_in_turn(self._handle.native.join().wait)

    # ---- ending

    def shutdown(self, immediate: bool = False) -> None:
        """End the queue for everybody: `put` raises `ShutDown`, and `get` once it is empty.

        `immediate` deletes what waits. `purge` lifts a shutdown.
        """
        waited(self._handle.shut_down(immediate))

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
        self._handle.native.let_go(self._handle.open).wait()

    # ---- working

    def work(
        self,
        handler: Callable[..., Any],
        concurrency: int = 1,
        grace: float = GRACE,
        *,
        retry: Retry | Iterable[float] | None = None,
    ) -> Worker:
        """Serve the queue with a handler, up to `concurrency` items at once, in threads.

        An `async def` handler runs on the loop that this is called from, else on one of the bus.
        A handler gets the item, or its `Delivery` if its parameter is hinted so; a further
        parameter that is hinted so gets the delivery beside the item. When it returns the item is
        confirmed; when it raises, the item comes again as `retry` says, here or of the queue's
        handle, and the log has a line. The worker ends by `close`, with its `with`, or with its
        bus, which then waits for what is in hand, for up to `grace` seconds.
        """
        if self._bus is None:
            raise UnsupportedError("a worker needs a queue that a bus has made")
        handle = self._handle.again().with_retry(retry)
        queue: NativeQueue[T] = NativeQueue(handle, self._bus, serves=True)
        form = Handler(handler, Delivery)
        return self._bus.start_worker(queue, form, concurrency, grace)

    def free(self) -> None:
        """Does nothing, as nothing is held outside of the broker."""


def get_from(
    queues: Iterable[Queue[T]], block: bool = True, timeout: float | None = None
) -> tuple[Queue[T], T]:
    """Take an item from the first of some queues that has one, with the queue that it is from.

    It waits for any of them as `queue.Queue.get` does, and raises as that does; `ShutDown` only
    when all are shut down. What comes to another queue in the same moment stays there.
    """
    return _pymq.offer_from(queues, block, timeout).result
