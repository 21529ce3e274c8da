"""The native core by itself: waiting, ending, forking, and nothing lost on the way."""

import asyncio
import contextlib
import faulthandler
import gc
import json
import math
import os
import queue
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pymq import exceptions
from pymq._pymq import Bus, Call, Completions, Intake

HANG = 120.0


@pytest.fixture(autouse=True)
def _hang_guard(pytestconfig: pytest.Config) -> Iterator[None]:
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        seen = os.dup(2)
    faulthandler.dump_traceback_later(HANG, exit=True, file=seen)
    yield
    faulthandler.cancel_dump_traceback_later()
    os.close(seen)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = os.environ.get("REDIS_SERVER") or shutil.which("redis-server")
    assert server, "no redis-server; name one in REDIS_SERVER"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    arguments = ["--port", str(port), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([server, *arguments], stdout=subprocess.DEVNULL)
    try:
        until(lambda: accepts(port))
        yield f"redis://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


class Place:
    """An address and a namespace of one test's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = uuid.uuid4().hex
        self.buses: list[Bus] = []

    def connect(self) -> Bus:
        bus = Bus.connect(self.url, self.namespace)
        self.buses.append(bus)
        return bus


@pytest.fixture(params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "memory":
        place = Place(f"memory://{uuid.uuid4().hex}")
    else:
        place = Place(request.getfixturevalue("redis_url"))
    yield place
    for bus in place.buses:
        bus.close()


@pytest.fixture
def bus(place: Place) -> Bus:
    return place.connect()


def until(condition: Callable[[], Any]) -> None:
    """Waits for a condition that something else brings about."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.002)


def native_threads() -> int:
    """How many threads of ours there are."""
    count = 0
    for comm in Path("/proc/self/task").glob("*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            count += comm.read_text().startswith("pymq-")
    return count


def receive(intake: Intake, count: int, limit: int = 256) -> list[tuple[int, str | None, Any]]:
    """Takes exactly `count` arrivals, if there are that many."""
    got: list[tuple[int, str | None, Any]] = []
    while len(got) < count:
        batch = intake.recv(limit, timeout=30.0)
        assert batch, f"only {len(got)} of {count} came"
        assert len(batch) <= limit
        got += batch
    return got


class Server(threading.Thread):
    """Answers each call with what `handle` gives."""

    def __init__(self, bus: Bus, function: str, handle: Callable[[Call], None]) -> None:
        super().__init__()
        self.provider = bus.provide(function)
        self.intake = Intake()
        self.intake.attach(self.provider)
        self.handle = handle
        self.start()

    def run(self) -> None:
        while not self.intake.closed:
            for _, _, call in self.intake.recv():
                if call is not None:
                    self.handle(call)
                # The next wait must not keep it: dropped unanswered, it is answered.
                del call

    def end(self) -> None:
        self.intake.close()
        self.join()
        self.provider.end()


def echo(call: Call) -> None:
    call.answer(call.args, "list", call.types)


@pytest.fixture
def echoing(bus: Bus) -> Iterator[Server]:
    server = Server(bus, "echo", echo)
    yield server
    server.end()


# Events.


def test_events_of_several_sources_come_in_the_order_in_which_they_were_sent(place: Place) -> None:
    sender, receiver = place.connect(), place.connect()
    topics = [f"topic.{number}" for number in range(8)]
    intake = Intake()
    numbers = {intake.attach(receiver.subscribe(topic, False)): topic for topic in topics}
    sent = [(random.choice(topics), b"%d" % number) for number in range(2000)]
    for topic, payload in sent:
        assert sender.publish(topic, payload) == 1
    got = receive(intake, len(sent), limit=7)
    assert [(topic, payload) for _, topic, payload in got] == sent
    assert all(numbers[number] == topic for number, topic, _ in got)


def test_a_pattern_tells_the_topic_without_the_namespace(bus: Bus) -> None:
    subscription = bus.subscribe("shop.*", True)
    assert (subscription.name, subscription.pattern) == ("shop.*", True)
    intake = Intake()
    number = intake.attach(subscription)
    bus.publish("shop.orders", b"1")
    assert receive(intake, 1) == [(number, "shop.orders", b"1")]


def test_a_slow_reader_is_told_how_many_it_missed() -> None:
    bus = Bus.connect("memory://")
    intake = Intake()
    number = intake.attach(bus.subscribe("flood", False))
    for _ in range(65_536 + 10):
        bus.publish("flood", b"drop")
    assert intake.recv(1) == [(number, "", 10)]
    assert intake.recv(1) == [(number, "flood", b"drop")]
    bus.close()


def test_an_ended_subscription_gives_what_had_arrived_and_then_says_so(bus: Bus) -> None:
    subscription = bus.subscribe("a", False)
    intake = Intake()
    number = intake.attach(subscription)
    bus.publish("a", b"last")
    until(lambda: select.select([intake.fileno()], [], [], 60)[0])
    subscription.end()
    subscription.end()
    assert bus.publish("a", b"too late") == 0
    assert receive(intake, 2) == [(number, "a", b"last"), (number, None, None)]
    assert intake.recv(timeout=0) == []


def test_a_closed_bus_ends_its_sources(bus: Bus) -> None:
    intake = Intake()
    numbers = [
        intake.attach(bus.subscribe("a", False)),
        intake.attach(bus.subscribe("b*", True)),
        intake.attach(bus.provide("f")),
    ]
    bus.close()
    assert sorted(receive(intake, 3)) == [(number, None, None) for number in numbers]


def test_a_detached_source_is_not_read_any_more(bus: Bus) -> None:
    intake = Intake()
    kept, left = bus.subscribe("kept", False), bus.subscribe("left", False)
    number, other = intake.attach(kept), intake.attach(left)
    intake.detach(other)
    intake.detach(other)
    bus.publish("left", b"")
    bus.publish("kept", b"")
    assert receive(intake, 1) == [(number, "kept", b"")]
    assert intake.recv(timeout=0) == []


def test_what_is_neither_attached_nor_held_is_unsubscribed(bus: Bus) -> None:
    bus.subscribe("a", False)
    until(lambda: bus.publish("a", b"") == 0)


def test_closing_an_intake_wakes_whoever_waits_and_leaves_the_rest(bus: Bus) -> None:
    intake = Intake()
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(intake.recv) for _ in range(3)]
        intake.close()
        assert [future.result(HANG) for future in waiting] == [[], [], []]
    number = intake.attach(bus.subscribe("a", False))
    bus.publish("a", b"left")
    until(lambda: intake.recv() == [(number, "a", b"left")])
    assert intake.closed
    assert intake.recv() == []


def test_the_descriptor_is_readable_exactly_while_there_is_something(bus: Bus) -> None:
    intake = Intake()
    intake.attach(bus.subscribe("a", False))
    intake.recv(timeout=0)
    readable = lambda timeout: bool(select.select([intake.fileno()], [], [], timeout)[0])  # noqa: E731
    assert not readable(0)
    for _ in range(3):
        bus.publish("a", b"")
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
        intake.attach(bus.subscribe(topic, False))
    got: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        while batch := intake.recv(3):
            for _, _, payload in batch:
                got.put(payload)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for number in range(1000):
        bus.publish(random.choice("abcd"), b"%d" % number)
    assert {int(got.get(timeout=60)) for _ in range(1000)} == set(range(1000))
    intake.close()
    for reader in readers:
        reader.join()


# Queues.


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


# Calls.


def test_a_call_is_answered(bus: Bus, echoing: Server) -> None:
    types = {"0": {"": "tuple"}}
    reply = bus.call("echo", b"[1, 2]", b"{}", json.dumps(types).encode(), 30.0)
    assert (reply.value, reply.type_name, reply.failed) == (b"[1, 2]", "list", False)
    assert json.loads(reply.types or b"") == types
    assert reply.provider == echoing.provider.id
    replies, missing = bus.call_all("echo", b"[]", b"{}", None, 30.0)
    assert ([reply.value for reply in replies], missing) == ([b"[]"], [])


def test_keyword_arguments_arrive(bus: Bus) -> None:
    server = Server(bus, "f", lambda call: call.answer(call.kwargs, "dict"))
    assert bus.call("f", b"[]", b'{"a": 1}', None, 30.0).value == b'{"a": 1}'
    server.end()


def test_a_failure_is_a_reply_and_a_dropped_call_is_one_too(bus: Bus) -> None:
    server = Server(bus, "fail", lambda call: call.answer(b'["no"]', "ValueError", failed=True))
    dropping = Server(bus, "drop", lambda call: None)
    reply = bus.call("fail", b"[]", b"{}", None, 30.0)
    assert (reply.failed, reply.type_name, reply.value) == (True, "ValueError", b'["no"]')
    assert bus.call("drop", b"[]", b"{}", None, 30.0).failed
    server.end()
    dropping.end()


def test_a_call_that_takes_too_long_is_a_timeout_of_both_kinds(bus: Bus) -> None:
    calls: list[Call] = []
    server = Server(bus, "slow", calls.append)
    with pytest.raises(exceptions.CallTimeoutError) as caught:
        bus.call("slow", b"[]", b"{}", None, 0.1)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, exceptions.RemoteInvocationError)
    assert caught.value.args[0] == "TimeoutError"
    assert str(caught.value).startswith('call "slow": timed out')
    until(lambda: calls[0].cancelled)
    _, missing = bus.call_all("slow", b"[]", b"{}", None, 2.0)
    assert [(gone.provider, gone.lost) for gone in missing] == [(server.provider.id, False)]
    server.end()


