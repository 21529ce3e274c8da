"""Calls of the native core, its arguments and its errors."""

import json
import math
import threading

import pytest

from conftest import lengths
from native_place import (  # noqa: F401
    HANG,
    Place,
    Server,
    _hang_guard,
    bus,
    echo,
    echoing,
    place,
    until,
)
from pymq import exceptions
from pymq._pymq import Bus, Call, Intake


def test_a_call_is_answered(bus: Bus, echoing: Server) -> None:
    types = {"0": {"": "tuple"}}
    reply = bus.call("echo", b"[1, 2]", b"{}", json.dumps(types).encode(), HANG).wait()
    assert (reply.value, reply.type_name, reply.failed) == (b"[1, 2]", "list", False)
    assert json.loads(reply.types or b"") == types
    assert reply.provider == echoing.provider.id
    replies, missing = bus.call_all("echo", b"[]", b"{}", None, HANG).wait()
    assert ([reply.value for reply in replies], missing) == ([b"[]"], [])


def test_keyword_arguments_arrive(bus: Bus) -> None:
    server = Server(bus, "f", lambda call: call.answer(call.kwargs, "dict"))
    assert bus.call("f", b"[]", b'{"a": 1}', None, HANG).wait().value == b'{"a": 1}'
    server.end()


def test_a_failure_is_a_reply_and_a_dropped_call_is_one_too(bus: Bus) -> None:
    server = Server(bus, "fail", lambda call: call.answer(b'["no"]', "ValueError", failed=True))
    dropping = Server(bus, "drop", lambda call: None)
    reply = bus.call("fail", b"[]", b"{}", None, HANG).wait()
    assert (reply.failed, reply.type_name, reply.value) == (True, "ValueError", b'["no"]')
    assert bus.call("drop", b"[]", b"{}", None, HANG).wait().failed
    server.end()
    dropping.end()


def test_a_call_that_takes_too_long_is_a_timeout_of_both_kinds(bus: Bus) -> None:
    calls: list[Call] = []
    server = Server(bus, "slow", calls.append)
    with pytest.raises(exceptions.CallTimeoutError) as caught:
        bus.call("slow", b"[]", b"{}", None, 0.1).wait()
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, exceptions.RemoteInvocationError)
    assert caught.value.args[0] == "TimeoutError"
    assert str(caught.value).startswith('call "slow": timed out')
    # One that was over before it arrived is not there.
    until(lambda: all(call.cancelled for call in calls))

    def named(timeout: float) -> bool:
        try:
            _, missing = bus.call_all("slow", b"[]", b"{}", None, timeout).wait()
        except exceptions.CallTimeoutError:
            return False
        return [(gone.provider, gone.lost) for gone in missing] == [(server.provider.id, False)]

    # Who is late is named where there was time to learn who is asked.
    assert any(named(timeout) for timeout in lengths(0.5))
    server.end()


def test_a_function_that_nobody_exposes_is_named(bus: Bus) -> None:
    with pytest.raises(exceptions.NoSuchRemoteError, match='"nobody"'):
        bus.call("nobody", b"[]", b"{}", None, HANG).wait()
    server = Server(bus, "left", echo)
    server.end()
    with pytest.raises(exceptions.NoSuchRemoteError):
        bus.call("left", b"[]", b"{}", None, HANG).wait()


def test_a_call_is_answered_once(bus: Bus) -> None:
    answered = threading.Event()

    def twice(call: Call) -> None:
        call.answer(b"1", "int")
        with pytest.raises(ValueError, match="answered already"):
            call.answer(b"2", "int")
        answered.set()

    server = Server(bus, "f", twice)
    assert bus.call("f", b"[]", b"{}", None, HANG).wait().value == b"1"
    assert answered.wait(60)
    server.end()


@pytest.mark.parametrize("bad", [-1.0, -0.001, math.nan, -math.inf])
def test_a_timeout_that_is_none_is_refused(bad: float) -> None:
    bus = Bus.connect("memory://").wait()
    jobs = bus.queue("jobs")
    for use in (
        lambda: jobs.claim(1, True, bad).wait(),
        lambda: jobs.put([b""], True, bad).wait(),
        lambda: jobs.join().wait(bad),
        lambda: bus.call("f", b"[]", b"{}", None, bad).wait(),
        lambda: bus.call_all("f", b"[]", b"{}", None, None, bad).wait(),
        lambda: Intake().recv(timeout=bad),
        lambda: bus.close(bad).wait(),
        lambda: bus.queue("jobs", lease=bad),
    ):
        with pytest.raises(ValueError, match="number of seconds"):
            use()
    assert jobs.stats().wait()[:3] == (0, 0, 0)
    bus.close().wait()


@pytest.mark.parametrize("huge", [1e10, 1e300, math.inf])
def test_a_huge_timeout_is_no_limit(huge: float) -> None:
    bus = Bus.connect("memory://").wait()
    server = Server(bus, "echo", echo)
    assert bus.call("echo", b"[]", b"{}", None, huge).wait().value == b"[]"
    server.end()
    jobs = bus.queue("jobs")
    jobs.put([b"1"], True, huge).wait()
    (delivery,) = jobs.claim(1, True, huge).wait()
    delivery.ack().wait()
    jobs.join().wait(huge)
    bus.close(huge).wait()


def test_errors_are_the_classes_of_the_package() -> None:
    with pytest.raises(exceptions.ConfigError, match="unknown scheme") as caught:
        Bus.connect("carrier-pigeon://loft").wait()
    assert isinstance(caught.value, ValueError)
    with pytest.raises(exceptions.ConnectionLostError) as lost:
        Bus.connect("redis://127.0.0.1:1").wait()
    assert isinstance(lost.value, ConnectionError)
    bus = Bus.connect("memory://").wait()
    with pytest.raises(exceptions.EncodeError, match="16 MiB"):
        bus.publish("a", bytes(17 << 20)).wait()
    bus.close().wait()


def test_capabilities_are_told(bus: Bus, place: Place) -> None:
    shared = place.url.startswith("redis")
    of_servers = ("counts_connections", "cross_process", "originals")
    expected = {"receiver_count": True} | dict.fromkeys(of_servers, shared)
    assert bus.capabilities.items() >= expected.items()
