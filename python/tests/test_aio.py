"""The twins for event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

import pymq
from conftest import HANG_GUARD, wait_until
from pymq import aio


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, HANG_GUARD))


def test_events_queues_and_calls_are_awaited(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            seen: asyncio.Queue[Any] = asyncio.Queue()
            await bus.subscribe(seen.put, "news")
            assert await bus.publish("hello", "news") == 1
            assert await seen.get() == "hello"
            await bus.unsubscribe(seen.put, "news")
            assert await bus.publish("hello", "news") == 0

            jobs = bus.queue("jobs")
            await jobs.put({"n": 1})
            assert await jobs.qsize() == 1
            assert await jobs.get() == {"n": 1}
            assert await jobs.empty()

            async def double(n: int) -> int:
                await asyncio.sleep(0)
                return 2 * n

            await bus.expose(double, "double")
            assert await bus.stub("double")(4) == 8
            assert await bus.stub("double", multi=True)(n=5) == [10]
            await bus.unexpose("double")
            assert await bus.stub("double")(4) is None
            with pytest.raises(pymq.NoSuchRemoteError):
                await bus.stub("double").rpc(4)

    run(main())


def test_a_topic_is_an_asynchronous_iterator(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            topic = bus.topic("news.*", pattern=True)
            assert (topic.name, topic.is_pattern) == ("news.*", True)
            with pytest.raises(ValueError, match="pattern"):
                await topic.publish(1)
            async with topic.events() as events:
                for n in range(300):
                    await bus.topic(f"news.{n % 3}").publish(n)
                seen = []
                async for event in events:
                    seen.append(event)
                    if len(seen) == 300:
                        break
                assert seen == list(range(300))
            assert await bus.publish(1, "news.1") == 0

    run(main())


def test_events_end_with_their_bus(url: str) -> None:
    async def main() -> None:
        bus = await aio.connect(url)
        events = bus.topic("news").events()
        await events.start()
        await bus.publish("one", "news")
        assert await events.__anext__() == "one"
        closing = asyncio.create_task(bus.close())
        assert [event async for event in events] == []
        await closing

    run(main())


def test_a_cancelled_get_loses_no_item(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            jobs = bus.queue("jobs", ack="manual")
            for n in range(50):
                getter = asyncio.create_task(jobs.get())
                await asyncio.sleep(0)
                putting = asyncio.create_task(jobs.put(n))
                if n % 2:
                    await asyncio.sleep(0.001)
                getter.cancel()
                await asyncio.wait([getter, putting])
                if getter.cancelled():
                    assert await jobs.get(timeout=HANG_GUARD) == n
                await jobs.task_done()
            assert await jobs.qsize() == 0
            await jobs.join()

    run(main())


def test_a_cancelled_item_is_not_counted_as_a_delivery(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            jobs = bus.queue("jobs", ack="manual")
            for _ in range(10):
                getter = asyncio.create_task(jobs.get())
                # Usually it waits at the broker by then; one that has not got there is right too.
                await asyncio.sleep(0.002)
                getter.cancel()
                await asyncio.wait([getter])
            await jobs.put("job")
            async with await jobs.get_delivery() as delivery:
                assert (delivery.item, delivery.deliveries) == ("job", 1)

    run(main())


def test_ten_thousand_gets_wait_on_four_threads_at_most(url: str) -> None:
    async def main() -> None:
        before = threading.active_count()
        async with aio.connect(url) as bus:
            jobs = bus.queue("jobs")
            getters = [asyncio.create_task(jobs.get()) for _ in range(10_000)]
            await asyncio.sleep(0)
            assert threading.active_count() - before <= 4
            for begin in range(0, 10_000, 1000):
                await jobs.put_many(range(begin, begin + 1000))
            assert sorted(await asyncio.gather(*getters)) == list(range(10_000))

    run(main())


def test_deliveries_are_settled(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            jobs = bus.queue("jobs", max_deliveries=3)
            await jobs.put("job")
            with pytest.raises(RuntimeError):
                async with await jobs.get_delivery():
                    raise RuntimeError("failed")
            delivery = await jobs.get_delivery()
            assert delivery.deliveries == 2
            await delivery.extend(60)
            await delivery.requeue()
            await (await jobs.get_delivery()).reject()
            with pytest.raises(pymq.Empty):
                await jobs.get_nowait()

    run(main())


def test_a_queue_serves_workers(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            jobs = bus.queue("jobs")
            await jobs.put_many(range(100))
            done: list[int] = []

            async def work() -> None:
                async for job in bus.queue("jobs"):
                    done.append(job)

            workers = [asyncio.create_task(work()) for _ in range(4)]
            await jobs.join()
            await jobs.shutdown()
            await asyncio.gather(*workers)
            assert sorted(done) == list(range(100))

    run(main())


def test_a_queue_ends_without_threads(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            jobs = bus.queue("jobs", ack="manual", prefetch=4)
            await jobs.put_many(range(8))
            assert [await jobs.get() for _ in range(2)] == [0, 1]
            delivery = await jobs.get_delivery()
            with pytest.raises(ValueError, match="positive"):
                await delivery.extend(-1)
            await delivery.extend(60)
            await delivery.ack()
            await jobs.close()
            assert sorted([await jobs.get() for _ in range(7)]) == [0, 1, 3, 4, 5, 6, 7]
            await jobs.close()
            assert await jobs.purge() == 7
            await jobs.put_many(range(600))
            await jobs.shutdown(immediate=True)
            with pytest.raises(pymq.ShutDown):
                await jobs.put(1)
            await jobs.join()
            # The pool of the loop was never asked for.
            names = [thread.name for thread in threading.enumerate()]
            assert not [name for name in names if name.startswith("asyncio_")], names

    run(main())


def test_tasks_that_are_over_are_not_kept_by_the_queues_they_took_from(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            jobs = bus.queue("jobs")
            await jobs.put_many(list(range(300)))
            tasks: weakref.WeakSet[asyncio.Task[int]] = weakref.WeakSet()
            for n in range(300):
                task: asyncio.Task[int] = asyncio.create_task(jobs.get())
                tasks.add(task)
                assert await task == n
            del task
            gc.collect()
            assert len(tasks) < 100
            for _ in range(300):
                await jobs.task_done()
            with pytest.raises(ValueError, match="too many"):
                await jobs.task_done()

    run(main())


def test_bounds_and_timeouts_are_those_of_queue_queue(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            jobs = bus.queue("jobs", maxsize=1)
            await jobs.put("one")
            assert await jobs.full()
            with pytest.raises(pymq.Full):
                await jobs.put_nowait("two")
            with pytest.raises(pymq.Full):
                await jobs.put("two", timeout=0.01)
            waiting = asyncio.create_task(jobs.put("two"))
            assert await jobs.get() == "one"
            await waiting
            assert await jobs.get() == "two"
            for timeout in (0, 0.01):
                with pytest.raises(pymq.Empty):
                    await jobs.get(timeout=timeout)
            with pytest.raises(ValueError, match="non-negative"):
                await jobs.get(timeout=-1)

    run(main())


def test_a_call_is_cancelled_at_its_provider(url: str) -> None:
    begun, cancelled = threading.Event(), threading.Event()

    def wait() -> None:
        call = pymq.current_call()
        assert call is not None
        wait_until(lambda: call.cancelled, "its caller has gone")

    def patient() -> None:
        begun.set()
        wait()
        cancelled.set()

    async def main() -> None:
        async with aio.connect(url) as bus:
            # It may not even begin within that time.
            await bus.expose(wait, "too slow")
            with pytest.raises(pymq.CallTimeoutError):
                await bus.stub("too slow", timeout=0.05)()
            await bus.expose(patient, "patient")
            call = asyncio.create_task(bus.stub("patient")())
            assert await asyncio.to_thread(begun.wait, HANG_GUARD)
            call.cancel()
            assert await asyncio.to_thread(cancelled.wait, HANG_GUARD)

    run(main())


def test_the_functions_use_the_default_bus() -> None:
    async def main() -> None:
        assert await aio.publish("early", "news") is None
        with pytest.raises(ValueError, match="Bus not set"):
            aio.queue("jobs")
        seen: asyncio.Queue[Any] = asyncio.Queue()
        await aio.subscribe(seen.put, "news")
        await aio.init("memory://")
        await aio.publish("hello", "news")
        assert await seen.get() == "hello"
        await aio.queue("jobs").put(1)
        assert pymq.queue("jobs").get() == 1
        await aio.expose(lambda: 7, "seven")
        assert await aio.stub("seven")() == 7
        await aio.unexpose("seven")
        await aio.shutdown()

    run(main())


def test_a_bus_of_a_users_own_is_refused() -> None:
    class Own(pymq.EventBus):
        def run(self) -> None: ...
        def close(self) -> None: ...

    pymq.init(Own)
    with pytest.raises(pymq.UnsupportedError, match="Own"):
        aio.queue("jobs")


def test_a_loop_that_watches_no_sockets_is_an_error_that_names_one_that_does(url: str) -> None:
    class Blind(asyncio.SelectorEventLoop):
        def add_reader(self, *_: Any) -> None:  # type: ignore[override]
            raise NotImplementedError

    async def main() -> None:
        with pytest.raises(
            RuntimeError, match=r"Blind does not; run on an asyncio\.SelectorEventLoop"
        ):
            async with aio.connect(url):
                pass

    loop = Blind()
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