def test_a_function_that_nobody_exposes_is_named(bus: Bus) -> None:
    with pytest.raises(exceptions.NoSuchRemoteError, match='"nobody"'):
        bus.call("nobody", b"[]", b"{}", None, 5.0)
    server = Server(bus, "left", echo)
    server.end()
    with pytest.raises(exceptions.NoSuchRemoteError):
        bus.call("left", b"[]", b"{}", None, 5.0)


def test_a_call_is_answered_once(bus: Bus) -> None:
    answered = threading.Event()

    def twice(call: Call) -> None:
        call.answer(b"1", "int")
        with pytest.raises(ValueError, match="answered already"):
            call.answer(b"2", "int")
        answered.set()

    server = Server(bus, "f", twice)
    assert bus.call("f", b"[]", b"{}", None, 30.0).value == b"1"
    assert answered.wait(60)
    server.end()


# Arguments and errors.


@pytest.mark.parametrize("bad", [-1.0, -0.001, math.nan, -math.inf])
def test_a_timeout_that_is_none_is_refused(bad: float) -> None:
    bus = Bus.connect("memory://")
    jobs = bus.queue("jobs")
    for use in (
        lambda: jobs.claim(1, True, bad),
        lambda: jobs.put([b""], True, bad),
        lambda: jobs.join(bad),
        lambda: bus.call("f", b"[]", b"{}", None, bad),
        lambda: bus.call_all("f", b"[]", b"{}", None, None, bad),
        lambda: Intake().recv(timeout=bad),
        lambda: bus.close(bad),
        lambda: bus.queue("jobs", lease=bad),
    ):
        with pytest.raises(ValueError, match="number of seconds"):
            use()
    assert jobs.stats() == (0, 0, 0)
    bus.close()


