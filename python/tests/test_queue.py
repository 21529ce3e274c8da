"""Queues beyond what CPython's own tests of `queue.Queue` show."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable

import pytest

import pymq
from conftest import HANG_GUARD, Box, wait_until

Connect = Callable[..., pymq.NativeEventBus]


def test_auto_items_are_confirmed_by_themselves(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put_many(range(10))
    assert [queue.get() for _ in range(10)] == list(range(10))
    queue.join()
    assert queue.unfinished_tasks == 0


class Interrupting:
    """What Ctrl-C in the middle of decoding amounts to."""

    def __init__(self, n: int) -> None:
        if n == 3:
            raise KeyboardInterrupt
        self.n = n


def test_a_get_of_many_that_is_interrupted_loses_no_item(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", type=Interrupting)
    queue.put_many([Interrupting(n) for n in range(3)])
    bus.queue("jobs").put({"n": 3})
    with pytest.raises(KeyboardInterrupt):
        queue.get_many(4)
    wait_until(lambda: queue.qsize() == 4, "the items are back")


def test_the_first_task_done_makes_an_auto_handle_manual(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put_many(["one", "two", "three"])
    assert (queue.get(), queue.get()) == ("one", "two")
    queue.task_done()
    queue.task_done()
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()
    assert queue.get() == "three"
    assert queue.unfinished_tasks == 1
    queue.task_done()
    queue.join()
    with pytest.raises(ValueError, match="too many"):
        queue.task_done()


def test_task_done_confirms_the_threads_own_item(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", ack="manual")
    queue.put_many(["mine", "theirs", "mine too"])
    assert queue.get() == "mine"

    def other() -> None:
        assert queue.get() == "theirs"
        queue.task_done()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert queue.get() == "mine too"
    queue.task_done()
    queue.close()
    # "theirs" and "mine too" were confirmed, the first one was not and comes back.
    assert queue.get(timeout=HANG_GUARD) == "mine"


def test_join_waits_for_what_others_hold(connect: Connect, box: Box) -> None:
    here, there = connect(), connect()
    here.queue("jobs").put("job")
    delivery = there.queue("jobs").get_delivery()
    joiner = threading.Thread(target=lambda: box.put(here.queue("jobs").join()))
    joiner.start()
    # Long enough for a join that does not wait to return; a right one passes at any speed.
    time.sleep(0.05)
    assert box.items == []
    delivery.ack()
    box.take(1)
    joiner.join()


def test_a_delivery_is_settled_by_its_block(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", max_deliveries=3)
    queue.put("job")

    def fail() -> None:
        with queue.get_delivery() as delivery:
            assert (delivery.item, delivery.deliveries) == ("job", 1)
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError):
        fail()
    with queue.get_delivery(timeout=HANG_GUARD) as delivery:
        assert delivery.deliveries == 2
        delivery.extend(60)
        delivery.requeue()
    with queue.get_delivery(timeout=HANG_GUARD) as delivery:
        assert delivery.deliveries == 3
    queue.join()
    assert queue.empty()


def test_a_rejected_item_is_a_dead_letter(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put("job")
    queue.get_delivery().reject()
    assert queue._handle.native.stats().wait()[:3] == (0, 0, 1)


def test_a_dropped_delivery_comes_back(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put("job")
    queue.get_delivery()
    gc.collect()
    assert queue.get(timeout=HANG_GUARD) == "job"


def test_a_loop_confirms_an_item_when_it_asks_for_the_next(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put_many(["one", "two"])
    for item in queue:
        if item == "two":
            break
    # "one" is done with; "two" was in hand when the loop was left.
    assert queue.get(timeout=HANG_GUARD) == "two"
    assert queue.empty()


def test_a_loop_ends_when_the_queue_is_shut_down(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    queue.put_many(range(5))
    queue.shutdown()
    assert list(queue) == list(range(5))
    with pytest.raises(pymq.ShutDown):
        queue.put(1)
    assert queue.purge() == 0
    queue.put(1)
    assert queue.get() == 1


def test_a_shutdown_is_for_everybody(connect: Connect) -> None:
    connect().queue("jobs").shutdown()
    other = connect().queue("jobs")
    assert other.is_shutdown
    with pytest.raises(pymq.ShutDown):
        other.get()


def test_an_item_that_cannot_be_read_is_a_dead_letter_with_its_bytes(
    bus: pymq.NativeEventBus, caplog: pytest.LogCaptureFixture
) -> None:
    queue = bus.queue("jobs")
    native = queue._handle.native
    native.put([b"{secret", b'"good"'], True, None).wait()
    with pytest.raises(pymq.DecodeError):
        queue.get()
    assert queue.get() == "good"
    native.put([b"{secret", b'"good"'], True, None).wait()
    assert queue.get_many(2) == ["good"]
    native.put([b"{secret", b'"good"'], True, None).wait()
    queue.shutdown()
    assert list(queue) == ["good"]
    assert native.peek(True, 10).wait() == [b"{secret"] * 3
    assert all(record.levelno >= logging.WARNING for record in caplog.records)
    assert "secret" not in caplog.text


def test_the_type_option_says_what_items_are(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", type=set[int])
    queue._handle.native.put([b"[1, 2]"], True, None).wait()
    assert queue.get() == {1, 2}


def test_prefetched_items_count_and_go_back_uncounted(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", ack="manual", prefetch=5)
    queue.put_many(range(10))
    assert queue.get() == 0
    assert queue.qsize() == 9
    queue.task_done()
    del queue
    gc.collect()
    other = bus.queue("jobs", ack="manual")
    wait_until(lambda: other.qsize() == 9, "they have gone back")
    for n in range(1, 10):
        with other.get_delivery() as delivery:
            assert (delivery.item, delivery.deliveries) == (n, 1)


def test_no_thread_waits_while_the_handle_has_items_fetched_ahead(
    bus: pymq.NativeEventBus, box: Box
) -> None:
    queue = bus.queue("jobs", prefetch=100)
    threads = [threading.Thread(target=lambda: box.put(queue.get())) for _ in range(10)]
    for thread in threads:
        thread.start()
    # One round trip brings them all to whoever asked first.
    bus.queue("jobs").put_many(range(10))
    assert sorted(box.take(10)) == list(range(10))
    for thread in threads:
        thread.join()


def test_more_items_than_a_queue_holds_are_put_as_there_is_space(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs", maxsize=3)
    putter = threading.Thread(target=lambda: queue.put_many(range(20)))
    putter.start()
    assert [queue.get(timeout=HANG_GUARD) for _ in range(20)] == list(range(20))
    putter.join()
    with pytest.raises(pymq.ConfigError, match="maxsize is 3"):
        queue.put_many(range(4), timeout=0.01)
    with pytest.raises(pymq.ConfigError, match="maxsize is 3"):
        queue.put_many(range(4), block=False)
    assert queue.empty()


def test_an_item_that_is_too_large_is_named(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    with pytest.raises(pymq.EncodeError, match="16777216"):
        queue.put("x" * (16 << 20))
    native = bus.queue("jobs")._handle.native
    with pytest.raises(pymq.EncodeError, match=r'"jobs".*item 2 of 2: 16777217 bytes'):
        native.put([b"1", b"1" * ((16 << 20) + 1)], True, None).wait()
    assert queue.empty()


def test_an_immediate_shutdown_takes_what_was_fetched_ahead(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", prefetch=10)
    queue.put_many(range(5))
    assert queue.get() == 0
    queue.shutdown(immediate=True)
    queue.join()
    with pytest.raises(pymq.ShutDown):
        queue.get()
    assert queue.purge() == 0


def test_close_requeues_what_is_open_and_the_handle_works_again(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs", ack="manual", prefetch=3)
    queue.put_many(range(6))
    assert [queue.get() for _ in range(4)] == [0, 1, 2, 3]
    queue.close()
    assert sorted(queue.get(timeout=HANG_GUARD) for _ in range(6)) == list(range(6))


def test_a_put_on_a_full_queue_waits_for_space(bus: pymq.NativeEventBus, box: Box) -> None:
    queue = bus.queue("jobs", maxsize=1)
    queue.put("one")
    putter = threading.Thread(target=lambda: box.put(queue.put("two")))
    putter.start()
    assert queue.get() == "one"
    box.take(1)
    putter.join()
    assert queue.get() == "two"


def test_the_bound_may_be_assigned(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", maxsize=1)
    queue.put(1)
    queue.maxsize = 2
    queue.put(2, block=False)
    assert queue.full()
    queue.maxsize = 0
    queue.put(3, block=False)
    assert not queue.full()


def test_blocked_gets_of_many_threads_get_one_item_each(bus: pymq.NativeEventBus, box: Box) -> None:
    getters = [threading.Thread(target=lambda: box.put(bus.queue("jobs").get())) for _ in range(20)]
    for getter in getters:
        getter.start()
    bus.queue("jobs").put_many(range(20))
    assert sorted(box.take(20)) == list(range(20))
    for getter in getters:
        getter.join()


def test_what_cannot_be_sent_names_its_place(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    with pytest.raises(TypeError, match=r'item\["a"\]\[0\].*Lock|lock'):
        queue.put({"a": [threading.Lock()]})
    assert queue.empty()


def test_negative_timeouts_are_value_errors(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs")
    for call in (
        lambda: queue.get(timeout=-1),
        lambda: queue.put(1, timeout=-0.5),
        lambda: queue.get_many(1, timeout=-1),
        lambda: queue.get_delivery(timeout=-1),
        lambda: queue.get_many(0),
    ):
        with pytest.raises(ValueError, match=r"non-negative|at least 1"):
            call()
    with pytest.raises(pymq.Empty):
        queue.get(block=False, timeout=-1)
