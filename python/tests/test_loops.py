"""Coroutines as callbacks: on which loop they run, what ends them, and what they cannot end."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pymq
from conftest import HANG_GUARD, Box, lengths, wait_until
from pymq import aio

Connect = Callable[..., pymq.NativeEventBus]
PACKAGE = str(Path(pymq.__file__).parents[1])


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Unnamed(type):
    @property
    def __name__(cls) -> str:
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=Unnamed):
    pass


class Row:
    __slots__ = ()

    def __repr__(self) -> str:
        raise RuntimeError("this row has no session any more")


RAISED: list[Callable[[], BaseException]] = [
    lambda: SystemExit(3),
    lambda: KeyboardInterrupt(),
    lambda: MemoryError(),
    lambda: GeneratorExit(),
    lambda: asyncio.CancelledError(),
    lambda: Unprintable(Row()),
    lambda: ValueError(10**5000),
    lambda: ValueError("x" * (17 << 20)),
    lambda: ValueError([Row()]),
    lambda: ValueError("\ud800"),
    lambda: Nameless(Row()),
]
if sys.version_info >= (3, 11):
    RAISED.append(lambda: BaseExceptionGroup("many", [SystemExit(1), ValueError(Row())]))  # noqa: F821


def _name(error: BaseException) -> str:
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


@pytest.fixture
def beside_the_log(caplog: pytest.LogCaptureFixture) -> None:
    # What cannot be printed cannot be shown by pytest either.
    caplog.set_level(100, "pymq")


@pytest.mark.usefixtures("beside_the_log")
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("make", RAISED)
def test_whatever_a_remote_raises_its_caller_is_told_and_others_go_on(
    bus: pymq.NativeEventBus, make: Callable[[], BaseException], kind: str
) -> None:
    def plain() -> None:
        raise make()

    async def coroutine() -> None:
        raise make()

    async def good() -> str:
        return "good"

    bus.expose(plain if kind == "plain" else coroutine, "bad")
    bus.expose(good, "good")
    for _ in range(2):
        with pytest.raises(pymq.RemoteInvocationError) as told:
            bus.stub("bad")()
        assert _name(make()) in told.value.args[0]
    assert bus.stub("good")() == "good"


@pytest.mark.usefixtures("beside_the_log")
@pytest.mark.parametrize("make", RAISED)
def test_whatever_an_async_subscriber_raises_others_go_on(
    bus: pymq.NativeEventBus, box: Box, make: Callable[[], BaseException]
) -> None:
    async def bad(event: int) -> None:
        raise make()

    async def leaves(event: int) -> None:
        asyncio.get_running_loop().call_soon(raises)

    def raises() -> None:
        raise make()

    async def good(event: int) -> None:
        box.put(event)

    bus.subscribe(bad, "news")
    bus.subscribe(leaves, "news")
    bus.subscribe(good, "news")
    for n in range(3):
        bus.publish(n, "news")
    assert box.take(3) == [0, 1, 2]


@pytest.mark.usefixtures("beside_the_log")
def test_a_result_whose_fields_raise_is_an_error_at_the_caller(bus: pymq.NativeEventBus) -> None:
    class Lazy:
        @property
        def __dict__(self) -> Any:
            raise SystemExit("the session is gone")

    bus.expose(lambda: Lazy(), "lazy")
    with pytest.raises(pymq.RemoteInvocationError):
        bus.stub("lazy")()


def test_an_event_on_the_empty_topic_is_an_event(bus: pymq.NativeEventBus, box: Box) -> None:
    bus.subscribe(box.put, "*", True)
    bus.subscribe(box.put, "")
    bus.expose(lambda: "pong", "ping")
    bus.publish("hello", "")
    assert box.take(2) == ["hello", "hello"]
    bus.publish("after", "x")
    assert box.take(3)[-1] == "after"
    assert bus.stub("ping")() == "pong"


# ---- the end of a bus keeps its time


async def blocks() -> None:
    time.sleep(HANG_GUARD)


#: Coroutines that were left to sleep to their end.
slept_out: list[str] = []


async def awaits_in_finally() -> None:
    try:
        await asyncio.sleep(HANG_GUARD)
    finally:
        await asyncio.sleep(HANG_GUARD)
        slept_out.append("awaits in finally")


async def never_gives_up() -> None:
    while True:
        try:
            await asyncio.sleep(HANG_GUARD)
        except asyncio.CancelledError:
            continue


async def leaves_a_child() -> None:
    asyncio.get_running_loop().child = asyncio.create_task(never_gives_up())  # type: ignore[attr-defined]


@pytest.mark.parametrize("what", [awaits_in_finally, never_gives_up, leaves_a_child])
def test_close_keeps_its_time_whatever_a_coroutine_does(
    connect: Connect, what: Callable[[], Any]
) -> None:
    bus, begun = connect(), threading.Event()

    async def callback(event: int) -> None:
        begun.set()
        await what()

    bus.subscribe(callback, "news")
    bus.publish(1, "news")
    assert begun.wait(HANG_GUARD)
    # It returns, though `what` never ends or sleeps for longer than the test may take.
    bus.close(timeout=0.1)
    assert slept_out == []


PROGRAMS = {
    "blocks": "time.sleep(600)",
    "awaits in finally": """
            try: await asyncio.sleep(600)
            finally: await asyncio.sleep(600)""",
    "leaves a child": "asyncio.get_running_loop().x = asyncio.create_task(stubborn())",
}


@pytest.mark.parametrize("what", PROGRAMS)
@pytest.mark.parametrize(
    "end", ["bus.close(timeout=1)", "GRACE(0.5); pymq.shutdown()", "GRACE(0.5)"]
)
def test_a_program_ends_whatever_a_coroutine_does(what: str, end: str) -> None:
    body = textwrap.dedent(
        f"""
        import asyncio, logging, threading, time, pymq
        from pymq import core
        logging.disable(50)
        def GRACE(seconds): core.GRACE = seconds
        async def stubborn():
            while True:
                try: await asyncio.sleep(600)
                except asyncio.CancelledError: pass
        begun = threading.Event()
        async def callback(event):
            begun.set()
            {PROGRAMS[what]}
        bus = pymq.init("memory://")
        pymq.subscribe(callback, "news")
        pymq.publish(1, "news")
        begun.wait()
        {end}
        print("over", flush=True)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", body],
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
        timeout=HANG_GUARD,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


