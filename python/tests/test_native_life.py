"""The native core waits, ends and forks, and loses nothing by it."""

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

import pymq
from native_place import (  # noqa: F401
    HANG,
    Place,
    Server,
    _hang_guard,
    bus,
    echoing,
    native_threads,
    place,
    receive,
    until,
)
from pymq import exceptions
from pymq._pymq import Bus, Call, Completions, Intake

#: How many programs are started: a few each time, and a hundred where there is time for that.
STARTS = int(os.environ.get("PYMQ_TEST_STARTS", "24"))


def interrupt(wait: Callable[[], Any], begun: Callable[[], Any]) -> None:
    """Ctrl-C, while the main thread waits; where `begun` cannot tell, it may be just about to."""

    def kill() -> None:
        until(begun)
        time.sleep(0.1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    killer = threading.Thread(target=kill)

    def be_killed() -> None:
        killer.start()
        wait()

    with pytest.raises(KeyboardInterrupt):
        be_killed()
    killer.join()


def test_ctrl_c_ends_every_wait(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    bounded = bus.queue("bounded", maxsize=1)
    bounded.put([b"1"], True, None).wait()
    calls: list[Call] = []
    server = Server(bus, "slow", calls.append)
    for wait in (
        lambda: jobs.claim(1, True, None).wait(),
        lambda: jobs.claim(1, True, 1e9).wait(),
        lambda: bounded.put([b"2"], True, None).wait(),
        lambda: bounded.join().wait(),
        lambda: Intake().recv(),
    ):
        interrupt(wait, begun=lambda: True)
    interrupt(lambda: bus.call("slow", b"[]", b"{}", None, None).wait(), lambda: calls)
    interrupt(lambda: bus.call_all("slow", b"[]", b"{}", None, None).wait(), lambda: calls[1:])
    jobs.put([b"not lost"], True, None).wait()
    (delivery,) = jobs.claim(1, True, 60.0).wait()
    assert (delivery.payload, delivery.deliveries) == (b"not lost", 1)
    assert bounded.stats().wait()[:3] == (1, 0, 0)
    until(lambda: len(calls) == 2 and all(call.cancelled for call in calls))
    calls.clear()
    server.end()


def test_an_interrupted_claim_loses_no_item_that_comes_in_the_same_moment(bus: Bus) -> None:
    jobs = bus.queue("jobs", max_deliveries=0)
    main = threading.main_thread().ident
    returned = 0

    def put_and_kill() -> None:
        first, second = random.sample(
            [
                lambda: jobs.put([b"1"], True, None).wait(),
                lambda: signal.pthread_kill(main, signal.SIGINT),
            ],
            2,
        )
        first()
        second()

    for _ in range(60):
        thread = threading.Thread(target=put_and_kill)
        with contextlib.suppress(KeyboardInterrupt):
            thread.start()
            deliveries = jobs.claim(1, True, None).wait()
            returned += len(deliveries)
            thread.join()
        with contextlib.suppress(KeyboardInterrupt):
            thread.join()
        # It was returned, or is on its way back to the queue.
        deliveries = None
        until(lambda: jobs.stats().wait()[:3] == (1, 0, 0))
        assert jobs.purge(False).wait() == 1


def test_other_threads_run_while_one_waits(bus: Bus) -> None:
    jobs, answers = bus.queue("jobs"), bus.queue("answers")

    def answer() -> None:
        for _ in range(100):
            for delivery in jobs.claim(1, True, None).wait():
                answers.put([delivery.payload], True, None).wait()
                delivery.ack().wait()

    thread = threading.Thread(target=answer)
    thread.start()
    for number in range(100):
        jobs.put([b"%d" % number], True, None).wait()
        (delivery,) = answers.claim(1, True, None).wait()
        assert delivery.payload == b"%d" % number
        delivery.ack().wait()
    thread.join()


def test_who_waits_when_the_bus_is_closed_is_told(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    calls: list[Call] = []
    server = Server(bus, "slow", calls.append)
    jobs.put([b"held"], True, None).wait()
    (held,) = jobs.claim(1, True, None).wait()
    waits: list[Callable[[], Any]] = [
        lambda: jobs.claim(1, True, None).wait(),
        lambda: jobs.claim(1, True, 1e6).wait(),
        lambda: jobs.join().wait(),
        lambda: bus.call("slow", b"[]", b"{}", None, 1e6).wait(),
    ]
    with ThreadPoolExecutor(len(waits)) as pool:
        waiting = [pool.submit(wait) for wait in waits]
        until(lambda: calls)
        bus.close().wait()
        for future in waiting:
            with pytest.raises(exceptions.ClosedError):
                future.result(HANG)
    with pytest.raises(exceptions.PymqError):
        held.ack().wait()
    calls.clear()
    server.intake.close()
    server.join()


def test_after_close_no_thread_of_ours_is_alive(place: Place) -> None:
    before = native_threads()
    buses = [place.connect() for _ in range(3)]
    kept = [
        (bus.subscribe("a", False).wait(), bus.provide("f").wait(), bus.queue("q")) for bus in buses
    ]
    until(lambda: native_threads() >= 3)
    for bus in buses:
        bus.close().wait()
        bus.close().wait()
        with pytest.raises(exceptions.ClosedError):
            bus.publish("a", b"").wait()
    # The system still lists a thread for a moment after it was waited for.
    until(lambda: native_threads() <= before)
    del kept


def test_a_bus_closes_while_others_close_it_and_use_it(place: Place) -> None:
    before = native_threads()
    for _ in range(20):
        bus = place.connect()
        jobs = bus.queue("jobs")

        def use(jobs: Any = jobs) -> None:
            # What was on its way when the bus closed may have been done.
            with contextlib.suppress(exceptions.ClosedError, exceptions.OutcomeUnknownError):
                while True:
                    jobs.put([b"1"], True, None).wait()
                    jobs.claim(1, True, 0.001).wait()

        with ThreadPoolExecutor(4) as pool:
            users = [pool.submit(use) for _ in range(2)]
            closers = [pool.submit(bus.close().wait) for _ in range(2)]
            for future in users + closers:
                assert future.result(HANG) is None
    until(lambda: native_threads() <= before)


def test_a_bus_that_is_dropped_ends_by_itself(place: Place) -> None:
    before = native_threads()
    bus = place.connect()
    jobs = bus.queue("jobs")
    place.buses.clear()
    del bus
    # What was made from it keeps it.
    jobs.put([b"1"], True, None).wait()
    held = jobs.claim(1, True, None).wait()
    until(lambda: native_threads() >= 1)
    del jobs, held
    until(lambda: native_threads() <= before)


def test_cycles_are_collected_on_any_thread(place: Place) -> None:
    before = native_threads()

    def tangle() -> None:
        bus = place.connect()
        place.buses.clear()
        jobs = bus.queue("jobs", max_deliveries=0)
        jobs.put([b"1", b"2"], True, None).wait()
        intake, completions = Intake(), Completions()
        intake.attach(bus.subscribe("a", False).wait())
        provider = bus.provide("f").wait()
        intake.attach(provider)
        completions.begin(1, bus.queue("empty").claim(1, True, None))
        completions.begin(2, bus.publish("a", b"unseen"))
        knot: list[Any] = [
            bus,
            jobs,
            jobs.claim(2, True, None).wait(),
            intake,
            provider,
            completions,
        ]
        knot.append(knot)

    for _ in range(10):
        tangle()
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join(HANG)
        assert not collector.is_alive()
    until(lambda: native_threads() <= before)


EXITS = """
import contextlib, sys, threading
from pymq._pymq import Bus, Completions, Intake
from pymq.exceptions import ClosedError
bus = Bus.connect(sys.argv[1], sys.argv[2]).wait()
jobs, intake, completions = bus.queue("jobs"), Intake(), Completions()
intake.attach(bus.subscribe("a", False).wait())
intake.attach(bus.provide("f").wait())
bus.publish("a", b"unseen").wait()
completions.begin(1, jobs.claim(1, True, None))
completions.begin(2, bus.publish("a", b"unseen"))
def read():
    while True:
        intake.recv(1)
def claim():
    with contextlib.suppress(ClosedError):
        jobs.claim(1, True, None).wait()
for work in (read, claim, bus.close)[: int(sys.argv[3])]:
    threading.Thread(target=work, daemon=True).start()
"""


def test_many_programs_exit_with_a_live_bus(place: Place) -> None:
    def run(number: int) -> None:
        threads = str(number % 4)
        arguments = [sys.executable, "-c", EXITS, place.url, place.namespace, threads]
        ended = subprocess.run(arguments, capture_output=True, text=True, timeout=HANG)
        assert (ended.returncode, ended.stderr) == (0, ""), ended

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(STARTS)))


def in_child(work: Callable[[], None]) -> None:
    """Runs `work` in a forked child and fails if it does, or hangs."""
    with warnings.catch_warnings():
        # That forking beside threads is dangerous is the point.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(60)
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_worker_of_the_parent_is_told_in_a_forked_child(place: Place) -> None:
    with pymq.connect(place.url) as bus, bus.queue("jobs").work(print) as worker:

        def waits() -> None:
            with pytest.raises(pymq.ClosedError, match="belongs to"):
                worker.wait()

        in_child(waits)
        assert worker.running


def test_a_forked_child_is_told_what_to_do_and_leaves_its_parent_alone(place: Place) -> None:
    bus = place.connect()
    jobs = bus.queue("jobs")
    jobs.put([b"1"], True, None).wait()
    held = jobs.claim(1, True, None).wait()
    subscription, intake, completions = bus.subscribe("a", False).wait(), Intake(), Completions()
    number = intake.attach(subscription)
    completions.begin(1, bus.queue("empty").claim(1, True, None))
    objects: list[Any] = [bus, jobs, held, subscription, intake, completions]
    message = f"belongs to process {os.getpid()}; connect a new one after fork"

    def child() -> None:
        for use in (
            lambda: bus.publish("a", b"").wait(),
            lambda: bus.close().wait(),
            lambda: bus.capabilities,
            lambda: jobs.put([b"2"], True, None).wait(),
            lambda: jobs.claim(1, True, None).wait(),
            lambda: held[0].ack().wait(),
            lambda: subscription.end().wait(),
            lambda: intake.recv(),
            lambda: intake.close(),
            lambda: completions.resolve({}),
        ):
            with pytest.raises(exceptions.ClosedError, match=message):
                use()
        bus.abandon()
        objects.clear()
        held.clear()
        gc.collect()
        own = Bus.connect(place.url, place.namespace).wait()
        if place.url.startswith("redis"):
            assert own.publish("a", b"from the child").wait() == 1
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(own.queue("theirs").claim(1, True, None).wait)
            own.queue("theirs").put([b"3"], True, None).wait()
            assert waiting.result(60)[0].payload == b"3"
        own.close().wait()

    for _ in range(5):
        in_child(child)
    with pytest.raises(ValueError, match="only a forked child"):
        bus.abandon()
    if place.url.startswith("redis"):
        assert [payload for _, _, payload in receive(intake, 5)] == [b"from the child"] * 5
    bus.publish("a", b"still here").wait()
    assert receive(intake, 1) == [(number, "a", b"still here")]
    held[0].ack().wait()
    assert jobs.stats().wait()[:3] == (0, 0, 0)
    completions.close()


def test_a_child_drops_its_copies_without_harm(place: Place) -> None:
    bus = place.connect()
    everything: dict[str, Any] = {"bus": bus, "provider": bus.provide("f").wait()}
    everything["intake"] = intake = Intake()
    intake.attach(everything["provider"])
    place.buses.clear()
    del bus, intake

    def child() -> None:
        everything.clear()
        gc.collect()

    in_child(child)
    bus = everything["bus"]
    call = Completions()
    call.begin(1, bus.call("f", b"[]", b"{}", None, None))
    ((_, _, request),) = receive(everything["intake"], 1)
    request.answer(b"1", "int")
    waiting = {1: Future()}
    answered = waiting[1]
    until(lambda: call.resolve(waiting) or not waiting)
    assert answered.exception() is None
    bus.close().wait()
