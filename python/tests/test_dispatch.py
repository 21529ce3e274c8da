"""Which thread runs a callback, in which order, and what becomes of what it raises."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pymq
from conftest import HANG_GUARD, Box, wait_until
from pymq import aio
from pymq._options import Order

Connect = Callable[..., pymq.NativeEventBus]


@pytest.fixture
def one_row(connect: Connect) -> pymq.NativeEventBus:
    """A bus as the original's factories make it."""
    return connect(order=Order.ONE_ROW)


def test_one_row_runs_one_callback_at_a_time_in_order_of_arrival(
    one_row: pymq.NativeEventBus, box: Box
) -> None:
    running = threading.Lock()

    def callback(name: str) -> Callable[[int], None]:
        def run(n: int) -> None:
            assert running.acquire(blocking=False)
            box.put((n, name))
            running.release()

        return run

    for name in "abc":
        one_row.subscribe(callback(name), "numbers")
    for n in range(100):
        one_row.publish(n, "numbers")
    seen = box.take(300)
    assert [n for n, _ in seen] == [n for n in range(100) for _ in range(3)]


def test_workers_run_so_many_at_a_time(connect: Connect, box: Box) -> None:
    bus = connect(workers=3)
    together = threading.Barrier(3)
    bus.subscribe(lambda n: box.put(together.wait(HANG_GUARD)), "numbers")
    for n in range(6):
        bus.publish(n, "numbers")
    assert sorted(box.take(6)) == [0, 0, 1, 1, 2, 2]


def test_a_dispatcher_runs_the_callbacks(connect: Connect, box: Box) -> None:
    dispatcher = ThreadPoolExecutor(2, thread_name_prefix="mine")
    bus = connect(dispatcher=dispatcher)
    bus.subscribe(lambda n: box.put(threading.current_thread().name), "numbers")
    bus.publish(1, "numbers")
    assert box.take(1)[0].startswith("mine")
    bus.close()
    with pytest.raises(RuntimeError):
        dispatcher.submit(print)


def test_a_slow_subscriber_delays_only_itself(bus: pymq.NativeEventBus, box: Box) -> None:
    release = threading.Event()

    def slow(n: int) -> None:
        release.wait(HANG_GUARD)
        box.put(("slow", n))

    bus.subscribe(slow, "numbers")
    bus.subscribe(lambda n: box.put(("quick", n)), "numbers")
    for n in range(3):
        bus.publish(n, "numbers")
    assert box.take(3) == [("quick", 0), ("quick", 1), ("quick", 2)]
    release.set()
    assert box.take(6)[3:] == [("slow", 0), ("slow", 1), ("slow", 2)]


def test_a_remote_runs_one_call_at_a_time_unless_told_otherwise(
    bus: pymq.NativeEventBus,
) -> None:
    running = threading.Lock()

    def alone() -> bool:
        free = running.acquire(blocking=False)
        if free:
            running.release()
        return free

    bus.expose(alone, "alone")
    with ThreadPoolExecutor(8) as callers:
        results = list(callers.map(lambda _: bus.stub("alone")(), range(50)))
    assert all(results)


def test_a_waiting_callback_yields_its_turn_and_goes_on_before_others_begin(
    one_row: pymq.NativeEventBus, box: Box
) -> None:
    jobs = one_row.queue("jobs")

    def first(event: str) -> None:
        box.put("first begins")
        box.put(("first got", jobs.get(timeout=HANG_GUARD)))

    def second(event: str) -> None:
        box.put("second begins")
        jobs.put("job")
        box.put("second ends")

    one_row.subscribe(first, "one")
    one_row.subscribe(second, "two")
    one_row.publish("go", "one")
    box.take(1)
    one_row.publish("go", "two")
    assert box.take(4) == ["first begins", "second begins", "second ends", ("first got", "job")]


def test_nested_calls_never_deadlock(one_row: pymq.NativeEventBus) -> None:
    def fall(n: int) -> int:
        return 0 if n == 0 else 1 + one_row.stub("fall", timeout=HANG_GUARD)(n - 1)

    one_row.expose(fall, "fall")
    assert one_row.stub("fall")(20) == 20
    assert one_row.stub("fall")(5) == 5


def test_a_remote_of_a_bus_at_an_address_can_call_itself(bus: pymq.NativeEventBus) -> None:
    def fall(n: int) -> int:
        return 0 if n == 0 else 1 + bus.stub("fall", timeout=HANG_GUARD)(n - 1)

    bus.expose(fall, "fall")
    assert bus.stub("fall")(5) == 5


def test_coroutines_that_wait_yield_their_turn(one_row: pymq.NativeEventBus) -> None:
    on_loops = aio.AsyncEventBus(one_row)

    async def fall(n: int) -> int:
        if n == 0:
            return 0
        below: int = await on_loops.stub("fall", timeout=HANG_GUARD)(n - 1)
        return 1 + below

    one_row.expose(fall, "fall")
    assert one_row.stub("fall")(5) == 5


