"""What a program can know of its connection: the state, a ping, the health, and the log."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator

import pytest

import pymq
from conftest import Box, wait_until
from pymq import aio
from rig import Server


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that a test may end."""
    with Server() as server:
        yield server


def test_a_bus_says_that_it_is_connected_and_then_that_it_is_closed(
    bus: pymq.NativeEventBus, box: Box
) -> None:
    bus.on_state(box.put)
    assert bus.state == "connected"
    assert bus.state.since is not None
    assert bus.ping() >= 0
    assert bus.health()["state"] == "connected"
    box.take(1)
    bus.close()
    assert bus.state == "closed"
    assert bus.health()["state"] == "closed"
    assert [str(state) for state in box.take(2)] == ["connected", "closed"]
    with pytest.raises(pymq.ClosedError):
        bus.ping()


def test_states_are_an_iterator_that_ends_with_the_bus(bus: pymq.NativeEventBus) -> None:
    states = bus.states()
    assert next(states) == "connected"
    bus.close()
    assert list(states) == ["closed"]


def test_a_callback_for_the_state_that_raises_is_told_and_goes_on(
    bus: pymq.NativeEventBus, box: Box, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(state: object) -> None:
        box.put(state)
        raise SystemExit

    bus.on_state(fail)
    box.take(1)
    bus.close()
    assert box.take(2) == ["connected", "closed"]
    assert "a callback for the state of a bus failed" in caplog.text


def test_an_outage_is_seen_in_the_state_in_errors_and_in_the_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pymq")
    with pymq.connect(server.url) as bus:
        queue = bus.queue("jobs")
        server.kill()
        wait_until(lambda: bus.state == "away", "the outage is noticed")
        assert bus.state.why
        with pytest.raises(ConnectionError):
            bus.ping()
        with pytest.raises(ConnectionError):
            queue.get(timeout=0.1)
        with pytest.raises(ConnectionError):
            queue.get(block=False)
        with pytest.raises(ConnectionError):
            queue.put(1, timeout=0.1)
        server.start_again()
        wait_until(lambda: bus.state == "connected", "the server is found again")
        assert bus.health()["reconnects"] == 1
        # The log is told by a thread of its own, a little later.
        wait_until(lambda: "the connection is back" in caplog.text, "the log tells of it")
    told = [record.getMessage() for record in caplog.records]
    assert sum("lost the connection" in line for line in told) == 1
    assert sum("the connection is back" in line for line in told) == 1
    lost = next(record for record in caplog.records if "lost the" in record.getMessage())
    assert lost.levelno == logging.WARNING
    assert lost.pymq["role"] == "commands"  # type: ignore[attr-defined]


def test_connecting_may_wait_for_the_server(server: Server) -> None:
    server.kill()
    with pytest.raises(ConnectionError):
        pymq.connect(server.url)
    # Usually it is looked for by then; a server that is there already is right too.
    later = threading.Timer(0.3, server.start_again)
    later.start()
    with pymq.connect(server.url, wait=60) as bus:
        assert bus.state == "connected"
    later.join()


def test_in_asyncio_the_same_is_awaited(server: Server) -> None:
    async def main() -> list[str]:
        async with aio.connect(server.url, wait=60) as bus:
            assert await bus.ping() >= 0
            assert bus.state == "connected"
            assert bus.health()["reconnects"] == 0
            states = bus.states()
            seen = [str(await anext(states))]
            await bus.close()
            return seen + [str(state) async for state in states]

    assert asyncio.run(main()) == ["connected", "closed"]