@pytest.mark.parametrize("huge", [1e10, 1e300, math.inf])
def test_a_huge_timeout_is_no_limit(huge: float) -> None:
    bus = Bus.connect("memory://")
    server = Server(bus, "echo", echo)
    assert bus.call("echo", b"[]", b"{}", None, huge).value == b"[]"
    server.end()
    jobs = bus.queue("jobs")
    jobs.put([b"1"], True, huge)
    (delivery,) = jobs.claim(1, True, huge)
    delivery.ack()
    assert jobs.join(huge)
    bus.close(huge)


def test_errors_are_the_classes_of_the_package() -> None:
    with pytest.raises(exceptions.ConfigError, match="unknown scheme") as caught:
        Bus.connect("carrier-pigeon://loft")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(exceptions.ConnectionLostError) as lost:
        Bus.connect("redis://127.0.0.1:1")
    assert isinstance(lost.value, ConnectionError)
    bus = Bus.connect("memory://")
    with pytest.raises(exceptions.EncodeError, match="16 MiB"):
        bus.publish("a", bytes(17 << 20))
    bus.close()


def test_capabilities_are_told(bus: Bus, place: Place) -> None:
    shared = place.url.startswith("redis")
    expected = {"receiver_count": True} | dict.fromkeys(
        ("cross_process", "durable", "originals"), shared
    )
    assert bus.capabilities == expected


