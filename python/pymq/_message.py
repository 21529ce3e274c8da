"""The message that is being handled: what travelled beside its value."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import MappingProxyType, TracebackType
from typing import Any, NamedTuple, TypeAlias

from pymq import _telemetry
from pymq._pymq import Metadata
from pymq._telemetry import Watched

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
    """A message that a block of code handles, in a `with` or from `begin` to `end`.

    Who watches is told of it: it is processed, or served. `asked_for` says that the program had
    waited for that very message, which was told as well.
    """

    __slots__ = ("_message", "_token", "_told", "_watched")

    def __init__(
        self,
        topic: str | None,
        metadata: Metadata | None = None,
        deliveries: int | None = None,
        *,
        verb: str = "process",
        asked_for: bool = False,
    ) -> None:
        self._message = None if topic is None else (topic, metadata, deliveries, True)
        self._token: Token[_Current | None] | None = None
        self._told = verb, asked_for
        self._watched: Watched | None = None

    def begin(self) -> None:
        """In this context it is handled from now on."""
        self._token = _current.set(self._message)
        if _telemetry.observers and self._message is not None:
            verb, asked_for = self._told
            topic, message = self._message[0], message_of(*self._message[:3])
            self._watched = Watched(verb, topic, message, asked_for=asked_for)
            self._watched.enter()

    def failed(self, error: BaseException) -> None:
        """It has failed, for who watches."""
        self._end_watched(error)

    def succeeded(self) -> None:
        """It has ended well, for who watches."""
        self._end_watched(None)

    def end(self, error: BaseException | None = None) -> None:
        """No more; a block that ends in another context has left this one already."""
        if self._watched is not None:
            self._end_watched(error)
        token, self._token = self._token, None
        if token is not None:
            # Done for each message: `suppress` would cost more than all else here.
            try:  # noqa: SIM105
                _current.reset(token)
            except ValueError:
                pass

    def _end_watched(self, error: BaseException | None) -> None:
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.end(error)

    def __enter__(self) -> Handled:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end(error)


def attached(
    payloads: list[bytes],
    headers: Mapping[str, str] | None,
    id: str | None,
    watched: Watched | None = None,
) -> list[bytes]:
    """Messages with what is said beside each: by the program, and by who watches."""
    passed = watched.headers(headers) if watched is not None else {}
    if not (headers or passed or id is not None):
        return payloads
    own = dict(headers or {})
    beside = Metadata(own, id=id, sent=time.time())
    bare = not (headers or id is not None)
    if not passed:
        return [beside.attach(payload) for payload in payloads]
    with_passed = Metadata(own, passed, id=id, sent=time.time())
    return [_fitting(payload, with_passed, None if bare else beside) for payload in payloads]


def _fitting(payload: bytes, beside: Metadata, instead: Metadata | None) -> bytes:
    """Who watches makes no message one that nobody reads."""
    message = beside.attach_if_readable(payload)
    if message is not None:
        return message
    return payload if instead is None else instead.attach(payload)


def said(headers: Mapping[str, str] | None, id: str | None, wait: bool) -> dict[str, Any]:
    """How an event is published, as keyword arguments; what is as usual is not among them."""
    beside: dict[str, Any] = {"headers": headers, "id": id} if headers or id is not None else {}
    return beside if wait else {**beside, "wait": wait}


def for_call(
    headers: Mapping[str, str] | None,
    passed: Mapping[str, str] | None,
    watched: Watched | None = None,
) -> Metadata | None:
    """What a call says beside its arguments: headers of its own, those that the message which is
    being handled passes on, and what who watches has to say."""
    current = _current.get()
    outer = current[1] if current is not None else None
    carried = outer.passed if outer is not None else {}
    told = watched.headers({**(headers or {}), **(passed or {})}) if watched is not None else {}
    if not (headers or passed or carried or told):
        return None
    own = dict(headers or {})
    carried = {name: value for name, value in carried.items() if name not in own}
    said = {**carried, **(passed or {})}
    if told:
        beside = Metadata(own, {**carried, **told, **(passed or {})})
        if beside.attach_if_readable(b"1") is not None:
            return beside
    return Metadata(own, said) if own or said else None
