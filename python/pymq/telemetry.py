"""What buses do, told to whoever watches: the one seam for traces and for metrics.

`observe` sets an `Observer` to work on all buses of this process, those that are made later too,
but not on those that a program makes in Python by itself (subclasses of `pymq.EventBus`).
`pymq.otel` and `pymq.prometheus` are made with it; anything else may be. A program does the same
whether it is watched or not: what an observer raises is logged, its headers are left out where they
would not fit beside a message, and where nobody watches a look at one tuple is all it costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pymq import _telemetry

if TYPE_CHECKING:
    from pymq._message import Message

__all__ = ["Observation", "Observer", "Operation", "Receipt", "forget", "observe"]


class Operation(NamedTuple):
    """An operation that begins."""

    #: `"publish"`, `"put"`, `"process"`, `"call"`, `"serve"`, or how the program settles an item:
    #: `"ack"`, `"requeue"`, `"reject"`.
    verb: str
    #: The topic, queue or function, without the namespace.
    name: str
    #: The message that came, for `"process"` and `"serve"`.
    message: Message | None = None
    #: Whether the program had asked for that message, and a `Receipt` has told of it.
    asked_for: bool = False
    #: The server that is talked to, as `health` has it, of what is sent to one.
    server: str | None = None


class Receipt(NamedTuple):
    """Messages that the program got because it had asked for them."""

    #: The topic or queue, without the namespace.
    name: str
    #: For how many seconds the program had waited.
    waited: float
    #: What they bring beside their values.
    messages: Sequence[Message]


class Observation(Protocol):
    """One operation, as an observer follows it."""

    def headers(self) -> Mapping[str, str]:
        """Headers that travel with what is sent, and with the calls that its receiver makes.

        Those that the program says itself, and what does not fit, are left out.
        """
        ...

    def enter(self) -> None:
        """The program's own code runs now, in this context, as a part of the operation."""
        ...

    def end(self, messages: int, error: BaseException | str | None) -> None:
        """It has ended: how many messages it was about, and with what it failed, if it did.

        That is the exception, or for a call the type of the error that the function raised. After
        `enter` it is said in the same context, unless the code that ran has left that.
        """
        ...


class Observer(Protocol):
    """Who is told what buses do."""

    def begin(self, operation: Operation, /) -> Observation:
        """An operation begins; in the context of the one who waits for it."""
        ...

    def received(self, receipt: Receipt, /) -> None:
        """The program gets messages that it had asked for."""
        ...


def observe(observer: Observer) -> None:
    """Tell an observer from now on what the buses of this process do. Again does nothing."""
    _telemetry.watch(observer)


def forget(observer: Observer) -> None:
    """Tell it no more; who was never told is fine."""
    _telemetry.forget(observer)