# Waiting.


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


# Ending.


def test_after_close_no_thread_of_ours_is_alive(place: Place) -> None:
    before = native_threads()
    buses = [place.connect() for _ in range(3)]
    kept = [(bus.subscribe("a", False), bus.provide("f"), bus.queue("q")) for bus in buses]
    until(lambda: native_threads() >= before + 3)
    for bus in buses:
        bus.close()
        bus.close()
        with pytest.raises(exceptions.ClosedError):
            bus.publish("a", b"")
    assert native_threads() <= before
    del kept


def test_a_bus_closes_while_others_close_it_and_use_it(place: Place) -> None:
    before = native_threads()
    for _ in range(20):
        bus = place.connect()
        jobs = bus.queue("jobs")

        def use(jobs: Any = jobs) -> None:
            with contextlib.suppress(exceptions.ClosedError):
                while True:
                    jobs.put([b"1"], True, None)
                    jobs.claim(1, True, 0.001)

        with ThreadPoolExecutor(4) as pool:
            users = [pool.submit(use) for _ in range(2)]
            closers = [pool.submit(bus.close) for _ in range(2)]
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
    jobs.put([b"1"], True, None)
    held = jobs.claim(1, True, None)
    until(lambda: native_threads() > before)
    del jobs, held
    until(lambda: native_threads() <= before)


def test_cycles_are_collected_on_any_thread(place: Place) -> None:
    before = native_threads()

    def tangle() -> None:
        bus = place.connect()
        place.buses.clear()
        jobs = bus.queue("jobs", max_deliveries=0)
        jobs.put([b"1", b"2"], True, None)
        intake, completions = Intake(), Completions()
        intake.attach(bus.subscribe("a", False))
        provider = bus.provide("f")
        intake.attach(provider)
        completions.begin_claim(1, bus.queue("empty"), 1, True, None)
        completions.begin_publish(2, bus, "a", b"unseen")
        knot: list[Any] = [bus, jobs, jobs.claim(2, True, None), intake, provider, completions]
        knot.append(knot)

    for _ in range(10):
        tangle()
        collector = threading.Thread(target=gc.collect)
        collector.start()
        collector.join(HANG)
        assert not collector.is_alive()
    until(lambda: native_threads() <= before)


EXITS = """
import sys, threading
from pymq._pymq import Bus, Completions, Intake
bus = Bus.connect(sys.argv[1], sys.argv[2])
jobs, intake, completions = bus.queue("jobs"), Intake(), Completions()
intake.attach(bus.subscribe("a", False))
intake.attach(bus.provide("f"))
bus.publish("a", b"unseen")
completions.begin_claim(1, jobs, 1, True, None)
completions.begin_publish(2, bus, "a", b"unseen")
def read():
    while True:
        intake.recv(1)
threading.Thread(target=read, daemon=True).start()
threading.Thread(target=jobs.claim, args=(1, True, None), daemon=True).start()
threading.Thread(target=bus.close, daemon=True).start() if sys.argv[3] == "closing" else None
"""


