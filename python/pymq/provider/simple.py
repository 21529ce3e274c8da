"""The bus in memory, of one process, under the original's name.

Unlike the original's it matches patterns and serialises: what passes here passes on Redis.
"""

from __future__ import annotations

from typing import Any

from pymq._bus import NativeEventBus
from pymq._options import Order
from pymq._queue import NativeQueue

__all__ = ["SimpleEventBus"]


class SimpleEventBus(NativeEventBus):
    """A bus of its own, in memory: `pymq.init(SimpleEventBus)`. One callback runs at a time."""

    def __init__(self) -> None:
        super().__init__("memory://", order=Order.ONE_ROW)
        #: The queues that were asked for, by name.
        self.queues: dict[str, NativeQueue[Any]] = {}

    def queue(self, name: str, *args: Any, **options: Any) -> NativeQueue[Any]:
        """The queue of that name: the same handle each time, unless options are given."""
        if args or options:
            return super().queue(name, *args, **options)
        known = self.queues.get(name)
        return known or self.queues.setdefault(name, super().queue(name))
