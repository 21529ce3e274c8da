"""Events between several buses."""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import pymq
from conftest import HANG_GUARD, Box

if TYPE_CHECKING:
    from nowhere import Unknown  # type: ignore[import-not-found]

Connect = Callable[..., pymq.NativeEventBus]


@dataclass
class Animal:
    name: str


@dataclass
class Dog(Animal):
    tricks: list[str]


class Callable_:
    def __init__(self, box: Box) -> None:
        self.box = box

    def __call__(self, event: Animal) -> None:
        self.box.put(event)


def test_what_subscribe_has_returned_from_sees_the_next_event(connect: Connect, box: Box) -> None:
    publisher, subscriber = connect(), connect()
    for n in range(50):
        subscriber.subscribe(box.put, f"topic {n}")
        assert publisher.publish(n, f"topic {n}") == 1
        assert box.take(n + 1)[-1] == n
        subscriber.unsubscribe(box.put, f"topic {n}")
        assert publisher.publish(n, f"topic {n}") == 0


def test_a_bus_that_closes_handles_what_it_has_and_takes_nothing_more(
    connect: Connect, box: Box
) -> None:
    publisher, subscriber = connect(), connect()
    begun, go_on = threading.Event(), threading.Event()

    def slow(number: int) -> None:
        begun.set()
        assert go_on.wait(HANG_GUARD)
        box.put(number)

    subscriber.subscribe(slow, "numbers")
    assert publisher.publish(0, "numbers") == 1
    assert begun.wait(HANG_GUARD)
    closing = threading.Thread(target=subscriber.close, args=(HANG_GUARD,))
    closing.start()
    published = itertools.count(1)
    # While it waits for the callback it is no subscriber any more.
    sent = [0, *itertools.takewhile(lambda n: publisher.publish(n, "numbers") != 0, published)]
    publisher.publish(-1, "numbers")
    go_on.set()
    closing.join(HANG_GUARD)
    assert box.take(len(sent)) == sent


def test_a_subclass_arrives_as_what_it_is(bus: pymq.NativeEventBus, box: Box) -> None:
    def on_animal(event: Animal) -> None:
        box.put(event)

    bus.subscribe(on_animal)
    bus.publish(Dog("Rex", ["sit"]), f"{__name__}.Animal")
    assert box.take(1) == [Dog("Rex", ["sit"])]


def test_all_kinds_of_callables_can_subscribe(bus: pymq.NativeEventBus, box: Box) -> None:
    def with_prefix(prefix: str, event: Animal) -> None:
        box.put((prefix, event))

    bus.subscribe(Callable_(box))
    bus.subscribe(functools.partial(with_prefix, "got"))
    assert bus.publish(Animal("cat")) in (1, 2)
    assert sorted(box.take(2), key=str) == [("got", Animal("cat")), Animal("cat")]


def test_a_hint_that_cannot_be_resolved_needs_a_channel(bus: pymq.NativeEventBus, box: Box) -> None:
    def on_unknown(event: Unknown) -> None:
        box.put(event)

    with pytest.raises(ValueError, match=r"'Unknown'.*cannot be resolved"):
        bus.subscribe(on_unknown)
    bus.subscribe(on_unknown, "news")
    bus.publish({"a": 1}, "news")
    assert box.take(1) == [{"a": 1}]


def test_namespaces_do_not_hear_each_other(connect: Connect, box: Box) -> None:
    here, there = connect(), connect(namespace="other")
    here.subscribe(box.put, "*", pattern=True)
    assert there.publish("hello", "news") == 0
    there.queue("jobs").put(1)
    assert here.queue("jobs").empty()
    here.publish("here", "news")
    assert box.take(1) == ["here"]


def test_what_cannot_be_sent_raises_at_the_sender(bus: pymq.NativeEventBus) -> None:
    with pytest.raises(TypeError, match=r"\"a\""):
        bus.publish({"a": object()}, "news")


def test_trust_and_strictness_are_the_buss(connect: Connect, box: Box) -> None:
    strict = connect(trust="declared", strict=True)
    lenient = connect()
    raw = b'{"x": 1, "__type": "somewhere.Unheard"}'
    for bus in (strict, lenient):
        bus.queue("jobs")._handle.native.put([raw], True, None).wait()
    with pytest.raises(pymq.DecodeError):
        strict.queue("jobs").get()
    assert lenient.queue("jobs").get() == {"x": 1}


def test_capabilities_are_told(bus: pymq.NativeEventBus) -> None:
    of_queues = {"put_options", "letters"}
    of_counts = {"receiver_count", "counts_connections"}
    assert set(bus.capabilities) == {"cross_process", "originals"} | of_counts | of_queues


def test_address_and_environment_choose_the_bus(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("PYMQ_URL", raising=False)
    with pymq.connect() as bus:
        assert not bus.capabilities["cross_process"]
    monkeypatch.setenv("PYMQ_URL", url)
    made: Any = pymq.init()
    with pymq.connect() as other:
        other.queue("jobs").put("same place")
        assert made.queue("jobs").get(timeout=60) == "same place"
    pymq.shutdown()


def test_what_is_published_without_a_wait_keeps_its_place(connect: Connect, box: Box) -> None:
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(box.put, "numbers")
    topic = publisher.topic("numbers")
    for number in range(300):
        if number % 3 == 0:
            assert publisher.publish(number, "numbers") == 1
        elif number % 3 == 1:
            assert publisher.publish(number, "numbers", wait=False) is None
        else:
            assert topic.publish(number, wait=False) is None
    assert box.take(300) == list(range(300))
    assert publisher.health()["lost_posts"] == 0


def test_a_bus_that_closes_sends_what_nobody_waited_for(connect: Connect, box: Box) -> None:
    publisher, subscriber = connect(), connect()
    subscriber.subscribe(box.put, "numbers")
    for number in range(1_000):
        publisher.publish(number, "numbers", wait=False, headers={"tenant": "north"})
    publisher.close()
    assert box.take(1_000) == list(range(1_000))


def test_what_cannot_be_published_is_an_error_without_a_wait_too(bus: pymq.NativeEventBus) -> None:
    with pytest.raises(pymq.exceptions.EncodeError):
        bus.publish(object(), "numbers", wait=False)
    bus.close()
    with pytest.raises(pymq.exceptions.ClosedError):
        bus.publish(1, "numbers", wait=False)