def test_a_hundred_programs_exit_with_a_live_bus(place: Place) -> None:
    def run(number: int) -> None:
        how = "closing" if number % 4 == 0 else "live"
        arguments = [sys.executable, "-c", EXITS, place.url, place.namespace, how]
        ended = subprocess.run(arguments, capture_output=True, text=True, timeout=HANG)
        assert (ended.returncode, ended.stderr) == (0, ""), ended

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, range(50)))


# Forking.


def in_child(work: Callable[[], None]) -> None:
    """Runs `work` in a forked child and fails if it does, or hangs."""
    with warnings.catch_warnings():
        # That forking beside threads is dangerous is the point.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            faulthandler.dump_traceback_later(60, exit=True)
            work()
            code = 0
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_forked_child_is_told_what_to_do_and_leaves_its_parent_alone(place: Place) -> None:
    bus = place.connect()
    jobs = bus.queue("jobs")
    jobs.put([b"1"], True, None)
    held = jobs.claim(1, True, None)
    subscription, intake, completions = bus.subscribe("a", False), Intake(), Completions()
    number = intake.attach(subscription)
    completions.begin_claim(1, bus.queue("empty"), 1, True, None)
    objects: list[Any] = [bus, jobs, held, subscription, intake, completions]
    message = f"belongs to process {os.getpid()}; connect a new one after fork"

    def child() -> None:
        for use in (
            lambda: bus.publish("a", b""),
            lambda: bus.close(),
            lambda: bus.capabilities,
            lambda: jobs.put([b"2"], True, None),
            lambda: jobs.claim(1, True, None),
            lambda: held[0].ack(),
            lambda: subscription.end(),
            lambda: intake.recv(),
            lambda: intake.close(),
            lambda: completions.drain(),
        ):
            with pytest.raises(exceptions.ClosedError, match=message):
                use()
        bus.abandon()
        objects.clear()
        held.clear()
        gc.collect()
        own = Bus.connect(place.url, place.namespace)
        if place.url.startswith("redis"):
            assert own.publish("a", b"from the child") == 1
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(own.queue("theirs").claim, 1, True, None)
            own.queue("theirs").put([b"3"], True, None)
            assert waiting.result(60)[0].payload == b"3"
        own.close()

    for _ in range(5):
        in_child(child)
    with pytest.raises(ValueError, match="only a forked child"):
        bus.abandon()
    if place.url.startswith("redis"):
        assert [payload for _, _, payload in receive(intake, 5)] == [b"from the child"] * 5
    bus.publish("a", b"still here")
    assert receive(intake, 1) == [(number, "a", b"still here")]
    held[0].ack()
    assert jobs.stats() == (0, 0, 0)
    completions.close()


def test_a_child_drops_its_copies_without_harm(place: Place) -> None:
    bus = place.connect()
    everything: dict[str, Any] = {"bus": bus, "provider": bus.provide("f")}
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
    call.begin_call(1, bus, "f", b"[]", b"{}", None, None)
    ((_, _, request),) = receive(everything["intake"], 1)
    request.answer(b"1", "int")
    until(lambda: [(token, error) for token, error, _ in call.drain()] == [(1, None)])
    bus.close()


# Event loops.


