"""What a handle on a queue knows, for threads and for event loops alike.

It turns items into bytes, and says what native code needs to turn bytes into items. It waits for
nothing: claiming and settling are its owner's, and what takes several operations it gives as steps.
"""

from __future__ import annotations

import copy
import functools
import logging
import numbers
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar

from pymq import _failures, _pymq
from pymq._codec import Codec, plan_for
from pymq._gevent import bare
from pymq._message import attached
from pymq._options import PUT, QUEUE, PutOptions, QueueOptions, check_queue, count, known
from pymq._pymq import Bus
from pymq._retry import Retry, retry_of
from pymq._steps import Steps
from pymq._telemetry import Watched
from pymq._worker import report_failure
from pymq.exceptions import DecodeError, ShutDown

if TYPE_CHECKING:
    from typing_extensions import Unpack

logger = logging.getLogger("pymq")

T = TypeVar("T")

# How many items are thrown away at once, where a queue is emptied.
AT_A_TIME = 256


class Open(_pymq.OpenItems):
    """Items that a handle gave out and that nobody has confirmed, by the thread or task that got
    them."""


class Handle(Generic[T]):
    """A native queue with this handle's options, and what it has in hand."""

    def __init__(
        self,
        bus: Bus,
        codec: Codec,
        name: str,
        *,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        type: Any = None,
        **options: Unpack[QueueOptions],
    ) -> None:
        known("queue", options, QUEUE)
        said: QueueOptions = {**QUEUE, **options}
        check_queue(name, {"name": name, "maxsize": maxsize, "ack": ack, **said})
        self.bus: Bus = bus
        self.codec: Codec = codec
        self.name: str = name
        self.maxsize: int = maxsize
        self.plan: _pymq.Plan | None = None if type is None else plan_for(type)
        self.open: Open = Open(ack == "manual")
        self.retry: Retry = retry_of(said["retry"])
        said["retry"] = self.retry
        kept = {option: value for option, value in said.items() if option != "retry"}
        self.native: _pymq.Queue = bus.queue(name, maxsize=_bound(maxsize), **kept)
        #: The same, as native code takes it.
        self.bare: _pymq.Queue = bare(self.native)
        #: Makes another handle with the same options, which shares nothing with this one.
        self.again: Callable[[], Handle[T]] = functools.partial(
            Handle,
            bus,
            codec,
            name,
            maxsize=maxsize,
            ack=ack,
            type=type,
            **said,
        )

    def bound(self, maxsize: int) -> None:
        """Another bound, for what is put from now on."""
        check_queue(self.name, {"maxsize": maxsize})
        self.native.bound(_bound(maxsize))
        self.maxsize = maxsize

    def with_retry(self, retry: Retry | Iterable[float] | None) -> Handle[T]:
        """The same handle, which tries again as `retry` says, if it says something."""
        if retry is None:
            return self
        other = copy.copy(self)
        other.retry = retry_of(retry)
        return other

    def to_put(
        self, items: Iterable[T], options: PutOptions, watched: Watched | None = None
    ) -> tuple[list[bytes], dict[str, Any]]:
        """Items as they travel, each with what is said beside it, and the rest of the options, for
        native code."""
        payloads = [self.codec.encode(item, "item") for item in items]
        if watched is not None:
            watched.messages = len(payloads)
        elif not options:
            return payloads, {}
        known("put", options, PUT)
        said: dict[str, Any] = {**options}
        headers = said.pop("headers", None)
        if "at" in said:
            said["delay"] = delay_of(said.get("delay"), said.pop("at"))
        return attached(payloads, headers, said.get("id"), watched), said

    def many_to_put(
        self,
        items: Iterable[T],
        headers: Mapping[str, str] | None,
        watched: Watched | None = None,
    ) -> tuple[list[bytes], dict[str, Any]]:
        """Items that are put in one step, as `to_put` has them."""
        return self.to_put(items, {"headers": headers} if headers else {}, watched)

    def decoded(self, payload: bytes) -> T:
        """An item that was put as these bytes; `DecodeError` if it is none."""
        item: T = self.codec.decode(_pymq.Metadata.detach(payload)[1], self.plan, "item")
        return item

    # ---- what both sides run as steps

    def waiting(self) -> Steps[int]:
        """How many items wait, with those that this handle has fetched ahead."""
        waiting: int = (yield self.native.counts())[0]
        return waiting + self.native.fetched_ahead()

    def is_full(self) -> Steps[bool]:
        """Whether `maxsize` items wait, now or for later."""
        waiting, _, _, delayed = yield self.native.counts()
        present: int = waiting + delayed
        return 0 < self.maxsize <= present

    def unfinished(self) -> Steps[int]:
        """How many items wait, are due later or leased."""
        waiting, leased, _, delayed = yield self.native.counts()
        unfinished: int = waiting + leased + delayed
        return unfinished

    def peek(self, limit: int) -> Steps[list[T]]:
        """Items from the head, left where they are."""
        limit = count("limit", limit, least=0, most=sys.maxsize)
        items = yield self.native.peek(False, limit)
        return [self.decoded(item) for item in items]

    def shut_down(self, immediate: bool) -> Steps[None]:
        """Ends the queue; `immediate` empties it, too."""
        yield self.native.shut_down()
        # Not `purge`: that would lift the shutdown, and let others put again.
        while immediate:
            try:
                drained = yield self.native.claim(AT_A_TIME, False, None)
            except ShutDown:
                return
            if not drained:
                # Empty, and purged by others meanwhile.
                return
            for delivery in drained:
                delivery.ack_soon()

    def failed(
        self, native: _pymq.Delivery, error: BaseException, *, at_work: bool = False
    ) -> _pymq.Operation[None]:
        """What becomes of an item whose block raised, or a worker's handler; the log has it."""
        if not isinstance(error, Exception) and (
            not at_work or isinstance(error, KeyboardInterrupt)
        ):
            # It says something of the process, not of the item.
            return native.requeue()
        delay = self.retry.delay(native.deliveries, error)
        report_failure(self.name, native, delay, error)
        return native.fail(delay, _failures.name_of(error), _failures.words_of(error), here())

    def report(self, error: DecodeError) -> None:
        """Says that an item was passed over."""
        logger.error("queue %r: an item went to the dead letters: %s", self.name, error.redacted)


