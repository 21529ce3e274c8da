"""The package for event loops: the same names, to be awaited.

Operations are native, on one descriptor of the loop: ten thousand waits need no thread. The
functions here use the default bus of `pymq.init`; `connect` gives another one. Cancelling a wait
loses nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

import pymq._original_check  # noqa: F401 - first, since it says so if the original hides ours
from pymq import _default, _options, core
from pymq._aio_bus import AsyncEventBus, connect, on_a_thread
from pymq._aio_queue import AsyncDelivery, AsyncQueue
from pymq._aio_stub import AsyncStub
from pymq._aio_topic import AsyncTopic, Events
from pymq._bus import NativeEventBus
from pymq._loops import as_declared_on
from pymq._options import CallOptions, QueueOptions
from pymq._pymq import aio_get_from as get_from
from pymq.exceptions import RemoteInvocationError, UnsupportedError

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "AsyncDelivery",
    "AsyncEventBus",
    "AsyncQueue",
    "AsyncStub",
    "AsyncTopic",
    "Events",
    "connect",
    "expose",
    "get_from",
    "init",
    "publish",
    "queue",
    "remote",
    "shutdown",
    "stub",
    "subscribe",
    "subscriber",
    "topic",
    "unexpose",
    "unsubscribe",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


# ---- the default bus


def _bus() -> AsyncEventBus:
    bus = _default.default_bus()
    if bus is None:
        raise ValueError("Bus not set yet; call pymq.init first")
    if not isinstance(bus, NativeEventBus):
        raise UnsupportedError(f"pymq.aio does not work on a {type(bus).__name__}")
    return AsyncEventBus(bus)


async def init(
    factory: Callable[[], core.EventBus] | str | None = None,
    start_bus: bool = True,
    *,
    call_timeout: float | None = None,
) -> core.EventBus:
    """Make the default bus, as `pymq.init` does; coroutines that were declared run on this loop."""
    with as_declared_on(asyncio.get_running_loop()):
        make = functools.partial(core.init, call_timeout=call_timeout)
        return await on_a_thread(make, factory, start_bus)


async def shutdown() -> None:
    """End the default bus, as `pymq.shutdown` does; callbacks on this loop may end first."""
    await on_a_thread(core.shutdown)


async def _served() -> AsyncEventBus:
    """The default bus, with what was declared for a loop bound to this one."""
    bus = _bus()
    if _default.waits_for_a_loop():
        with as_declared_on(asyncio.get_running_loop()):
            await on_a_thread(_default.bind_to_loop)
    return bus


async def publish(
    event: Any,
    channel: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    id: str | None = None,
    wait: bool = True,
) -> int | None:
    """Publish an event, as `pymq.publish` does; before `init` this is only an error in the log."""
    if _default.default_bus() is None:
        return core.publish(event, channel)
    return await (await _served()).publish(event, channel, headers=headers, id=id, wait=wait)


async def subscribe(
    callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
) -> None:
    """Call back for each event, from `init` on; an `async def` callback runs on this loop."""
    if _default.default_bus() is None:
        return core.subscribe(callback, channel, pattern)
    return await (await _served()).subscribe(callback, channel, pattern)


async def unsubscribe(
    callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
) -> None:
    """Take back a `subscribe` with the same arguments."""
    if _default.default_bus() is None:
        return core.unsubscribe(callback, channel, pattern)
    return await (await _served()).unsubscribe(callback, channel, pattern)


def topic(name: str, pattern: bool = False) -> AsyncTopic:
    """The topic of that name, or a pattern of names."""
    return _bus().topic(name, pattern)


@overload
def queue(
    name: str,
    maxsize: int = 0,
    ack: Literal["auto", "manual"] = "auto",
    *,
    type: type[T],
    **options: Unpack[QueueOptions],
) -> AsyncQueue[T]: ...
@overload
def queue(
    name: str,
    maxsize: int = 0,
    ack: Literal["auto", "manual"] = "auto",
    *,
    type: Any = None,
    **options: Unpack[QueueOptions],
) -> AsyncQueue[Any]: ...
@_options.shows(QueueOptions, _options.QUEUE)
def queue(
    name: str,
    maxsize: int = 0,
    ack: Literal["auto", "manual"] = "auto",
    *,
    type: Any = None,
    **options: Unpack[QueueOptions],
) -> AsyncQueue[Any]:
    """A handle on the queue of that name; options as for `pymq.queue`."""
    return _bus().queue(name, maxsize, ack, type=type, **options)


@overload
def stub(
    fn: Callable[P, Coroutine[Any, Any, R]],
    timeout: float | None = None,
    multi: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> AsyncStub[P, R]: ...
@overload
def stub(
    fn: Callable[P, Coroutine[Any, Any, R]],
    timeout: float | None = ...,
    *,
    multi: Literal[True],
    **options: Unpack[CallOptions],
) -> AsyncStub[P, list[R | RemoteInvocationError]]: ...
@overload
def stub(  # type: ignore[overload-overlap]
    fn: Callable[P, R],
    timeout: float | None = None,
    multi: Literal[False] = False,
    **options: Unpack[CallOptions],
) -> AsyncStub[P, R]: ...
@overload
def stub(  # type: ignore[overload-overlap]
    fn: Callable[P, R],
    timeout: float | None = ...,
    *,
    multi: Literal[True],
    **options: Unpack[CallOptions],
) -> AsyncStub[P, list[R | RemoteInvocationError]]: ...
@overload
def stub(
    fn: Callable[..., Any] | str,
    timeout: float | None = None,
    multi: bool = False,
    **options: Unpack[CallOptions],
) -> AsyncStub[..., Any]: ...
@_options.shows(CallOptions, _options.CALL)
def stub(
    fn: Callable[..., Any] | str,
    timeout: float | None = None,
    multi: bool = False,
    **options: Unpack[CallOptions],
) -> AsyncStub[..., Any]:
    """A remote function, as `pymq.stub` gives one."""
    return _bus().stub(fn, timeout, multi, **options)


async def expose(
    fn: Callable[..., Any], channel: str | None = None, *, concurrency: int = 1
) -> None:
    """Let others call a function, from `init` on; an `async def` one runs on this loop."""
    if _default.default_bus() is None:
        return core.expose(fn, channel, concurrency=concurrency)
    return await (await _served()).expose(fn, channel, concurrency=concurrency)


async def unexpose(fn: Callable[..., Any] | str) -> None:
    """Take back an `expose`."""
    await (await _served()).unexpose(fn)


@overload
def subscriber(callback: C, /, channel: str | None = None, pattern: bool = False) -> C: ...
@overload
def subscriber(channel: str | None = None, pattern: bool = False) -> Callable[[C], C]: ...
def subscriber(*args: Any, **kwargs: Any) -> Any:
    """Subscribe the decorated function, as `pymq.subscriber` does.

    It runs on the event loop of `init`, never on another thread; a plain function too, so it must
    not block.
    """
    return core.declare_subscriber(args, kwargs, at_home=True)


@overload
def remote(callback: C, /, channel: str | None = None, *, concurrency: int = 1) -> C: ...
@overload
def remote(channel: str | None = None, *, concurrency: int = 1) -> Callable[[C], C]: ...
def remote(*args: Any, **kwargs: Any) -> Any:
    """Expose the decorated function, as `pymq.remote` does.

    It runs on the event loop of `init`, never on another thread; a plain function too, so it must
    not block. The caller's timeout, or its end, cancels a coroutine.
    """
    return core.declare_remote(args, kwargs, at_home=True)
