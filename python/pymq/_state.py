"""How a bus stands to its broker, as programs see it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import TYPE_CHECKING, TypeAlias

from pymq import _pymq
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
