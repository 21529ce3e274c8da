"""What travels beside an item, whoever takes it and by whatever door; items of several queues."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

import pymq
import pymq.aio
from conftest import HANG_GUARD, Box, wait_until


def told() -> tuple[Any, ...]:
    message = pymq.current_message()
    if message is None:
        return ()
    return (message.topic, dict(message.headers), message.id, message.deliveries)


@pytest.mark.parametrize("how", ["get", "get_nowait", "loop", "get_from"])
def test_who_gets_an_item_learns_what_was_said_beside_it(
    bus: pymq.NativeEventBus, how: str
) -> None:
    queue = bus.queue("jobs")
    loop = iter(queue)
    gets: dict[str, Any] = {
        "get": queue.get,
        "get_nowait": queue.get_nowait,
        "loop": lambda: next(loop),
        "get_from": lambda: pymq.get_from([queue])[1],
    }
    queue.put({"a": 1}, headers={"tenant": "north"})
    queue.put("plain")
    assert gets[how]() == {"a": 1}
    assert told() == ("jobs", {"tenant": "north"}, None, 1)
    message = pymq.current_message()
    assert message is not None
    assert message.sent is not None
    assert abs(message.sent.timestamp() - time.time()) < HANG_GUARD
    assert gets[how]() == "plain"
    assert told() == ("jobs", {}, None, 1)


def test_a_delivery_says_it_and_its_block_handles_it(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put_many([1, 2], headers={"tenant": "north"})
    before = told()
    delivery = queue.get_delivery()
    assert told() == before
    with delivery:
        assert (delivery.message.topic, dict(delivery.message.headers)) == (
            "jobs",
            {"tenant": "north"},
        )
        assert told() == ("jobs", {"tenant": "north"}, None, 1)
        queue.get()
        # The block is about its delivery, whatever else it takes.
        assert told()[3] == 1
        bus.queue("other").put("x", headers={"of": "the other"})
        assert bus.queue("other").get() == "x"
        assert told()[0] == "jobs"
    assert told() == before


def test_a_handler_reads_it_in_threads_and_on_loops(bus: pymq.NativeEventBus, box: Box) -> None:
    def handle(item: str) -> None:
        box.put(told())

    async def handle_too(item: str) -> None:
        await asyncio.sleep(0)
        box.put(told())

    queue = bus.queue("jobs")
    before = told()
    for handler in (handle, handle_too):
        with queue.work(handler):
            queue.put("x", headers={"tenant": "north"}, id=f"order-{handler.__name__}")
            queue.join()
    assert box.take(2) == [
        ("jobs", {"tenant": "north"}, f"order-{handler.__name__}", 1)
        for handler in (handle, handle_too)
    ]
    assert told() == before


def test_what_a_handler_was_passed_goes_into_its_calls(bus: pymq.NativeEventBus, box: Box) -> None:
    """As for exposed functions: an item has no `passed` headers of its own to carry on."""
    bus.expose(lambda: dict(pymq.current_message().headers), "seen")  # type: ignore[union-attr]
    queue = bus.queue("jobs")
    with queue.work(lambda _: box.put(bus.stub("seen", headers={"of": "the call"})())):
        queue.put("x", headers={"of": "the item"})
        assert box.take(1) == [{"of": "the call"}]


def test_aio_doors_tell_it_too(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue, other = bus.queue("jobs"), bus.queue("others")
            await queue.put("one", headers={"n": "1"})
            assert await queue.get() == "one"
            assert told() == ("jobs", {"n": "1"}, None, 1)
            await queue.put_many(["two"], headers={"n": "2"})
            async with await queue.get_delivery() as delivery:
                assert (delivery.item, told()) == ("two", ("jobs", {"n": "2"}, None, 1))
                assert delivery.message.headers == {"n": "2"}
            await other.put("three", headers={"n": "3"})
            assert await pymq.aio.get_from([queue, other]) == (other, "three")
            assert told() == ("others", {"n": "3"}, None, 1)
            seen: list[Any] = []

            async def handle(item: str) -> None:
                seen.append(told())

            working = asyncio.create_task(queue.work(handle))
            await queue.put("four", headers={"n": "4"})
            await queue.join()
            working.cancel()
            assert seen == [("jobs", {"n": "4"}, None, 1)]

    asyncio.run(main())


def test_peeking_and_dead_letters_read_past_it(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put({"a": 1}, headers={"tenant": "north"})
    assert queue.peek() == [{"a": 1}]
    queue.get_delivery().reject()
    (letter,) = queue.dead_letters()
    assert letter.item == {"a": 1}
    assert dict(letter.message.headers) == {"tenant": "north"}


def test_headers_that_are_none_are_refused_where_they_are_written(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs")
    with pytest.raises(TypeError):
        queue.put("x", headers={"n": 1})  # type: ignore[dict-item]
    with pytest.raises(pymq.EncodeError):
        queue.put("x", headers={"n": "x" * 9000})
    assert queue.empty()


def test_the_line_on_a_failure_names_the_item(
    bus: pymq.NativeEventBus, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(item: str) -> None:
        raise OSError("away")

    queue = bus.queue("jobs", retry=[])
    queue.put("x", id="order-17")
    queue.put("y")
    with caplog.at_level(logging.ERROR), queue.work(fail):
        wait_until(lambda: queue.unfinished_tasks == 0, "all are given up")
    lines = [record.message for record in caplog.records if "failed at attempt" in record.message]
    assert any("item order-17 failed" in line for line in lines)
    assert all(line.startswith("queue 'jobs': item ") for line in lines)


# ---- several queues


def test_an_item_comes_from_the_first_queue_that_has_one(bus: pymq.NativeEventBus) -> None:
    urgent, normal = bus.queue("urgent", ack="manual"), bus.queue("normal", ack="manual")
    normal.put_many([1, 2])
    urgent.put(0)
    assert pymq.get_from([urgent, normal]) == (urgent, 0)
    assert pymq.get_from([urgent, normal]) == (normal, 1)
    urgent.task_done()
    normal.task_done()
    assert (urgent.unfinished_tasks, normal.unfinished_tasks) == (0, 1)
    # Waited for at both, and what comes to one is taken there.
    assert pymq.get_from((urgent, normal))[1] == 2
    # Usually they are waited for by then; an item that is there already is right too.
    timer = threading.Timer(0.05, urgent.put, ["late"])
    timer.start()
    assert pymq.get_from([normal, urgent], timeout=HANG_GUARD) == (urgent, "late")
    timer.join()
    with pytest.raises(pymq.Empty):
        pymq.get_from([urgent, normal], timeout=0.01)
    with pytest.raises(pymq.Empty):
        pymq.get_from([urgent, normal], block=False)


def test_queues_that_were_shut_down_are_passed_over_until_all_are(bus: pymq.NativeEventBus) -> None:
    first, second = bus.queue("first"), bus.queue("second")
    first.shutdown()
    second.put("x")
    assert pymq.get_from([first, second]) == (second, "x")
    second.shutdown()
    with pytest.raises(pymq.ShutDown):
        pymq.get_from([first, second])


def test_what_cannot_be_taken_from_is_refused_by_name(bus: pymq.NativeEventBus) -> None:
    import queue

    with pytest.raises(ValueError, match="no queue"):
        pymq.get_from([])
    with pytest.raises(TypeError, match="get_from takes from queues of a bus"):
        pymq.get_from([queue.Queue()])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="non-negative"):
        pymq.get_from([bus.queue("jobs")], timeout=-1)
    with (
        pymq.connect("memory://elsewhere") as other,
        pytest.raises(ValueError, match="one bus"),
    ):
        pymq.get_from([bus.queue("jobs"), other.queue("jobs")])


def test_an_aio_get_from_several_that_is_cancelled_loses_nothing(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queues = [bus.queue("urgent"), bus.queue("normal")]
            for _ in range(20):
                waiting = asyncio.ensure_future(pymq.aio.get_from(queues))
                await asyncio.sleep(0)
                waiting.cancel()
            await queues[1].put("x")
            assert await pymq.aio.get_from(queues, timeout=HANG_GUARD) == (queues[1], "x")
            with pytest.raises(pymq.Empty):
                await pymq.aio.get_from(queues, timeout=0.01)

    asyncio.run(main())
