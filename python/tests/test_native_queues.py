"""Queues of the native core."""

import queue
from concurrent.futures import ThreadPoolExecutor

import pytest

from native_place import HANG, _hang_guard, bus, echoing, place  # noqa: F401
from pymq import exceptions
from pymq._pymq import Bus


def test_items_are_claimed_in_order_and_settled_once(bus: Bus) -> None:
    jobs = bus.queue("jobs", max_deliveries=0)
    jobs.put([b"1", b"2", b"3"], True, None)
    first, second = jobs.claim(2, True, None)
    assert [first.payload, second.payload] == [b"1", b"2"]
    assert jobs.stats() == (1, 2, 0)
    first.extend(60.0)
    first.ack()
    second.requeue()
    for settle in (first.ack, first.ack_soon, second.requeue, second.give_back, second.reject):
        with pytest.raises(ValueError, match="settled already"):
            settle()
    (again,) = jobs.claim(1, True, 5.0)
    assert (again.payload, again.deliveries) == (b"2", 2)
    again.reject()
    assert jobs.stats() == (1, 0, 1)
    assert jobs.peek(True, 5) == [b"2"]
    assert jobs.redrive(5) == 1
    assert jobs.peek(False, 5) == [b"3", b"2"]
    assert jobs.purge(False) == 2


def test_a_dropped_delivery_goes_back_counted_and_one_given_back_uncounted(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    jobs.put([b"job"], True, None)
    (delivery,) = jobs.claim(1, True, None)
    delivery.give_back()
    (delivery,) = jobs.claim(1, True, None)
    assert delivery.deliveries == 1
    del delivery
    (delivery,) = jobs.claim(1, True, None)
    assert delivery.deliveries == 2
    delivery.ack_soon()
    assert jobs.join(60.0)


def test_a_bounded_queue_is_full_and_a_blocked_put_wakes(bus: Bus) -> None:
    jobs = bus.queue("jobs", maxsize=1)
    jobs.put([b"1"], False, -1.0)
    with pytest.raises(queue.Full, match="queue full"):
        jobs.put([b"2"], False, None)
    with pytest.raises(queue.Full):
        jobs.put([b"2"], True, 0.01)
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(jobs.put, [b"2"], True, None)
        (first,) = jobs.claim(1, True, None)
        blocked.result(HANG)
    assert first.payload == b"1"
    assert jobs.claim(1, True, None)[0].payload == b"2"


def test_a_queue_that_was_shut_down_says_so(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    jobs.shut_down()
    with pytest.raises(exceptions.ShutDown) as caught:
        jobs.put([b"1"], True, None)
    if hasattr(queue, "ShutDown"):
        assert isinstance(caught.value, queue.ShutDown)
    jobs.purge(False)
    jobs.put([b"1"], True, None)


def test_join_waits_for_the_last_settlement_and_no_longer_than_it_may(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    jobs.put([b"1"], True, None)
    (delivery,) = jobs.claim(1, True, None)
    assert not jobs.join(0.01)
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(jobs.join)
        delivery.ack()
        assert joined.result(HANG)


def test_an_empty_queue_gives_an_empty_list(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    assert jobs.claim(1, False, None) == []
    assert jobs.claim(1, True, 0.0) == []
    assert jobs.claim(1, True, 0.01) == []