class Loop:
    """The smallest user of completions: a future for each operation."""

    def __init__(self) -> None:
        self.completions = Completions()
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self.last = 0
        self.loop = asyncio.get_running_loop()
        self.loop.add_reader(self.completions.fileno(), self.drain)

    def drain(self) -> None:
        for token, error, result in self.completions.drain():
            future = self.waiting.pop(token)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    async def do(self, begin: str, *arguments: Any) -> Any:
        self.last += 1
        token = self.last
        future = self.waiting[token] = self.loop.create_future()
        getattr(self.completions, f"begin_{begin}")(token, *arguments)
        try:
            return await future
        except asyncio.CancelledError:
            if self.waiting.pop(token, None) is not None:
                self.completions.cancel(token)
            elif future.done() and not future.cancelled():
                for delivery in future.result():
                    delivery.give_back()
            raise

    def end(self) -> None:
        self.loop.remove_reader(self.completions.fileno())
        self.completions.close()


def test_every_operation_has_an_asynchronous_twin(place: Place) -> None:
    async def main() -> None:
        loop = Loop()
        bus = await loop.do("connect", place.url, place.namespace)
        subscription = await loop.do("subscribe", bus, "a", False)
        assert await loop.do("publish", bus, "a", b"1") == 1
        await loop.do("end", subscription)
        assert await loop.do("publish", bus, "a", b"2") == 0

        provider = await loop.do("provide", bus, "echo")
        intake = Intake()
        intake.attach(provider)
        answer = lambda: [echo(call) for _, _, call in intake.recv(timeout=0) if call]  # noqa: E731
        loop.loop.add_reader(intake.fileno(), answer)
        reply = await loop.do("call", bus, "echo", b"[1]", b"{}", None, 60.0)
        assert reply.value == b"[1]"
        replies, missing = await loop.do("call_all", bus, "echo", b"[1]", b"{}", None, 60.0)
        assert (len(replies), missing) == (1, [])
        with pytest.raises(exceptions.NoSuchRemoteError):
            await loop.do("call", bus, "nobody", b"[]", b"{}", None, 60.0)
        await loop.do("end", provider)
        loop.loop.remove_reader(intake.fileno())

        jobs = bus.queue("jobs")
        assert await loop.do("put", jobs, [b"1", b"2", b"3"], True, None) is None
        deliveries = await loop.do("claim", jobs, 3, True, None)
        assert await loop.do("stats", jobs) == (0, 3, 0)
        for delivery, how in zip(deliveries, ("ack", "requeue", "reject"), strict=True):
            assert await loop.do("settle", delivery, how) is None
        with pytest.raises(ValueError, match="settled already"):
            await loop.do("settle", deliveries[0], "ack")
        assert await loop.do("stats", jobs) == (1, 0, 1)
        jobs.purge(False)
        await loop.do("join", jobs)
        await loop.do("close", bus)
        with pytest.raises(exceptions.ClosedError):
            await loop.do("publish", bus, "a", b"3")
        with pytest.raises(exceptions.ConfigError):
            await loop.do("connect", "carrier-pigeon://loft")
        loop.end()

    before = native_threads()
    asyncio.run(main())
    until(lambda: native_threads() <= before)


def test_ten_thousand_claims_wait_on_few_threads(bus: Bus) -> None:
    count = 10_000

    async def main() -> None:
        loop = Loop()
        jobs = bus.queue("jobs")
        claims = [
            asyncio.ensure_future(loop.do("claim", jobs, 1, True, None)) for _ in range(count)
        ]
        await asyncio.sleep(0)
        assert len(list(Path("/proc/self/task").iterdir())) <= 4 + before
        for start in range(0, count, 1000):
            items = [b"%d" % number for number in range(start, start + 1000)]
            await loop.do("put", jobs, items, True, None)
        deliveries = [delivery for (delivery,) in await asyncio.gather(*claims)]
        assert {int(delivery.payload) for delivery in deliveries} == set(range(count))
        assert all(delivery.deliveries == 1 for delivery in deliveries)
        for delivery in deliveries:
            delivery.ack_soon()
        await loop.do("join", jobs)
        loop.end()

    before = len(list(Path("/proc/self/task").iterdir())) - native_threads()
    asyncio.run(main())


