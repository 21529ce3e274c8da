"""Events of the native core: order, losses, ends."""

import queue
import random
import select
import threading
from concurrent.futures import ThreadPoolExecutor

from native_place import HANG, Place, _hang_guard, bus, echoing, place, receive, until  # noqa: F401
from pymq._pymq import Bus, Intake


def test_events_of_several_sources_come_in_the_order_in_which_they_were_sent(place: Place) -> None:
    sender, receiver = place.connect(), place.connect()
    topics = [f"topic.{number}" for number in range(8)]
    intake = Intake()
    numbers = {intake.attach(receiver.subscribe(topic, False).wait()): topic for topic in topics}
    sent = [(random.choice(topics), b"%d" % number) for number in range(2000)]
    for topic, payload in sent:
        assert sender.publish(topic, payload).wait() == 1
    got = receive(intake, len(sent), limit=7)
    assert [(topic, payload) for _, topic, payload in got] == sent
    assert all(numbers[number] == topic for number, topic, _ in got)


def test_a_pattern_tells_the_topic_without_the_namespace(bus: Bus) -> None:
    subscription = bus.subscribe("shop.*", True).wait()
    assert (subscription.name, subscription.pattern) == ("shop.*", True)
    intake = Intake()
    number = intake.attach(subscription)
    bus.publish("shop.orders", b"1").wait()
    assert receive(intake, 1) == [(number, "shop.orders", b"1")]


def test_a_slow_reader_is_told_how_many_it_missed() -> None:
    bus = Bus.connect("memory://").wait()
    intake = Intake()
    number = intake.attach(bus.subscribe("flood", False).wait())
    for _ in range(65_536 + 10):
        bus.publish("flood", b"drop").wait()
    ((source, topic, missed),) = intake.recv(1)
    assert (source, topic, missed.count) == (number, None, 10)
    assert intake.recv(1) == [(number, "flood", b"drop")]
    bus.close().wait()


def test_an_ended_subscription_gives_what_had_arrived_and_then_says_so(bus: Bus) -> None:
    subscription = bus.subscribe("a", False).wait()
    intake = Intake()
    number = intake.attach(subscription)
    bus.publish("a", b"last").wait()
    until(lambda: select.select([intake.fileno()], [], [], 60)[0])
    subscription.end().wait()
    subscription.end().wait()
    assert bus.publish("a", b"too late").wait() == 0
    assert receive(intake, 2) == [(number, "a", b"last"), (number, None, None)]
    assert intake.recv(timeout=0) == []


def test_a_closed_bus_ends_its_sources(bus: Bus) -> None:
    intake = Intake()
    numbers = [
        intake.attach(bus.subscribe("a", False).wait()),
        intake.attach(bus.subscribe("b*", True).wait()),
        intake.attach(bus.provide("f").wait()),
    ]
    bus.close().wait()
    assert sorted(receive(intake, 3)) == [(number, None, None) for number in numbers]


def test_a_detached_source_is_not_read_any_more(bus: Bus) -> None:
    intake = Intake()
    kept, left = bus.subscribe("kept", False).wait(), bus.subscribe("left", False).wait()
    number, other = intake.attach(kept), intake.attach(left)
    intake.detach(other)
    intake.detach(other)
    bus.publish("left", b"").wait()
    bus.publish("kept", b"").wait()
    assert receive(intake, 1) == [(number, "kept", b"")]
    assert intake.recv(timeout=0) == []


def test_what_is_neither_attached_nor_held_is_unsubscribed(bus: Bus) -> None:
    bus.subscribe("a", False).wait()
    until(lambda: bus.publish("a", b"").wait() == 0)


def test_closing_an_intake_wakes_whoever_waits_and_leaves_the_rest(bus: Bus) -> None:
    intake = Intake()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(intake.recv) for _ in range(3)]
        intake.close()
        assert [future.result(HANG) for future in waiting] == [[], [], []]
    number = intake.attach(bus.subscribe("a", False).wait())
    bus.publish("a", b"left").wait()
    until(lambda: intake.recv() == [(number, "a", b"left")])
    assert intake.closed
    assert intake.recv() == []


def test_the_descriptor_is_readable_exactly_while_there_is_something(bus: Bus) -> None:
    intake = Intake()
    intake.attach(bus.subscribe("a", False).wait())
    intake.recv(timeout=0)
    readable = lambda timeout: bool(select.select([intake.fileno()], [], [], timeout)[0])  # noqa: E731
    assert not readable(0)
    for _ in range(3):
        bus.publish("a", b"").wait()
    assert readable(60)
    receive(intake, 2, limit=1)
    assert readable(60)
    receive(intake, 1)
    assert not readable(0)
    intake.close()
    assert readable(60)


def test_several_readers_share_an_intake_and_lose_nothing(bus: Bus) -> None:
    intake = Intake()
    for topic in "abcd":
        intake.attach(bus.subscribe(topic, False).wait())
    got: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        while batch := intake.recv(3):
            for _, _, payload in batch:
                got.put(payload)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1000):
        bus.publish(random.choice("abcd"), b"%d" % number).wait()
    assert {int(got.get(timeout=60)) for _ in range(1000)} == set(range(1000))
    intake.close()
    for reader in readers:
        reader.join()
