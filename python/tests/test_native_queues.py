"""Queues of the native core."""

import queue
from concurrent.futures import ThreadPoolExecutor

import pytest

from native_place import HANG, _hang_guard, bus, echoing, place  # noqa: F401
from pymq import exceptions
from pymq._pymq import Bus


def test_items_are_claimed_in_order_and_settled_once(bus: Bus) -> None:
    jobs = bus.queue("jobs", max_deliveries=0)
    jobs.put([b"1", b"2", b"3"], True, None).wait()
    first, second = jobs.claim(2, True, None).wait()
    assert [first.payload, second.payload] == [b"1", b"2"]
    assert jobs.stats().wait()[:3] == (1, 2, 0)
    first.extend(60.0).wait()
    first.ack().wait()
    second.requeue().wait()
    for operation in (first.ack(), second.requeue(), second.reject()):
        with pytest.raises(ValueError, match="settled already"):
            operation.wait()
    for settle in (first.ack_soon, second.give_back):
        with pytest.raises(ValueError, match="settled already"):
            settle()
    (again,) = jobs.claim(1, True, HANG).wait()
    assert (again.payload, again.deliveries) == (b"2", 2)
    again.reject().wait()
    assert jobs.stats().wait()[:3] == (1, 0, 1)
    assert jobs.peek(True, 5).wait() == [b"2"]
    assert jobs.redrive(5).wait() == 1
    assert jobs.peek(False, 5).wait() == [b"3", b"2"]
    assert jobs.purge(False).wait() == 2


def test_a_dropped_delivery_goes_back_counted_and_one_given_back_uncounted(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    jobs.put([b"job"], True, None).wait()
    (delivery,) = jobs.claim(1, True, None).wait()
    delivery.give_back()
    (delivery,) = jobs.claim(1, True, None).wait()
    assert delivery.deliveries == 1
    del delivery
    (delivery,) = jobs.claim(1, True, None).wait()
    assert delivery.deliveries == 2
    delivery.ack_soon()
    jobs.join().wait(60.0)


def test_a_bounded_queue_is_full_and_a_blocked_put_wakes(bus: Bus) -> None:
    jobs = bus.queue("jobs", maxsize=1)
    jobs.put([b"1"], False, -1.0).wait()
    with pytest.raises(queue.Full, match="queue full"):
        jobs.put([b"2"], False, None).wait()
    with pytest.raises(queue.Full):
        jobs.put([b"2"], True, 0.01).wait()
    with ThreadPoolExecutor(1) as pool:
        blocked = pool.submit(jobs.put([b"2"], True, None).wait)
        (first,) = jobs.claim(1, True, None).wait()
        blocked.result(HANG)
    assert first.payload == b"1"
    assert jobs.claim(1, True, None).wait()[0].payload == b"2"


def test_a_queue_that_was_shut_down_says_so(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    jobs.shut_down().wait()
    with pytest.raises(exceptions.ShutDown) as caught:
        jobs.put([b"1"], True, None).wait()
    if hasattr(queue, "ShutDown"):
        assert isinstance(caught.value, queue.ShutDown)
    jobs.purge(False).wait()
    jobs.put([b"1"], True, None).wait()


def test_join_waits_for_the_last_settlement_and_no_longer_than_it_may(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    jobs.put([b"1"], True, None).wait()
    (delivery,) = jobs.claim(1, True, None).wait()
    with pytest.raises(TimeoutError):
        jobs.join().wait(0.01)
    with ThreadPoolExecutor(1) as pool:
        joined = pool.submit(jobs.join().wait)
        delivery.ack().wait()
        joined.result(HANG)


def test_an_empty_queue_gives_an_empty_list(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    assert jobs.claim(1, False, None).wait() == []
    assert jobs.claim(1, True, 0.0).wait() == []
    assert jobs.claim(1, True, 0.01).wait() == []


def test_an_operation_is_done_once_and_not_before_it_is_waited_for(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    put = jobs.put([b"1"], True, None)
    assert jobs.stats().wait()[:3] == (0, 0, 0)
    put.wait()
    with pytest.raises(ValueError, match="begun already"):
        put.wait()
    (delivery,) = jobs.claim(1, True, None).wait()
    ack = delivery.ack()
    del ack
    assert not delivery.settled
    delivery.ack().wait()
    assert jobs.stats().wait()[:3] == (0, 0, 0)


def test_a_wait_that_is_over_before_its_operation_gives_it_up(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    with pytest.raises(TimeoutError, match="not done in time"):
        jobs.claim(1, True, None).wait(0.01)
    jobs.put([b"1"], True, None).wait()
    (delivery,) = jobs.claim(1, True, 60.0).wait()
    assert delivery.deliveries == 1
