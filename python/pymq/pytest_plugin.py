"""A bus in memory for users' own tests: the fixture `pymq_bus`.

It is the default bus while a test runs, so code under test may use `pymq.publish` and the like.
What passes here passes on Redis, because values are serialised; nothing leaves the process.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import pymq
from pymq._bus import Bound, NativeEventBus, Subscribed

__all__ = ["MemoryBus", "pymq_bus"]


class MemoryBus(NativeEventBus):
    """A bus in memory that knows when all that was published has been handled."""

    def __init__(self) -> None:
        super().__init__("memory://")
        self._handled = threading.Condition()
        self._under_way = 0

    def publish(self, event: Any, channel: str | None = None) -> int | None:
        """Publish an event, see `NativeEventBus.publish`."""
        # Counted under the lock: a subscriber may be done before its event has been counted.
        with self._handled:
            receivers = super().publish(event, channel)
            self._under_way += receivers or 0
        return receivers

    def wait_until_handled(self, timeout: float = 10.0) -> None:
        """Wait until the subscribers have handled all that was published, by them too.

        Raises `TimeoutError` if that takes longer than `timeout` seconds.
        """
        with self._handled:
            if not self._handled.wait_for(lambda: self._under_way <= 0, timeout):
                raise TimeoutError(f"{self._under_way} events are still unhandled")

    def _serve(self, bound: Bound, source: Any) -> None:
        # Calls are not counted: their callers wait for them.
        if isinstance(bound, Subscribed):
            bound.route = _Counting(bound.route, self)
        super()._serve(bound, source)

    def _count_handled(self) -> None:
        with self._handled:
            self._under_way -= 1
            self._handled.notify_all()


class _Counting:
    """A route that tells its bus when it has handled an event."""

    def __init__(self, route: Any, bus: MemoryBus) -> None:
        self.label = route.label
        self._route = route
        self._bus = bus

    def __call__(self, topic: str | None, arrival: Any) -> None:
        try:
            self._route(topic, arrival)
        finally:
            self._bus._count_handled()


@pytest.fixture
def pymq_bus() -> Iterator[MemoryBus]:
    """A bus in memory, which is the default bus while the test runs."""
    bus = pymq.init(MemoryBus)
    yield bus
    pymq.shutdown()
