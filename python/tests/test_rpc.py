"""Remote calls between several buses."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pymq
from conftest import HANG_GUARD, TRANSPORTS, Server, lengths, wait_until

Connect = Callable[..., pymq.NativeEventBus]


@dataclass
class Product:
    name: str
    price: float


def test_of_several_providers_one_executes_and_all_are_used(connect: Connect) -> None:
    executed: Counter[int] = Counter()
    guard = threading.Lock()

    def work(n: int) -> Callable[[], int]:
        def run() -> int:
            with guard:
                executed[n] += 1
            return n

        return run

    for n in range(3):
        connect().expose(work(n), "work")
    caller = connect().stub("work")
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: caller(), range(1000)))

    def all_are_used() -> bool:
        results.append(caller())
        return len(executed) == 3

    # One that stood still when it was asked for is found again.
    wait_until(all_are_used, "all are used")
    assert len(results) == sum(executed.values())
    assert Counter(results) == executed


def test_a_call_to_all_is_answered_by_all_and_errors_name_their_provider(
    connect: Connect,
) -> None:
    def fail() -> None:
        raise KeyError("missing")

    connect().expose(lambda: 1, "work")
    connect().expose(lambda: 2, "work")
    connect().expose(fail, "work")
    caller = connect()
    # A stranger who subscribes is no provider.
    connect().subscribe(lambda event: None, "w*", pattern=True)
    answers = caller.stub("work", multi=True)()
    (error,) = [answer for answer in answers if isinstance(answer, pymq.RemoteInvocationError)]
    assert sorted(answer for answer in answers if answer is not error) == [1, 2]
    assert error.args == ("KeyError", "missing")
    assert error.provider is not None


def test_who_did_not_answer_in_time_is_named(connect: Connect) -> None:
    release = threading.Event()
    connect().expose(lambda: 1, "work")
    connect().expose(lambda: release.wait(HANG_GUARD), "work")
    caller = connect()

    def one_is_late(timeout: float) -> bool:
        answers = caller.stub("work", timeout=timeout, multi=True).rpc()
        if not isinstance(answers, list):
            # It was over before anybody knew who is asked.
            return False
        late = [answer for answer in answers if answer.error]
        assert all(answer.result_type == "TimeoutError" for answer in late)
        named = [answer for answer in late if answer.provider is not None]
        return (len(answers), len(late), len(named)) == (2, 1, 1)

    try:
        # Who answers at once is in time where both sides can run.
        assert any(one_is_late(timeout) for timeout in lengths(0.5))
    finally:
        release.set()


def test_values_are_built_at_both_ends(bus: pymq.NativeEventBus) -> None:
    def cheaper(product: Product, by: float = 1.0) -> Product:
        assert isinstance(product, Product)
        return Product(product.name, product.price - by)

    bus.expose(cheaper)
    assert bus.stub(cheaper)(Product("tea", 3.0)) == Product("tea", 2.0)
    assert bus.stub(cheaper)(Product("tea", 3.0), by=2.0) == Product("tea", 1.0)


def test_a_wrong_call_is_told_where_it_is_made_if_the_signature_is_known(
    bus: pymq.NativeEventBus,
) -> None:
    def cheaper(product: Product, by: float = 1.0) -> Product:
        return product

    bus.expose(cheaper)
    with pytest.raises(TypeError, match="unexpected keyword"):
        bus.stub(cheaper)(Product("tea", 1.0), of=3)  # type: ignore[call-arg]
    with pytest.raises(pymq.RemoteInvocationError, match="TypeError"):
        bus.stub(f"{__name__}.{cheaper.__qualname__}")()


def test_a_result_that_cannot_be_sent_is_an_error_of_the_call(
    bus: pymq.NativeEventBus, caplog: pytest.LogCaptureFixture
) -> None:
    bus.expose(lambda: threading.Lock(), "lock")
    with pytest.raises(pymq.RemoteInvocationError) as caught:
        bus.stub("lock")()
    assert caught.value.args[0] == "TypeError"
    # The caller is told first, the log then.
    wait_until(lambda: "cannot be sent" in caplog.text, "the log says it")


def test_an_error_whose_arguments_cannot_be_sent_arrives_in_words(
    bus: pymq.NativeEventBus,
) -> None:
    def fail() -> None:
        raise ValueError("because", threading.Lock())

    bus.expose(fail, "fail")
    with pytest.raises(pymq.RemoteInvocationError) as caught:
        bus.stub("fail")()
    assert caught.value.args[0] == "ValueError"
    assert "because" in caught.value.args[1]
    assert "lock" in caught.value.args[2]


def test_a_builtin_that_tells_no_signature_can_be_exposed(bus: pymq.NativeEventBus) -> None:
    bus.expose(max, "max")
    assert bus.stub("max")(3, 5) == 5


def test_undecodable_arguments_are_answered(bus: pymq.NativeEventBus) -> None:
    bus.expose(lambda n: n, "f")
    reply = bus._native.call("f", b'[{"a": 1}]', b"{}", b'{"0": 1}', HANG_GUARD).wait()
    assert reply.value
    assert bus.stub("f")(1) == 1


def test_a_stub_shows_what_it_calls(bus: pymq.NativeEventBus) -> None:
    def f(a: int, b: str = "x") -> None: ...

    assert repr(bus.stub("f")) == "f()"
    assert "a: int" in repr(bus.stub(f)) or "a: 'int'" in repr(bus.stub(f))


def test_a_stub_is_good_for_many_threads_and_its_timeout_may_be_assigned(
    bus: pymq.NativeEventBus,
) -> None:
    release = threading.Event()
    bus.expose(lambda: release.wait(HANG_GUARD), "slow")
    stub: Any = bus.stub("slow")
    stub.timeout = 0.01
    with pytest.raises(pymq.CallTimeoutError):
        stub()
    release.set()


PROVIDER = """
import sys, time, pymq
def endless():
    print("called", flush=True)
    time.sleep(600)

with pymq.connect(sys.argv[1]) as bus:
    bus.expose(endless, "endless")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif("redis" not in TRANSPORTS, reason="needs a transport between processes")
def test_a_provider_that_dies_is_noticed_without_a_timeout(redis_server: Server) -> None:
    folder = str(Path(pymq.__file__).parents[1])
    with (
        subprocess.Popen(
            [sys.executable, "-c", PROVIDER, redis_server.url],
            env={"PYTHONPATH": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
        pymq.connect(redis_server.url) as bus,
        ThreadPoolExecutor(1) as thread,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        call = thread.submit(bus.stub("endless"))
        assert process.stdout.readline() == "called\n"
        process.kill()
        with pytest.raises(pymq.ProviderLostError):
            call.result(HANG_GUARD)