@pytest.mark.parametrize("timeout", [float("inf"), 10**400, 0, 1e300])
def test_close_takes_any_length_of_time(connect: Connect, timeout: float) -> None:
    bus = connect()
    bus.subscribe(print, "news")
    bus.close(timeout)
    assert bus.closed


def test_closing_inside_of_a_coroutine_returns_at_once(url: str) -> None:
    async def main() -> None:
        bus = await aio.connect(url)
        over = asyncio.Event()

        async def callback(event: int) -> None:
            # It would wait for ever for this very callback.
            await bus.close(float("inf"))
            over.set()

        await bus.subscribe(callback, "news")
        await bus.publish(1, "news")
        await asyncio.wait_for(over.wait(), HANG_GUARD)
        assert bus.closed

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_a_remote_that_closes_its_own_bus_is_answered(connect: Connect, kind: str) -> None:
    serving, calling = connect(), connect()

    def plain() -> str:
        serving.close()
        return "stopped"

    async def coroutine() -> str:
        await aio.AsyncEventBus(serving).close()
        return "stopped"

    serving.expose(plain if kind == "plain" else coroutine, "stop")
    assert calling.stub("stop")() == "stopped"
    wait_until(lambda: serving.closed, "it is closed")


# ---- loops of others


def test_a_loop_that_stopped_does_not_silence_its_subscriber(
    connect: Connect, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    bus, loop = connect(), asyncio.new_event_loop()

    async def callback(n: int) -> None:
        box.put(n)
        if n == 1:
            await asyncio.sleep(HANG_GUARD)

    async def main() -> None:
        await aio.AsyncEventBus(bus).subscribe(callback, "numbers")
        bus.publish(1, "numbers")
        while not box.items:
            await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    bus.publish(2, "numbers")
    assert box.take(2) == [1, 2]
    assert "its event loop stopped" in caplog.text
    bus.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_a_call_that_would_wait_for_its_own_loop_says_so(connect: Connect) -> None:
    bus = connect()

    async def main() -> None:
        async def double(n: int) -> int:
            return 2 * n

        bus.expose(double, "double")
        for multi in (False, True):
            with pytest.raises(RuntimeError, match=r"await pymq\.aio\.stub"):
                bus.stub("double", multi=multi)(1)
        assert await aio.AsyncEventBus(bus).stub("double")(2) == 4
        assert await asyncio.to_thread(bus.stub("double"), 3) == 6

    asyncio.run(main())


def test_a_shutdown_that_would_wait_for_its_own_loop_says_so_and_ends_nothing(url: str) -> None:
    async def main() -> None:
        bus = pymq.init(url)
        begun, end = asyncio.Event(), asyncio.Event()

        async def callback(event: int) -> None:
            begun.set()
            await end.wait()

        pymq.subscribe(callback, "news")
        pymq.publish(1, "news")
        await asyncio.wait_for(begun.wait(), HANG_GUARD)
        for close in (pymq.shutdown, bus.close):
            with pytest.raises(RuntimeError, match=r"await pymq\.aio\.shutdown"):
                close()
        with pytest.raises(RuntimeError, match="freeze"):
            bus.run()
        assert pymq.publish(2, "other") == 0
        end.set()
        await aio.shutdown()

    asyncio.run(main())


def test_a_shutdown_with_nothing_under_way_is_fine_on_a_loop(url: str) -> None:
    async def main() -> None:
        pymq.init(url)

        async def callback(event: int) -> None: ...

        pymq.subscribe(callback, "news")
        pymq.shutdown()
        assert pymq.publish(1, "news") is None

    asyncio.run(main())


# ---- calls that nobody waits for any more


def test_a_coroutine_is_cancelled_when_its_caller_gives_up(
    bus: pymq.NativeEventBus, box: Box
) -> None:
    begun = threading.Event()

    async def patient(who: str) -> None:
        begun.set()
        try:
            await asyncio.sleep(HANG_GUARD)
        except asyncio.CancelledError:
            box.put(who)
            raise

    bus.expose(patient, "patient")

    def times_out(timeout: float) -> bool:
        with pytest.raises(pymq.CallTimeoutError):
            bus.stub("patient", timeout=timeout)("times out")
        return begun.is_set()

    # One that was over before it began was never run.
    assert any(times_out(timeout) for timeout in lengths(0.1))
    assert box.take(1)[0] == "times out"
    begun.clear()

    async def main() -> None:
        call = asyncio.create_task(aio.AsyncEventBus(bus).stub("patient")("cancels"))
        assert await asyncio.to_thread(begun.wait, HANG_GUARD)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    wait_until(lambda: box.items[-1] == "cancels", "the coroutine is cancelled")


# ---- streams


def test_a_stream_left_after_its_bus_was_closed_ends_normally(url: str) -> None:
    async def main() -> None:
        bus = await aio.connect(url)
        listens = asyncio.Event()

        async def read() -> str:
            async with bus.topic("news").events() as events:
                listens.set()
                async for _ in events:
                    raise AssertionError
            return "ended"

        reader = asyncio.create_task(read())
        await listens.wait()
        await bus.close()
        assert await asyncio.wait_for(reader, HANG_GUARD) == "ended"
        bus = await aio.connect(url)
        listens.clear()
        reader = asyncio.create_task(read())
        await listens.wait()
        reader.cancel()
        await bus.close()
        with pytest.raises(asyncio.CancelledError):
            await reader

    asyncio.run(main())


def test_events_that_wait_for_a_slow_reader_do_not_keep_the_loop_busy(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus, bus.topic("news").events() as events:
            await bus.publish(1, "news")
            await bus.publish(2, "news")
            assert await events.__anext__() == 1
            # The second one arrives meanwhile, or in what follows: that is a few turns at most.
            await asyncio.sleep(0.05)
            loop: Any = asyncio.get_running_loop()
            turns, run_once = 0, loop._run_once

            def counted() -> None:
                nonlocal turns
                turns += 1
                run_once()

            loop._run_once = counted
            # A loop that is kept busy makes thousands in that time, a right one few in any.
            await asyncio.sleep(0.2)
            assert turns < 50
            assert await events.__anext__() == 2

    asyncio.run(main())


def test_who_reads_a_pattern_learns_the_topic(url: str) -> None:
    async def main() -> None:
        async with aio.connect(url) as bus:
            pattern = bus.topic("shop.*", pattern=True)
            async with pattern.events() as events, pattern.events(topics=True) as pairs:
                await bus.publish(1, "shop.orders")
                async for event in events:
                    message = pymq.current_message()
                    assert message is not None
                    assert (message.topic, event) == ("shop.orders", 1)
                    break
                async for topic, event in pairs:
                    assert (topic, event) == ("shop.orders", 1)
                    break

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_callbacks_learn_the_topic(bus: pymq.NativeEventBus, box: Box, kind: str) -> None:
    def plain(event: int) -> None:
        message = pymq.current_message()
        assert message is not None
        box.put((message.topic, event))

    async def coroutine(event: int) -> None:
        plain(event)

    bus.subscribe(plain if kind == "plain" else coroutine, "shop.*", True)
    bus.publish(1, "shop.orders")
    bus.publish(2, "shop.")
    assert box.take(2) == [("shop.orders", 1), ("shop.", 2)]
    assert pymq.current_message() is None


# ---- what is dropped


def mentioned_by_its_own_callbacks(url: str) -> weakref.ref[pymq.NativeEventBus]:
    """A bus that nobody has but the functions that it has."""
    bus = pymq.connect(url)
    handled = threading.Event()

    def plain(event: int) -> None:
        bus.publish(event, "again")

    async def coroutine(event: int) -> None:
        assert bus
        handled.set()

    bus.subscribe(plain, "news")
    bus.subscribe(coroutine, "again")
    bus.expose(lambda: bus, "f")
    bus.publish(1, "news")
    assert handled.wait(HANG_GUARD)
    return weakref.ref(bus)


# For the whole test: a collection may come by itself, on any thread, as soon as nobody has the bus.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_bus_that_its_own_callbacks_mention_is_collected(url: str) -> None:
    gone = mentioned_by_its_own_callbacks(url)

    def collected() -> bool:
        gc.collect()
        return gone() is None

    wait_until(collected, "it is collected")
