"""How threads wait: Ctrl-C, the GIL, and a bus that is closed meanwhile."""

import contextlib
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from native_parts import HANG, Server, until

from pymq import exceptions
from pymq._pymq import Bus, Call, Intake


@contextlib.contextmanager
def interrupted() -> Iterator[None]:
    """Ctrl-C, while the main thread waits or is just about to."""
    kill = lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # noqa: E731
    timer = threading.Timer(0.1, kill)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        yield
    timer.join()


def test_ctrl_c_ends_every_wait(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    bounded = bus.queue("bounded", maxsize=1)
    bounded.put([b"1"], True, None)
    calls: list[Call] = []
    server = Server(bus, "slow", calls.append)
    waits: list[Callable[[], Any]] = [
        lambda: jobs.claim(1, True, None),
        lambda: jobs.claim(1, True, 1e9),
        lambda: bounded.put([b"2"], True, None),
        lambda: bounded.join(),
        lambda: bus.call("slow", b"[]", b"{}", None, None),
        lambda: bus.call_all("slow", b"[]", b"{}", None, None),
        lambda: Intake().recv(),
    ]
    for wait in waits:
        with interrupted():
            wait()
    jobs.put([b"not lost"], True, None)
    (delivery,) = jobs.claim(1, True, 60.0)
    assert (delivery.payload, delivery.deliveries) == (b"not lost", 1)
    assert bounded.stats() == (1, 0, 0)
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
                lambda: jobs.put([b"1"], True, None),
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
            deliveries = jobs.claim(1, True, None)
            returned += len(deliveries)
            thread.join()
        with contextlib.suppress(KeyboardInterrupt):
            thread.join()
        # It was returned, or is on its way back to the queue.
        deliveries = None
        until(lambda: jobs.stats() == (1, 0, 0))
        assert jobs.purge(False) == 1


def test_other_threads_run_while_one_waits(bus: Bus) -> None:
    jobs, answers = bus.queue("jobs"), bus.queue("answers")

    def answer() -> None:
        for _ in range(100):
            for delivery in jobs.claim(1, True, None):
                answers.put([delivery.payload], True, None)
                delivery.ack()

    thread = threading.Thread(target=answer)
    thread.start()
    for number in range(100):
        jobs.put([b"%d" % number], True, None)
        (delivery,) = answers.claim(1, True, None)
        assert delivery.payload == b"%d" % number
        delivery.ack()
    thread.join()


def test_who_waits_when_the_bus_is_closed_is_told(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    calls: list[Call] = []
    server = Server(bus, "slow", calls.append)
    jobs.put([b"held"], True, None)
    (held,) = jobs.claim(1, True, None)
    waits: list[Callable[[], Any]] = [
        lambda: jobs.claim(1, True, None),
        lambda: jobs.claim(1, True, 1e6),
        jobs.join,
        lambda: bus.call("slow", b"[]", b"{}", None, 1e6),
    ]
    with ThreadPoolExecutor(len(waits)) as pool:
        waiting = [pool.submit(wait) for wait in waits]
        until(lambda: calls)
        bus.close()
        for future in waiting:
            with pytest.raises(exceptions.ClosedError):
                future.result(HANG)
    with pytest.raises(exceptions.PymqError):
        held.ack()
    calls.clear()
    server.intake.close()
    server.join()
