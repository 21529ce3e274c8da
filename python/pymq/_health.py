"""How a bus is, as programs see it: its connection, its health, what its transport can do."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeAlias

from pymq import _pymq
from pymq._inspect import Inspection
from pymq._loops import refuse_to_freeze
from pymq._threads import Attendant
from pymq.exceptions import ClosedError

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("pymq")

#: A state as the native core gives it.
Standing: TypeAlias = "tuple[str, float | None, str | None]"

CLOSED: Standing = ("closed", None, None)


class BusState(str):
    """`"connected"`, `"away"` or `"closed"`, with what is known of it.

    `since` is the moment from which it holds (in UTC; `None` when closed), `why` the reason for
    being away. It compares as the word that it is.
    """

    since: datetime | None
    why: str | None

    def __new__(cls, standing: Standing) -> Self:
        """From what the native core says."""
        word, since, why = standing
        state = super().__new__(cls, word)
        state.since = None if since is None else datetime.fromtimestamp(since, timezone.utc)
        state.why = why
        return state

    def __repr__(self) -> str:
        about = "" if self.why is None else f": {self.why}"
        return f"<bus {self}{about}>"


def states(native: _pymq.Bus) -> Iterator[BusState]:
    """The state as it is, then each that follows, `"closed"` last."""
    known: Standing | None = None
    while known != CLOSED:
        if known is not None:
            refuse_to_freeze("the next state of the bus")
        try:
            known = native.next_state(known).wait() or CLOSED
        except ClosedError:
            known = CLOSED
        yield BusState(known)


def watch(native: _pymq.Bus, callback: Callable[[BusState], object]) -> threading.Thread:
    """Calls back for each state, on a thread that ends with the bus."""

    def run() -> None:
        for state in states(native):
            try:
                callback(state)
            except BaseException:
                with contextlib.suppress(Exception):
                    logger.exception("a callback for the state of a bus failed")

    thread = Attendant(run, "pymq-state")
    thread.begin()
    return thread


class Health:
    """What a bus can be asked about itself."""

    _native: _pymq.Bus
    _watchers: list[threading.Thread]

    @property
    def state(self) -> BusState:
        """How the bus stands to its broker: `"connected"`, `"away"` (`.why`) or `"closed"`.

        `.since` says since when.
        """
        try:
            return BusState(self._native.state)
        except ClosedError:
            return BusState(CLOSED)

    def states(self) -> Iterator[BusState]:
        """The state as it is, then each that follows; ends after `"closed"`.

        The newest is what counts: of states that change faster than they are read, some are
        skipped.
        """
        return states(self._native)

    def on_state(self, callback: Callable[[BusState], object]) -> None:
        """Call back with the state as it is, then with each that follows, on its own thread."""
        self._watchers.append(watch(self._native, callback))

    def ping(self) -> float:
        """Ask the broker for a sign of life, now; says how many seconds the round trip took.

        Raises `pymq.exceptions.ConnectionError` at once where there is no connection, and within
        seconds where the broker is silent.
        """
        return self._native.ping().wait()

    def health(self) -> dict[str, Any]:
        """What a health endpoint wants to know, without asking the broker.

        `state`, `since`, `why` as in `state`; `server`: the one that is talked to, of several the
        one that takes the writes, None without one; `absent_nodes`: those of a cluster that did not
        answer when `inspect` asked all of them last; `reconnects` so far; `unread_events` and
        `lost_events` of the live subscriptions; `lost_posts`: events that were published with
        `wait=False` and lost on the way to the broker; `consumers`: queues that items are taken
        from; `oldest_heartbeat`: for how many seconds, at most, the lease of an item in hand was
        not renewed.
        """
        state = self.state
        known: dict[str, Any] = {"state": str(state), "since": state.since, "why": state.why}
        with contextlib.suppress(ClosedError):
            known.update(self._native.health())
        return known

    def inspect(self) -> Inspection:
        """A look at who is on the bus, for people who operate it: topics with their subscribers,
        functions with their providers, queues by name. Looking changes nothing.
        """
        return Inspection(self._native.inspect())

    @property
    def capabilities(self) -> dict[str, bool]:
        """What the transport can do: `receiver_count`, `cross_process`, `originals`; of queues
        `put_options` (for later, with an id, with a priority) and `letters`."""
        return self._native.capabilities
