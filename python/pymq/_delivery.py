"""An item on a lease, as threads and event loops see it alike.

How its lease is ended, `pymq.Delivery` says, which waits, and `pymq.aio.AsyncDelivery`, which is
awaited.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pymq import _pymq
from pymq._handle import Handle
from pymq._message import Handled, Message, message_of
from pymq._telemetry import Watched

T = TypeVar("T")


class HeldItem(Generic[T]):
    """What can be asked of an item in hand."""

    def __init__(self, item: T, native: _pymq.Delivery, handle: Handle[Any]) -> None:
        #: What was put.
        self.item = item
        self._native = native
        self._handle = handle
        self._handled: Handled | None = None

    @property
    def message(self) -> Message:
        """What its sender said beside it; inside of a `with` it is `pymq.current_message` too."""
        return message_of(self._handle.name, self._native.metadata, self._native.deliveries)

    def _arrived(self, *, asked_for: bool = False) -> Handled:
        """In there it is the message that is handled."""
        native = self._native
        name, metadata, deliveries = self._handle.name, native.metadata, native.deliveries
        return Handled(name, metadata, deliveries, asked_for=asked_for)

    def _entered(self) -> None:
        """Its block begins: the item is the message that is handled."""
        self._handled = self._arrived(asked_for=True)
        self._handled.begin()

    def _left(self, error: BaseException | None) -> None:
        """Its block has ended."""
        if self._handled is not None:
            self._handled.end(error)

    def _settling(self, verb: str) -> Watched:
        """Its settlement, while somebody watches."""
        return Watched(verb, self._handle.name, bus=self._handle.bus)

    @property
    def deliveries(self) -> int:
        """How often the item has been handed out, this time included."""
        return self._native.deliveries

    @property
    def settled(self) -> bool:
        """Whether its lease was ended here."""
        return self._native.settled