def test_cancelled_claims_lose_no_item(bus: Bus) -> None:
    count = 300

    async def main() -> None:
        loop = Loop()
        jobs = bus.queue("jobs")
        claims = [
            asyncio.ensure_future(loop.do("claim", jobs, 1, True, None)) for _ in range(count)
        ]
        await asyncio.sleep(0)
        putting = asyncio.ensure_future(
            loop.do("put", jobs, [b"%d" % number for number in range(count)], True, None)
        )
        for claim in random.sample(claims, count // 2):
            claim.cancel()
            if random.random() < 0.2:
                await asyncio.sleep(0.001)
        await putting
        results = await asyncio.gather(*claims, return_exceptions=True)
        kept = [result[0] for result in results if isinstance(result, list)]
        assert len(kept) >= count // 2
        assert all(isinstance(r, list | asyncio.CancelledError) for r in results)
        left = []
        while len(kept) + len(left) < count:
            left += await loop.do("claim", jobs, count, True, 30.0)
        assert {int(delivery.payload) for delivery in kept + left} == set(range(count))
        assert all(delivery.deliveries == 1 for delivery in kept + left)
        loop.end()

    asyncio.run(main())


def test_results_that_are_never_drained_give_back_what_they_hold(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    jobs.put([b"1", b"2", b"3"], True, None)
    completions = Completions()
    for token in range(3):
        completions.begin_claim(token, jobs, 1, True, None)
    until(lambda: jobs.stats() == (0, 3, 0))
    until(lambda: select.select([completions.fileno()], [], [], 60)[0])
    completions.cancel(0)
    until(lambda: jobs.stats() == (1, 2, 0))
    completions.close()
    until(lambda: jobs.stats() == (3, 0, 0))
    assert [delivery.deliveries for delivery in jobs.claim(3, True, None)] == [1, 1, 1]
    assert completions.drain() == []
    with pytest.raises(ValueError, match="were closed"):
        completions.begin_stats(4, jobs)


def test_completions_that_are_dropped_end_what_was_under_way(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    completions = Completions()
    for token in range(10):
        completions.begin_claim(token, jobs, 1, True, None)
    del completions
    jobs.put([b"1"], True, None)
    (delivery,) = jobs.claim(1, True, 60.0)
    assert delivery.deliveries == 1


def test_a_token_names_one_operation_at_a_time_and_can_be_used_again(bus: Bus) -> None:
    jobs = bus.queue("jobs")
    completions = Completions()
    completions.begin_claim(7, jobs, 1, True, None)
    with pytest.raises(ValueError, match="under way"):
        completions.begin_stats(7, jobs)
    completions.cancel(7)
    completions.begin_stats(7, jobs)
    done: list[tuple[int, BaseException | None, Any]] = []
    until(lambda: done.extend(completions.drain()) or done)
    assert done == [(7, None, (0, 0, 0))]
    assert not select.select([completions.fileno()], [], [], 0)[0]


def test_operations_under_way_are_told_when_their_bus_is_closed(place: Place) -> None:
    bus, completions = place.connect(), Completions()
    jobs = bus.queue("jobs")
    completions.begin_claim(1, jobs, 1, True, None)
    completions.begin_claim(2, jobs, 1, True, 1e6)
    bus.close()
    done: list[tuple[int, BaseException | None, Any]] = []
    until(lambda: done.extend(completions.drain()) or len(done) == 2)
    assert {token for token, _, _ in done} == {1, 2}
    assert all(isinstance(error, exceptions.ClosedError) for _, error, _ in done)


def test_a_close_that_an_event_loop_orders_is_reported_when_nothing_is_left(place: Place) -> None:
    before = native_threads()
    bus, completions = place.connect(), Completions()
    completions.begin_close(1, bus)
    completions.begin_close(2, bus)
    done = []
    until(lambda: done.extend(completions.drain()) or len(done) == 2)
    assert [(token, error) for token, error, _ in done] == [(1, None), (2, None)]
    until(lambda: native_threads() <= before)