def test_coroutines_run_on_the_loop_they_were_registered_from(
    bus: pymq.NativeEventBus, box: Box
) -> None:
    async def main() -> None:
        here = asyncio.get_running_loop()
        arrived = asyncio.Event()

        async def on_news(event: str) -> None:
            box.put(asyncio.get_running_loop() is here)
            arrived.set()

        bus.subscribe(on_news, "news")
        bus.publish("hello", "news")
        await asyncio.wait_for(arrived.wait(), HANG_GUARD)
        bus.unsubscribe(on_news, "news")

    asyncio.run(main())
    assert box.items == [True]


@pytest.mark.parametrize("raised", [ValueError("x"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_callback_raises_the_bus_goes_on(
    bus: pymq.NativeEventBus,
    box: Box,
    caplog: pytest.LogCaptureFixture,
    raised: BaseException,
) -> None:
    def on_news(event: str) -> None:
        if event == "bad":
            raise raised
        box.put(event)

    bus.subscribe(on_news, "news")
    bus.publish("bad", "news")
    bus.publish("good", "news")
    assert box.take(1) == ["good"]
    (record,) = caplog.records
    assert record.name == "pymq"
    assert "on_news" in record.getMessage()


def test_an_undecodable_event_is_dropped_and_named(
    bus: pymq.NativeEventBus, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    bus.subscribe(box.put, "news")
    bus._native.publish("news", b"{secret").wait()
    bus.publish("good", "news")
    assert box.take(1) == ["good"]
    assert "'news'" in caplog.text
    assert "secret" not in caplog.text


def test_a_callback_can_unsubscribe_itself(bus: pymq.NativeEventBus, box: Box) -> None:
    def once(event: str) -> None:
        bus.unsubscribe(once, "news")
        box.put(event)

    bus.subscribe(once, "news")
    bus.publish("one", "news")
    box.take(1)
    assert bus.publish("two", "news") == 0
    assert box.items == ["one"]


def test_a_callback_can_close_its_bus(connect: Connect, box: Box) -> None:
    bus = connect()

    def last(event: str) -> None:
        bus.close()
        box.put(bus.closed)

    bus.subscribe(last, "news")
    bus.publish("bye", "news")
    assert box.take(1) == [True]


def test_close_first_runs_what_was_received(connect: Connect, box: Box) -> None:
    bus = connect()
    begun, release = threading.Event(), threading.Event()

    def slow(n: int) -> None:
        begun.set()
        release.wait(HANG_GUARD)
        box.put(n)

    bus.subscribe(slow, "numbers")
    for n in range(5):
        bus.publish(n, "numbers")
    begun.wait(HANG_GUARD)
    # All five are here, or on their way to a subscriber that close() would cut off.
    wait_until(lambda: bus.publish("x", "nobody") == 0, "the server has seen all")
    closer = threading.Thread(target=bus.close)
    closer.start()
    release.set()
    closer.join(HANG_GUARD)
    assert box.items == list(range(5))


def test_close_does_not_wait_longer_than_it_was_told(connect: Connect) -> None:
    bus = connect()
    begun, release = threading.Event(), threading.Event()

    def stuck(event: str) -> None:
        begun.set()
        release.wait(HANG_GUARD)

    bus.subscribe(stuck, "news")
    bus.publish("hello", "news")
    begun.wait(HANG_GUARD)
    bus.close(timeout=0.05)
    assert bus.closed
    assert not release.is_set()
    release.set()


def test_a_remote_knows_whether_its_caller_still_waits(bus: pymq.NativeEventBus, box: Box) -> None:
    begun = threading.Event()

    def patient() -> None:
        call = pymq.current_call()
        assert call is not None
        box.put((call.function, call.cancelled))
        begun.set()
        wait_until(lambda: call.cancelled, "the caller has gone")
        box.put("cancelled")

    async def give_up_when_it_runs() -> None:
        calling = asyncio.create_task(aio.AsyncEventBus(bus).stub("patient")())
        assert await asyncio.to_thread(begun.wait, HANG_GUARD)
        calling.cancel()

    bus.expose(patient, "patient")
    assert pymq.current_call() is None
    asyncio.run(give_up_when_it_runs())
    assert box.take(2) == [("patient", False), "cancelled"]


def test_wrong_options_are_refused(bus: pymq.NativeEventBus) -> None:
    wrong: list[Callable[[], Any]] = [
        lambda: bus.expose(print, "print", concurrency=0),
        lambda: bus.stub("x", timeout=-1),
        lambda: bus.queue("x", ack="never"),  # type: ignore[arg-type]
        lambda: bus.queue("x", lease=0),
        lambda: bus.queue("x", max_deliveries=-1),
        lambda: bus.queue("x", prefetch=0),
        lambda: bus.queue(""),
        lambda: pymq.connect("memory://", workers=0),
        lambda: pymq.connect("memory://", trust="all"),
        lambda: pymq.connect("carrier-pigeon://loft"),
    ]
    for call in wrong:
        with pytest.raises(ValueError, match=r"."):
            call()
