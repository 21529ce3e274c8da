"""Every call ends, with its true reason, whatever its function raises and however it is asked."""

from __future__ import annotations

import asyncio
import builtins
import logging
import math
import re
import threading

import pytest

import pymq
from pymq import aio


class Unspeakable:
    __slots__ = ()

    def __repr__(self):
        raise RuntimeError("no words")


class NoArguments(Exception):
    args = None  # type: ignore[assignment]


class Wordless(Exception):
    def __str__(self):
        raise SystemExit("no words")


class Fragile:
    @property
    def __dict__(self):  # type: ignore[override]
        raise KeyboardInterrupt


def _group():
    group = getattr(builtins, "ExceptionGroup", None)
    return ValueError("no groups yet") if group is None else group("two", [Wordless()])


RAISED = [
    lambda: ValueError("no such row", Unspeakable()),
    lambda: NoArguments("x"),
    lambda: Wordless("x"),
    lambda: ValueError(10**5000),
    lambda: ValueError("x" * (17 << 20)),
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt(),
    lambda: MemoryError(),
    lambda: asyncio.CancelledError(),
    lambda: GeneratorExit(),
    _group,
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(len(RAISED)))
def test_whatever_a_function_raises_its_caller_is_told(bus, number):
    def fail(which: int):
        if which >= 0:
            raise RAISED[which]()
        return "fine"

    bus.expose(fail, "fail")
    with pytest.raises(pymq.RemoteInvocationError):
        bus.stub("fail", timeout=60)(number)
    assert bus.stub("fail", timeout=60)(-1) == "fine"


@pytest.mark.parametrize("result", [lambda: Fragile(), lambda: "x" * (16 << 20), Unspeakable])
def test_a_result_that_cannot_be_sent_is_an_error_at_once(bus, result):
    bus.expose(lambda: result(), "give")
    with pytest.raises(pymq.RemoteInvocationError):
        bus.stub("give", timeout=60)()


def test_an_error_carries_where_it_happened(bus):
    def inner_most():
        raise LookupError("gone")

    bus.expose(inner_most, "find")
    with pytest.raises(pymq.RemoteInvocationError) as caught:
        bus.stub("find", timeout=60)()
    assert "in inner_most" in caught.value.remote_traceback
    assert caught.value.args == ("LookupError", "gone")


def test_a_function_chooses_the_name_and_arguments_of_its_error(bus):
    def order(item):
        raise pymq.RemoteInvocationError("shop.OutOfStock", item, 3)

    bus.expose(order, "order")
    with pytest.raises(pymq.RemoteInvocationError) as caught:
        bus.stub("order", timeout=60)("tea")
    assert caught.value.args == ("shop.OutOfStock", "tea", 3)


def test_a_required_function_that_nobody_exposes_is_an_error(bus):
    assert bus.stub("nobody")() is None
    assert bus.stub("nobody", multi=True)() == []
    with pytest.raises(pymq.NoSuchRemoteError):
        bus.stub("nobody", required=True)()
    with pytest.raises(pymq.NoSuchRemoteError):
        bus.stub("nobody", multi=True, required=True)()


def test_a_bus_may_limit_all_its_calls():
    with pymq.connect("memory://", call_timeout=0.2) as bus:
        gate = threading.Event()
        bus.expose(gate.wait, "wait")
        with pytest.raises(pymq.CallTimeoutError):
            bus.stub("wait")()
        gate.set()
        assert bus.stub("wait", timeout=math.inf)() is True
    with pytest.raises(ValueError, match="call_timeout"):
        pymq.connect("memory://", call_timeout=-1)


def test_the_default_bus_may_limit_all_its_calls_too():
    gate = threading.Event()
    pymq.init("memory://", call_timeout=0.2)
    try:
        pymq.expose(gate.wait, "wait")
        with pytest.raises(pymq.CallTimeoutError):
            pymq.stub("wait")()
    finally:
        gate.set()
        pymq.shutdown()
    with pytest.raises(TypeError, match="call_timeout goes with an address"):
        pymq.init(lambda: pymq.connect("memory://"), call_timeout=1.0)


