"""How a bus begins, serves and ends, and who is served meanwhile.

It knows who is subscribed and what is exposed, and hands both to lanes. A signal handler, a
finaliser or another thread may close the bus in any moment of its life, so no lock is held here:
what is to be done once is a token, which one of those who come takes.
"""

from __future__ import annotations

import contextlib
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from pymq import _buses, _log, _options, _pymq
from pymq._bound import Bound, Exposed, Subscribed, took
from pymq._bus_stages import GRACE, LAST_WORDS, Abandoned, Over, Stage
from pymq._callables import event_channel, remote_name
from pymq._codec import Codec
from pymq._current_call import current_call
from pymq._health import Health
from pymq._lane import Lane
from pymq._loops import Loops, loop_here
from pymq._service import Service
from pymq._worker import Worker, current_job
from pymq.exceptions import ClosedError, PymqError

if TYPE_CHECKING:
    from typing_extensions import Self


class BusLife(Health):
    """The life of a bus: declared, begun, closed."""

    _native: _pymq.Bus

    def __init__(self, codec: Codec, service: Service, loops: Loops) -> None:
        self._codec = codec
        self._service = service
        self._loops = loops
        self._state = Stage.DECLARING
        self._over = Over()
        # Each is taken once, by whoever begins, closes or finishes first.
        self._unbegun = deque([None])
        self._unclosed = deque([None])
        self._unfinished = deque([None])
        self._watchers: list[threading.Thread] = []
        self._workers: list[tuple[Worker, float]] = []

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a bus belongs to its process, so it cannot be pickled; connect in the other one"
        )

    def begin(self) -> None:
        """Start to serve; once this returns, what was subscribed before sees the next event."""
        self._check_open()
        if not took(self._unbegun):
            return
        self._state = Stage.RUNNING
        if not self._unclosed:
            # It was closed in this moment.
            self._state = Stage.CLOSED
            self._check_open()
        for bound in self._service.registry.subscribers():
            self._serve(bound)
        for remote in self._service.registry.remotes():
            self._serve(remote)

    def _serve(self, bound: Bound) -> None:
        if bound.claim():
            place = self._service.place_for(bound)
            bound.source = bound.begin(self._native, place).wait()
            self._end_if_closed(bound)

    def run(self) -> None:
        """Serve until the bus is closed."""
        if loop_here() is not None:
            raise RuntimeError(
                "bus.run() would freeze the event loop of this thread; the bus serves without it"
            )
        self._check_open()
        with contextlib.suppress(ClosedError):
            # Closed by another thread in the middle of its beginning, it ends as it does later.
            self.begin()
        self._over.wait()

    def close(self, timeout: float = GRACE) -> None:
        """End the bus: handle what was received, for up to `timeout` seconds, then let go of all.

        Afterwards no thread of the bus lives, but for one that is inside of a callback that does
        not end. Closing again does nothing. Inside of a callback it waits for the others; the
        exposed function that closes its own bus is still answered, and the item of a worker's
        handler that does so is settled. On the thread of an event loop
        that callbacks are busy on it raises `RuntimeError`: there, await the close of `pymq.aio`.
        """
        deadline = time.monotonic() + _options.seconds("timeout", timeout)
        self.refuse_to_wait_for_this_loop()
        if self._state is Stage.FORKED:
            return
        self._unclosed.clear()
        self._state = Stage.CLOSED
        lanes = list(self._service.registry.lanes)
        workers = list(self._workers)
        # Whoever closes too does all of it: a signal handler may have broken into the first.
        # First of all, so that callers go elsewhere.
        end_sources(self._service.registry.all(), deadline)
        for worker, _ in workers:
            worker.stop()
        for lane in lanes:
            lane.close()
        self._over.set()
        call, job = current_call(), current_job()
        if job is not None and job.is_of(self._codec):
            # The item that this very handler is busy with is to be settled.
            job.afterwards = lambda: self._finish(lanes, deadline)
        elif call is not None and call._is_on(self._loops):
            # This very thread is to give an answer.
            call._afterwards = lambda: self._finish(lanes, deadline)
        else:
            self._finish(lanes, deadline)

    def _finish(self, lanes: list[Lane], deadline: float) -> None:
        """Waits for what is under way, then ends it."""
        if not took(self._unfinished):
            return
        self._loops.give_up(stopped_only=True)
        try:
            for worker, grace in self._workers:
                worker.close(max(0.0, min(grace, deadline - time.monotonic())))
            for lane in lanes:
                if not lane.wait(deadline):
                    lane.discard()
        finally:
            self._native.close(max(LAST_WORDS, deadline - time.monotonic())).wait()
            _log.settle()
            # What waited inside of PyMQ has just been told that it is over.
            end = max(deadline, time.monotonic() + LAST_WORDS)
            self._loops.give_up()
            for lane in lanes:
                lane.discard()
                lane.wait(end)
            self._loops.close(end)
            for watcher in self._watchers:
                if watcher is not threading.current_thread():
                    watcher.join(max(0.0, end - time.monotonic()))
            # A bus that is over keeps nobody's functions.
            self._service.registry.clear()
            _buses.discard(self)

    def refuse_to_wait_for_this_loop(self) -> None:
        """Raises `RuntimeError` if a close here waited for the event loop of this very thread."""
        loop = loop_here()
        if loop is None or self._state is Stage.CLOSED:
            return
        if self._loops.busy_on(loop):
            raise RuntimeError(
                "closing this bus would wait for callbacks that run on the event loop of this very "
                "thread; use `await pymq.aio.shutdown()`, or `await bus.close()` of a bus of "
                "pymq.aio"
            )
        self._loops.refuse(loop)

    @property
    def closed(self) -> bool:
        """Whether the bus has ended."""
        return self._state in (Stage.CLOSED, Stage.FORKED)

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_state", Stage.CLOSED) is Stage.RUNNING:
            # Without waiting: a finaliser may run anywhere. The threads end by themselves.
            for lane in list(self._service.registry.lanes):
                lane.close()
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    # ---- who is declared

    @property
    def _serves(self) -> bool:
        return self._state is not Stage.DECLARING

    def _declare(
        self, callback: Callable[..., Any], channel: str | None, pattern: bool
    ) -> Subscribed:
        bound = self._service.subscriber(callback, channel, pattern)
        self._check_open()
        self._service.registry.add(bound)
        return bound

    def _declare_remote(
        self, fn: Callable[..., Any], channel: str | None, concurrency: int
    ) -> Exposed:
        bound = self._service.remote(fn, channel, concurrency)
        self._check_open()
        self._service.registry.add_remote(bound)
        return bound

    def _find(
        self, callback: Callable[..., Any], channel: str | None, pattern: bool
    ) -> Subscribed | None:
        if channel is None:
            channel, pattern = event_channel(callback), False
        self._check_open()
        return self._service.registry.find(callback, channel, pattern)

    def _find_remote(self, fn: Callable[..., Any] | str) -> Exposed | None:
        if not callable(fn) and not isinstance(fn, str):
            raise TypeError(f"cannot unexpose fn type {type(fn)}")
        self._check_open()
        return self._service.registry.find_remote(fn if isinstance(fn, str) else remote_name(fn))

    def _serve_if_begun(self, bound: Bound) -> None:
        """Serves what was declared just now; what cannot be served is not declared either."""
        if self._serves:
            try:
                self._serve(bound)
            except BaseException:
                self._service.forget(bound)
                raise

    def _end(self, bound: Bound) -> None:
        """Takes back what was declared; nothing of it is begun any more once this returns."""
        self._service.registry.remove(bound)
        try:
            end_source(bound)
        finally:
            self._service.stop(bound)

    def _ended_meanwhile(self, bound: Bound) -> bool:
        """Whether the bus was closed while the source of this began; nobody else ends it then."""
        if self._state is Stage.RUNNING:
            return False
        self._service.stop(bound)
        return True

    def _end_if_closed(self, bound: Bound) -> None:
        if self._ended_meanwhile(bound):
            end_source(bound)
            self._check_open()

    def _check_open(self) -> None:
        if self._state in (Stage.CLOSED, Stage.FORKED):
            raise ClosedError(f"this bus {self._state.value}")

    def _become_forked(self) -> None:
        """In a forked child: nothing here may touch what belongs to the parent."""
        self._state = Stage.FORKED
        self._native.abandon()
        self._native = Abandoned()  # type: ignore[assignment]
        self._over = Over()
        self._over.set()


def end_source(bound: Bound, timeout: float | None = None) -> None:
    """Tells the broker that nothing more is to come for it."""
    if bound.source is not None:
        bound.source.end().wait(timeout)


def end_sources(bounds: Iterable[Bound], deadline: float) -> None:
    """Tells the broker that nothing more is to come for any; waits for a silent one only once."""
    patience = LAST_WORDS
    end = max(deadline, time.monotonic() + patience)
    for bound in bounds:
        try:
            end_source(bound, min(patience, max(0.0, end - time.monotonic())))
        except TimeoutError:
            patience = 0.0
        except PymqError:
            pass
