"""A thread that makes, or answers, one call after the other does its own I/O, and nobody else waits
for it."""

import contextlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
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
from pymq._pymq import Bus, Call, Completions, Intake, Reply

ROW = 300


def a_row(bus: Bus) -> None:
    jobs = bus.queue("row")
    for _ in range(ROW):
        jobs.put([b"1"], True, None).wait()
    assert jobs.purge(False).wait() == ROW


def switches(thread: str) -> int:
    """How often threads of ours of that name have gone to sleep."""
    counts = []
    for task in Path("/proc/self/task").iterdir():
        # One of an earlier test may end in this moment.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (task / "comm").read_text().strip() == thread:
                lines = (task / "status").read_text().splitlines()
                status = dict(line.split(":", 1) for line in lines)
                counts.append(int(status["voluntary_ctxt_switches"]))
    assert counts, f"there is no thread {thread}"
    return sum(counts)


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

    def lasts(lease: float) -> bool:
        name = f"leased for {lease}"
        worker.queue(name, lease=lease).put([b"mine"], True, None).wait()
        (held,) = worker.queue(name, lease=lease).claim(1, True, None).wait()
        a_row(worker)
        stolen = thief.queue(name, lease=lease).claim(1, True, 2 * lease).wait()
        if not stolen:
            held.ack().wait()
        return not stolen

    # Where the whole process stands still for as long, its lease is over, as it should be.
    assert any(lasts(lease) for lease in (0.5, 2.0, 8.0, 32.0))


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
        # What was on its way when the bus closed may have been done.
        with pytest.raises((exceptions.ClosedError, exceptions.OutcomeUnknownError)):
            row.result(HANG)


def calls_in_a_row(bus: Bus, function: str = "echo", count: int = ROW) -> None:
    for _ in range(count):
        assert bus.call(function, b"[1]", b"{}", None, None).wait().value == b"[1]"


def test_the_io_threads_sleep_through_a_row_of_answers(redis_url: str) -> None:
    place = Place(redis_url)
    caller, provider = place.connect(), place.connect()
    server = Server(provider, "echo", echo)

    def slept_through() -> bool:
        before = switches("pymq-io")
        calls_in_a_row(caller)
        # Handed over, each call would wake the provider's at least twice, and the caller's once.
        return switches("pymq-io") - before < ROW

    try:
        until(slept_through)
    finally:
        server.end()
        caller.close().wait()
        provider.close().wait()


def test_who_answers_a_row_hears_what_else_comes(bus: Bus, place: Place) -> None:
    provider = place.connect()
    intake, stop = Intake(), threading.Event()
    server = Server(provider, "echo", echo)
    intake.attach(provider.subscribe("news", False).wait())
    with ThreadPoolExecutor(1) as pool:

        def rows() -> None:
            while not stop.is_set():
                calls_in_a_row(bus, count=20)

        row = pool.submit(rows)
        try:
            for round in range(50):
                provider.queue("jobs").put([b"%d" % round], True, None).wait()
                (job,) = provider.queue("jobs").claim(1, True, HANG).wait()
                job.ack().wait()
                bus.publish("news", b"%d" % round).wait()
                assert receive(intake, 1)[0][2] == b"%d" % round
        finally:
            stop.set()
        row.result()
    server.end()


def test_a_function_that_is_slow_for_once_keeps_no_other_waiting(bus: Bus, place: Place) -> None:
    provider = place.connect()
    goes_on = threading.Event()

    def handle(call: Call) -> None:
        if call.args == b"[2]":
            goes_on.wait(HANG)
        echo(call)

    slow, fast = Server(provider, "slow", handle), Server(provider, "fast", echo)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            goes_on.clear()
            calls_in_a_row(bus, "slow", 50)
            held = pool.submit(lambda: bus.call("slow", b"[2]", b"{}", None, None).wait())
            calls_in_a_row(bus, "fast", 50)
            assert not held.done()
            goes_on.set()
            assert held.result(HANG).value == b"[2]"
    slow.end()
    fast.end()


def test_answers_of_a_batch_do_not_wait_for_a_slow_one_among_them(bus: Bus, place: Place) -> None:
    goes_on = threading.Event()

    def handle(call: Call) -> None:
        if call.args == b"[2]":
            goes_on.wait(HANG)
        echo(call)

    server = Server(place.connect(), "mixed", handle)
    completions = Completions()
    waiting: dict[int, Future[Reply]] = {}

    def begin(token: int, args: bytes) -> Future[Reply]:
        waiting[token] = future = Future()
        completions.begin(token, bus.call("mixed", args, b"{}", None, None))
        return future

    def answered(call: Future[Reply]) -> bool:
        completions.resolve(waiting)
        return call.done()

    for round in range(10):
        goes_on.clear()
        calls_in_a_row(bus, "mixed", 20)
        first, second = begin(2 * round, b"[1]"), begin(2 * round + 1, b"[2]")
        until(lambda call=first: answered(call))
        assert not second.done()
        goes_on.set()
        until(lambda call=second: answered(call))
        assert second.result().value == b"[2]"
    server.end()


def test_closing_ends_a_row_of_answers(bus: Bus, place: Place) -> None:
    provider = place.connect()
    server = Server(provider, "echo", echo)
    calls_in_a_row(bus)
    provider.close().wait()
    server.intake.close()
    server.join(HANG)
    assert not server.is_alive()
