"""Calls of the native core, its arguments and its errors."""

import json
import math
import threading

import pytest

from native_place import Place, Server, _hang_guard, bus, echo, echoing, place, until  # noqa: F401
from pymq import exceptions
from pymq._pymq import Bus, Call, Intake


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
    expected = {"receiver_count": True} | dict.fromkeys(("cross_process", "originals"), shared)
    assert bus.capabilities == expected
