"""The message that is being handled: what travelled beside its value."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple


class Message(NamedTuple):
    """What is known of a message beside its value."""

    #: The name that it was published on; of a call, the function's.
    topic: str


_current: ContextVar[str | None] = ContextVar("pymq_message", default=None)


def current_message() -> Message | None:
    """The message that is being handled here, or `None` outside of subscribers, exposed functions
    and loops over events."""
    topic = _current.get()
    return None if topic is None else Message(topic)


def note(topic: str) -> None:
    """From now on, in this context, that is the message which is handled."""
    _current.set(topic)


@contextlib.contextmanager
def arrived(topic: str | None) -> Iterator[None]:
    """In here a message on that topic is handled."""
    token = _current.set(topic)
    try:
        yield
    finally:
        _current.reset(token)
