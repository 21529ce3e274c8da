"""A bus in memory for users' own tests, that knows when all is handled and what went wrong.

What passes here passes on Redis, because values are serialised; nothing leaves the process. The
pytest fixture `pymq_bus` makes one the default bus of each test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from pymq import _options, _original_check  # noqa: F401 - says so if files of the original are among ours
from pymq._bus import NativeEventBus
from pymq._callbacks import Subscriber
from pymq._handle import Handle
from pymq._loops import loop_here
from pymq._options import PutOptions
from pymq._telemetry import Watched

__all__ = ["Failed", "MemoryBus", "Published", "Put"]

#: How often a thread or a task that waits for callbacks looks again, in seconds.
LOOK = 0.001


class Published(NamedTuple):
    """An event that was published."""

    #: The topic.
    topic: str
    #: The event.
    event: Any


class Put(NamedTuple):
    """An item that was put into a queue."""

    #: The queue's name.
    queue: str
    #: The item.
    item: Any


class Failed(NamedTuple):
    """An event that a subscriber did not handle: it raised, or could not read it."""

    #: Its function and topic, in words.
    subscriber: str
    #: What it raised.
    error: BaseException


class MemoryBus(NativeEventBus):
    """A bus in memory that tells a test what happens on it."""

    def __init__(self) -> None:
        super().__init__("memory://")
        #: What was published, by whatever door, in order.
        self.published: list[Published] = []
        #: What was put into queues, in order.
        self.put: list[Put] = []
        #: What subscribers raised.
        self.failed: list[Failed] = []
        #: Whether `check`, and with it the fixture, fails for what subscribers raised.
        self.fail_on_errors = True

    def wait_until_handled(self, timeout: float = 10.0) -> None:
        """Wait until all is handled that was published or called, and what came of it too.

        Raises `TimeoutError` after `timeout` seconds, and `RuntimeError` on the thread of an event
        loop that callbacks run on: there, await `until_handled`.
        """
        loop = loop_here()
        deadline = time.monotonic() + _options.seconds("timeout", timeout)
        while not self._is_quiet():
            if loop is not None and self._loops.busy_on(loop):
                raise RuntimeError(
                    "callbacks run on the event loop of this very thread; use "
                    "`await pymq_bus.until_handled()`"
                )
            self._refuse_after(deadline, timeout)
            time.sleep(LOOK)

    async def until_handled(self, timeout: float = 10.0) -> None:
        """`wait_until_handled`, for an event loop."""
        deadline = time.monotonic() + _options.seconds("timeout", timeout)
        while not self._is_quiet():
            self._refuse_after(deadline, timeout)
            await asyncio.sleep(LOOK)

    def check(self) -> None:
        """Raises `AssertionError` for what subscribers raised, if `fail_on_errors`."""
        if self.failed and self.fail_on_errors:
            first, *others = self.failed
            more = f" (and {len(others)} more)" if others else ""
            what = f"{type(first.error).__name__}: {first.error}"
            raise AssertionError(f"{first.subscriber} raised {what}{more}") from first.error

    def _is_quiet(self) -> bool:
        """Whether nothing is under way: looked at twice, since one lane may have filled another
        that had been looked at before."""
        begun = self._begun()
        quiet = all(lane.idle for lane in list(self._service.registry.lanes))
        return quiet and begun == self._begun()

    def _begun(self) -> int:
        return sum(lane.begun for lane in list(self._service.registry.lanes))

    def _refuse_after(self, deadline: float, timeout: float) -> None:
        if time.monotonic() >= deadline:
            busy = sorted(
                bound.route.label
                for bound in self._service.registry.all()
                if bound.lane is not None and not bound.lane.idle
            )
            raise TimeoutError(f"not handled after {timeout} s: {', '.join(busy) or 'callbacks'}")

    def _noticed_event(self, channel: str, event: Any) -> None:
        self.published.append(Published(channel, event))

    def _noticed_failure(self, subscriber: Subscriber, error: BaseException) -> None:
        self.failed.append(Failed(subscriber.label, error))

    def _handle(self, name: str, **options: Any) -> Handle[Any]:
        handle = super()._handle(name, **options)
        _record(handle, self.put)
        return handle


def _record(handle: Handle[Any], put: list[Put]) -> None:
    to_put = handle.to_put

    def recording(
        items: Iterable[Any], options: PutOptions, watched: Watched | None = None
    ) -> tuple[list[bytes], dict[str, Any]]:
        kept = list(items)
        said = to_put(kept, options, watched)
        put.extend(Put(handle.name, item) for item in kept)
        return said

    handle.to_put = recording  # type: ignore[method-assign]
