"""Queues that people run their jobs on: workers, retries, items for later, dead letters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import pymq
import pymq.aio
from conftest import HANG_GUARD, Box, lengths, wait_until


def test_every_transport_can_do_what_jobs_need(bus: pymq.NativeEventBus) -> None:
    """So that no test here has to ask."""
    able = bus.capabilities
    assert all(able[what] for what in ("put_options", "letters"))


def test_a_worker_confirms_what_its_handler_did(bus: pymq.NativeEventBus, box: Box) -> None:
    queue = bus.queue("jobs")
    with queue.work(box.put, concurrency=4) as worker:
        queue.put_many(range(50))
        assert sorted(box.take(50)) == list(range(50))
        queue.join()
        assert worker.running
    assert not worker.running
    assert queue.unfinished_tasks == 0


def test_an_async_handler_runs_beside_others(bus: pymq.NativeEventBus, box: Box) -> None:
    both = asyncio.Event()

    async def handle(item: int) -> None:
        if item == 2:
            both.set()
        await asyncio.wait_for(both.wait(), HANG_GUARD)
        box.put(item)

    queue = bus.queue("jobs")
    with queue.work(handle, concurrency=2):
        queue.put_many([1, 2])
        assert sorted(box.take(2)) == [1, 2]
        queue.join()


def test_a_handler_that_asks_for_the_delivery_gets_it(bus: pymq.NativeEventBus, box: Box) -> None:
    def handle(delivery: pymq.Delivery[Any]) -> None:
        box.put((delivery.item, delivery.deliveries))
        if delivery.deliveries == 1:
            delivery.requeue()
        elif delivery.item == "bad":
            delivery.reject("no good")

    queue = bus.queue("jobs")
    queue.put("bad")
    with queue.work(handle):
        assert box.take(2) == [("bad", 1), ("bad", 2)]
        queue.join()
    assert queue.stats().dead == 1


class Unnamed(type):
    @property
    def __name__(cls) -> str:
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=Unnamed):
    pass


class Wordless(Exception):
    def __str__(self) -> str:
        raise SystemExit("no words")


@pytest.mark.parametrize("raised", [Nameless(), Wordless(), ValueError("\ud800"), MemoryError()])
def test_whatever_a_handler_raises_its_item_is_settled(
    bus: pymq.NativeEventBus, caplog: pytest.LogCaptureFixture, raised: Exception
) -> None:
    # What cannot be printed cannot be shown by pytest either.
    caplog.set_level(100, "pymq")

    def handle(_: int) -> None:
        raise raised

    async def handle_on_the_loop(_: int) -> None:
        raise raised

    for handler in (handle, handle_on_the_loop):
        queue = bus.queue("jobs", retry=pymq.Retry.never())
        queue.put(1)
        with queue.work(handler):
            queue.join()
        dead = queue.dead_letters()
        assert [letter.reason for letter in dead] == ["failed"]
        dead.purge()


def test_wrong_options_are_refused_where_they_are_said(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    dead = queue.dead_letters()
    refused: list[Any] = [
        lambda: queue.work(print, concurrency=10**9),
        lambda: queue.work(print, grace=float("nan")),
        lambda: queue.work(print, grace="long"),  # type: ignore[arg-type]
        lambda: queue.put(1, at="now"),  # type: ignore[arg-type]
        lambda: queue.put(1, timeout="1"),  # type: ignore[arg-type]
        lambda: queue.peek(-1),
        lambda: dead.redrive(to="others"),
        lambda: dead.redrive(where=5),  # type: ignore[arg-type]
        lambda: dead.purge(1.5),  # type: ignore[arg-type]
        lambda: pymq.Retry.after("1"),  # type: ignore[arg-type]
        lambda: pymq.Retry.after([10**400]),
        lambda: pymq.Retry.exponential("1"),  # type: ignore[arg-type]
        lambda: pymq.connect("memory://", dispatcher="me"),  # type: ignore[call-overload]
    ]
    for wrong in refused:
        with pytest.raises((TypeError, ValueError)) as told:
            wrong()
        said = str(told.value)
        names = ("concurrency", "grace", "at", "priority", "timeout", "limit", "to", "where")
        assert any(name in said for name in (*names, "retry", "dispatcher")), said
    assert queue.stats().waiting == 0


def test_a_handler_may_have_the_item_and_its_delivery(bus: pymq.NativeEventBus, box: Box) -> None:
    def beside(item: int, delivery: pymq.Delivery[int]) -> None:
        box.put((item, delivery.item, delivery.deliveries))

    def perhaps(item: int, *, delivery: pymq.Delivery[int] | None = None) -> None:
        assert delivery is not None
        box.put((item, delivery.item, delivery.deliveries))

    async def on_a_loop(delivery: pymq.Delivery[int], other: int = 7) -> None:
        box.put((delivery.item, other, delivery.deliveries))

    queue = bus.queue("jobs")
    for handler in (beside, perhaps, on_a_loop):
        with queue.work(handler):
            queue.put(7)
            queue.join()
    assert box.take(3) == [(7, 7, 1)] * 3

    def elsewhere(delivery: pymq.aio.AsyncDelivery[int]) -> None: ...

    with pytest.raises(TypeError, match="asks for AsyncDelivery, and is given Delivery"):
        queue.work(elsewhere)


@pytest.mark.parametrize("bad", [-1, float("nan"), "10", None, True])
def test_a_grace_that_makes_no_sense_is_refused(bus: pymq.NativeEventBus, bad: Any) -> None:
    queue = bus.queue("jobs")
    with pytest.raises((ValueError, TypeError), match="grace is a length in seconds"):
        queue.work(print, grace=bad)
    with queue.work(print) as worker, pytest.raises((ValueError, TypeError), match="grace"):
        worker.close(grace=bad)

    async def main() -> None:
        with pytest.raises((ValueError, TypeError), match="grace"):
            await pymq.aio.AsyncEventBus(bus).queue("jobs").work(print, grace=bad)

    asyncio.run(main())


def test_what_fails_is_tried_again_and_then_given_up_with_its_reason(
    bus: pymq.NativeEventBus, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    def handle(item: str) -> None:
        tried.append(item)
        raise OSError("the dependency is away")

    queue = bus.queue("jobs", retry=[0.01, 0.01])
    queue.put("job")
    with queue.work(handle):
        wait_until(lambda: queue.stats().dead == 1, "it is given up")
    assert tried == ["job"] * 3
    (letter,) = queue.dead_letters()
    assert (letter.item, letter.reason, letter.error) == ("job", "failed", "OSError")
    assert (letter.words, letter.deliveries) == ("the dependency is away", 3)
    assert letter.origin.endswith(f":{os.getpid()}")
    assert letter.died is not None
    failures = [record for record in caplog.records if "failed at attempt" in record.message]
    assert [record.levelno for record in failures] == [logging.ERROR] * 3
    assert "again in 0.0 s" in failures[0].message
    assert "given up" in failures[2].message


def test_some_errors_are_given_up_at_once_and_a_dead_letter_may_go_back(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs", retry=pymq.Retry().giving_up_on(ValueError))
    queue.put_many(["one", "two", "three"])

    def handle(item: str) -> None:
        raise ValueError(item)

    with queue.work(handle):
        wait_until(lambda: queue.stats().dead == 3, "all are given up")
    letters = queue.dead_letters()
    assert len(letters) == 3
    assert letters.redrive(where=lambda letter: letter.words == "two") == 1
    assert queue.get(timeout=HANG_GUARD) == "two"
    other = bus.queue("other")
    assert letters.redrive(1, to=other) == 1
    assert other.get(timeout=HANG_GUARD) == "one"
    assert letters.purge() == 1
    assert not letters


def test_a_dead_letter_that_cannot_be_read_is_listed_with_its_bytes(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs")
    queue._handle.native.put([b"{no json", b'"good"'], True, None).wait()
    with pytest.raises(pymq.DecodeError):
        queue.get()
    queue.get_delivery().reject()
    unreadable, good = queue.dead_letters()
    assert (unreadable.reason, unreadable.payload) == ("undecodable", b"{no json")
    with pytest.raises(pymq.DecodeError):
        _ = unreadable.item
    assert (good.reason, good.item) == ("rejected", "good")


def test_items_come_when_they_are_due_in_the_order_of_their_time(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs")

    def put_all(length: float) -> bool:
        now = datetime.now(timezone.utc)
        queue.put("first")
        queue.put("last", at=now + timedelta(seconds=3 * length))
        queue.put("second", delay=length)
        if datetime.now(timezone.utc) < now + timedelta(seconds=length):
            return True
        queue.purge()
        return False

    # All of them lie there before the first one is due.
    assert any(put_all(length) for length in lengths(0.1))
    assert [queue.get(timeout=HANG_GUARD) for _ in range(3)] == ["first", "second", "last"]
    later = bus.queue("later")
    later.put("again")
    later.get_delivery().requeue(delay=1000)
    later.put("x", delay=1000)
    later.put("y", at=datetime.now(timezone.utc) + timedelta(seconds=1000))
    assert (later.empty(), later.stats().delayed) == (True, 3)
    queue.put("again")
    queue.get_delivery().requeue(delay=0.05)
    assert queue.get(timeout=HANG_GUARD) == "again"
    with pytest.raises(ValueError, match="not both"):
        queue.put("x", delay=1, at=datetime.now(timezone.utc))
    for bad in (float("nan"), float("inf"), -1):
        with pytest.raises(ValueError, match="delay"):
            queue.put("x", delay=bad)
    with pytest.raises(TypeError, match="at is a datetime, not 'tomorrow'"):
        queue.put("x", at="tomorrow")  # type: ignore[arg-type]
    assert queue.empty()


def test_a_bound_counts_what_is_due_later(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", maxsize=2)
    queue.put("now")
    assert not queue.full()
    queue.put("later", delay=1000)
    assert (queue.full(), queue.qsize()) == (True, 1)
    with pytest.raises(pymq.Full):
        queue.put("more", block=False)

    async def main() -> None:
        assert await pymq.aio.AsyncEventBus(bus).queue("jobs", maxsize=2).full()

    asyncio.run(main())
    assert queue.purge() == 2
    assert not queue.full()


@pytest.mark.parametrize(
    "retry", [[-1], ["1"], [True], float("inf"), "1s", [float("nan")], pymq.Retry.never]
)
def test_a_retry_that_cannot_be_is_refused_by_what_is_wrong_in_it(
    bus: pymq.NativeEventBus, retry: Any
) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^retry") as refused:
        bus.queue("jobs", retry=retry)
    assert "(1.0, 4.0" not in str(refused.value)
    with pytest.raises(ValueError, match="priorities is True or False"):
        bus.queue("jobs", priorities="yes")  # type: ignore[arg-type]


def test_a_put_with_an_id_is_done_once(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    assert queue.put("order", id="order-17")
    assert not queue.put("order", id="order-17")
    assert queue.get_many(5) == ["order"]


def test_urgent_items_come_first(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", priorities=True)
    assert queue.put("order")
    assert queue.put("urgent", priority=9)
    assert queue.peek(5) == ["urgent", "order"]
    assert queue.get_many(5) == ["urgent", "order"]


def test_urgent_items_come_first_to_who_waits_in_every_form(
    bus: pymq.NativeEventBus, box: Box
) -> None:
    queue = bus.queue("jobs", priorities=True, ack="manual", retry=[0.01, 0.01, 0.01])
    for number in range(30):
        queue.put(number, priority=number % 10)
    expected = sorted(range(30), key=lambda number: (-(number % 10), number))
    assert queue.peek(30) == expected
    # What is given back, now or for later, or rejected and brought back, keeps its own.
    first = queue.get_delivery()
    assert first.item == expected[0]
    first.requeue()
    second = queue.get_delivery()
    assert (second.item, second.deliveries) == (expected[0], 2)
    second.requeue(delay=0.001)
    wait_until(lambda: queue.stats().delayed == 0, "it is due")
    dead = queue.get_delivery()
    dead.reject()
    assert queue.dead_letters().redrive() == 1
    with queue.work(box.put):
        items = box.take(30)
        queue.join()
    assert (sorted(items[:3]), items[3:]) == (sorted(expected[:3]), expected[3:])
    assert queue.empty()
    for bad in (-1, 10):
        with pytest.raises(ValueError, match="0 to 9"):
            queue.put("x", priority=bad)
    with pytest.raises(pymq.ConfigError, match="no priorities"):
        bus.queue("jobs").put("x", priority=1)


def test_dead_letters_are_counted_read_chosen_moved_and_deleted(
    bus: pymq.NativeEventBus,
) -> None:
    queue, other = bus.queue("jobs", max_deliveries=1), bus.queue("other")
    queue.put_many(range(700), headers={"tenant": "north"})
    for number in range(700):
        with contextlib.suppress(OSError), queue.get_delivery() as delivery:
            raise OSError("even" if number % 2 == 0 else "odd")
        assert delivery.settled
    dead = queue.dead_letters()
    wait_until(lambda: len(dead) == 700, "all are given up")
    assert [letter.item for letter in dead] == list(range(700))
    assert {letter.message.headers["tenant"] for letter in dead} == {"north"}
    assert dead.redrive(where=lambda letter: letter.words == "odd") == 350
    assert dead.redrive(100, where=lambda letter: letter.item >= 300, to=other) == 100
    assert dead.purge(where=lambda letter: letter.item % 100 == 0) == 5
    assert dead.purge(10) == 10
    rest = [letter.item for letter in dead]
    moved = range(300, 500, 2)
    assert rest == [n for n in range(0, 700, 2) if n % 100 and n not in moved][10:]
    assert other.get_many(200) == list(range(300, 500, 2))
    assert queue.get_many(500, block=False)[:3] == [1, 3, 5]
    with pytest.raises(ValueError, match="limit"):
        dead.redrive(-1)
    with pytest.raises(ZeroDivisionError):
        dead.purge(where=lambda letter: bool(1 // 0))
    assert len(dead) == len(rest)


def test_dead_letters_are_chosen_on_an_event_loop_as_well(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs", ack="manual")
            await queue.put_many(range(40))
            for _ in range(40):
                await (await queue.get_delivery()).reject("no")
            dead = queue.dead_letters()
            assert await dead.redrive(where=lambda letter: letter.item % 2 == 1) == 20
            assert await dead.purge(5, where=lambda letter: letter.item > 10) == 5
            assert [letter.item async for letter in dead] == [*range(0, 11, 2), *range(22, 40, 2)]
            assert await dead.redrive(2) == 2
            assert await dead.count() == 13
            with pytest.raises(ValueError, match="limit"):
                await dead.purge(-1)

    asyncio.run(main())


def test_the_age_of_the_first_item_is_told_where_its_sender_said_it(
    bus: pymq.NativeEventBus, url: str
) -> None:
    queue = bus.queue("jobs")
    assert queue.stats().oldest is None
    queue.put("told", headers={"tenant": "north"})
    queue.put("told", id="order-17")
    queue.put("plain")
    for _ in range(2):
        # Any age will do.
        time.sleep(0.005)
        age = queue.stats().oldest
        assert age is not None
        assert 0 <= age < HANG_GUARD
        queue.get()
    assert queue.qsize() == 1
    known = bus.queue("jobs").stats().oldest
    # Over Redis an item has no time of its own.
    assert (known is None) == url.startswith("redis")
    queue.get()
    assert queue.stats().oldest is None


def test_only_so_many_dead_letters_are_kept(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", max_dead_letters=2)
    for number in range(4):
        queue.put(number)
        queue.get_delivery().reject(f"no {number}")
    assert [letter.words for letter in queue.dead_letters()] == ["no 2", "no 3"]


def test_an_item_is_confirmed_while_another_thread_extends_its_lease(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs")
    for number in range(60):
        queue.put(number)
        delivery = queue.get_delivery()

        def extend(delivery: pymq.Delivery[int] = delivery) -> None:
            # It may be confirmed by then.
            with contextlib.suppress(pymq.LeaseLostError, ValueError):
                delivery.extend(60)

        extending = threading.Thread(target=extend)
        extending.start()
        # So that one or the other is first, or both are at once.
        time.sleep(number % 8 * 0.0001)
        delivery.ack()
        extending.join()
    assert queue.unfinished_tasks == 0


def test_a_worker_that_is_closed_gives_back_what_does_not_end_in_time(
    bus: pymq.NativeEventBus, box: Box
) -> None:
    queue = bus.queue("jobs")
    queue.put("slow")
    let_go = threading.Event()

    def handle(item: str) -> None:
        box.put(item)
        let_go.wait(HANG_GUARD)

    worker = queue.work(handle)
    box.take(1)
    worker.close(grace=0.05)
    with queue.get_delivery(timeout=HANG_GUARD) as delivery:
        assert (delivery.item, delivery.deliveries) == ("slow", 1)
    let_go.set()
    assert worker.wait(HANG_GUARD)


def test_a_bus_that_closes_waits_for_its_workers(url: str) -> None:
    done = []
    with pymq.connect(url) as bus:
        queue = bus.queue("jobs")
        begun = threading.Event()

        def handle(item: int) -> None:
            begun.set()
            # Long enough for a close that does not wait to return; a right one passes at any speed.
            time.sleep(0.05)
            done.append(item)

        worker = queue.work(handle)
        queue.put(1)
        assert begun.wait(HANG_GUARD)
    assert done == [1]
    assert not worker.running


def test_an_aio_worker_serves_as_tasks_and_ends_when_it_is_cancelled(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs")
            done: list[int] = []

            async def handle(item: int) -> None:
                done.append(item)

            working = asyncio.create_task(queue.work(handle, concurrency=3))
            await queue.put_many(range(20))
            await queue.join()
            assert sorted(done) == list(range(20))
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            assert (await queue.stats()).leased == 0

    asyncio.run(main())


def test_an_aio_worker_that_is_cancelled_finishes_what_is_in_hand(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs")
            begun, go_on = asyncio.Event(), asyncio.Event()
            done: list[int] = []

            async def handle(item: int) -> None:
                begun.set()
                await go_on.wait()
                done.append(item)

            working = asyncio.create_task(queue.work(handle, grace=HANG_GUARD))
            await queue.put(1)
            await begun.wait()
            working.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await working
            stats = await bus.queue("jobs").stats()
            assert (done, stats.waiting, stats.leased) == ([1], 0, 0)

    asyncio.run(main())


def test_what_an_aio_worker_does_not_finish_in_time_goes_back_uncounted(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs")
            begun = asyncio.Event()

            async def handle(item: int) -> None:
                begun.set()
                await asyncio.Event().wait()

            working = asyncio.create_task(queue.work(handle, grace=0.0))
            await queue.put(1)
            await begun.wait()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            async with await bus.queue("jobs").get_delivery() as delivery:
                assert delivery.deliveries == 1

    asyncio.run(main())


@pytest.mark.parametrize("bad", [0, -1, 1.5, True, "2"])
def test_a_concurrency_that_makes_no_sense_is_refused(bus: pymq.NativeEventBus, bad: Any) -> None:
    with pytest.raises(ValueError, match="concurrency"):
        bus.queue("jobs").work(print, concurrency=bad)


@pytest.mark.parametrize("form", ["plain", "coroutine"])
def test_the_item_of_a_handler_that_closes_its_own_bus_is_settled(url: str, form: str) -> None:
    with pymq.connect(url) as other:
        bus = pymq.connect(url)
        queue = bus.queue("jobs")

        def handle(item: int) -> None:
            bus.close()

        async def handle_too(item: int) -> None:
            await pymq.aio.AsyncEventBus(bus).close()

        worker = queue.work(handle if form == "plain" else handle_too)
        queue.put(1)
        assert worker.wait(HANG_GUARD)
        assert bus.closed
        assert other.queue("jobs").unfinished_tasks == 0


def test_the_item_of_an_aio_handler_that_closes_its_own_bus_is_settled(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as other, pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs")

            async def handle(item: int) -> None:
                await bus.close()

            await queue.put(1)
            await asyncio.wait_for(queue.work(handle), HANG_GUARD)
            assert bus.closed
            assert await other.queue("jobs").unfinished_tasks() == 0

    asyncio.run(main())
