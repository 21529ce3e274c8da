"""Telling who watches: each operation has a `Watched` while somebody does.

Callers look at `observers` first, so that nothing here runs where nobody watches. What an observer
raises is logged and costs the program nothing; what breaks in from outside goes through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pymq import _pymq

if TYPE_CHECKING:
    from typing_extensions import Self

    from pymq._message import Message
    from pymq.telemetry import Observation, Observer

logger = logging.getLogger("pymq")

T = TypeVar("T")

#: Who watches; replaced as a whole.
observers: tuple[Observer, ...] = ()


def watch(observer: Observer) -> None:
    """Has it told from now on."""
    global observers
    if observer not in observers:
        observers = (*observers, observer)
    _pymq.watch_items(True)


def forget(observer: Observer) -> None:
    """Has it told no more."""
    global observers
    observers = tuple(one for one in observers if one is not observer)
    _pymq.watch_items(bool(observers))


def got(
    name: str, waited: float, arrived: Iterable[tuple[_pymq.Metadata | None, int | None]]
) -> None:
    """The program gets messages that it had asked for. Native code says so too."""
    from pymq._message import message_of
    from pymq.telemetry import Receipt

    messages = [message_of(name, metadata, deliveries) for metadata, deliveries in arrived]
    for observer in observers:
        _asked(observer.received, Receipt(name, waited, messages))


class Watched:
    """An operation under the eyes of all who watch; in a `with`, or from `enter` to `end`."""

    def __init__(
        self,
        verb: str,
        name: str,
        message: Message | None = None,
        *,
        asked_for: bool = False,
        bus: _pymq.Bus | None = None,
    ) -> None:
        from pymq.telemetry import Operation

        server = None if bus is None else bus.health()["server"]
        operation = Operation(verb, name, message, asked_for, server)
        begun = [_asked(observer.begin, operation) for observer in observers]
        self._observations: list[Observation] = [one for one in begun if one is not None]
        #: How many messages it is about.
        self.messages = 1
        #: The type of the error that a called function raised.
        self.error: str | None = None

    def headers(self, own: Mapping[str, str] | None) -> dict[str, str]:
        """What is to travel beside what the program says itself, which stands."""
        headers: dict[str, str] = {}
        for observation in self._observations:
            headers.update(_asked(observation.headers) or {})
        return {name: value for name, value in headers.items() if not own or name not in own}

    def enter(self) -> None:
        """The program's own code runs from now on as a part of it."""
        for observation in self._observations:
            _asked(observation.enter)

    def end(self, error: BaseException | str | None) -> None:
        """It has ended."""
        for observation in reversed(self._observations):
            _asked(observation.end, self.messages, error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(self.error if error is None else error)


def _asked(ask: Callable[..., T], *arguments: Any) -> T | None:
    try:
        return ask(*arguments)
    except Exception:
        logger.exception("who watches raised")
        return None
