"""The abstract classes that every bus fulfils, and the module-level verbs over one default bus.

The only global state of the package is here: the default bus, and what was declared before there
was one. What a bus does stands in `_bus.py`; a user's own bus is a subclass of `EventBus`.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from pymq._dispatch import as_declared_on, running_loop
from pymq.exceptions import RemoteInvocationError, UnsupportedError

if TYPE_CHECKING:
    from pymq._bus import NativeEventBus
    from pymq._queue import Delivery

__all__ = [
    "Empty",
    "EventBus",
    "Full",
    "Queue",
    "RpcRequest",
    "RpcResponse",
    "StubMethod",
    "Topic",
    "expose",
    "init",
    "publish",
    "queue",
    "remote",
    "shutdown",
    "start",
    "stub",
    "subscribe",
    "subscriber",
    "topic",
    "unexpose",
    "unsubscribe",
]

logger: logging.Logger = logging.getLogger("pymq")

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=Callable[..., Any])
B = TypeVar("B", bound="EventBus")


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

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Append an item, waiting for space as `queue.Queue.put` does; `Full` if none came."""
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
        return self.put(item, block=False)

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

    def put_many(
        self, items: Iterable[T], block: bool = True, timeout: float | None = None
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

    def publish(self, event: Any) -> int | None:
        """Publish an event here; says how many received it, where that is known."""
        raise NotImplementedError

    def subscribe(self, callback: Callable[..., Any]) -> None:
        """Call back for every event published here from now on."""
        raise NotImplementedError


class WrapperTopic(Topic):
    """A topic that hands everything to a bus."""

    def __init__(self, bus: PublishesAndSubscribes, name: str, is_pattern: bool) -> None:
        self._bus = bus
        self._name = name
        self._is_pattern = is_pattern

    @property
    def name(self) -> str:
        """The name or the pattern."""
        return self._name

    @property
    def is_pattern(self) -> bool:
        """Whether the name is a pattern."""
        return self._is_pattern

    def publish(self, event: Any) -> int | None:
        """Publish an event here; `ValueError` on a pattern."""
        if self._is_pattern:
            raise ValueError("Cannot publish to pattern topic")
        return self._bus.publish(event, self._name)

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


class RpcRequest(NamedTuple):
    """A call as it travels: whom, where the answer goes, and the arguments."""

    fn: str
    response_channel: str
    args: Any = None
    kwargs: Any = None


class RpcResponse(NamedTuple):
    """An answer as it travels; of an error, `result` holds the exception's arguments."""

    fn: str
    result: Any
    result_type: str | None = None
    error: bool = False


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


class _Run:
    """A bus that was made the default one, and the thread that runs it."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.runner: threading.Thread | None = None


class _Default:
    """The default bus, and what waits for it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.bus: EventBus | None = None
        self.runs: list[_Run] = []
        self.subscribers: list[tuple[Callable[..., Any], str | None, bool]] = []
        self.remotes: list[tuple[Callable[..., Any], str | None, dict[str, Any]]] = []
        #: Where coroutine functions among them are to run.
        self.loops: dict[int, asyncio.AbstractEventLoop] = {}

    def note_loop(self, callback: Callable[..., Any]) -> None:
        """Remembers the event loop that something is declared on, if it is."""
        loop = running_loop()
        if loop is not None:
            self.loops[id(callback)] = loop

    def forget(self) -> None:
        """Nothing is declared any more."""
        self.subscribers.clear()
        self.remotes.clear()
        self.loops.clear()

    def bound(self, wanted: str) -> EventBus:
        """The default bus; without one, says so as the original does."""
        if self.bus is None:
            logger.error("no event bus, cannot get %s: call pymq.init first", wanted)
            raise ValueError("Bus not set yet")
        return self.bus


_default = _Default()


@overload
def init(factory: str | None = None, start_bus: bool = True) -> NativeEventBus: ...
@overload
def init(factory: Callable[[], B], start_bus: bool = True) -> B: ...
def init(factory: Callable[[], EventBus] | str | None = None, start_bus: bool = True) -> EventBus:
    """Make the default bus, and bind to it what was declared before.

    `factory` is a callable that gives a bus (a `RedisConfig`, `SimpleEventBus`, a class of one's
    own), or an address such as `"redis://localhost"`; without it the environment's `PYMQ_URL`, else
    `"memory://"`. A bus that was the default before keeps running until `shutdown`.
    """
    make = factory if callable(factory) else _at(factory)
    with _default.lock:
        bus = make()
        before, _default.bus = _default.bus, bus
        run = _Run(bus)
        _default.runs.append(run)
        try:
            if start_bus:
                start()
            for callback, channel, pattern in _default.subscribers:
                with as_declared_on(_default.loops.get(id(callback))):
                    bus.subscribe(callback, channel, pattern)
            for fn, channel, options in _default.remotes:
                with as_declared_on(_default.loops.get(id(fn))):
                    bus.expose(fn, channel, **options)
        except BaseException:
            _end(run)
            _default.bus = before
            raise
        _default.forget()
        return bus


def _at(url: str | None) -> Callable[[], EventBus]:
    from pymq._bus import NativeEventBus

    address = url if url is not None else os.environ.get("PYMQ_URL") or "memory://"
    return lambda: NativeEventBus(address)


def start() -> None:
    """Start the default bus, unless `init` has done that.

    Raises `ValueError` before `init`.
    """
    with _default.lock:
        bus = _default.bus
        if bus is None:
            raise ValueError("Bus not set yet")
        run = next(run for run in _default.runs if run.bus is bus)
        if run.runner is not None:
            return
        begin = getattr(bus, "begin", None)
        if begin is not None:
            # What is subscribed from now on is subscribed when `subscribe` returns.
            begin()
        run.runner = threading.Thread(target=bus.run, name="pymq-runner", daemon=True)
        run.runner.start()


def shutdown() -> None:
    """End the default bus; doing it again, or without one, does nothing.

    What was received is still handled, for up to ten seconds.
    """
    with _default.lock:
        runs = list(_default.runs)
    for run in runs:
        _end(run)
    if runs:
        with _default.lock:
            _default.forget()


def _end(run: _Run) -> None:
    # Not under the lock: callbacks that end now may want to publish or to subscribe.
    try:
        run.bus.close()
        if run.runner is not None and run.runner is not threading.current_thread():
            run.runner.join(timeout=10.0)
    finally:
        with _default.lock:
            if run in _default.runs:
                _default.runs.remove(run)
            if _default.bus is run.bus:
                _default.bus = None


def publish(event: Any, channel: str | None = None) -> int | None:
    """Publish an event, on its class's channel unless another one is given.

    Says how many received it, or `None` where that cannot be known. Before `init` this is only
    an error in the log.
    """
    bus = _default.bus
    if bus is None:
        logger.error("no event bus, cannot publish: call pymq.init first")
        return None
    return bus.publish(event, channel)


def subscribe(
    callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
) -> None:
    """Call back for each event, from `init` on.

    The channel defaults to the class that hints the callback's one parameter. A pattern is one of
    Redis: `*`, `?`, `[a-z]`, and a backslash before what is meant as it stands.
    """
    with _default.lock:
        bus = _default.bus
        if bus is None:
            _default.subscribers.append((callback, channel, pattern))
            _default.note_loop(callback)
            return
    bus.subscribe(callback, channel, pattern)


def unsubscribe(
    callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
) -> None:
    """Take back a `subscribe` with the same arguments."""
    with _default.lock:
        bus = _default.bus
        if bus is None:
            _default.subscribers.remove((callback, channel, pattern))
            return
    bus.unsubscribe(callback, channel, pattern)


@overload
def subscriber(callback: C, /, channel: str | None = None, pattern: bool = False) -> C: ...
@overload
def subscriber(channel: str | None = None, pattern: bool = False) -> Callable[[C], C]: ...
def subscriber(*args: Any, **kwargs: Any) -> Any:
    """Subscribe the decorated function: `@subscriber`, `@subscriber("channel", True)`."""
    return _decorate(subscribe, args, kwargs)


def queue(name: str, *args: Any, **options: Any) -> Queue[Any]:
    """The queue of that name; the options are those of `NativeEventBus.queue`."""
    return _default.bound("queue").queue(name, *args, **options)


def default_bus() -> EventBus | None:
    """The default bus, if there is one."""
    return _default.bus


def topic(name: str, pattern: bool = False) -> Topic:
    """The topic of that name, or a pattern of names; usable before `init`."""
    bus = _default.bus
    return WrapperTopic(_Later(), name, pattern) if bus is None else bus.topic(name, pattern)


class _Later:
    """Whatever bus is the default one when it is used."""

    def publish(self, event: Any, channel: str | None = None) -> int | None:
        return publish(event, channel)

    def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        subscribe(callback, channel, pattern)


@overload
def stub(  # type: ignore[overload-overlap]
    fn: Callable[P, R], timeout: float | None = None, multi: Literal[False] = False
) -> StubMethod[P, R]: ...
@overload
def stub(  # type: ignore[overload-overlap]
    fn: Callable[P, R], timeout: float | None = ..., *, multi: Literal[True]
) -> StubMethod[P, list[R | RemoteInvocationError]]: ...
@overload
def stub(
    fn: Callable[..., Any] | str, timeout: float | None = None, multi: bool = False
) -> StubMethod[..., Any]: ...
def stub(
    fn: Callable[..., Any] | str, timeout: float | None = None, multi: bool = False
) -> StubMethod[..., Any]:
    """A remote function, by its name or by the function itself, whose signature it keeps.

    `timeout` is for a whole call, in seconds. With `multi` all who provide it are called, and the
    result is a list. Nobody there: the result is `None`, or `[]`.
    """
    return _default.bound("stub").stub(fn, timeout, multi)


def expose(fn: Callable[..., Any], channel: str | None = None, **options: Any) -> None:
    """Let others call a function, from `init` on, under its full name unless a channel is given."""
    with _default.lock:
        bus = _default.bus
        if bus is None:
            _default.remotes.append((fn, channel, options))
            _default.note_loop(fn)
            return
    bus.expose(fn, channel, **options)


def unexpose(fn: Callable[..., Any] | str) -> None:
    """Take back an `expose`. Raises `ValueError` before `init`."""
    _default.bound("remote").unexpose(fn)


@overload
def remote(fn: C, /, channel: str | None = None, **options: Any) -> C: ...
@overload
def remote(channel: str | None = None, **options: Any) -> Callable[[C], C]: ...
def remote(*args: Any, **kwargs: Any) -> Any:
    """Expose the decorated function: `@remote`, `@remote("name")`."""
    return _decorate(expose, args, kwargs)


def _decorate(verb: Callable[..., None], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args and callable(args[0]):
        verb(*args, **kwargs)
        return args[0]

    def decorator(fn: C) -> C:
        verb(fn, *args, **kwargs)
        return fn

    return decorator


def _after_fork_in_child() -> None:
    # Whoever held it is not in this process.
    _default.lock = threading.RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
