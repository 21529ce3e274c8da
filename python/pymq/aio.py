"""The package for event loops: the same names, to be awaited.

Operations are native, on one descriptor of the loop: ten thousand waits need no thread. The
functions here use the default bus of `pymq.init`; `connect` gives another one. Cancelling a wait
loses nothing.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar

from pymq import core
from pymq._aio_queue import AsyncDelivery, AsyncQueue
from pymq._aio_topic import AsyncTopic, Events
from pymq._bus import NativeEventBus
from pymq._pymq import Completions
from pymq._reactor import run
from pymq._stub import NativeStub, result_of
from pymq._types import fullname
from pymq.exceptions import (
    CallTimeoutError,
    NoSuchRemoteError,
    ProviderLostError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AsyncDelivery",
    "AsyncEventBus",
    "AsyncQueue",
    "AsyncStub",
    "AsyncTopic",
    "Events",
    "connect",
    "expose",
    "init",
    "publish",
    "queue",
    "shutdown",
    "stub",
    "subscribe",
    "topic",
    "unexpose",
    "unsubscribe",
]

P = ParamSpec("P")
R = TypeVar("R")
B = TypeVar("B", bound=core.EventBus)


class AsyncStub(Generic[P, R]):
    """A remote function, to be awaited."""

    def __init__(self, stub: NativeStub[P, R]) -> None:
        self._stub = stub

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it, as `pymq.StubMethod` does; cancelling tells the provider."""
        try:
            answer = await self.rpc(*args, **kwargs)
        except NoSuchRemoteError:
            return [] if self._stub.multi else None  # type: ignore[return-value]
        return result_of(answer)  # type: ignore[no-any-return]

    async def rpc(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call it and give the `RpcResponse`, with `multi` a list of them."""
        stub = self._stub
        encoded = stub.encoded(args, dict(kwargs))
        parts = (stub.bus, stub.channel, encoded.args, encoded.kwargs, encoded.types, stub.timeout)
        if stub.multi:
            answers = await run(Completions.begin_call_all, *parts, stub.legacy_grace)
            return stub.responses(*answers)
        try:
            return stub.response(await run(Completions.begin_call, *parts))
        except (CallTimeoutError, ProviderLostError) as error:
            return stub.unanswered(error)

    def __repr__(self) -> str:
        return repr(self._stub)


class AsyncEventBus:
    """A bus, to be used from one event loop; ends with its `async with`."""

    def __init__(self, bus: NativeEventBus) -> None:
        #: The same bus, for threads.
        self.bus = bus

    async def publish(self, event: Any, channel: str | None = None) -> int | None:
        """Publish an event, as `pymq.publish` does."""
        payload = self.bus._codec.encode(event, "event")
        name = fullname(event) if channel is None else channel
        receivers: int | None = await run(
            Completions.begin_publish, self.bus._native, name, payload
        )
        return receivers

    async def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Call back for each event; an `async def` callback runs on this loop."""
        bound = self.bus._declare(callback, channel, pattern)
        if not self.bus._serves:
            return
        try:
            source = await run(
                Completions.begin_subscribe, self.bus._native, bound.channel, bound.pattern
            )
            self.bus._serve(bound, source)
        except BaseException:
            self.bus._withdraw(bound)
            raise

    async def unsubscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Take back a `subscribe` with the same arguments."""
        bound = self.bus._find(callback, channel, pattern)
        if bound is not None:
            await self._end(bound)

    def topic(self, name: str, pattern: bool = False) -> AsyncTopic:
        """The topic of that name, or a pattern of names."""
        return AsyncTopic(self, name, pattern)

    def queue(
        self,
        name: str,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        *,
        lease: float = 30.0,
        max_deliveries: int = 5,
        prefetch: int = 1,
        type: Any = None,
    ) -> AsyncQueue[Any]:
        """A handle on the queue of that name; options as for `NativeEventBus.queue`."""
        return AsyncQueue(
            self.bus._handle(
                name,
                maxsize=maxsize,
                ack=ack,
                lease=lease,
                max_deliveries=max_deliveries,
                prefetch=prefetch,
                type=type,
                owner=asyncio.current_task,
                is_over=asyncio.Task.done,
            )
        )

    def stub(
        self, fn: Callable[P, R] | str, timeout: float | None = None, multi: bool = False
    ) -> AsyncStub[P, Any]:
        """A remote function, as `pymq.stub` gives one."""
        return AsyncStub(self.bus._stub(fn, timeout, multi))

    async def expose(
        self, fn: Callable[..., Any], channel: str | None = None, *, concurrency: int = 1
    ) -> None:
        """Let others call a function; an `async def` one runs on this loop."""
        bound = self.bus._declare_remote(fn, channel, concurrency)
        if not self.bus._serves:
            return
        try:
            source = await run(Completions.begin_provide, self.bus._native, bound.channel)
            self.bus._serve(bound, source)
        except BaseException:
            self.bus._withdraw(bound)
            raise

    async def unexpose(self, fn: Callable[..., Any] | str) -> None:
        """Take back an `expose`."""
        bound = self.bus._find_remote(fn)
        if bound is not None:
            await self._end(bound)

    async def _end(self, bound: Any) -> None:
        self.bus._withdraw(bound)
        try:
            if bound.source is not None:
                await run(Completions.begin_end, bound.source)
        finally:
            self.bus._stop_serving(bound)

    async def close(self) -> None:
        """End the bus, as `NativeEventBus.close` does; callbacks on this loop may end first."""
        await asyncio.to_thread(self.bus.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class _Connecting:
    """A bus on its way: to be awaited, or entered with `async with`."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._url = url
        self._options = options
        self._bus: AsyncEventBus | None = None

    async def _connect(self) -> AsyncEventBus:
        namespace = self._options.get("namespace", "global")
        native = await run(Completions.begin_connect, self._url, namespace)
        bus = NativeEventBus(self._url, native=native, **self._options)
        bus.begin()
        return AsyncEventBus(bus)

    def __await__(self) -> Any:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncEventBus:
        self._bus = await self._connect()
        return self._bus

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bus is not None:
            await self._bus.close()


def connect(url: str | None = None, **options: Any) -> _Connecting:
    """A bus of its own: `async with aio.connect(url) as bus: …`, or `bus = await aio.connect(url)`.

    The address defaults to the environment's `PYMQ_URL`, else `"memory://"`; the options are those
    of `NativeEventBus`.
    """
    address = url if url is not None else os.environ.get("PYMQ_URL") or "memory://"
    return _Connecting(address, options)


# ---- the default bus


def _default() -> AsyncEventBus:
    bus = core.default_bus()
    if bus is None:
        raise ValueError("Bus not set yet; call pymq.init first")
    if not isinstance(bus, NativeEventBus):
        raise UnsupportedError(f"pymq.aio does not work on a {type(bus).__name__}")
    return AsyncEventBus(bus)


async def init(
    factory: Callable[[], core.EventBus] | str | None = None, start_bus: bool = True
) -> core.EventBus:
    """Make the default bus, as `pymq.init` does."""
    return await asyncio.to_thread(core.init, factory, start_bus)


async def shutdown() -> None:
    """End the default bus, as `pymq.shutdown` does; callbacks on this loop may end first."""
    await asyncio.to_thread(core.shutdown)


async def publish(event: Any, channel: str | None = None) -> int | None:
    """Publish an event; before `init` this is only an error in the log."""
    if core.default_bus() is None:
        return core.publish(event, channel)
    return await _default().publish(event, channel)


async def subscribe(
    callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
) -> None:
    """Call back for each event, from `init` on; an `async def` callback runs on this loop."""
    if core.default_bus() is None:
        return core.subscribe(callback, channel, pattern)
    return await _default().subscribe(callback, channel, pattern)


async def unsubscribe(
    callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
) -> None:
    """Take back a `subscribe` with the same arguments."""
    if core.default_bus() is None:
        return core.unsubscribe(callback, channel, pattern)
    return await _default().unsubscribe(callback, channel, pattern)


def topic(name: str, pattern: bool = False) -> AsyncTopic:
    """The topic of that name, or a pattern of names."""
    return _default().topic(name, pattern)


def queue(name: str, *args: Any, **options: Any) -> AsyncQueue[Any]:
    """A handle on the queue of that name; options as for `pymq.queue`."""
    return _default().queue(name, *args, **options)


def stub(
    fn: Callable[P, R] | str, timeout: float | None = None, multi: bool = False
) -> AsyncStub[P, Any]:
    """A remote function, as `pymq.stub` gives one."""
    return _default().stub(fn, timeout, multi)


async def expose(fn: Callable[..., Any], channel: str | None = None, **options: Any) -> None:
    """Let others call a function, from `init` on; an `async def` one runs on this loop."""
    if core.default_bus() is None:
        return core.expose(fn, channel, **options)
    return await _default().expose(fn, channel, **options)


async def unexpose(fn: Callable[..., Any] | str) -> None:
    """Take back an `expose`."""
    await _default().unexpose(fn)
