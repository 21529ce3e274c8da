"""Threads that are begun without a wait.

`Thread.start` waits until the thread runs, and the first that runs on it may be a finaliser, which
comes in by any door and needs what the starting thread holds, or what a frame holds that a signal
handler broke into. So a helper does the waiting.
"""

from __future__ import annotations

import _thread
import sys
import threading
import time
from collections.abc import Callable

from pymq._forks import in_child
from pymq._turns import Bell

#: How long until the system is asked again for a thread that it did not give, in seconds.
AGAIN = 0.1
#: When a thread is late, in seconds.
LATE = 0.1
#: How long a thread that has done its work may take to be gone, in seconds.
LAST_STEP = 1.0


#: Those that were begun and do not work yet.
_on_their_way: dict[int, Attendant] = {}


def hurry() -> None:
    """Said by who is about to wait for what others do.

    Where that is a finaliser which has broken into a thread that is only being made, it may wait
    for the work of that very thread: another one is begun for each that is on its way. Should a
    finaliser break into that one too, it does the same before it waits, so the last gets through.
    """
    # What is being made is none of `threading`'s yet; `current_thread` would make it one.
    if _on_their_way and threading.get_ident() not in threading._active:  # type: ignore[attr-defined]
        for number, attendant in list(_on_their_way.items()):
            if _on_their_way.pop(number, None) is not None:
                attendant._late()


# None of them is on its way in a child.
in_child(_on_their_way.clear)


def _nothing() -> None:
    pass


class Attendant(threading.Thread):
    """A daemon, or the interpreter would wait for it before `atexit` can end it.

    `enter` is done first of all, by the helper too. `late` is done if a finaliser holds the thread
    up on its way: what it waits for may be the work of this very thread.
    """

    def __init__(
        self,
        target: Callable[[], object],
        name: str,
        *,
        enter: Callable[[], None] = _nothing,
        late: Callable[[], None] = _nothing,
    ) -> None:
        super().__init__(target=target, name=name, daemon=True)
        self._enter = enter
        self._late = late
        self._begun = False
        self._over = False
        self._changed = Bell()
        self._works = threading.Lock()
        self._works.acquire()

    def begin(self) -> None:
        """It runs soon. Raises `RuntimeError` if the system gives no thread."""
        if sys.is_finalizing():
            raise RuntimeError("the interpreter ends, no thread begins any more")
        _on_their_way[id(self)] = self
        try:
            _thread.start_new_thread(self._begin, ())
        except BaseException:
            _on_their_way.pop(id(self), None)
            raise

    def run(self) -> None:
        """Does its work; called by the thread."""
        self._enter()
        self._works.release()
        _on_their_way.pop(id(self), None)
        try:
            super().run()
        finally:
            # Whoever still has the thread in hand, a list of all threads say, does not keep what it
            # worked for: a lane keeps its bus alive.
            self._enter = self._late = _nothing
            self._over = True
            self._changed.ring()

    def join(self, timeout: float | None = None) -> None:
        """Waits for the end, of one that has not come to run either."""
        until = None if timeout is None else time.monotonic() + timeout
        while not (self._begun and self._over):
            changed = self._changed.listen()
            if self._begun and self._over:
                break
            left = None if until is None else until - time.monotonic()
            if not self._changed.rings(changed, left if left is None else max(left, 0.0)):
                return
        # A signal handler that broke into this and waits here too would wait for ever.
        super().join(LAST_STEP)

    def _begin(self) -> None:
        self._enter()
        while self.ident is None:
            try:
                self.start()
            except RuntimeError:
                # The helper was the last that the system gave; it makes room.
                time.sleep(AGAIN)
        self._begun = True
        self._changed.ring()
        if not self._works.acquire(timeout=LATE):
            self._late()
