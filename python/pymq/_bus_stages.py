"""The states of a bus, and what stands for its parts when it is over."""

from __future__ import annotations

import contextlib
import enum
import threading
from typing import NoReturn

from pymq.exceptions import ClosedError

#: How long `close` waits for callbacks, in seconds.
GRACE = 10.0
#: How long the end itself may take after that: the broker is told, and those who wait.
LAST_WORDS = 1.0


class Stage(enum.Enum):
    """How far a bus has come; the words end a sentence."""

    DECLARING = "was not started"
    RUNNING = "runs"
    CLOSED = "is closed"
    FORKED = "belongs to the parent process; call pymq.init or pymq.connect in this one"


class Over:
    """Set once. Unlike an `Event` it can be set by a signal handler that broke into a wait."""

    def __init__(self) -> None:
        self._closed = threading.Lock()
        self._closed.acquire()

    def set(self) -> None:
        """Ends every wait."""
        with contextlib.suppress(RuntimeError):
            self._closed.release()

    def wait(self) -> None:
        """Until it is set."""
        with self._closed:
            return


class Abandoned:
    """Stands for the native bus in a forked child."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ClosedError(f"this bus {Stage.FORKED.value}")
