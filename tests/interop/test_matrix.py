"""Events and queues between every two peers of which at least one is ours, in both directions."""

from typing import Any

import pytest

from description import describe
from expected import arrives, same
from pairs import Pair, lasting_pair, pair
from rig import OLD, PeerFailed, wait_until
from test_originals import BOTH_READ, OBJECTS

__all__ = ["lasting_pair", "pair"]


def readable(pair: Pair) -> dict[str, Any]:
    """The values that both sides have, by name."""
    # No string of Rust holds half a surrogate pair.
    without = {"lone surrogate"} if "rust" in pair.kinds else set()
    return {name: value for name, value in BOTH_READ.items() if name not in without}


def test_an_event_reaches_the_subscriber_of_its_channel(pair: Pair) -> None:
    values = readable(pair).values()
    pair.receiver.subscribe(pair.name)
    for value in values:
        assert pair.sender.publish(value, pair.name) == 1
    for received, value in zip(pair.receiver.received(len(values)), values, strict=True):
        expected = arrives(value, *pair.kinds)
        assert same(received, expected), (received, expected)


@pytest.mark.parametrize("name", OBJECTS)
def test_a_typed_event_reaches_a_callback_with_its_hint(pair: Pair, name: str) -> None:
    pair.receiver.subscribe(type=name)
    assert pair.sender.publish(OBJECTS[name]) == 1
    [received] = pair.receiver.received(1)
    assert same(received, describe(OBJECTS[name]))


def test_a_hint_for_an_integer_keeps_all_its_digits(pair: Pair) -> None:
    pair.receiver.subscribe(pair.name, type="int")
    pair.sender.publish(2**100, pair.name)
    assert pair.receiver.received(1) == [{"int": str(2**100)}]


def test_a_pattern_sees_every_channel_that_matches(pair: Pair) -> None:
    pair.receiver.subscribe(f"{pair.name}.[a-c]*", pattern=True)
    assert pair.sender.publish(1, f"{pair.name}.sports") == 0
    assert pair.sender.publish(2, f"{pair.name}.art") == 1
    assert pair.sender.publish(3, f"other{pair.name}.art") == 0
    assert pair.sender.publish(4, f"{pair.name}.chess") == 1
    assert pair.receiver.received(2) == [2, 4]


def test_events_of_one_publisher_arrive_in_order(pair: Pair) -> None:
    pair.receiver.subscribe(pair.name)
    for number in range(100):
        pair.sender.publish(number, pair.name)
    assert pair.receiver.received(100) == list(range(100))


def test_an_unsubscribed_channel_is_gone_from_the_server(pair: Pair) -> None:
    # The other subscription matters: with its last one gone the bus of 0.2.2 ends for good.
    left = f"{pair.name} left"
    pair.receiver.subscribe(pair.name)
    pair.receiver.subscribe(left)
    pair.receiver.do("unsubscribe", subscription=left, channel=left)
    if pair.receiver.kind in OLD:
        wait_until(lambda: pair.server.subscribers(left) == 0, "it is unsubscribed")
    assert pair.sender.publish(1, left) == 0
    assert pair.sender.publish(2, pair.name) == 1
    assert pair.receiver.received(1) == [2]


def test_queue_items_arrive_as_they_were_put_and_in_order(pair: Pair) -> None:
    values = readable(pair)
    for value in values.values():
        pair.sender.put(pair.name, value)
    assert pair.receiver.do("qsize", queue=pair.name) == len(values)
    assert pair.sender.do("qsize", queue=pair.name) == len(values)
    for name, value in values.items():
        received = pair.receiver.get(pair.name)
        expected = arrives(value, *pair.kinds)
        assert same(received, expected), (name, received, expected)
    assert pair.receiver.do("qsize", queue=pair.name) == 0


def test_a_waiting_get_is_woken_by_a_put(pair: Pair) -> None:
    before = pair.server.blocked_clients()
    waiting = pair.receiver.begin("get", queue=pair.name)
    wait_until(lambda: pair.server.blocked_clients() > before, "the get waits")
    assert not waiting.done()
    pair.sender.put(pair.name, "item")
    assert waiting.result() == "item"


def test_a_get_on_an_empty_queue_times_out_with_empty(pair: Pair) -> None:
    peers = (pair.sender, pair.receiver)
    for pending in [peer.begin("get", queue=pair.name, timeout=1) for peer in peers]:
        with pytest.raises(PeerFailed) as failure:
            pending.result()
        assert failure.value.name == "_queue.Empty"


def test_two_consumers_of_two_kinds_share_a_queue_without_loss_or_double(pair: Pair) -> None:
    # Both sides consume what both sides put.
    for number in range(50):
        pair.sender.put(pair.name, number)
        pair.receiver.put(pair.name, 100 + number)
    taken = [peer.get(pair.name) for _ in range(50) for peer in (pair.sender, pair.receiver)]
    assert sorted(taken) == [*range(50), *range(100, 150)]
    assert pair.receiver.do("qsize", queue=pair.name) == 0
