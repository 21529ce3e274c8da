"""The native log, as records of the logger `pymq`.

A thread fetches what the native core has to say, for as long as any bus lives: the core's own
threads never wait for Python. Each record has what it is about as `record.pymq`, a dict of texts,
and the native module that said it as `record.target`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from pymq import _gevent, _pymq
from pymq._forks import in_child
from pymq._threads import Attendant

logger = logging.getLogger("pymq")

#: How often a greenlet looks, where no thread can wait, in seconds.
LOOKS_EVERY = 0.25
#: How long the thread may take to end when the last bus has.
ENDS_WITHIN = 5.0

_lock = threading.RLock()
_thread: threading.Thread | None = None
#: Whether the thread will take what comes; changed under the lock, as the thread decides to end.
_fetches = False


def listen() -> _pymq.Listening:
    """Begins to fetch, where nobody does; what is returned is kept until a bus has connected."""
    global _fetches, _thread
    listening = _pymq.Listening()
    with _lock:
        _adopt_level()
        if not _fetches:
            _fetches = True
            _thread = Attendant(_fetch, "pymq-log")
            _thread.begin()
    return listening


def settle() -> None:
    """Waits until the last records are told, where no bus is left that could say more."""
    thread = _thread
    if thread is not None and thread is not threading.current_thread() and not _pymq.speaks():
        thread.join(ENDS_WITHIN)


def settle_all() -> None:
    """At exit: waits a moment for buses that were dropped unclosed, which end by themselves and
    confirm what they gave out."""
    thread = _thread
    if thread is not None and thread is not threading.current_thread():
        thread.join(ENDS_WITHIN)


def _adopt_level() -> None:
    # Rare news are always fetched, so that a level that is lowered later still finds them.
    _pymq.set_log_level(min(max(logger.getEffectiveLevel(), logging.DEBUG), logging.INFO))


def _fetch() -> None:
    may_wait = not _gevent.runs_here()
    while (records := _take(may_wait)) is not None:
        for record in records:
            _tell(*record)
        if records:
            _adopt_level()
        if not may_wait:
            time.sleep(LOOKS_EVERY)


def _take(may_wait: bool) -> list[_pymq._LogRecord] | None:
    """The next records; `None` when nobody is left who could say anything."""
    global _fetches
    records = _pymq.take_log(may_wait)
    if records is not None:
        return records
    with _lock:
        # A bus may have begun to connect in this moment.
        _fetches = _pymq.speaks()
        return [] if _fetches else None


def _tell(level: int, target: str, message: str, fields: list[tuple[str, str]], at: float) -> None:
    if not logger.isEnabledFor(level):
        return
    about = dict(fields)
    shown = ", ".join(f"{name}={value}" for name, value in fields)
    text = f"{message} ({shown})" if shown else message
    record = logger.makeRecord(
        logger.name, level, target, 0, "%s", (text,), None, extra={"pymq": about, "target": target}
    )
    record.created, record.msecs = at, (at % 1) * 1000
    # Handlers of the program may raise; what else there is to tell is told all the same.
    with contextlib.suppress(Exception):
        logger.handle(record)


def _after_fork_in_child() -> None:
    global _fetches, _lock, _thread
    _lock, _thread, _fetches = threading.RLock(), None, False


in_child(_after_fork_in_child)
