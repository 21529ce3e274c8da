"""What is said beside a value arrives with it, at every door, and is never taken for part of it."""

from __future__ import annotations

import asyncio
import json
import queue

import pytest

import pymq
from pymq import aio

PLAIN = [None, True, -7, 1.5, "text", [1, [None]], {}, {"a": {"b": 1}}, (1, "a"), {1, 2}, b"x"]


def check(arrived, value, topic, said):
    event, message = arrived
    assert event == value
    assert type(event) is type(value)
    if not said:
        assert message == pymq.Message(topic)
        return
    assert (message.topic, message.headers, message.id) == (topic, {"tenant": "north"}, "n1")
    assert message.sent is not None
    assert message.deliveries is None


def test_a_pattern_subscriber_learns_topic_and_headers(bus):
    arrived = queue.SimpleQueue()
    bus.subscribe(lambda event: arrived.put((event, pymq.current_message())), "t.*", pattern=True)
    for value in PLAIN:
        bus.topic("t.x").publish(value, headers={"tenant": "north"}, id="n1")
        check(arrived.get(timeout=60), value, "t.x", said=True)
        bus.publish(value, "t.y")
        check(arrived.get(timeout=60), value, "t.y", said=False)


FORGED = [
    {"sent": 2**63},
    {"sent": 2**64 - 1},
    {"sent": -1},
    {"sent": "now"},
    {"headers": {"a": 1}},
    {"headers": [1]},
    {"passed": {"a": "x" * 9000}},
    {"id": None},
    [],
    None,
]


@pytest.mark.parametrize("forged", FORGED, ids=repr)
def test_no_forged_metadata_costs_an_event_or_its_subscriber(bus, forged):
    arrived = queue.SimpleQueue()
    bus.subscribe(lambda event: arrived.put((event, pymq.current_message())), "t")
    message = json.dumps({"__meta": forged, "__obj": 3, "__type": "int"})
    bus._native.publish("t", message.encode()).wait()
    event, message = arrived.get(timeout=60)
    assert event == 3
    assert message.topic == "t"


def test_headers_that_are_no_texts_are_refused_where_they_are_said(bus):
    for headers in ({1: "a"}, {"a": 1}, {"a": None}, {"a": b"x"}, 7):
        with pytest.raises(TypeError):
            bus.publish(1, "t", headers=headers)
        with pytest.raises(TypeError):
            bus.stub("f", headers=headers)()
    with pytest.raises(TypeError):
        bus.publish(1, "t", id=7)


def test_a_function_learns_who_called_it_how_and_when(bus):
    def see():
        message = pymq.current_message()
        return [message.topic, dict(message.headers), message.sent is not None]

    bus.expose(see, "see")
    assert bus.stub("see", headers={"a": "b"})() == ["see", {"a": "b"}, True]
    assert bus.stub("see")() == ["see", {}, False]


async def _on_a_loop(url):
    async with aio.connect(url) as bus:
        heard = asyncio.Queue()

        async def hear(event):
            await heard.put((event, pymq.current_message()))

        await bus.subscribe(hear, "t.x")
        async with bus.topic("t.*", pattern=True).events() as events:
            for value in PLAIN:
                await bus.topic("t.x").publish(value, headers={"tenant": "north"}, id="n1")
                event = await anext(events)
                check((event, pymq.current_message()), value, "t.x", said=True)
                check(await heard.get(), value, "t.x", said=True)
                await bus.publish(value, "t.x")
                event = await anext(events)
                check((event, pymq.current_message()), value, "t.x", said=False)
                check(await heard.get(), value, "t.x", said=False)


def test_event_loops_learn_what_was_said_in_callbacks_and_in_loops_over_events(url):
    asyncio.run(asyncio.wait_for(_on_a_loop(url), 60))


class Silent(pymq.EventBus):
    """A bus of a program's own, as the original knows them."""

    def __init__(self):
        self.published = []

    def run(self):
        pass

    def close(self):
        pass

    def publish(self, event, channel=None):
        self.published.append((event, channel))


def test_a_bus_that_knows_no_headers_is_asked_as_the_original_asks():
    bus = pymq.init(Silent)
    try:
        pymq.publish(1, "c")
        assert bus.published == [(1, "c")]
        with pytest.raises(TypeError):
            pymq.publish(1, "c", headers={"a": "b"})
    finally:
        pymq.shutdown()
