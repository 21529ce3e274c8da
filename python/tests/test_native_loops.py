"""The native core under an event loop."""

from __future__ import annotations

import asyncio
import random
import select
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from native_place import (  # noqa: F401
    HANG,
    Place,
    _hang_guard,
    bus,
    echo,
    echoing,
    native_threads,
    place,
    until,
)
from pymq import exceptions
from pymq._pymq import Bus, Completions, Intake, Operation


def give_back(result: Any) -> None:
    """For what came when nobody waited for it any more."""
    for delivery in result if isinstance(result, list) else ():
        delivery.give_back()


class Loop:
    """The smallest user of completions: a future for each operation."""

    def __init__(self) -> None:
        self.completions = Completions()
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.last = 0
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.completions.fileno(), self.drain)

    def drain(self) -> None:
        self.completions.resolve(self.waiting)

    async def do(self, operation: Operation[Any]) -> Any:
        self.last += 1
        token = self.last
        future = self.waiting[token] = self.loop.create_future()
        self.completions.begin(token, operation)
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                give_back(future.result())
            elif self.waiting.pop(token, None) is not None:
                self.completions.cancel(token)
            raise

    def end(self) -> None:
        self.loop.remove_reader(self.completions.fileno())
        self.completions.close()


def test_every_operation_can_be_awaited_by_a_loop(place: Place) -> None:
    async def main() -> None:
        loop = Loop()
        bus = await loop.do(Bus.connect(place.url, place.namespace))
        subscription = await loop.do(bus.subscribe("a", False))
        assert await loop.do(bus.publish("a", b"1")) == 1
        await loop.do(subscription.end())
        assert await loop.do(bus.publish("a", b"2")) == 0

        provider = await loop.do(bus.provide("echo"))
        intake = Intake()
        intake.attach(provider)
        answer = lambda: [echo(call) for _, _, call in intake.recv(timeout=0) if call]  # noqa: E731
        loop.loop.add_reader(intake.fileno(), answer)
        reply = await loop.do(bus.call("echo", b"[1]", b"{}", None, 60.0))
        assert reply.value == b"[1]"
        replies, missing = await loop.do(bus.call_all("echo", b"[1]", b"{}", None, 60.0))
        assert (len(replies), missing) == (1, [])
        with pytest.raises(exceptions.NoSuchRemoteError):
            await loop.do(bus.call("nobody", b"[]", b"{}", None, 60.0))
        await loop.do(provider.end())
        loop.loop.remove_reader(intake.fileno())

        jobs = bus.queue("jobs")
        assert await loop.do(jobs.put([b"1", b"2", b"3"], True, None))
        deliveries = await loop.do(jobs.claim(3, True, None))
        assert (await loop.do(jobs.stats()))[:3] == (0, 3, 0)
        for delivery, how in zip(deliveries, ("ack", "requeue", "reject"), strict=True):
            assert await loop.do(getattr(delivery, how)()) is None
        with pytest.raises(ValueError, match="settled already"):
            await loop.do(deliveries[0].ack())
        assert (await loop.do(jobs.stats()))[:3] == (1, 0, 1)
        jobs.purge(False).wait()
        await loop.do(jobs.join())
        await loop.do(bus.close())
        with pytest.raises(exceptions.ClosedError):
            await loop.do(bus.publish("a", b"3"))
        with pytest.raises(exceptions.ConfigError):
            await loop.do(Bus.connect("carrier-pigeon://loft"))
        loop.end()

    before = native_threads()
    asyncio.run(main())
    until(lambda: native_threads() <= before)


def test_ten_thousand_claims_wait_on_few_threads(bus: Bus) -> None:
    count = 10_000

    async def main() -> None:
        loop = Loop()
        jobs = bus.queue("jobs")
        claims = [asyncio.ensure_future(loop.do(jobs.claim(1, True, None))) for _ in range(count)]
        await asyncio.sleep(0)
        assert len(list(Path("/proc/self/task").iterdir())) <= 4 + before
        for start in range(0, count, 1000):
            items = [b"%d" % number for number in range(start, start + 1000)]
            await loop.do(jobs.put(items, True, None))
        deliveries = [delivery for (delivery,) in await asyncio.gather(*claims)]
        assert {int(delivery.payload) for delivery in deliveries} == set(range(count))
        assert all(delivery.deliveries == 1 for delivery in deliveries)
        for delivery in deliveries:
            delivery.ack_soon()
        await loop.do(jobs.join())
        loop.end()

    before = len(list(Path("/proc/self/task").iterdir())) - native_threads()
    asyncio.run(main())


