"""All buses of this process: closed at its end, and told of a fork."""

from __future__ import annotations

import importlib
import os
import sys
import time
import weakref
from typing import TYPE_CHECKING

from pymq import _log
from pymq._bus_stages import GRACE
from pymq._forks import in_child
from pymq._loops import loop_here

if TYPE_CHECKING:
    from pymq._bus_life import BusLife

_live: weakref.WeakSet[BusLife] = weakref.WeakSet()


def add(bus: BusLife) -> None:
    """A bus lives from now on."""
    _live.add(bus)
    _close_with_child()


def discard(bus: BusLife) -> None:
    """It is over."""
    _live.discard(bus)


def close_all(deadline: float | None = None) -> None:
    """At exit: no thread of ours may touch the interpreter while it ends."""
    if deadline is None:
        deadline = time.monotonic() + GRACE
    for bus in list(_live):
        bus.close(max(0.0, deadline - time.monotonic()))
    _log.settle_all()


def provides_here(channel: str) -> bool:
    """Whether a call of that name may be answered by a coroutine on the calling thread's loop."""
    loop = loop_here()
    return loop is not None and any(
        remote is not None and remote.home is loop
        for remote in [bus._service.registry.find_remote(channel) for bus in list(_live)]
    )


_closes_with: int | None = None


def _close_with_child() -> None:
    """A child of `multiprocessing` ends without `atexit`; what is registered there it runs."""
    global _closes_with
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _closes_with == os.getpid():
        return
    _closes_with = os.getpid()
    util = importlib.import_module("multiprocessing.util")
    # After what the program itself has registered there.
    util.Finalize(None, close_all, exitpriority=-100)


def _after_fork_in_child() -> None:
    for bus in list(_live):
        bus._become_forked()
    _live.clear()


in_child(_after_fork_in_child)
