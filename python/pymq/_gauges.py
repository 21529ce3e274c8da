"""What is counted of a bus from time to time: its health, and its queues as they stand."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from pymq._bus import NativeEventBus
from pymq.exceptions import PymqError

if TYPE_CHECKING:
    from pymq._aio_bus import AsyncEventBus
    from pymq._queue import Stats

logger = logging.getLogger("pymq")

Watchable: TypeAlias = "NativeEventBus | AsyncEventBus"


#: What the gauge of `lost_posts` says of itself.
LOST_POSTS = "Events published without waiting that did not get to the broker."


class Gauges(NamedTuple):
    """How a bus stands at a moment."""

    health: dict[str, Any]
    #: Every queue of the namespace that holds something or is waited on; `None` where the broker
    #: does not say.
    queues: list[tuple[str, Stats]] | None


def watchable(bus: Watchable) -> NativeEventBus:
    """The bus for threads."""
    native = bus if isinstance(bus, NativeEventBus) else getattr(bus, "bus", None)
    if not isinstance(native, NativeEventBus):
        raise TypeError(f"what can be watched is a bus of PyMQ, not {bus!r}")
    return native


def gauges_of(bus: NativeEventBus) -> Gauges:
    """How it stands now; a broker that is away holds nobody up."""
    health = bus.health()
    if health["state"] != "connected":
        return Gauges(health, None)
    try:
        names = bus.inspect().queues()
        return Gauges(health, [(name, bus.queue(name).stats()) for name in names])
    except PymqError as error:
        logger.debug("the queues of the bus are not counted: %s", error)
        return Gauges(health, None)
