"""The module-level verbs over one default bus.

The only global state of the package is here: the default bus, and what was declared before there
was one. What a bus is stands in `_abstract.py`, what ours does in `_bus.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from queue import Empty, Full
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    ParamSpec,
    TypeVar,
    overload,
)

from pymq._abstract import EventBus, Queue, StubMethod, Topic, WrapperTopic
from pymq._dispatch import as_declared_on, running_loop
from pymq.exceptions import RemoteInvocationError

if TYPE_CHECKING:
    from pymq._bus import NativeEventBus

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

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=Callable[..., Any])
B = TypeVar("B", bound=EventBus)


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
            raise ValueError("Bus not set yet; call pymq.init first")
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
            raise ValueError("Bus not set yet; call pymq.init first")
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
