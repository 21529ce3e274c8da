"""What a bus serves: who subscribes, what is exposed, and the lanes that run it.

Each is served from the moment that its name is announced: a lane keeps a place for a source before
the source starts, so nothing that arrives in between is lost, even if a signal handler interrupts
the start.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymq import _options, _pymq
from pymq._bound import Bound, Exposed, Subscribed
from pymq._callables import (
    check_channel,
    check_remote,
    check_subscriber,
    event_channel,
    remote_name,
)
from pymq._callbacks import ExposedFunction, Subscriber
from pymq._codec import Codec
from pymq._lane import Lane
from pymq._loops import Loops
from pymq._registry import Registry


class Service:
    """The callbacks of a bus; with a `row` they take turns in it, else each has its own lane."""

    def __init__(
        self,
        codec: Codec,
        loops: Loops,
        row: Lane | None,
        failed: Callable[[Subscriber, BaseException], None],
    ) -> None:
        self.registry: Registry[Lane] = Registry()
        self._codec = codec
        self._loops = loops
        self._row = row
        self._failed = failed
        if row is not None:
            self.registry.lanes.add(row)

    def subscriber(
        self, callback: Callable[..., Any], channel: str | None, pattern: bool
    ) -> Subscribed:
        """A subscriber, not registered yet; refused if it could never handle an event."""
        check_channel(channel, "subscribe")
        check_subscriber(callback)
        if channel is None:
            channel, pattern = event_channel(callback), False
        route = Subscriber(callback, channel, self._codec, self._loops, self._failed)
        bound = Subscribed(callback, route, channel)
        bound.pattern = pattern
        return bound

    def remote(self, fn: Callable[..., Any], channel: str | None, concurrency: int) -> Exposed:
        """An exposed function, not registered yet; refused if it could never answer a call."""
        concurrency = _options.count("concurrency", concurrency)
        check_channel(channel, "expose")
        check_remote(fn)
        if channel is None:
            channel = remote_name(fn)
        return Exposed(
            fn, ExposedFunction(fn, channel, self._codec, self._loops), channel, concurrency
        )

    def place_for(self, bound: Bound) -> _pymq.Reservation:
        """Where its source is to begin."""
        bound.lane = lane = self._lane_for(bound)
        # First there, then looked at: a close in this moment closes it, or is seen.
        self.registry.lanes.add(lane)
        place = lane.expect(bound.route)
        bound.number = place.number
        return place

    def _lane_for(self, bound: Bound) -> Lane:
        if self._row is not None and bound.width == 1:
            return self._row
        # Who waits inside of a subscriber keeps its turn: its events stay one at a time. A remote
        # that calls itself would wait for ever.
        return Lane("callbacks", bound.width, yields=isinstance(bound, Exposed))

    def forget(self, bound: Bound) -> None:
        """One that did not come to be served."""
        self.registry.remove(bound)
        self.stop(bound)

    def stop(self, bound: Bound) -> None:
        """Nothing of it is begun any more; its own thread ends."""
        lane = bound.lane
        if lane is None:
            return
        lane.detach(bound.number)
        if lane is not self._row:
            lane.close()
            self.registry.lanes.discard(lane)