def test_cancelled_claims_lose_no_item(bus: Bus) -> None:
    count = 300

    async def main() -> None:
        loop = Loop()
        jobs = bus.queue("jobs")
        claims = [asyncio.ensure_future(loop.do(jobs.claim(1, True, None))) for _ in range(count)]
        await asyncio.sleep(0)
        putting = asyncio.ensure_future(
            loop.do(jobs.put([b"%d" % number for number in range(count)], True, None))
        )
        for claim in random.sample(claims, count // 2):
            claim.cancel()
            if random.random() < 0.2:
                # So that some are cancelled before, some after they have their item.
                await asyncio.sleep(0.001)
        await putting
        results = await asyncio.gather(*claims, return_exceptions=True)
        kept = [result[0] for result in results if isinstance(result, list)]
        assert len(kept) >= count // 2
        assert all(isinstance(r, list | asyncio.CancelledError) for r in results)
        left = []
        while len(kept) + len(left) < count:
            left += await loop.do(jobs.claim(count, True, HANG))
        assert {int(delivery.payload) for delivery in kept + left} == set(range(count))
        assert all(delivery.deliveries == 1 for delivery in kept + left)
        loop.end()

    asyncio.run(main())


def test_results_that_nobody_is_told_of_give_back_what_they_hold(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    jobs.put([b"1", b"2", b"3"], True, None).wait()
    completions = Completions()
    for token in range(3):
        completions.begin(token, jobs.claim(1, True, None))
    until(lambda: jobs.stats().wait()[:3] == (0, 3, 0))
    until(lambda: select.select([completions.fileno()], [], [], 60)[0])
    completions.cancel(0)
    until(lambda: jobs.stats().wait()[:3] == (1, 2, 0))
    completions.close()
    until(lambda: jobs.stats().wait()[:3] == (3, 0, 0))
    assert [delivery.deliveries for delivery in jobs.claim(3, True, None).wait()] == [1, 1, 1]
    completions.resolve({})
    with pytest.raises(ValueError, match="were closed"):
        completions.begin(4, jobs.stats())


def test_completions_that_are_dropped_end_what_was_under_way(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    completions = Completions()
    for token in range(10):
        completions.begin(token, jobs.claim(1, True, None))
    del completions
    jobs.put([b"1"], True, None).wait()
    (delivery,) = jobs.claim(1, True, 60.0).wait()
    assert delivery.deliveries == 1


def test_a_token_names_one_operation_at_a_time_and_can_be_used_again(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    completions = Completions()
    completions.begin(7, jobs.claim(1, True, None))
    with pytest.raises(ValueError, match="under way"):
        completions.begin(7, jobs.stats())
    completions.cancel(7)
    completions.begin(7, jobs.stats())
    waiting = {7: Future()}
    future = waiting[7]
    until(lambda: completions.resolve(waiting) or not waiting)
    assert future.result()[:3] == (0, 0, 0)
    assert not select.select([completions.fileno()], [], [], 0)[0]


def test_operations_under_way_are_told_when_their_bus_is_closed(place: Place) -> None:
    bus, completions = place.connect(), Completions()
    jobs = bus.queue("jobs")
    completions.begin(1, jobs.claim(1, True, None))
    completions.begin(2, jobs.claim(1, True, 1e6))
    bus.close().wait()
    waiting = {1: Future(), 2: Future()}
    futures = list(waiting.values())
    until(lambda: completions.resolve(waiting) or not waiting)
    assert all(isinstance(future.exception(), exceptions.ClosedError) for future in futures)


def test_a_close_that_an_event_loop_orders_is_reported_when_nothing_is_left(place: Place) -> None:
    before = native_threads()
    bus, completions = place.connect(), Completions()
    completions.begin(1, bus.close())
    completions.begin(2, bus.close())
    waiting = {1: Future(), 2: Future()}
    futures = list(waiting.values())
    until(lambda: completions.resolve(waiting) or not waiting)
    assert [future.result() for future in futures] == [None, None]
    until(lambda: native_threads() <= before)


class Interrupted(Exception):
    """What a signal handler raises."""


class Future1(Future):
    """Interrupted when it is told its result, before or after it has it."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def set_result(self, result: Any) -> None:
        when, self.when = self.when, ""
        if when == "before":
            raise Interrupted
        super().set_result(result)
        if when == "after":
            raise Interrupted


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interruption_while_results_are_told_leaves_none_untold(bus: Bus, when: str) -> None:
    jobs, completions = bus.queue("jobs"), Completions()
    waiting: dict[int, Any] = {1: Future(), 2: Future1(when), 3: Future()}
    futures = list(waiting.values())
    for token in waiting:
        completions.begin(token, jobs.stats())
    interrupted = 0
    while waiting:
        assert select.select([completions.fileno()], [], [], HANG)[0]
        try:
            completions.resolve(waiting)
        except Interrupted:
            interrupted += 1
    assert interrupted == 1
    assert [future.result(0)[:3] for future in futures] == [(0, 0, 0)] * 3


def test_whoever_drops_the_reader_ends_what_is_under_way(bus: Bus) -> None:
    class Reactor:
        waiting: dict[int, Any] = {}  # noqa: RUF012

    jobs, completions = bus.queue("jobs"), Completions()
    reader = completions.reader(Reactor())
    completions.begin(1, jobs.claim(1, True, None))
    del reader
    jobs.put([b"1"], True, None).wait()
    (delivery,) = jobs.claim(1, True, 60.0).wait()
    assert delivery.deliveries == 1
