"""The module-level verbs over one default bus.

The bus itself, its beginning and its end, is `_default.py`'s. What a bus is stands in
`_abstract.py`, what ours does in `_bus.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping
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

from pymq import _options
from pymq._abstract import EventBus, Queue, StubMethod, Topic, WrapperTopic
from pymq._callables import check_channel, describe, remote_name
from pymq._declared import Declared, DeclaredRemote, DeclaredSubscriber
from pymq._default import default as _default
from pymq._default import default_bus, init, shutdown, start
from pymq._message import said
from pymq._options import CallOptions, QueueOptions, count
from pymq.exceptions import RemoteInvocationError

if TYPE_CHECKING:
    from typing_extensions import Unpack


__all__ = [
    "Empty",
    "EventBus",
    "Full",
    "Queue",
    "RpcRequest",
    "RpcResponse",
    "StubMethod",
    "Topic",
    "default_bus",
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
T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])
B = TypeVar("B", bound=EventBus)


class RpcRequest(NamedTuple):
    """A call as it travels: whom, where the answer goes, and the arguments."""

    #: The function's name.
    fn: str
    #: Where the answer goes.
    response_channel: str
    #: The arguments, by position and by name.
    args: Any = None
    kwargs: Any = None


class RpcResponse(NamedTuple):
    """An answer as it travels; of an error, `result` holds the exception's arguments."""

    #: The function's name.
    fn: str
    #: What it gave.
    result: Any
    #: The full name of the result's class, or the exception's.
    result_type: str | None = None
    #: Whether the function raised.
    error: bool = False


def publish(
    event: Any,
    channel: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    id: str | None = None,
    wait: bool = True,
) -> int | None:
    """Publish an event, on its class's channel unless another one is given.

    `headers` (text by name) and `id` go with it, see `pymq.current_message`. Says how many received
    it, or `None` where that cannot be known. With `wait=False` it waits neither for the broker nor
    for a connection, at most for room in the connection's buffer; losses are counted and told, see
    `NativeEventBus.publish`. Before `init` this is only an error in the log.
    """
    bus = _default.bus
    if bus is None:
        logger.error("no event bus, cannot publish: call pymq.init first")
        return None
    # A bus of somebody else's may know of neither.
    return bus.publish(event, channel, **said(headers, id, wait))


def subscribe(
    callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
) -> None:
    """Call back for each event, from `init` on.

    The channel defaults to the class that hints the callback's one parameter. A pattern is one of
    Redis: `*`, `?`, `[a-z]`, and a backslash before what is meant as it stands.
    """
    bus = _default.bus_or_declare(lambda: DeclaredSubscriber(callback, channel, pattern))
    if bus is not None:
        bus.subscribe(callback, channel, pattern)


def unsubscribe(
    callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
) -> None:
    """Take back a `subscribe` with the same arguments, or what a decorator declared."""
    bus = _default.bus
    served = _undeclare_subscriber(callback, channel, pattern)
    if bus is None:
        if served is None:
            raise ValueError(f"{describe(callback)} is not subscribed")
        return
    bus.unsubscribe(callback if served is None else served, channel, pattern)


def _undeclare_subscriber(
    callback: Callable[..., Any], channel: str | None, pattern: bool
) -> Callable[..., Any] | None:
    for declared in _default.declared:
        if isinstance(declared, DeclaredSubscriber) and declared.is_of(callback, channel, pattern):
            _default.declared.remove(declared)
            return declared.served
    return None


@overload
def subscriber(callback: C, /, channel: str | None = None, pattern: bool = False) -> C: ...
@overload
def subscriber(channel: str | None = None, pattern: bool = False) -> Callable[[C], C]: ...
def subscriber(*args: Any, **kwargs: Any) -> Any:
    """Subscribe the decorated function: `@subscriber`, `@subscriber("channel", True)`.

    It stays declared: each bus that `init` makes binds it.
    """
    return declare_subscriber(args, kwargs)


def declare_subscriber(
    args: tuple[Any, ...], kwargs: dict[str, Any], *, at_home: bool = False
) -> Any:
    """What `@subscriber` does with its arguments."""

    def options(channel: str | None = None, pattern: bool = False) -> tuple[str | None, bool]:
        check_channel(channel, "subscriber")
        return channel, pattern

    def declare(callback: Callable[..., Any], given: tuple[str | None, bool]) -> None:
        _declare(DeclaredSubscriber(callback, *given, lasting=True, at_home=at_home))

    options.__qualname__ = "subscriber"
    return _decorate(declare, options, args, kwargs)


def _declare(declared: Declared) -> None:
    """Declares for good, and binds to the default bus if there is one."""
    with _default.lock:
        bus = _default.bus
        replaced = _default.declared.add(declared)
    if bus is None:
        return
    for other in replaced:
        other.release(bus)
    try:
        declared.bind(bus)
    except BaseException:
        _default.declared.remove(declared)
        raise


