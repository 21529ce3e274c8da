"""What a handle on a queue knows, for threads and for event loops alike.

It turns items into bytes and back, and knows which items are open and whose. It waits for
nothing: claiming and settling are its owner's.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Generic, Literal, TypeVar

from pymq import _pymq
from pymq._codec import Codec, plan_for
from pymq._pymq import Bus
from pymq.exceptions import DecodeError

logger = logging.getLogger("pymq")

T = TypeVar("T")

# How many items are thrown away at once, where a queue is emptied.
AT_A_TIME = 256
# How many owners are kept before those that are over are looked for.
OWNERS = 64


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
        lease: float = 30.0,
        max_deliveries: int = 5,
        prefetch: int = 1,
        type: Any = None,
        owner: Callable[[], Hashable] = threading.get_ident,
        is_over: Callable[[Any], bool] | None = None,
    ) -> None:
        _check_options(name, maxsize, ack, lease, max_deliveries, prefetch)
        self._bus = bus
        self._codec = codec
        self.name: str = name
        self.maxsize: int = maxsize
        self.manual: bool = ack == "manual"
        self._options = (lease, max_deliveries, prefetch)
        self._plan = None if type is None else plan_for(type)
        self.open: Open = Open(owner, is_over)
        self.native: _pymq.Queue = self._connect()

    def _connect(self) -> _pymq.Queue:
        return self._bus.queue(self.name, self.maxsize, *self._options)

    def bound(self, maxsize: int) -> None:
        """Another bound, for what is put from now on."""
        self.maxsize = maxsize
        self.native = self._connect()

    def encoded(self, items: Iterable[T]) -> list[bytes]:
        """Items as they travel."""
        return [self._codec.encode(item, "item") for item in items]

    def decoded(self, delivery: _pymq.Delivery) -> T:
        """A delivery's item; one that cannot be read goes to the dead letters."""
        try:
            item: T = self._codec.decode(delivery.payload, self._plan, "item")
        except DecodeError:
            delivery.reject().wait()
            raise
        return item

    def taken(self, delivery: _pymq.Delivery) -> T:
        """The item, for somebody who confirms it by `task_done` or not at all."""
        item = self.decoded(delivery)
        self._give(delivery)
        return item

    def taken_many(self, deliveries: list[_pymq.Delivery]) -> list[T]:
        """The items that can be read; an error if there is none.

        None is confirmed before all are read, since what breaks off the reading would lose it.
        """
        items: list[T] = []
        readable: list[_pymq.Delivery] = []
        unreadable: DecodeError | None = None
        for delivery in deliveries:
            try:
                items.append(self.decoded(delivery))
                readable.append(delivery)
            except DecodeError as error:
                self.report(error)
                unreadable = error
        if unreadable is not None and not items:
            raise unreadable
        for delivery in readable:
            self._give(delivery)
        return items

    def _give(self, delivery: _pymq.Delivery) -> None:
        if self.manual:
            self.open.add(delivery)
        else:
            delivery.ack_soon()
            self.open.add_confirmed()

    def report(self, error: DecodeError) -> None:
        """Says that an item was passed over."""
        logger.error("queue %r: an item went to the dead letters: %s", self.name, error.redacted)

    def done(self) -> _pymq.Delivery | None:
        """What `task_done` confirms; `None` if that was confirmed already.

        From now on items are confirmed by `task_done` only. Raises `ValueError` if none is open.
        """
        delivery = self.open.take()
        self.manual = True
        return delivery


class Open:
    """Items that a handle gave out and that nobody has confirmed, by the thread that took them.

    Or by the task: of those there is no end, so what one took that `is_over` becomes nobody's.
    """

    def __init__(
        self, owner: Callable[[], Hashable], is_over: Callable[[Any], bool] | None = None
    ) -> None:
        self._owner = owner
        self._is_over = is_over
        self._sweep_at = OWNERS
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
        with self._guard:
            self._confirmed[here] = self._confirmed.get(here, 0) + count
        if self._is_over is not None and len(self._confirmed) > self._sweep_at:
            self._sweep(self._is_over)

    def _sweep(self, is_over: Callable[[Any], bool]) -> None:
        with self._guard:
            over = [owner for owner in list(self._confirmed) if owner and is_over(owner)]
            for owner in over:
                left = self._confirmed.pop(owner)
                self._confirmed[None] = self._confirmed.get(None, 0) + left
            self._sweep_at = OWNERS + 2 * len(self._confirmed)

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


def check_timeout(block: bool, timeout: float | None) -> None:
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")


def _check_options(
    name: str, maxsize: int, ack: str, lease: float, max_deliveries: int, prefetch: int
) -> None:
    checks: list[tuple[str, Any, Callable[[Any], bool], str]] = [
        ("name", name, lambda value: isinstance(value, str) and value != "", "text, not empty"),
        ("maxsize", maxsize, lambda value: isinstance(value, int), "a number of items"),
        ("ack", ack, lambda value: value in ("auto", "manual"), "'auto' or 'manual'"),
        ("lease", lease, lambda value: value > 0, "a length in seconds above 0"),
        ("max_deliveries", max_deliveries, lambda value: value >= 0, "a number, 0 for no limit"),
        ("prefetch", prefetch, lambda value: value >= 1, "a number of items from 1"),
    ]
    for option, value, holds, wanted in checks:
        if not holds(value):
            raise ValueError(f"queue {name!r}: {option} is {wanted}, not {value!r}")
