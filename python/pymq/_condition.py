"""How a bus is, as it says itself: its connection, its health, what its transport can do."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from pymq import _pymq
from pymq._inspect import Inspection
from pymq._state import CLOSED, BusState, states, watch
from pymq.exceptions import ClosedError


class Condition:
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
        one that takes the writes, None without one; `reconnects` so far; `unread_events` and
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
        `delays`, `put_ids`, `priorities`, `letters`."""
        return self._native.capabilities