@overload
def queue(
    name: str,
    maxsize: int = 0,
    ack: Literal["auto", "manual"] = "auto",
    *,
    type: type[T],
    **options: Unpack[QueueOptions],
) -> Queue[T]: ...
@overload
def queue(
    name: str,
    maxsize: int = 0,
    ack: Literal["auto", "manual"] = "auto",
    *,
    type: Any = None,
    **options: Unpack[QueueOptions],
) -> Queue[Any]: ...
@_options.shows(QueueOptions, _options.QUEUE)
def queue(
    name: str,
    maxsize: int = 0,
    ack: Literal["auto", "manual"] = "auto",
    *,
    type: Any = None,
    **options: Unpack[QueueOptions],
) -> Queue[Any]:
    """A handle on the queue of that name, of the default bus; the options are this handle's.

    `maxsize` bounds how many items wait. `ack="manual"` keeps an item leased until `task_done`.
    `lease` is how long, in seconds, an item stays with a consumer of which nothing is heard;
    `max_deliveries` after how many tries it becomes a dead letter (0: never); `prefetch` how many
    items one round trip fetches; `type` the items' type, where tags are not enough. `retry` says
    when an item whose handler failed comes again, a `Retry` or a list of delays;
    `max_dead_letters` how many are kept, the newest (0: all); with `priorities` items may have one.

    Raises `ValueError` before `init`.
    """
    said = {"maxsize": maxsize, "ack": ack, "type": type, **options}
    # A bus of a user's own knows none but those that are given.
    usual = {"maxsize": 0, "ack": "auto", "type": None, **_options.QUEUE}
    _options.known("queue", options, usual)
    given: Any = {option: value for option, value in said.items() if value is not usual[option]}
    return _default.bound("queue").queue(name, **given)


def topic(name: str, pattern: bool = False) -> Topic:
    """The topic of that name, or a pattern of names; usable before `init`."""
    bus = _default.bus
    return WrapperTopic(_Later(), name, pattern) if bus is None else bus.topic(name, pattern)


class _Later:
    """Whatever bus is the default one when it is used."""

    def publish(
        self,
        event: Any,
        channel: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> int | None:
        return publish(event, channel, headers=headers, id=id, wait=wait)

    def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        subscribe(callback, channel, pattern)


@overload
def stub(
    fn: Callable[P, Coroutine[Any, Any, R]],
    timeout: float | None = None,
    multi: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> StubMethod[P, R]: ...
@overload
def stub(
    fn: Callable[P, Coroutine[Any, Any, R]],
    timeout: float | None = ...,
    *,
    multi: Literal[True],
    **options: Unpack[CallOptions],
) -> StubMethod[P, list[R | RemoteInvocationError]]: ...
@overload
def stub(  # type: ignore[overload-overlap]
    fn: Callable[P, R],
    timeout: float | None = None,
    multi: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> StubMethod[P, R]: ...
@overload
def stub(  # type: ignore[overload-overlap]
    fn: Callable[P, R],
    timeout: float | None = ...,
    *,
    multi: Literal[True],
    **options: Unpack[CallOptions],
) -> StubMethod[P, list[R | RemoteInvocationError]]: ...
@overload
def stub(
    fn: Callable[..., Any] | str,
    timeout: float | None = None,
    multi: bool = False,
    **options: Unpack[CallOptions],
) -> StubMethod[..., Any]: ...
@_options.shows(CallOptions, _options.CALL)
def stub(
    fn: Callable[..., Any] | str,
    timeout: float | None = None,
    multi: bool = False,
    **options: Unpack[CallOptions],
) -> StubMethod[..., Any]:
    """A remote function, by its name or by the function itself, whose signature it keeps.

    `timeout` is for a whole call, in seconds. With `multi` all who provide it are called, and
    the result is a list. Nobody there: the result is `None`, or `[]`, and with `required` a
    `NoSuchRemoteError`. `headers` go with each call, `passed` into the calls made from within
    it as well. A bus of one's own class knows the first three only.
    """
    _options.known("stub", options, _options.CALL)
    given: Any = {option: value for option, value in options.items() if value}
    return _default.bound("stub").stub(fn, timeout, multi, **given)


def expose(fn: Callable[..., Any], channel: str | None = None, *, concurrency: int = 1) -> None:
    """Let others call a function, from `init` on, under its full name unless a channel is given.

    It handles `concurrency` calls at a time.
    """
    bus = _default.bus_or_declare(lambda: DeclaredRemote(fn, channel, concurrency))
    if bus is None:
        return
    if concurrency == 1:
        bus.expose(fn, channel)
    else:
        bus.expose(fn, channel, concurrency=concurrency)  # type: ignore[call-arg]


def unexpose(fn: Callable[..., Any] | str) -> None:
    """Take back an `expose`, or what a decorator declared. Raises `ValueError` before `init`."""
    bus = _default.bound("remote")
    name = fn if isinstance(fn, str) else remote_name(fn)
    for declared in _default.declared:
        if isinstance(declared, DeclaredRemote) and declared.channel == name:
            _default.declared.remove(declared)
    bus.unexpose(fn)


@overload
def remote(callback: C, /, channel: str | None = None, *, concurrency: int = 1) -> C: ...
@overload
def remote(channel: str | None = None, *, concurrency: int = 1) -> Callable[[C], C]: ...
def remote(*args: Any, **kwargs: Any) -> Any:
    """Expose the decorated function: `@remote`, `@remote("name")`, `@remote(concurrency=4)`.

    It stays declared: each bus that `init` makes exposes it.
    """
    return declare_remote(args, kwargs)


def declare_remote(args: tuple[Any, ...], kwargs: dict[str, Any], *, at_home: bool = False) -> Any:
    """What `@remote` does with its arguments."""

    def options(channel: str | None = None, *, concurrency: int = 1) -> tuple[str | None, int]:
        check_channel(channel, "remote")
        return channel, count("concurrency", concurrency)

    def declare(fn: Callable[..., Any], given: tuple[str | None, int]) -> None:
        _declare(DeclaredRemote(fn, *given, lasting=True, at_home=at_home))

    options.__qualname__ = "remote"
    return _decorate(declare, options, args, kwargs)


def _decorate(
    declare: Callable[[Any, Any], None],
    options: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """A decorator with or without arguments; wrong ones are refused where they are written."""
    if args and callable(args[0]):
        declare(args[0], options(*args[1:], **kwargs))
        return args[0]
    given = options(*args, **kwargs)

    def decorator(fn: C) -> C:
        declare(fn, given)
        return fn

    return decorator
