"""What a signal handler raises, at any place of ours where it can: no item is lost by it.

A tracer raises at the k-th byte code that the package runs inside of a call, for every k until the
call ends without; what the call did not return must come again, uncounted. Only between a call's
last step and its return it does not, where CPython runs no handler.
"""

from __future__ import annotations

import asyncio
import contextlib
import dis
import functools
import gc
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import pymq
import pymq.aio
from conftest import HANG_GUARD, Server, wait_until

PACKAGE = str(Path(pymq.__file__).parent)
QUEUES = str(Path(pymq.__file__).parent / "_queue.py")


#: How often a storm of alarms breaks something off.
MOST = 80


class Interrupted(BaseException):
    """What the handler raises; no `except Exception` stops it."""


@functools.cache
def handed_over(code: CodeType) -> float:
    """From where on a function of ours has done its last step, if it has one."""
    steps = [one.offset for one in dis.get_instructions(code) if one.argval == "result"]
    return max(steps) if code.co_filename == QUEUES and steps else float("inf")


class At:
    """Raises at the k-th byte code of ours, on this thread."""

    def __init__(self, k: int) -> None:
        self.left = k
        self.hit = False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        return self.local

    def local(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode" and not self.hit and frame.f_lasti <= handed_over(frame.f_code):
            self.left -= 1
            if self.left <= 0:
                self.hit = True
                raise Interrupted
        return self.local

    def run(self, call: Callable[[], Any]) -> Any:
        sys.settrace(self)
        try:
            return call()
        except Interrupted:
            return Interrupted
        finally:
            sys.settrace(None)


def everywhere(call: Callable[[], Any], attempt: Callable[[Any], None]) -> int:
    """Interrupts `call` at one place after the other, each time with what `attempt` does then."""
    k = 0
    while True:
        k += 1
        at = At(k)
        result = at.run(call)
        if not at.hit:
            attempt(result)
            return k - 1
        assert result is Interrupted
        del result
        gc.collect()
        attempt(Interrupted)


@pytest.mark.parametrize("ack", ["auto", "manual"])
@pytest.mark.parametrize(
    "how", ["get", "get_nowait", "get_many", "get_delivery", "loop", "get_from"]
)
def test_an_interrupted_get_loses_no_item_and_counts_none(
    bus: pymq.NativeEventBus, how: str, ack: Any
) -> None:
    queue = bus.queue("jobs", ack=ack, max_deliveries=0)
    queue.put("first")
    call: dict[str, Callable[[], Any]] = {
        "get": lambda: queue.get(timeout=HANG_GUARD),
        "get_nowait": queue.get_nowait,
        "get_many": lambda: queue.get_many(5, timeout=HANG_GUARD)[0],
        "get_delivery": lambda: queue.get_delivery(timeout=HANG_GUARD),
        "loop": lambda: next(iter(queue)),
        "get_from": lambda: pymq.get_from([bus.queue("urgent"), queue], timeout=HANG_GUARD),
    }

    def attempt(result: Any) -> None:
        if result is not Interrupted:
            del result
            return
        with queue.get_delivery(timeout=HANG_GUARD) as delivery:
            assert (delivery.item, delivery.deliveries) == ("first", 1)
            queue.put("first")

    everywhere(call[how], attempt)


def test_an_item_that_get_did_not_return_is_not_confirmed_by_the_next_task_done(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs", ack="manual", max_deliveries=0)
    queue.put("first")

    def attempt(result: Any) -> None:
        if result is Interrupted:
            # What goes back does so without anybody waiting for it.
            wait_until(lambda: queue.qsize() == 1, "it is back")
            queue.put("second")
            assert queue.get(timeout=HANG_GUARD) == "first"
            queue.task_done()
            assert queue.get(timeout=HANG_GUARD) == "second"
            queue.task_done()
            assert queue.unfinished_tasks == 0
            queue.put("first")

    everywhere(lambda: queue.get(timeout=HANG_GUARD), attempt)


# A coroutine that an exception met on the way to whoever would await it, of which Python warns.
@pytest.mark.filterwarnings("ignore:.*was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("how", ["get", "get_many", "get_delivery", "loop", "get_from"])
def test_an_interrupted_aio_get_loses_no_item_and_counts_none(url: str, how: str) -> None:
    async def once(queue: pymq.aio.AsyncQueue[Any], at: At) -> Any:
        taking: dict[str, Callable[[], Any]] = {
            "get": lambda: queue.get(timeout=HANG_GUARD),
            "get_many": lambda: queue.get_many(5, timeout=HANG_GUARD),
            "get_delivery": lambda: queue.get_delivery(timeout=HANG_GUARD),
            "loop": lambda: queue.__aiter__().__anext__(),
            "get_from": lambda: pymq.aio.get_from([queue], timeout=HANG_GUARD),
        }
        sys.settrace(at)
        try:
            await taking[how]()
        except Interrupted:
            return Interrupted
        finally:
            sys.settrace(None)

    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs", ack="manual", max_deliveries=0)
            await queue.put("first")
            for k in range(1, 10_000):
                at = At(k)
                await once(queue, at)
                if not at.hit:
                    return
                gc.collect()
                delivery = await queue.get_delivery(timeout=HANG_GUARD)
                assert (delivery.item, delivery.deliveries) == ("first", 1)
                await queue.put("first")
                await delivery.ack()
        raise AssertionError("it never got to an end")

    asyncio.run(main())


@pytest.fixture
def alarm() -> Iterator[Callable[[Callable[..., None]], None]]:
    """Has a handler called every millisecond or so."""
    before = signal.getsignal(signal.SIGALRM)

    def start(handler: Callable[..., None]) -> None:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0007)

    yield start
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_storm_of_alarms_loses_no_delivery_and_confirms_none_unseen(
    url: str, alarm: Callable[[Callable[..., None]], None]
) -> None:
    """A time limit that may break off everything, and what a program does about it: again."""
    armed = False
    broken_off = 0

    def handler(*_: Any) -> None:
        nonlocal armed, broken_off
        # Only so often, or a slow machine never got to the end of anything.
        if armed and broken_off < MOST:
            armed = False
            broken_off += 1
            raise Interrupted

    done: list[int] = []
    with pymq.connect(url) as bus, pymq.connect(url) as other:
        queue = bus.queue("jobs", max_deliveries=0)
        alarm(handler)
        put = 0
        while broken_off < MOST or len(done) < put:
            if broken_off < MOST:
                queue.put(put)
                put += 1
            delivery = None
            try:
                armed = True
                delivery = queue.get_delivery(timeout=HANG_GUARD)
                armed = False
            except Interrupted:
                pass
            while delivery is not None and not delivery.settled:
                try:
                    armed = True
                    delivery.ack()
                    armed = False
                except Interrupted:
                    continue
            if delivery is not None:
                done.append(delivery.item)
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert sorted(done) == list(range(put))
        wait_until(lambda: other.queue("jobs").unfinished_tasks == 0, "all are confirmed")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="3.10 runs handlers where functions return")
@pytest.mark.parametrize("ack", ["auto", "manual"])
@pytest.mark.parametrize("how", ["get", "get_nowait", "get_many", "get_from"])
def test_a_storm_of_alarms_loses_no_item_that_was_got(
    url: str, alarm: Callable[[Callable[..., None]], None], how: str, ack: Any
) -> None:
    """Not in the moment either in which `get` returns: the program has the item, or the queue."""
    armed = False
    broken_off = 0

    def handler(*_: Any) -> None:
        nonlocal armed, broken_off
        # Only so often, or a slow machine never got to the end of anything.
        if armed and broken_off < MOST:
            armed = False
            broken_off += 1
            raise Interrupted

    put, got = 0, []
    with pymq.connect(url) as bus:
        queue = bus.queue("jobs", ack=ack, max_deliveries=0)
        alarm(handler)
        while broken_off < MOST:
            queue.put(put)
            put += 1
            item = None
            try:
                armed = True
                if how == "get":
                    item = queue.get(timeout=HANG_GUARD)
                elif how == "get_nowait":
                    item = queue.get_nowait()
                elif how == "get_many":
                    item = queue.get_many(1)
                else:
                    item = pymq.get_from([queue])
                armed = False
            except (Interrupted, pymq.Empty):
                armed = False
            if item is None:
                continue
            got.append(item[1] if how == "get_from" else item[0] if how == "get_many" else item)
            while ack == "manual":
                try:
                    armed = True
                    queue.task_done()
                    armed = False
                    break
                except Interrupted:
                    continue
        signal.setitimer(signal.ITIMER_REAL, 0)
        # What is on its way back.
        wait_until(lambda: len(got) + queue.qsize() == put, "all are got or there")
        got += queue.get_many(put) if len(got) < put else []
        assert sorted(got) == list(range(put))


def test_a_task_done_that_was_interrupted_may_be_called_again(
    redis_url: str, redis_server: Server
) -> None:
    class Slow(Exception):
        pass

    def handler(*_: Any) -> None:
        raise Slow

    with pymq.connect(redis_url) as bus, pymq.connect(redis_url) as other:
        queue = bus.queue("jobs", ack="manual", max_deliveries=0)
        queue.put_many(["older", "done"])
        assert [queue.get(), queue.get()] == ["older", "done"]

        def break_off() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            queue.task_done()

        before = signal.signal(signal.SIGALRM, handler)
        try:
            # The server answers nothing until the alarm has rung.
            with redis_server.paused(), pytest.raises(Slow):
                break_off()
        finally:
            signal.signal(signal.SIGALRM, before)
        queue.task_done()
        wait_until(lambda: other.queue("jobs").unfinished_tasks == 1, "the one is confirmed")
        queue.close()
        assert queue.get(timeout=HANG_GUARD) == "older"


@pytest.mark.parametrize("what", ["close", "put", "get", "task_done", "stop", "qsize", "loop"])
def test_every_method_may_be_called_in_a_signal_handler_and_in_a_finaliser(
    bus: pymq.NativeEventBus, what: str, alarm: Callable[[Callable[..., None]], None]
) -> None:
    queue = bus.queue("jobs", ack="manual", max_deliveries=0)
    inside = over = False
    calls = 0

    def handler(*_: Any) -> None:
        nonlocal inside, calls
        if inside or over:
            return
        inside = True
        calls += 1
        try:
            if what == "close":
                queue.close()
            elif what == "put":
                queue.put(0)
            elif what == "qsize":
                queue.qsize()
            elif what == "stop":
                bus.queue("jobs").stop()
            elif what == "loop":
                queue.put(0)
                next(iter(queue))
            elif what == "get":
                queue.get_nowait()
            else:
                queue.task_done()
        except (pymq.Empty, ValueError, pymq.LeaseLostError, pymq.ShutDown, StopIteration):
            pass
        finally:
            inside = False

    class Late:
        def __del__(self) -> None:
            handler()

    alarm(handler)
    # For a while, since where the handler comes in is chance.
    end = time.monotonic() + 0.5
    while time.monotonic() < end or calls < 20:
        knot: list[Any] = [Late()]
        knot.append(knot)
        queue.put(1)
        try:
            # The handler may have taken it.
            queue.get(timeout=0.2)
            queue.task_done()
        except (pymq.Empty, ValueError, pymq.LeaseLostError, pymq.ShutDown):
            pass
    over = True


def test_a_thread_that_is_broken_off_loses_no_item(bus: pymq.NativeEventBus) -> None:
    """`PyThreadState_SetAsyncExc`, as time limits of test runners and notebooks use it."""
    import ctypes

    queue = bus.queue("jobs", ack="manual", max_deliveries=0)
    seen: list[int] = []
    ready = threading.Event()
    running = True

    def serve() -> None:
        ready.set()
        while running:
            with contextlib.suppress(pymq.Empty):
                seen.append(queue.get(timeout=0.05))
                queue.task_done()

    def work() -> None:
        while running:
            # Nothing is raised outside of it: the next one comes when it is ready again.
            try:
                serve()
            except Interrupted:
                continue

    thread = threading.Thread(target=work)
    thread.start()
    queue.put_many(range(300))
    ident = ctypes.c_ulong(thread.ident or 0)
    for _ in range(50):
        assert ready.wait(HANG_GUARD)
        ready.clear()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Interrupted))
        # So that some items are got between two of them.
        time.sleep(0.002)
    assert ready.wait(HANG_GUARD)
    running = False
    thread.join(HANG_GUARD)
    queue.close()
    # What is on its way back is waited for; one that is lost is `Empty` in the end.
    while set(seen) != set(range(300)):
        seen.append(queue.get(timeout=HANG_GUARD))
