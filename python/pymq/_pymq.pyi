"""The native core: bytes, names and waiting. Values are `_codec.py`'s, callbacks `_dispatch.py`'s.

Every wait releases the GIL and answers signals on the main thread within 50 ms. Timeouts are
seconds; `None` waits without end. Errors are the classes of `pymq.exceptions`.
"""

from collections.abc import Sequence
from typing import Any, Final, final

__version__: Final[str]

@final
class Bus:
    """A connection with an I/O thread of its own; ends with `close`, or with its last handle."""

    @staticmethod
    def connect(url: str, namespace: str = "global") -> Bus: ...
    def publish(self, topic: str, payload: bytes) -> int | None: ...
    def subscribe(self, name: str, pattern: bool) -> Subscription: ...
    def provide(self, function: str) -> Provider: ...
    def queue(
        self, name: str, maxsize: int = 0, lease: float = 30.0, max_deliveries: int = 5
    ) -> Queue: ...
    def call(
        self,
        function: str,
        args: bytes,
        kwargs: bytes,
        types: bytes | None,
        timeout: float | None,
    ) -> Reply: ...
    def call_all(
        self,
        function: str,
        args: bytes,
        kwargs: bytes,
        types: bytes | None,
        timeout: float | None,
        legacy_grace: float = 5.0,
    ) -> tuple[list[Reply], list[Missing]]: ...
    def close(self, timeout: float = 10.0) -> None: ...
    def abandon(self) -> None:
        """In a forked child: lets go of everything without touching the parent's sockets."""
    @property
    def capabilities(self) -> dict[str, bool]: ...

@final
class Subscription:
    """A live subscription, to be attached to an `Intake`; `end` waits until the broker knows."""

    @property
    def name(self) -> str: ...
    @property
    def pattern(self) -> bool: ...
    def end(self) -> None: ...

@final
class Provider:
    """An exposed function, to be attached to an `Intake`."""

    @property
    def function(self) -> str: ...
    @property
    def id(self) -> str: ...
    def end(self) -> None: ...

@final
class Call:
    """One request; dropped unanswered it is answered with an error."""

    @property
    def args(self) -> bytes: ...
    @property
    def kwargs(self) -> bytes: ...
    @property
    def types(self) -> bytes | None: ...
    @property
    def cancelled(self) -> bool: ...
    def answer(
        self, value: bytes, type_name: str, types: bytes | None = None, failed: bool = False
    ) -> None: ...

@final
class Reply:
    """What one provider answered."""

    @property
    def value(self) -> bytes: ...
    @property
    def type_name(self) -> str: ...
    @property
    def types(self) -> bytes | None: ...
    @property
    def failed(self) -> bool: ...
    @property
    def provider(self) -> str | None: ...

@final
class Missing:
    """A provider that did not answer."""

    @property
    def provider(self) -> str | None: ...
    @property
    def lost(self) -> bool: ...

@final
class Intake:
    """Where a dispatching thread pulls batches from: several sources, in the order of arrival."""

    def __new__(cls) -> Intake: ...
    def attach(self, source: Subscription | Provider) -> int:
        """Begins to read a source (which stays attached until it ends); its number in batches."""
    def detach(self, number: int) -> None: ...
    def recv(
        self, limit: int = 256, timeout: float | None = None
    ) -> list[tuple[int, str | None, Any]]:
        """Waits for arrivals, then takes all there are, up to `limit`.

        Each is (source, topic, payload) for an event, (source, None, Call) for a request,
        (source, "", n) for n events missed (-1: unknown, a connection was lost), and
        (source, None, None) when the source has ended. An empty batch: timeout, or `close`.
        """
    def close(self) -> None:
        """Wakes whoever waits; from then on `recv` gives what is left and then empty batches."""
    @property
    def closed(self) -> bool: ...
    def fileno(self) -> int:
        """An event descriptor, readable while there is something to take; for event loops."""

@final
class Queue:
    """A queue of bytes with this handle's options."""

    @property
    def name(self) -> str: ...
    def put(self, items: Sequence[bytes], block: bool, timeout: float | None) -> None: ...
    def claim(self, limit: int, block: bool, timeout: float | None) -> list[Delivery]: ...
    def stats(self) -> tuple[int, int, int]:
        """Waiting, leased, dead."""
    def join(self, timeout: float | None = None) -> bool: ...
    def peek(self, dead: bool, limit: int) -> list[bytes]: ...
    def purge(self, dead: bool) -> int: ...
    def redrive(self, limit: int) -> int: ...
    def shut_down(self) -> None: ...

@final
class Delivery:
    """A leased item; dropped unsettled it goes back to its queue, counted."""

    @property
    def payload(self) -> bytes: ...
    @property
    def deliveries(self) -> int: ...
    def ack(self) -> None: ...
    def ack_soon(self) -> None: ...
    def requeue(self) -> None: ...
    def give_back(self) -> None:
        """To the head, uncounted: it was never handed to anybody. Does not wait."""
    def reject(self) -> None: ...
    def extend(self, seconds: float) -> None: ...

@final
class Completions:
    """Results of asynchronous operations, pulled by an event loop when `fileno` is readable.

    Each `begin_*` starts an operation under a token of the caller's choice; `drain` gives
    (token, error or None, result) of those that have ended.
    """

    def __new__(cls) -> Completions: ...
    def fileno(self) -> int: ...
    def drain(self) -> list[tuple[int, BaseException | None, Any]]: ...
    def cancel(self, token: int) -> None:
        """Ends an operation; a claimed item on its way goes back to the queue, uncounted."""
    def close(self) -> None: ...
    def begin_publish(self, token: int, bus: Bus, topic: str, payload: bytes) -> None: ...
    def begin_subscribe(self, token: int, bus: Bus, name: str, pattern: bool) -> None: ...
    def begin_provide(self, token: int, bus: Bus, function: str) -> None: ...
    def begin_end(self, token: int, source: Subscription | Provider) -> None: ...
    def begin_call(
        self,
        token: int,
        bus: Bus,
        function: str,
        args: bytes,
        kwargs: bytes,
        types: bytes | None,
        timeout: float | None,
    ) -> None: ...
    def begin_call_all(
        self,
        token: int,
        bus: Bus,
        function: str,
        args: bytes,
        kwargs: bytes,
        types: bytes | None,
        timeout: float | None,
        legacy_grace: float = 5.0,
    ) -> None: ...
    def begin_put(
        self, token: int, queue: Queue, items: Sequence[bytes], block: bool, timeout: float | None
    ) -> None: ...
    def begin_claim(
        self, token: int, queue: Queue, limit: int, block: bool, timeout: float | None
    ) -> None: ...
    def begin_settle(self, token: int, delivery: Delivery, how: str) -> None:
        """`how`: "ack", "requeue" or "reject"."""
    def begin_stats(self, token: int, queue: Queue) -> None: ...
    def begin_join(self, token: int, queue: Queue) -> None: ...
    def begin_connect(self, token: int, url: str, namespace: str = "global") -> None: ...
    def begin_close(self, token: int, bus: Bus) -> None: ...
