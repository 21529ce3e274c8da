"""Topics for event loops: what is published, as an asynchronous iterator.

A stream has a native intake of its own and wakes its loop by a descriptor; leaving it ends the
subscription, dropping it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, overload

from pymq import _telemetry
from pymq._abstract import NamedTopic
from pymq._codec import plan_for
from pymq._message import note
from pymq._nested_waits import yield_turn
from pymq._pymq import Intake, Metadata, Subscription
from pymq._reactor import run
from pymq.exceptions import DecodeError, PymqError

if TYPE_CHECKING:
    from typing_extensions import Self

    from pymq._aio_bus import AsyncEventBus

logger = logging.getLogger("pymq")

T = TypeVar("T")


class Events(Generic[T]):
    """The events of a topic, from when it is entered or first asked; ends with the bus.

    Events that cannot be read, and events that were missed, are logged and passed over. In the body
    of the loop `pymq.current_message` says which topic the event came on, and what its sender said
    beside it.
    """

    def __init__(
        self,
        bus: AsyncEventBus,
        name: str,
        pattern: bool,
        type: Any = None,
        *,
        topics: bool = False,
    ) -> None:
        self._bus = bus
        self._topics = topics
        self._name = name
        self._pattern = pattern
        self._plan = None if type is None else plan_for(type)
        self._intake: Intake | None = None
        self._source: Subscription | None = None
        self._arrived: deque[Any] = deque()
        self._readable = asyncio.Event()

    async def start(self) -> None:
        """Subscribe; once this returns, the next event published is seen."""
        if self._intake is not None:
            return
        native = self._bus.bus._native
        self._source = await run(native.subscribe(self._name, self._pattern))
        intake = Intake()
        intake.attach(self._source)
        loop = asyncio.get_running_loop()
        self._intake = intake
        # The intake lives as long as its descriptor is watched.
        self._forget = weakref.finalize(self, _forget, loop, intake)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        await self.start()
        while True:
            while self._arrived:
                _, topic, payload = self._arrived.popleft()
                if payload is None:
                    await self._find_out_why()
                    raise StopAsyncIteration
                if topic is None:
                    logger.warning("topic %r: events were missed", self._name)
                    continue
                metadata, payload = Metadata.detach(payload)
                note(topic, metadata)
                try:
                    event = self._bus.bus._codec.decode(payload, self._plan, "event")
                    if _telemetry.observers:
                        _telemetry.got(topic, 0.0, [(metadata, None)])
                    return (topic, event) if self._topics else event  # type: ignore[return-value]
                except DecodeError as error:
                    logger.error("topic %r: an event is dropped: %s", topic, error.redacted)
            await self._receive()

    async def _receive(self) -> None:
        intake = self._intake
        if intake is None:
            raise StopAsyncIteration
        self._readable.clear()
        self._arrived.extend(intake.recv(timeout=0.0))
        if not self._arrived:
            if intake.closed:
                await self._find_out_why()
                raise StopAsyncIteration
            yield_turn()
            loop, fileno = asyncio.get_running_loop(), intake.fileno()
            loop.add_reader(fileno, _wake, loop, fileno, self._readable)
            await self._readable.wait()

    async def _find_out_why(self) -> None:
        """Raises the error of a connection that is lost for good: nobody has closed anything."""
        if self._source is not None and not self._bus.closed:
            await run(self._bus.bus._native.ping())

    async def aclose(self) -> None:
        """Unsubscribe; what has not been asked for is dropped."""
        source, self._source, intake = self._source, None, self._intake
        if intake is not None and source is not None:
            self._forget()
            self._readable.set()
            with contextlib.suppress(PymqError):
                # It has ended, whatever the broker says, or the bus has; the loop that is left here
                # has its own reason.
                await run(source.end())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def _wake(loop: asyncio.AbstractEventLoop, fileno: int, readable: asyncio.Event) -> None:
    """Watched only while somebody waits: it stays readable until all is taken."""
    loop.remove_reader(fileno)
    readable.set()


def _forget(loop: asyncio.AbstractEventLoop, intake: Intake) -> None:
    """Stops to watch; dropped on a foreign thread, the loop does it."""
    intake.close()
    if not loop.is_closed():
        try:
            loop.call_soon_threadsafe(_unwatch, loop, intake)
        except RuntimeError:
            # It was closed meanwhile.
            return


def _unwatch(loop: asyncio.AbstractEventLoop, intake: Intake) -> None:
    loop.remove_reader(intake.fileno())


class AsyncTopic(NamedTopic):
    """A name that events are published on, or a pattern of such names."""

    def __init__(self, bus: AsyncEventBus, name: str, pattern: bool = False) -> None:
        super().__init__(name, pattern)
        self._bus = bus

    async def publish(
        self,
        event: Any,
        *,
        headers: Mapping[str, str] | None = None,
        id: str | None = None,
        wait: bool = True,
    ) -> int | None:
        """Publish an event here, as `pymq.publish` does; `ValueError` on a pattern."""
        name = self._published_on()
        return await self._bus.publish(event, name, headers=headers, id=id, wait=wait)

    async def subscribe(self, callback: Callable[..., Any]) -> None:
        """Call back for every event published here from now on."""
        await self._bus.subscribe(callback, self._name, self._is_pattern)

    @overload
    def events(self, type: type[T], *, topics: Literal[False] = False) -> Events[T]: ...
    @overload
    def events(self, type: type[T], *, topics: Literal[True]) -> Events[tuple[str, T]]: ...
    @overload
    def events(self, type: Any = None, *, topics: Literal[False] = False) -> Events[Any]: ...
    @overload
    def events(self, type: Any = None, *, topics: Literal[True]) -> Events[tuple[str, Any]]: ...
    def events(self, type: Any = None, *, topics: bool = False) -> Events[Any]:
        """What is published here: `async for event in topic.events(): …`.

        It is subscribed when it is first asked, or entered with `async with`. `type` is the events'
        type, where tags are not enough. With `topics` each is a pair of its topic and the event.
        The loop ends when the stream or the bus is closed, and raises `ConnectionLostError` where
        the connection is lost for good (a bus `ipc://` whose file was deleted).
        """
        return Events(self._bus, self._name, self._is_pattern, type, topics=topics)
