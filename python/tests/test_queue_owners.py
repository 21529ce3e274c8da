"""Whose an item is: `task_done` confirms what was done, and what an ended thread left goes back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import multiprocessing
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pymq
import pymq.aio
from conftest import HANG_GUARD, Box, wait_until

Connect = Callable[..., pymq.NativeEventBus]


def in_thread(work: Callable[[], Any]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(HANG_GUARD)
    assert not thread.is_alive()
    # What it left open goes back when the system's thread ends, a moment after Python's.
    wait_until(lambda: not Path(f"/proc/self/task/{thread.native_id}").exists(), "it has ended")


def test_what_a_thread_left_open_goes_back_and_nobody_elses_task_done_confirms_it(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs", ack="manual")
    queue.put_many(["fails", "one", "two"])
    done: list[Any] = []
    left = 0

    def work() -> None:
        nonlocal left
        job = queue.get(timeout=HANG_GUARD)
        if job == "fails":
            # It may be back before the others are done.
            left += 1
            return
        done.append(job)
        queue.task_done()

    while len(done) < 2:
        in_thread(work)
    assert done == ["one", "two"]
    assert left >= 1
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
    with queue.get_delivery(timeout=HANG_GUARD) as delivery:
        assert (delivery.item, delivery.deliveries) == ("fails", left + 1)
    assert queue.unfinished_tasks == 0


def test_what_a_thread_left_is_nobodys_to_confirm_once_it_was_joined(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs", ack="manual")
    for number in range(100):
        queue.put(number)
        thread = threading.Thread(target=queue.get)
        thread.start()
        thread.join(HANG_GUARD)
        # The system's thread may be there still.
        with pytest.raises(ValueError, match="too many"):
            queue.task_done()
        queue.close()
        queue.purge()


def test_task_done_confirms_what_a_thread_that_lives_has_open(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", ack="manual")
    queue.put_many(["left", "held"])
    in_thread(queue.get)
    has_it, ends = threading.Event(), threading.Event()

    def hold() -> None:
        queue.get(timeout=HANG_GUARD)
        has_it.set()
        ends.wait(HANG_GUARD)

    thread = threading.Thread(target=hold)
    thread.start()
    assert has_it.wait(HANG_GUARD)
    queue.task_done()
    ends.set()
    thread.join(HANG_GUARD)
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()


def test_task_done_confirms_the_item_that_was_done_not_one_that_failed_before(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs", ack="manual")
    queue.put_many(["fails", "one", "two"])
    assert queue.get() == "fails"
    for job in ("one", "two"):
        assert queue.get() == job
        queue.task_done()
    queue.close()
    assert queue.get(timeout=HANG_GUARD) == "fails"
    assert queue.empty()


def test_items_of_one_call_are_confirmed_in_their_order(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", ack="manual")
    queue.put_many(["earlier", "one", "two", "three"])
    assert queue.get() == "earlier"
    assert queue.get_many(3) == ["one", "two", "three"]
    queue.task_done()
    queue.task_done()
    queue.close()
    assert queue.get_many(5, timeout=HANG_GUARD) == ["earlier", "three"]


def test_a_thread_may_confirm_what_another_one_got(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", ack="manual")
    queue.put_many(["one", "two"])
    assert queue.get_many(2) == ["one", "two"]
    in_thread(queue.task_done)
    queue.close()
    assert queue.get(timeout=HANG_GUARD) == "two"


def test_task_done_in_a_loop_confirms_the_item_in_hand(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put_many(["one", "two", "three"])
    for item in queue:
        queue.task_done()
        if item == "two":
            break
    gc.collect()
    assert queue.get(timeout=HANG_GUARD) == "three"
    queue.task_done()
    assert queue.unfinished_tasks == 0


def test_a_loop_that_is_stopped_ends_after_its_item(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", prefetch=5)
    queue.put_many(range(4))
    served = []
    for item in queue:
        served.append(item)
        if item == 1:
            queue.stop()
    assert served == [0, 1]
    with pytest.raises(pymq.exceptions.ClosedError, match="stopped"):
        queue.get()
    other = bus.queue("jobs")
    assert sorted(other.get(timeout=HANG_GUARD) for _ in range(2)) == [2, 3]


def test_a_stop_ends_loops_and_gets_that_wait(bus: pymq.NativeEventBus, box: Box) -> None:
    queue = bus.queue("jobs")

    def get() -> None:
        with pytest.raises(pymq.exceptions.ClosedError):
            queue.get()
        box.put("get")

    threads = [
        threading.Thread(target=lambda: box.put(list(queue))),
        threading.Thread(target=get),
    ]
    for thread in threads:
        thread.start()
    queue.stop()
    assert sorted(map(str, box.take(2))) == ["[]", "get"]
    for thread in threads:
        thread.join(HANG_GUARD)


def test_a_signal_handler_may_stop_the_loop_of_its_thread(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put("job")
    before = signal.signal(signal.SIGALRM, lambda *_: queue.stop())
    served = []
    try:
        for item in queue:
            served.append(item)
            # It rings while the loop waits for the next one, or still has this one in hand.
            signal.setitimer(signal.ITIMER_REAL, 0.05)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert served == ["job"]
    assert queue.unfinished_tasks == 0


def test_a_loop_ends_when_its_bus_closes(connect: Connect, box: Box) -> None:
    bus = connect()
    queue = bus.queue("jobs")
    queue.put("job")
    served: Box = Box()

    def serve() -> None:
        for item in queue:
            served.put(item)
        box.put("ended")

    thread = threading.Thread(target=serve)
    thread.start()
    served.take(1)
    bus.close()
    assert box.take(1) == ["ended"]
    thread.join(HANG_GUARD)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (option, value)
        for option, values in {
            "lease": [0, -1, float("nan"), float("inf"), 1e300, True, "30", None],
            "max_deliveries": [-1, 1.5, 2**32, True, float("nan"), "5"],
            "prefetch": [0, -1, 1.5, 10**9, True, float("inf")],
            "maxsize": [1.5, True, "1", float("nan"), None],
        }.items()
        for value in values
    ],
)
def test_an_option_that_makes_no_sense_is_refused_by_name(option: str, value: Any) -> None:
    with pymq.connect("memory://") as bus, pytest.raises(ValueError, match=option):
        bus.queue("jobs", **{option: value})


def test_a_bound_that_no_memory_holds_is_none() -> None:
    with pymq.connect("memory://") as bus:
        queue = bus.queue("jobs", maxsize=10**30)
        queue.put(1, block=False)
        queue.maxsize = 10**40
        queue.put(2, block=False)
        with pytest.raises(ValueError, match="maxsize"):
            queue.maxsize = 1.5  # type: ignore[assignment]


# ---- on event loops


def test_a_task_that_failed_gives_back_what_it_had_open(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs", ack="manual")
            await queue.put("fails")

            async def work() -> None:
                if await queue.get() == "fails":
                    raise RuntimeError("it failed")
                await queue.task_done()

            assert isinstance((await asyncio.gather(work(), return_exceptions=True))[0], Exception)
            delivery = await queue.get_delivery(timeout=HANG_GUARD)
            assert (delivery.item, delivery.deliveries) == ("fails", 2)
            await delivery.ack()
            await queue.put("works")
            await work()
            assert await queue.unfinished_tasks() == 0

    asyncio.run(main())


def test_what_a_task_had_open_goes_back_when_its_loop_is_closed_and_it_is_collected(
    bus: pymq.NativeEventBus,
) -> None:
    queue = pymq.aio.AsyncEventBus(bus).queue("jobs", ack="manual")
    bus.queue("jobs").put("one")

    def run_and_close() -> None:
        loop = asyncio.new_event_loop()

        async def work() -> None:
            await queue.get()
            loop.stop()
            await asyncio.Event().wait()

        task = loop.create_task(work())
        loop.run_forever()
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    run_and_close()
    gc.collect()
    with bus.queue("jobs").get_delivery(timeout=HANG_GUARD) as delivery:
        assert (delivery.item, delivery.deliveries) == ("one", 2)


def test_the_one_who_asks_owns_what_a_task_of_its_own_waits_for(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs", ack="manual")
            await queue.put_many([1, 2, 3, 4])
            assert await asyncio.wait_for(queue.get(), HANG_GUARD) == 1
            assert await asyncio.create_task(queue.get()) == 2
            assert await asyncio.gather(queue.get()) == [3]

            async def fetch() -> Any:
                return await queue.get()

            assert await asyncio.wait_for(fetch(), HANG_GUARD) == 4
            for _ in range(4):
                await queue.task_done()
            with pytest.raises(ValueError, match="too many"):
                await queue.task_done()
            assert await queue.unfinished_tasks() == 0

    asyncio.run(main())


def test_a_cancelled_get_task_keeps_nothing(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs", ack="manual")
            waiting = [asyncio.create_task(queue.get()) for _ in range(20)]
            await asyncio.sleep(0)
            await queue.put_many(range(20))
            for task in waiting[::2]:
                task.cancel()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            kept = [result for result in results if isinstance(result, int)]
            left: list[Any] = []
            while len(kept) + len(left) < 20:
                delivery = await queue.get_delivery(timeout=HANG_GUARD)
                assert delivery.deliveries == 1
                left.append(delivery.item)
                await delivery.ack()
            assert sorted(kept + left) == list(range(20))

    asyncio.run(main())


def test_an_async_loop_is_stopped_and_confirms_as_others_do(url: str) -> None:
    async def main() -> None:
        async with pymq.aio.connect(url) as bus:
            queue = bus.queue("jobs")
            await queue.put_many(range(3))
            async for item in queue:
                if item == 1:
                    await queue.task_done()
                    break
            gc.collect()
            served = []
            async for item in queue:
                served.append(item)
                queue.stop()
            assert served == [2]
            assert await queue.unfinished_tasks() == 0
            ending = asyncio.create_task(serve(bus.queue("jobs")))
            await asyncio.sleep(0)
        assert await ending == []

    async def serve(queue: pymq.aio.AsyncQueue[Any]) -> list[Any]:
        return [item async for item in queue]

    asyncio.run(main())


def test_a_closed_event_loop_takes_no_item(bus: pymq.NativeEventBus) -> None:
    loop = asyncio.new_event_loop()
    queue = pymq.aio.AsyncEventBus(bus).queue("jobs")

    async def wait() -> None:
        await queue.get()

    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    wait_until(lambda: bus.queue("jobs").stats().consumers == 1, "it waits")
    loop.close()
    bus.queue("jobs").put("one")
    with bus.queue("jobs").get_delivery(timeout=HANG_GUARD) as delivery:
        assert (delivery.item, delivery.deliveries) == ("one", 1)
    task._log_destroy_pending = False  # type: ignore[attr-defined]


# ---- children


def take_one(url: str, seen: Any) -> None:
    seen.put(pymq.connect(url).queue("jobs").get(timeout=HANG_GUARD))


def take_one_and_keep_the_bus(url: str, seen: Any) -> None:
    bus = pymq.connect(url)
    seen.put(bus.queue("jobs").get(timeout=HANG_GUARD))
    globals()["kept"] = bus


@pytest.mark.parametrize("take", [take_one, take_one_and_keep_the_bus])
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_of_multiprocessing_that_ends_well_confirms_its_last_get(
    redis_url: str, method: str, take: Any
) -> None:
    context = multiprocessing.get_context(method)
    seen = context.SimpleQueue()
    with pymq.connect(redis_url) as bus:
        queue = bus.queue("jobs")
        queue.put_many(range(3))
        for _ in range(3):
            child = context.Process(target=take, args=(redis_url, seen))
            child.start()
            child.join(HANG_GUARD)
            assert child.exitcode == 0
        assert sorted(seen.get() for _ in range(3)) == [0, 1, 2]
        again: list[Any] = []

        def all_is_confirmed() -> bool:
            # The server may not have answered a child that said good-bye: then its item comes back.
            with contextlib.suppress(pymq.Empty), queue.get_delivery(block=False) as delivery:
                again.append(delivery.item)
            return queue.unfinished_tasks == 0

        wait_until(all_is_confirmed, "all is confirmed")
        assert len(again) < 3
