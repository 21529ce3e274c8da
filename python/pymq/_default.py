"""The default bus, which the functions of `pymq` work on: how it begins and ends.

It, and what was declared for it, is global state that stands nowhere else.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, overload

from pymq._abstract import EventBus
from pymq._bus_stages import GRACE, LAST_WORDS
from pymq._declared import Declarations, Declared
from pymq._forks import in_child
from pymq._threads import Attendant
from pymq.exceptions import ClosedError

if TYPE_CHECKING:
    from pymq._bus import NativeEventBus

logger = logging.getLogger("pymq")

B = TypeVar("B", bound=EventBus)


class Run:
    """A bus that was made the default one, and the thread that runs it."""

    def __init__(self, bus: EventBus) -> None:
        self.bus = bus
        self.runner: threading.Thread | None = None

    def serve(self) -> None:
        """Runs the bus, if it is not over already."""
        with contextlib.suppress(ClosedError):
            self.bus.run()


class Default:
    """The default bus, and what is declared for it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.bus: EventBus | None = None
        self.runs: list[Run] = []
        self.declared = Declarations()

    def bus_or_declare(self, declared: Callable[[], Declared]) -> EventBus | None:
        """The default bus; without one, declares for the next."""
        # Callbacks come in by this, perhaps while a signal handler broke into `init` and waits for
        # them: the lock is taken only where there is no bus that they could be of.
        if self.bus is None:
            with self.lock:
                if self.bus is None:
                    self.declared.add(declared())
                    return None
        return self.bus

    def bound(self, wanted: str) -> EventBus:
        """The default bus; without one, says so as the original does."""
        if self.bus is None:
            logger.error("no event bus, cannot get %s: call pymq.init first", wanted)
            raise ValueError("Bus not set yet; call pymq.init first")
        return self.bus


default = Default()


@overload
def init(
    factory: str | None = None, start_bus: bool = True, *, call_timeout: float | None = None
) -> NativeEventBus: ...
@overload
def init(factory: Callable[[], B], start_bus: bool = True) -> B: ...
def init(
    factory: Callable[[], EventBus] | str | None = None,
    start_bus: bool = True,
    *,
    call_timeout: float | None = None,
) -> EventBus:
    """Make the default bus, and bind to it what was declared before, by decorators for good.

    `factory` is a callable that gives a bus (a `RedisConfig`, `SimpleEventBus`, a class of one's
    own), or an address such as `"redis://localhost"`; without it the environment's `PYMQ_URL`, else
    `"memory://"`. A bus that was the default before keeps running until `shutdown`. `call_timeout`
    is that of `pymq.connect`, and goes with an address.
    """
    if callable(factory) and call_timeout is not None:
        raise TypeError("call_timeout goes with an address; a factory gives it to the bus it makes")
    make = factory if callable(factory) else _at(factory, call_timeout)
    with default.lock:
        bus = make()
        before, default.bus = default.bus, bus
        run = Run(bus)
        default.runs.append(run)
        default.declared.unbind()
        try:
            if start_bus:
                start()
            default.declared.bind(bus)
        except BaseException:
            _end(run, time.monotonic() + GRACE)
            if default.bus is None:
                # Else what broke in has made another one.
                default.bus = before
            default.declared.unbind()
            raise
        return bus


def _at(url: str | None, call_timeout: float | None) -> Callable[[], EventBus]:
    from pymq._bus import NativeEventBus

    address = url if url is not None else os.environ.get("PYMQ_URL") or "memory://"
    return lambda: NativeEventBus(address, call_timeout=call_timeout)


def start() -> None:
    """Start the default bus, unless `init` has done that.

    Raises `ValueError` before `init`.
    """
    with default.lock:
        bus = default.bus
        if bus is None:
            raise ValueError("Bus not set yet; call pymq.init first")
        run = next((run for run in default.runs if run.bus is bus), None)
        if run is None:
            raise ClosedError("this bus was shut down in this moment, by a signal handler say")
        if run.runner is not None:
            return
        begin = getattr(bus, "begin", None)
        if begin is not None:
            # What is subscribed from now on is subscribed when `subscribe` returns.
            begin()
        run.runner = Attendant(run.serve, "pymq-runner")
        run.runner.begin()


def shutdown() -> None:
    """End the default bus; doing it again, or without one, does nothing.

    What was received is still handled, for up to ten seconds. What decorators declared stays
    declared, and the next `init` binds it. On the thread of an event loop that callbacks are busy
    on it raises `RuntimeError`: use `await pymq.aio.shutdown()` there.
    """
    _shutdown(time.monotonic() + GRACE)


def _shutdown(deadline: float) -> None:
    from pymq._bus import NativeEventBus

    # No lock: a signal handler that breaks in waits for callbacks, which may come here too.
    runs = list(default.runs)
    for run in runs:
        if isinstance(run.bus, NativeEventBus):
            # Before anything is ended: who is refused has lost nothing.
            run.bus.refuse_to_wait_for_this_loop()
    for run in runs:
        _end(run, deadline)
    if runs:
        with default.lock:
            default.declared.unbind()
            default.declared.forget_once()


def at_exit() -> None:
    """Ends every bus, the default ones first, all within the time of one."""
    from pymq._buses import close_all

    deadline = time.monotonic() + GRACE
    try:
        _shutdown(deadline)
    finally:
        close_all(deadline)


def _end(run: Run, deadline: float) -> None:
    # Not under the lock: callbacks that end now may want to publish or to subscribe.
    try:
        ours = _close(run.bus, max(0.0, deadline - time.monotonic()))
        if run.runner is not None and run.runner is not threading.current_thread():
            run.runner.join(timeout=LAST_WORDS if ours else max(1.0, deadline - time.monotonic()))
    finally:
        with default.lock:
            if run in default.runs:
                default.runs.remove(run)
            if default.bus is run.bus:
                default.bus = None


def _close(bus: EventBus, within: float) -> bool:
    """Says whether it is a bus of ours, whose runner has nothing more to do then."""
    from pymq._bus import NativeEventBus

    if isinstance(bus, NativeEventBus) and type(bus).close is NativeEventBus.close:
        bus.close(within)
        return True
    # A close of a user's own takes no time.
    bus.close()
    return False


def default_bus() -> EventBus | None:
    """The default bus, if there is one."""
    return default.bus


def waits_for_a_loop() -> bool:
    """Whether something was declared for `pymq.aio` whose loop is not known yet."""
    return any(not declared.is_bound for declared in default.declared)


def bind_to_loop() -> None:
    """Binds that to the loop that the caller stands for."""
    with default.lock:
        if default.bus is not None:
            default.declared.bind(default.bus)


def declarations() -> list[Declared]:
    """All that is declared."""
    return list(default.declared)


def forget_locals(before: list[Declared]) -> None:
    """Forgets what was declared inside of functions since `before`."""
    with default.lock:
        default.declared.forget_locals(before)


def _after_fork_in_child() -> None:
    # Whoever held it is not in this process.
    default.lock = threading.RLock()


in_child(_after_fork_in_child)
