"""What users met in the original (0.7.0), and must not meet here: one test for each."""

from __future__ import annotations

import asyncio
import datetime
import enum
import sys
import threading
import uuid
from dataclasses import dataclass
from typing import Any, Optional

import pytest

import pymq
from conftest import Box, lengths

pytestmark = pytest.mark.usefixtures("original")


class Color(enum.Enum):
    RED = "red"


@dataclass
class Order:
    number: Optional[int]  # noqa: UP045 - as users write it
    amount: int | None
    lines: list[int]


@dataclass
class Everything:
    raw: bytes
    when: datetime.datetime
    who: uuid.UUID
    color: Color
    tags: dict[str, set[int]]


class Bare:
    def __init__(self, a: int = 0, b: int = 0) -> None:
        self.a = a
        self.b = b


def test_01_put_blocks_by_default_as_in_the_standard_library() -> None:
    queue = pymq.queue("jobs")
    queue.put("one", block=True)
    queue.put("two", True, 5)
    queue.put("three")
    assert [queue.get() for _ in range(3)] == ["one", "two", "three"]


def test_02_the_rest_of_queue_queue_is_there() -> None:
    queue = pymq.queue("jobs", maxsize=1, ack="manual")
    queue.put("job")
    assert queue.maxsize == 1
    assert queue.full()
    with pytest.raises(pymq.Full):
        queue.put_nowait("more")
    assert queue.get() == "job"
    queue.task_done()
    queue.join()
    queue.shutdown()
    with pytest.raises(pymq.ShutDown):
        queue.get()


def options(a: int = 1, b: int = 2, *, scale: int = 10) -> int:
    return a * scale + b


def test_03_keyword_arguments_arrive() -> None:
    pymq.expose(options, "options")
    assert pymq.stub("options")(a=5, b=6) == 56
    assert pymq.stub("options")(5, b=6, scale=100) == 506


def test_04_too_many_arguments_are_an_error() -> None:
    pymq.expose(options, "options")
    with pytest.raises(pymq.RemoteInvocationError) as caught:
        pymq.stub("options")(1, 2, 3, 4)
    assert caught.value.args[0] == "TypeError"
    pymq.expose(options)
    with pytest.raises(TypeError):
        pymq.stub(options)(a=1, c=3)  # type: ignore[call-arg]


def test_05_functions_of_any_number_of_arguments_work() -> None:
    def total(*numbers: int, **named: int) -> int:
        return sum(numbers) + sum(named.values())

    pymq.expose(total, "total")
    assert pymq.stub("total")(1, 2, 3, x=4) == 10


def test_06_rpc_says_that_nobody_exposes_a_name() -> None:
    with pytest.raises(pymq.NoSuchRemoteError):
        pymq.stub("nobody").rpc()


def test_07_optional_fields_and_generics_work() -> None:
    queue = pymq.queue("orders")
    for order in (Order(1, None, [1, 2]), Order(None, 5, [])):
        queue.put(order)
        assert queue.get() == order


def test_08_standard_types_arrive_as_they_are() -> None:
    queue = pymq.queue("values")
    value = Everything(
        b"\x00\xff", datetime.datetime(2026, 1, 2, 3, 4, 5), uuid.uuid4(), Color.RED, {"a": {1, 2}}
    )
    queue.put(value)
    assert queue.get() == value
    for item in (b"raw", datetime.datetime(2026, 1, 1), uuid.uuid4(), Color.RED, {"a": {1}}):
        queue.put(item)
        assert queue.get() == item


def test_09_attributes_without_annotations_survive(box: Box) -> None:
    @pymq.subscriber
    def on_bare(event: Bare) -> None:
        box.put((event.a, event.b))

    pymq.publish(Bare(1, 2))
    assert box.take(1) == [(1, 2)]


def test_10_annotations_may_be_postponed(box: Box) -> None:
    # This module begins with `from __future__ import annotations`.
    @pymq.subscriber
    def on_order(event: Order) -> None:
        box.put(event)

    assert on_order.__annotations__["event"] == "Order"
    assert pymq.publish(Order(1, 2, [3])) == 1
    assert box.take(1) == [Order(1, 2, [3])]


def test_11_coroutine_functions_are_awaited(box: Box) -> None:
    @pymq.remote("slowly")
    async def slowly(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    @pymq.subscriber("news")
    async def on_news(event: str) -> None:
        await asyncio.sleep(0)
        box.put(event)

    assert pymq.stub("slowly", timeout=60)(1) == 2
    pymq.publish("hello", "news")
    assert box.take(1) == ["hello"]


def test_12_calls_can_run_side_by_side() -> None:
    together = threading.Barrier(4)

    def meet() -> int:
        return together.wait(60)

    pymq.expose(meet, "meet", concurrency=4)
    results: list[Any] = []
    callers = [
        threading.Thread(target=lambda: results.append(pymq.stub("meet")())) for _ in range(4)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(results) == [0, 1, 2, 3]


def test_13_a_handler_can_call_its_own_process(box: Box) -> None:
    pymq.expose(lambda n: n + 1, "increment")

    @pymq.remote("twice")
    def twice(n: int) -> int:
        increment = pymq.stub("increment", timeout=60)
        return int(increment(increment(n)))

    @pymq.subscriber("numbers")
    def on_number(n: int) -> None:
        box.put(pymq.stub("twice", timeout=60)(n))

    pymq.publish(5, "numbers")
    assert box.take(1) == [7]


def test_14_all_have_answered_whoever_else_listens() -> None:
    pymq.expose(lambda: 1, "one")
    pymq.subscribe(lambda event: None, "*", pattern=True)
    # Without a timeout: it would wait for ever for somebody who only listens.
    assert pymq.stub("one", multi=True)() == [1]


def test_15_who_only_listens_is_no_remote() -> None:
    pymq.subscribe(lambda event: None, "*", pattern=True)
    assert pymq.stub("nobody")() is None


def test_16_a_message_imports_nothing(original: pymq.NativeEventBus) -> None:
    assert "antigravity" not in sys.modules
    raw = b'{"__type": "antigravity.Gravity", "x": 1}'
    original.queue("jobs")._handle.native.put([raw], True, None).wait()
    assert pymq.queue("jobs").get() == {"x": 1}
    assert "antigravity" not in sys.modules


def test_17_a_timeout_is_for_the_whole_call() -> None:
    release = threading.Event()
    pymq.expose(lambda: release.wait(60), "slow")

    def named(timeout: float) -> bool:
        try:
            errors = pymq.stub("slow", timeout=timeout, multi=True)()
        except pymq.CallTimeoutError:
            return False
        assert all(isinstance(error, pymq.CallTimeoutError) for error in errors)
        return [error.provider is not None for error in errors] == [True]

    try:
        # Who is late is named where there was time to learn who is asked.
        assert any(named(timeout) for timeout in lengths(0.5))
    finally:
        release.set()
