"""The abstract classes that every bus fulfils; a user's own bus is a subclass of `EventBus`.

They say what the original's say, and what goes beside a message: what a provider lacks raises
`UnsupportedError`, and what a bus does stands in `_bus.py`. Programs import them from `pymq` or
`pymq.core`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar

from pymq._message import said
from pymq._options import PUT, PutOptions, shows
from pymq.exceptions import UnsupportedError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from pymq._dead_letters import DeadLetters
    from pymq._queue import Delivery, Stats
    from pymq._retry import Retry
    from pymq._worker import Worker

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")


class Queue(abc.ABC, Generic[T]):
    """A `queue.Queue` that processes share: same methods, same arguments, same exceptions."""

    #: How many items may wait at a time; 0 is no bound.
    maxsize: int = 0

    @property
    def name(self) -> str:
        """The queue's name on the bus."""
        raise NotImplementedError

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the first item, waiting for one as `queue.Queue.get` does; `Empty` if none came."""
        raise NotImplementedError

    @shows(PutOptions, PUT)
    def put(
        self,
        item: T,
        block: bool = True,
        timeout: float | None = None,
        **options: Unpack[PutOptions],
    ) -> bool | None:
        """Append an item, waiting for space as `queue.Queue.put` does; `Full` if none came.

        What the options say is told at `NativeQueue.put`; a queue of one's own class needs to know
        none of them.
        """
        raise NotImplementedError

    def qsize(self) -> int:
        """How many items wait."""
        raise NotImplementedError

    def empty(self) -> bool:
        """Whether no item waits."""
        return self.qsize() == 0

    def full(self) -> bool:
        """Whether `maxsize` items wait."""
        return 0 < self.maxsize <= self.qsize()

    def put_nowait(self, item: T) -> None:
        """Append an item if there is space now, else raise `Full`."""
        self.put(item, block=False)

    def get_nowait(self) -> T:
        """Take the first item if there is one now, else raise `Empty`."""
        return self.get(block=False)

    def task_done(self) -> None:
        """Say that an item that was taken is done with; `ValueError` if there is none."""
        raise _lacks(self, "task_done")

    def join(self) -> None:
        """Wait until every item was taken and is done with."""
        raise _lacks(self, "join")

    def shutdown(self, immediate: bool = False) -> None:
        """End the queue for everybody: `put` raises `ShutDown`, `get` too once it is empty."""
        raise _lacks(self, "shutdown")

    @property
    def unfinished_tasks(self) -> int:
        """How many items were put and are not done with."""
        raise _lacks(self, "unfinished_tasks")

    @property
    def is_shutdown(self) -> bool:
        """Whether `shutdown` was called."""
        raise _lacks(self, "is_shutdown")

    def purge(self) -> int:
        """Delete the items that wait; says how many."""
        raise _lacks(self, "purge")

    def put_many(
        self,
        items: Iterable[T],
        block: bool = True,
        timeout: float | None = None,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Append several items in one step."""
        raise _lacks(self, "put_many")

    def get_many(self, limit: int, block: bool = True, timeout: float | None = None) -> list[T]:
        """Take up to `limit` items, waiting for the first one only."""
        raise _lacks(self, "get_many")

    def get_delivery(self, block: bool = True, timeout: float | None = None) -> Delivery[T]:
        """Take the first item on a lease, to be confirmed by whoever gets it."""
        raise _lacks(self, "get_delivery")

    def __iter__(self) -> Iterator[T]:
        """Serve items: each is confirmed when the next one is asked for."""
        raise _lacks(self, "iteration")

    def stats(self) -> Stats:
        """How many items there are, by state; looking changes nothing."""
        raise _lacks(self, "stats")

    def peek(self, limit: int = 1) -> list[T]:
        """Up to `limit` items from the head, left where they are."""
        raise _lacks(self, "peek")

    def dead_letters(self) -> DeadLetters[T]:
        """Items that were given up: to be counted, read, moved back, deleted."""
        raise _lacks(self, "dead_letters")

    def work(
        self,
        handler: Callable[..., Any],
        concurrency: int = 1,
        grace: float = 10.0,
        *,
        retry: Retry | Iterable[float] | None = None,
    ) -> Worker:
        """Serve the queue with a handler, up to `concurrency` items at once."""
        raise _lacks(self, "work")

    def stop(self) -> None:
        """Take nothing more by this handle: its loops end after the item in hand."""
        raise _lacks(self, "stop")

    def close(self) -> None:
        """Let go of what this handle holds. Does nothing unless a provider says otherwise."""

    def free(self) -> None:
        """Let go of what the operating system holds. Does nothing where that is nothing."""