@pytest.mark.parametrize("below", [1, 10, 50, 100])
def test_values_just_below_the_limit_are_told_at_once_and_once(bus, below):
    def fail(size):
        raise ValueError("x" * size)

    bus.expose(lambda value: len(value), "length")
    bus.expose(lambda size: "x" * size, "text")
    bus.expose(fail, "fail")
    size = (16 << 20) - below
    with pytest.raises(pymq.EncodeError, match=r"16 MiB|16777216"):
        bus.stub("length")("x" * size)
    for name in ("text", "fail"):
        with pytest.raises(pymq.RemoteInvocationError) as told:
            bus.stub(name)(size)
        assert not isinstance(told.value, pymq.ProviderLostError)
        words = str(told.value)
        if name == "text":
            assert len(re.findall("16 MiB|limit of 16777216", words)) == 1, words[:1000]
            assert words.count("cannot be sent") <= 1, words[:1000]
        assert len(words) < 12_000, len(words)
    assert bus.stub("length")("x" * ((16 << 20) - 1000)) == (16 << 20) - 1000


def test_a_call_whose_time_is_over_is_a_timeout_whoever_noticed(bus):
    over = threading.Event()
    bus.expose(over.wait, "slow")
    for timeout in (0, 1e-4, 1e-3, 5e-3) * 10:
        over.clear()
        with pytest.raises(TimeoutError):
            bus.stub("slow", timeout=timeout)()
        # No sooner: a caller that was kept from looking at its clock would take the answer.
        over.set()


def test_headers_travel_and_those_that_are_passed_on_reach_nested_calls(bus):
    seen = {}

    def see():
        message = pymq.current_message()
        return [message.topic, dict(message.headers), pymq.current_call().left is not None]

    bus.expose(see, "see")
    bus.expose(lambda: bus.stub("see")(), "pass")
    stub = bus.stub("pass", timeout=60, headers={"own": "1"}, passed={"trace": "7"})
    assert stub() == ["see", {"trace": "7"}, True]
    assert bus.stub("pass")() == ["see", {}, False]
    done = threading.Event()

    def hear(event):
        message = pymq.current_message()
        seen.update(event=event, headers=dict(message.headers), id=message.id, sent=message.sent)
        done.set()

    bus.subscribe(hear, "news")
    bus.publish({"a": 1}, "news", headers={"h": "é"}, id="n1")
    assert done.wait(60)
    assert seen["event"] == {"a": 1}
    assert (seen["headers"], seen["id"]) == ({"h": "é"}, "n1")
    assert seen["sent"] is not None


def test_headers_that_are_too_much_are_refused_where_they_are_said(bus):
    with pytest.raises(pymq.EncodeError):
        bus.publish(1, "news", headers={"h": "x" * 9000})
    with pytest.raises(pymq.EncodeError):
        bus.stub("f", headers={"h": "x" * 9000}, timeout=60)()


async def _required():
    async with aio.connect("memory://") as bus:
        with pytest.raises(pymq.NoSuchRemoteError):
            await bus.stub("nobody", required=True)()
        assert await bus.stub("nobody")() is None


def test_asyncio_has_required_functions_too():
    asyncio.run(_required())


def test_a_log_handler_that_raises_costs_no_answer(bus):
    class Broken(logging.Handler):
        def emit(self, record):
            raise RuntimeError("the disk is full")

    def fail():
        raise ValueError("x")

    handler = Broken()
    logger = logging.getLogger("pymq")
    logger.addHandler(handler)
    try:
        bus.expose(fail, "fail")
        for _ in range(3):
            with pytest.raises(pymq.RemoteInvocationError):
                bus.stub("fail", timeout=60)()
    finally:
        logger.removeHandler(handler)
