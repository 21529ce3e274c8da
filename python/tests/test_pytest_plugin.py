"""The fixture that users' own tests get."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import pymq
from pymq import aio
from pymq.testing import Failed, MemoryBus, Published, Put

pytest_plugins = ["pytester"]

DECLARING = """
    import pymq
    import pytest

    seen = []

    @pymq.subscriber("news")
    def on_news(event):
        seen.append(event)

    @pymq.remote("add")
    def add(a, b):
        return a + b

    @pytest.mark.parametrize("test", ["first", "second"])
    def test_it(pymq_bus, test):
        pymq.publish(test, "news")
        pymq_bus.wait_until_handled()
        assert seen[-1:] == [test]
        assert pymq.stub("add")(1, 2) == 3
"""


def test_what_decorators_declare_is_bound_in_every_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(DECLARING)
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_it_waits_until_all_that_was_published_is_handled(pymq_bus: MemoryBus) -> None:
    seen: list[int] = []

    @pymq.subscriber("numbers")
    def slowly(n: int) -> None:
        time.sleep(0.001)
        seen.append(n)

    for n in range(20):
        pymq.publish(n, "numbers")
    pymq_bus.wait_until_handled()
    assert seen == list(range(20))


def test_what_a_test_declares_is_not_there_in_the_next(pymq_bus: MemoryBus) -> None:
    assert pymq.publish(1, "numbers") == 0


def test_it_waits_for_what_subscribers_publish(pymq_bus: MemoryBus) -> None:
    seen: list[int] = []

    def countdown(n: int) -> None:
        seen.append(n)
        if n:
            pymq.publish(n - 1, "count")

    pymq.subscribe(countdown, "count")
    pymq.publish(5, "count")
    pymq_bus.wait_until_handled()
    assert seen == [5, 4, 3, 2, 1, 0]


def by_pattern(bus: MemoryBus, event: str) -> None:
    pymq.topic("any.thing").publish(event)


def by_aio(bus: MemoryBus, event: str) -> None:
    asyncio.run(aio.publish(event, "any.thing"))


def by_the_bus(bus: MemoryBus, event: str) -> None:
    bus.publish(event, "any.thing")


@pytest.mark.parametrize("door", [by_pattern, by_aio, by_the_bus])
def test_it_waits_for_what_came_by_any_door(
    pymq_bus: MemoryBus, door: Callable[[MemoryBus, str], None]
) -> None:
    seen: list[str] = []

    def slowly(event: str) -> None:
        time.sleep(0.05)
        seen.append(event)

    pymq.subscribe(slowly, "any.*", pattern=True)
    for event in "abc":
        door(pymq_bus, event)
    pymq_bus.wait_until_handled()
    assert seen == ["a", "b", "c"]
    assert pymq_bus.published == [Published("any.thing", event) for event in "abc"]


def test_what_was_unsubscribed_or_missed_is_not_waited_for(pymq_bus: MemoryBus) -> None:
    release = threading.Event()

    def stuck(event: int) -> None:
        release.wait(60)

    pymq.subscribe(stuck, "left")
    pymq.publish(1, "left")
    pymq.publish(2, "left")
    pymq.unsubscribe(stuck, "left")
    pymq.subscribe(stuck, "flooded")
    for n in range(65_536 + 100):
        pymq.publish(n, "flooded")
    release.set()
    pymq_bus.wait_until_handled()


def test_an_event_loop_awaits_it(pymq_bus: MemoryBus) -> None:
    seen: list[int] = []

    async def main() -> None:
        async def slowly(n: int) -> None:
            await asyncio.sleep(0.01)
            seen.append(n)

        await aio.subscribe(slowly, "numbers")
        await aio.publish(1, "numbers")
        await aio.publish(2, "numbers")
        await pymq_bus.until_handled()
        assert seen == [1, 2]
        await aio.publish(3, "numbers")
        while not pymq_bus._loops.busy_on(asyncio.get_running_loop()):
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=r"await pymq_bus\.until_handled"):
            pymq_bus.wait_until_handled()
        await pymq_bus.until_handled()

    asyncio.run(main())
    assert seen == [1, 2, 3]


def test_it_lists_what_was_put(pymq_bus: MemoryBus) -> None:
    async def main() -> None:
        await aio.queue("jobs").put("two")

    pymq.queue("jobs").put("one")
    asyncio.run(main())
    assert pymq_bus.put == [Put("jobs", "one"), Put("jobs", "two")]


def test_what_subscribers_raised_is_listed(pymq_bus: MemoryBus) -> None:
    def bad(event: int) -> None:
        raise RuntimeError("broken")

    pymq_bus.fail_on_errors = False
    pymq.subscribe(bad, "news")
    pymq.publish("no number", "news")
    pymq.publish(1, "news")
    pymq_bus.wait_until_handled()
    unread, raised = pymq_bus.failed
    assert isinstance(unread.error, pymq.DecodeError)
    assert isinstance(raised, Failed)
    assert str(raised.error) == "broken"
    assert "bad" in raised.subscriber


FAILING = """
    import pymq

    def bad(event):
        raise RuntimeError("broken")

    def test_that_waits(pymq_bus):
        pymq.subscribe(bad, "news")
        pymq.publish(1, "news")
        pymq_bus.wait_until_handled()

    def test_that_does_not_mind(pymq_bus):
        pymq_bus.fail_on_errors = False
        pymq.subscribe(bad, "news")
        pymq.publish(1, "news")

    def test_that_is_right(pymq_bus):
        pymq.publish(1, "news")
"""


def test_a_subscriber_that_raises_fails_the_test_unless_it_may(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FAILING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1, passed=2)
    result.stdout.fnmatch_lines(["*bad on 'news' raised RuntimeError: broken*"])
    pytester.makeini("[pytest]\npymq_fail_on_errors = false\n")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_it_says_who_is_busy_when_the_time_is_up(
    pymq_bus: MemoryBus, release: threading.Event
) -> None:
    def stuck(event: str) -> None:
        release.wait(60)

    pymq.subscribe(stuck, "news")
    pymq.publish("hello", "news")
    with pytest.raises(TimeoutError, match=r"stuck on 'news'"):
        pymq_bus.wait_until_handled(timeout=0.01)
    release.set()


def test_the_default_bus_is_gone_after_the_test() -> None:
    assert pymq.publish("hello", "news") is None