class KnownQueue(Generic[T]):
    """What a queue tells and is told without a wait."""

    _handle: Handle[T]

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a queue belongs to its process, so it cannot be pickled; send its name, and call "
            "queue(name) of the bus of the other one"
        )

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

    def stop(self) -> None:
        """Take nothing more by this handle: its loops end after the item in hand.

        A `get` that waits, and every later one, raises `ClosedError`: make another handle to go
        on. Items that were fetched ahead go back. It waits for nothing, so a signal handler may
        call it.
        """
        self._handle.native.stop()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._handle.native.stopped

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def here() -> str:
    """This process, as `host:process`."""
    return f"{socket.gethostname()}:{os.getpid()}"


def delay_of(delay: float | None, at: datetime | None) -> float | None:
    """In how many seconds an item is due."""
    if at is None:
        return delay
    if delay is not None:
        raise ValueError("an item has a delay or a time, not both")
    if not isinstance(at, datetime):
        raise TypeError(f"put: at is a datetime, not {at!r}")
    return max(0.0, at.timestamp() - time.time())


def check_timeout(block: bool, timeout: float | None) -> None:
    if not block or timeout is None:
        return
    if not isinstance(timeout, numbers.Real):
        raise TypeError(f"timeout is a length in seconds, not {timeout!r}")
    if not timeout >= 0:
        raise ValueError("'timeout' must be a non-negative number")


def _bound(maxsize: int) -> int:
    """As native code takes it: nothing and less is no bound, and what no memory holds is one."""
    return max(0, min(maxsize, 2**62))
