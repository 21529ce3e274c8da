"""A bus for event loops."""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from pymq import _options, _pymq, _telemetry
from pymq._aio_inspect import AsyncInspection
from pymq._aio_queue import AsyncQueue
from pymq._aio_stub import AsyncStub
from pymq._aio_topic import AsyncTopic
from pymq._bound import Bound
from pymq._bus import NativeEventBus
from pymq._bus_stages import GRACE
from pymq._gevent import refuse_coroutines
from pymq._health import CLOSED, BusState, Standing
from pymq._log import listen
from pymq._options import BusOptions, CallOptions, QueueOptions
from pymq._reactor import run
from pymq._threads import Attendant
from pymq.exceptions import (
    ClosedError,
    RemoteInvocationError,
)

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class AsyncEventBus:
    """A bus, to be used from one event loop; ends with its `async with`."""

    def __init__(self, bus: NativeEventBus) -> None:
        #: The same bus, for threads.
        self.bus = bus

    async def publish(
        self,
        event: Any,
        channel: str | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> int | None:
        """Publish an event, as `pymq.publish` does."""
        if _telemetry.observers:
            with self.bus._publishing(event, channel) as watched:
                encoded = self.bus._encoded(event, channel, headers, id, watched)
                return await self._send(*encoded, wait)
        return await self._send(*self.bus._encoded(event, channel, headers, id), wait)

    async def _send(self, topic: str, payload: bytes, wait: bool) -> int | None:
        if wait:
            return await run(self.bus._native.publish(topic, payload))
        full = self.bus._native.post(topic, payload)
        if full is not None:
            await run(full)
        return None

    async def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        """Call back for each event; an `async def` callback runs on this loop."""
        await self._serve_if_begun(self.bus._declare(callback, channel, pattern))

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

    @overload
    def queue(
        self,
        name: str,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        *,
        type: type[T],
        **options: Unpack[QueueOptions],
    ) -> AsyncQueue[T]: ...
    @overload
    def queue(
        self,
        name: str,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        *,
        type: Any = None,
        **options: Unpack[QueueOptions],
    ) -> AsyncQueue[Any]: ...
    @_options.shows(QueueOptions, _options.QUEUE)
    def queue(
        self,
        name: str,
        maxsize: int = 0,
        ack: Literal["auto", "manual"] = "auto",
        *,
        type: Any = None,
        **options: Unpack[QueueOptions],
    ) -> AsyncQueue[Any]:
        """A handle on the queue of that name; options as for `NativeEventBus.queue`."""
        handle = self.bus._handle(name, maxsize=maxsize, ack=ack, type=type, **options)
        return AsyncQueue(handle)

    @overload
    def stub(
        self,
        fn: Callable[P, Coroutine[Any, Any, R]],
        timeout: float | None = None,
        multi: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> AsyncStub[P, R]: ...
    @overload
    def stub(
        self,
        fn: Callable[P, Coroutine[Any, Any, R]],
        timeout: float | None = ...,
        *,
        multi: Literal[True],
        **options: Unpack[CallOptions],
    ) -> AsyncStub[P, list[R | RemoteInvocationError]]: ...
    @overload
    def stub(  # type: ignore[overload-overlap]
        self,
        fn: Callable[P, R],
        timeout: float | None = None,
        multi: Literal[False] = False,
        **options: Unpack[CallOptions],
    ) -> AsyncStub[P, R]: ...
    @overload
    def stub(  # type: ignore[overload-overlap]
        self,
        fn: Callable[P, R],
        timeout: float | None = ...,
        *,
        multi: Literal[True],
        **options: Unpack[CallOptions],
    ) -> AsyncStub[P, list[R | RemoteInvocationError]]: ...
    @overload
    def stub(
        self,
        fn: Callable[..., Any] | str,
        timeout: float | None = None,
        multi: bool = False,
        **options: Unpack[CallOptions],
    ) -> AsyncStub[..., Any]: ...
    @_options.shows(CallOptions, _options.CALL)
    def stub(
        self,
        fn: Callable[..., Any] | str,
        timeout: float | None = None,
        multi: bool = False,
        **options: Unpack[CallOptions],
    ) -> AsyncStub[..., Any]:
        """A remote function, as `pymq.stub` gives one."""
        return AsyncStub(self.bus._stub(fn, timeout, multi, **options))

    async def expose(
        self, fn: Callable[..., Any], channel: str | None = None, *, concurrency: int = 1
    ) -> None:
        """Let others call a function; an `async def` one runs on this loop."""
        await self._serve_if_begun(self.bus._declare_remote(fn, channel, concurrency))

    async def unexpose(self, fn: Callable[..., Any] | str) -> None:
        """Take back an `expose`."""
        bound = self.bus._find_remote(fn)
        if bound is not None:
            await self._end(bound)

    async def _serve_if_begun(self, bound: Bound) -> None:
        if not self.bus._serves or not bound.claim():
            return
        try:
            place = self.bus._service.place_for(bound)
            bound.source = await run(bound.begin(self.bus._native, place))
            await self._end_if_closed(bound)
        except BaseException:
            self.bus._service.forget(bound)
            raise

    async def _end_if_closed(self, bound: Bound) -> None:
        if self.bus._ended_meanwhile(bound) and bound.source is not None:
            await run(bound.source.end())
            self.bus._check_open()

    async def _end(self, bound: Bound) -> None:
        self.bus._service.registry.remove(bound)
        try:
            if bound.source is not None:
                await run(bound.source.end())
        finally:
            self.bus._service.stop(bound)

    @property
    def closed(self) -> bool:
        """Whether the bus has ended."""
        return self.bus.closed

    @property
    def state(self) -> BusState:
        """How the bus stands to its broker, as `NativeEventBus.state` says it."""
        return self.bus.state

    async def states(self) -> AsyncIterator[BusState]:
        """The state as it is, then each that follows; ends after `"closed"`."""
        known: Standing | None = None
        while known != CLOSED:
            try:
                known = await run(self.bus._native.next_state(known)) or CLOSED
            except ClosedError:
                known = CLOSED
            yield BusState(known)

    async def ping(self) -> float:
        """Ask the broker for a sign of life, as `NativeEventBus.ping` does."""
        return await run(self.bus._native.ping())

    def inspect(self) -> AsyncInspection:
        """A look at who is on the bus, as `NativeEventBus.inspect` gives one, to be awaited."""
        return AsyncInspection(self.bus._native.inspect())

    def health(self) -> dict[str, Any]:
        """What a health endpoint wants to know, as `NativeEventBus.health` says it."""
        return self.bus.health()

    async def close(self, timeout: float = GRACE) -> None:
        """End the bus, as `NativeEventBus.close` does; callbacks on this loop may end first."""
        await on_a_thread(self.bus.close, timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def on_a_thread(wait: Callable[..., T], *args: Any) -> T:
    """Waits on a thread of its own: the loop's executor may be full of those who wait for this."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(wait(*args))
        except BaseException as error:
            future.set_exception(error)

    # In the context of the caller, who may be a callback of the bus that ends.
    context = contextvars.copy_context()
    Attendant(lambda: context.run(run), "pymq-waits").begin()
    return await asyncio.shield(asyncio.wrap_future(future))


class Connecting:
    """A bus on its way: to be awaited, or entered with `async with`."""

    def __init__(self, url: str, options: BusOptions) -> None:
        self._url = url
        self._options = options
        self._bus: AsyncEventBus | None = None

    async def _connect(self) -> AsyncEventBus:
        refuse_coroutines()
        namespace = self._options.get("namespace", "global")
        listening = listen()
        native = await run(_pymq.Bus.connect(self._url, namespace, self._options.get("wait")))
        del listening
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


def connect(url: str | None = None, **options: Unpack[BusOptions]) -> Connecting:
    """A bus of its own: `async with aio.connect(url) as bus: …`, or `bus = await aio.connect(url)`.

    The address defaults to the environment's `PYMQ_URL`, else `"memory://"`. Options by name:
    `namespace`, `wait` (seconds for a server that is not up yet), `call_timeout`, `trust`,
    `strict`, `workers`, `dispatcher`, `legacy_grace`; see `NativeEventBus`.
    """
    address = url if url is not None else os.environ.get("PYMQ_URL") or "memory://"
    return Connecting(address, options)
