"""The message that is being handled: what travelled beside its value."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from pymq._pymq import Metadata

_NONE: Mapping[str, str] = MappingProxyType({})


class Message(NamedTuple):
    """What is known of a message beside its value."""

    #: The name that it was published on; of a call, the function's; of an item, its queue's.
    topic: str
    #: What its sender said: text by name.
    headers: Mapping[str, str] = _NONE
    #: Those of the headers that calls made from here carry on.
    passed: Mapping[str, str] = _NONE
    #: The sender's identity for it.
    id: str | None = None
    #: When it was sent, by the sender's clock.
    sent: datetime.datetime | None = None
    #: How often an item has been handed out, this time included; `None` for events and calls.
    deliveries: int | None = None


#: Topic, metadata, deliveries, and whether a handler was called with it. Native code writes it too.
_Current: TypeAlias = "tuple[str, Metadata | None, int | None, bool]"
_current: ContextVar[_Current | None] = ContextVar("pymq_message", default=None)


def current_message() -> Message | None:
    """The message that is being handled here: in subscribers, exposed functions, workers' handlers,
    loops over events and `with` a delivery. Elsewhere it is the item that this thread or task got
    last, by `get` or a loop over a queue, and `None` if there was none."""
    current = _current.get()
    return None if current is None else message_of(*current[:3])


def message_of(topic: str, metadata: Metadata | None, deliveries: int | None = None) -> Message:
    """What is known of a message."""
    if metadata is None:
        return Message(topic, deliveries=deliveries)
    sent = None if metadata.sent is None else _time(metadata.sent)
    return Message(topic, metadata.headers, metadata.passed, metadata.id, sent, deliveries)


def _time(seconds: float) -> datetime.datetime | None:
    try:
        return datetime.datetime.fromtimestamp(seconds, tz=datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        # Anybody can write anything; it is no year that there is.
        return None


def note(topic: str, metadata: Metadata | None = None) -> None:
    """From now on, in this context, that is the message which is handled."""
    _current.set((topic, metadata, None, False))


class Handled:
    """A message that a block of code handles, in a `with` or from `begin` to `end`."""

    def __init__(
        self, topic: str | None, metadata: Metadata | None = None, deliveries: int | None = None
    ) -> None:
        self._message = None if topic is None else (topic, metadata, deliveries, True)
        self._token: Token[_Current | None] | None = None

    def begin(self) -> None:
        """In this context it is handled from now on."""
        self._token = _current.set(self._message)

    def end(self) -> None:
        """No more; a block that ends in another context has left this one already."""
        token, self._token = self._token, None
        if token is not None:
            with contextlib.suppress(ValueError):
                _current.reset(token)

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *_: object) -> None:
        self.end()


def said(headers: Mapping[str, str] | None, id: str | None) -> dict[str, Any]:
    """What an event says beside its value, as keyword arguments; empty where it says nothing."""
    return {"headers": headers, "id": id} if headers or id is not None else {}


def for_call(
    headers: Mapping[str, str] | None, passed: Mapping[str, str] | None
) -> Metadata | None:
    """What a call says beside its arguments: headers of its own, and those that the message which
    is being handled passes on."""
    current = _current.get()
    outer = current[1] if current is not None else None
    carried = outer.passed if outer is not None else {}
    if not (headers or passed or carried):
        return None
    own = dict(headers or {})
    carried = {name: value for name, value in carried.items() if name not in own}
    return Metadata(own, {**carried, **(passed or {})})
