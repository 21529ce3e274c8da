"""Under gevent, threads are greenlets of one thread: what waits there stops all of them.

So whatever waits in the native core is done on a real thread, while the hub goes on. An operation
that is broken off, by `gevent.Timeout` for example, ends on its thread, and what it gave is
dropped: a claimed item goes back. Nothing here is used, nor gevent imported, where it does not run.
"""

from __future__ import annotations

import functools
import importlib
import sys
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from pymq import _pymq
from pymq.exceptions import UnsupportedError

T = TypeVar("T")

#: As many operations may wait at a time.
THREADS = 10_000

#: What waits, by class; the others give something that may.
_WAITS: dict[type, tuple[str, ...]] = {
    _pymq.Bus: (),
    _pymq.Delivery: (),
    _pymq.Inspection: (),
    _pymq.Intake: ("recv",),
    _pymq.Operation: ("wait",),
    _pymq.Provider: (),
    _pymq.Queue: (),
    _pymq.Subscription: (),
}

_pools: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def runs_here() -> bool:
    """Whether gevent has put greenlets in the place of threads."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


def refuse_others() -> None:
    """Raises `UnsupportedError` where others have done so, whose hub nothing here can let go on."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise UnsupportedError(
            "eventlet has put green threads in the place of threads, and waiting would stop them "
            "all; use gevent, or threads"
        )


def refuse_coroutines() -> None:
    """Raises `UnsupportedError` where no event loop of asyncio can have a thread."""
    if runs_here():
        raise UnsupportedError("under gevent no coroutine can be a callback; use a plain function")


def waiting(operation: Callable[..., T], *args: Any) -> T:
    """Does something that waits; under gevent on a thread, and what it gives is patient too."""
    return _patiently(operation, *args) if runs_here() else operation(*args)


def patient(native: T) -> T:
    """The same native object; under gevent one whose operations let the hub go on."""
    return _Patient(native) if runs_here() else native  # type: ignore[return-value]


class _Patient:
    """Stands for a native object, and does what waits on a real thread."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self._waits = _WAITS[type(native)]

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._native, name)
        if not callable(value):
            return value
        return functools.partial(_patiently if name in self._waits else _at_once, value)


def _patiently(operation: Callable[..., Any], *args: Any) -> Any:
    result, error = _pool().apply(_outcome, (operation, *map(bare, args)))
    if error is None:
        return _wrapped(result)
    try:
        raise error
    finally:
        # The error's trace holds this frame; the frame must not hold the error.
        del error


def _outcome(operation: Callable[..., Any], *args: Any) -> tuple[Any, BaseException | None]:
    """What is raised on a thread of its pool, gevent prints, whoever handles it."""
    try:
        return operation(*args), None
    except BaseException as error:
        return None, error


def _at_once(operation: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return _wrapped(operation(*map(bare, args), **options))


def _wrapped(value: Any) -> Any:
    if isinstance(value, list):
        return [_wrapped(each) for each in value]
    return _Patient(value) if type(value) in _WAITS else value


def bare(value: Any) -> Any:
    """The native object itself, for native code."""
    return value._native if isinstance(value, _Patient) else value


def _pool() -> Any:
    """The calling hub's; its own is too small for waits that may last."""
    hub = sys.modules["gevent"].get_hub()
    pool = _pools.get(hub)
    if pool is None:
        threadpool = importlib.import_module("gevent.threadpool")
        pool = _pools[hub] = threadpool.ThreadPool(THREADS, hub=hub)
    return pool
