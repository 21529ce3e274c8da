"""The fixture that users' own tests get."""

from __future__ import annotations

import time

import pytest

import pymq
from pymq.pytest_plugin import MemoryBus


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


def test_a_subscriber_that_raises_has_handled_its_event(pymq_bus: MemoryBus) -> None:
    def bad(event: str) -> None:
        raise RuntimeError("broken")

    pymq.subscribe(bad, "news")
    pymq.publish("hello", "news")
    pymq_bus.wait_until_handled()


def test_it_says_how_many_are_unhandled_when_the_time_is_up(pymq_bus: MemoryBus) -> None:
    import threading

    release = threading.Event()
    pymq.subscribe(lambda event: release.wait(60), "news")
    pymq.publish("hello", "news")
    with pytest.raises(TimeoutError, match="1 events"):
        pymq_bus.wait_until_handled(timeout=0.01)
    release.set()


def test_the_default_bus_is_gone_after_the_test() -> None:
    assert pymq.publish("hello", "news") is None
