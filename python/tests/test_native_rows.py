"""A thread that makes one call after the other does its own I/O, and nobody else waits for it."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from native_place import (  # noqa: F401
    HANG,
    Place,
    Server,
    _hang_guard,
    bus,
    echo,
    place,
    receive,
    until,
)
from pymq import exceptions
from pymq._pymq import Bus, Intake

ROW = 300


def a_row(bus: Bus) -> None:
    jobs = bus.queue("row")
    for _ in range(ROW):
        jobs.put([b"1"], True, None).wait()
    assert jobs.purge(False).wait() == ROW


def switches(thread: str) -> int:
    """How often a thread of ours has gone to sleep."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == thread:
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            return int(status["voluntary_ctxt_switches"])
    raise AssertionError(f"there is no thread {thread}")


@pytest.fixture
def own_redis_bus(redis_url: str) -> Bus:
    return Place(redis_url).connect()


def test_the_io_thread_sleeps_through_a_row_of_calls(own_redis_bus: Bus) -> None:
    def slept_through() -> bool:
        before = switches("pymq-io")
        a_row(own_redis_bus)
        # Handed over, each of them would wake it twice.
        return switches("pymq-io") - before < ROW

    try:
        # On a busy machine a row is torn apart now and then.
        until(slept_through)
    finally:
        own_redis_bus.close().wait()


def test_what_is_waited_for_elsewhere_is_served_during_a_row(bus: Bus, place: Place) -> None:
    other = place.connect()
    intake = Intake()
    intake.attach(other.subscribe("news", False).wait())
    with ThreadPoolExecutor(1) as pool:
        stop = threading.Event()

        def rows() -> None:
            while not stop.is_set():
                a_row(other)

        row = pool.submit(rows)
        try:
            for round in range(50):
                bus.queue("jobs").put([b"%d" % round], True, None).wait()
                (job,) = other.queue("jobs").claim(1, True, HANG).wait()
                assert job.payload == b"%d" % round
                job.ack().wait()
                bus.publish("news", b"%d" % round).wait()
                assert receive(intake, 1)[0][2] == b"%d" % round
        finally:
            stop.set()
        row.result()


def test_a_provider_begun_after_a_row_answers(bus: Bus, place: Place) -> None:
    other = place.connect()
    for _ in range(5):
        a_row(other)
        server = Server(other, "echo", echo)
        try:
            assert bus.call("echo", b"[1]", b"{}", None, None).wait().value == b"[1]"
        finally:
            server.end()


def test_leases_last_through_a_row_and_the_silence_after_it(place: Place) -> None:
    worker, thief = place.connect(), place.connect()
    worker.queue("leased", lease=0.5).put([b"mine"], True, None).wait()
    (held,) = worker.queue("leased", lease=0.5).claim(1, True, None).wait()
    a_row(worker)
    assert thief.queue("leased", lease=0.5).claim(1, True, 2.0).wait() == []
    held.ack().wait()


def test_closing_ends_a_row(bus: Bus) -> None:
    begun = threading.Event()

    def rows() -> None:
        while True:
            a_row(bus)
            begun.set()

    with ThreadPoolExecutor(1) as pool:
        row = pool.submit(rows)
        assert begun.wait(HANG)
        bus.close().wait()
        with pytest.raises(exceptions.ClosedError):
            row.result(HANG)