def _lacks(queue: object, what: str) -> UnsupportedError:
    return UnsupportedError(f"{type(queue).__name__} has no {what}")


class Topic(abc.ABC):  # noqa: B024 - the original's
    """A name that events are published on, or a pattern of such names."""

    @property
    def name(self) -> str:
        """The name or the pattern."""
        raise NotImplementedError

    @property
    def is_pattern(self) -> bool:
        """Whether the name is a pattern; nothing can be published on one."""
        raise NotImplementedError

    def publish(
        self,
        event: Any,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> int | None:
        """Publish an event here; says how many received it, where that is known. `headers`,
        `id` and `wait` are those of `pymq.publish`."""
        raise NotImplementedError

    def subscribe(self, callback: Callable[..., Any]) -> None:
        """Call back for every event published here from now on."""
        raise NotImplementedError


class NamedTopic:
    """What a topic of a bus tells without one."""

    def __init__(self, name: str, is_pattern: bool) -> None:
        self._name = name
        self._is_pattern = is_pattern

    @property
    def name(self) -> str:
        """The name or the pattern."""
        return self._name

    @property
    def is_pattern(self) -> bool:
        """Whether the name is a pattern; nothing can be published on one."""
        return self._is_pattern

    def _published_on(self) -> str:
        """The name, if something can be published on it."""
        if self._is_pattern:
            raise ValueError("Cannot publish to pattern topic")
        return self._name


class WrapperTopic(NamedTopic, Topic):
    """A topic that hands everything to a bus."""

    def __init__(self, bus: PublishesAndSubscribes, name: str, is_pattern: bool) -> None:
        super().__init__(name, is_pattern)
        self._bus = bus

    def publish(
        self,
        event: Any,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> int | None:
        """Publish an event here; `ValueError` on a pattern."""
        publish: Callable[..., int | None] = self._bus.publish
        return publish(event, self._published_on(), **said(headers, id, wait))

    def subscribe(self, callback: Callable[..., Any]) -> None:
        """Call back for every event published here from now on."""
        self._bus.subscribe(callback, self._name, self._is_pattern)


class PublishesAndSubscribes(Protocol):
    """What a topic needs of a bus."""

    def publish(self, event: Any, channel: str | None = None) -> int | None:
        """Publish an event on a channel."""
        ...

    def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Call back for each event on a channel."""
        ...


class StubMethod(Generic[P, R]):
    """A remote function, to be called as if it were a local one."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it, and give its result or raise its error."""
        raise NotImplementedError

    def rpc(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call it, and give the `RpcResponse`: with `multi` a list of them."""
        raise NotImplementedError


class EventBus(abc.ABC):  # noqa: B024 - the original's
    """What a bus can do. Subclass it to plug in a bus of one's own."""

    def run(self) -> None:
        """Serve until the bus is closed."""
        raise NotImplementedError

    def close(self) -> None:
        """End the bus, and with it `run`."""
        raise NotImplementedError

    def publish(self, event: Any, channel: str | None = None) -> int | None:
        """Publish an event, on its class's channel unless another one is given.

        Says how many received it, or `None` where that cannot be known.
        """
        raise NotImplementedError

    def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Call back for each event; the channel defaults to the class that its parameter names."""
        raise NotImplementedError

    def unsubscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Take back a `subscribe` with the same arguments."""
        raise NotImplementedError

    def queue(self, name: str) -> Queue[Any]:
        """The queue of that name."""
        raise NotImplementedError

    def topic(self, name: str, pattern: bool = False) -> Topic:
        """The topic of that name, or a pattern of names."""
        raise NotImplementedError

    def stub(
        self,
        fn: Callable[..., Any] | str,
        timeout: float | None = None,
        multi: bool = False,
    ) -> StubMethod[..., Any]:
        """A remote function; `multi` calls all who provide it. The timeout is in seconds."""
        raise NotImplementedError

    def expose(self, fn: Callable[..., Any], channel: str | None = None) -> None:
        """Let others call a function, under its full name unless a channel is given."""
        raise NotImplementedError

    def unexpose(self, fn: Callable[..., Any] | str) -> None:
        """Take back an `expose`."""
        raise NotImplementedError


# Where programs import them from, and where the original has them.
for _class in (EventBus, Queue, StubMethod, Topic):
    _class.__module__ = "pymq.core"
    for _member in vars(_class).values():
        if isinstance(_member, FunctionType):
            _member.__module__ = "pymq.core"
