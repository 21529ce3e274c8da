"""Where the native core is tried by itself: in memory, and on the tests' redis-server."""

import contextlib
import faulthandler
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pymq._pymq import Bus, Call, Intake

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


class Place:
    """An address and a namespace of one test's own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.namespace = uuid.uuid4().hex
        self.buses: list[Bus] = []

    def connect(self) -> Bus:
        bus = Bus.connect(self.url, self.namespace).wait()
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
        bus.close().wait()


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
        batch = intake.recv(limit, timeout=HANG)
        assert batch, f"only {len(got)} of {count} came"
        assert len(batch) <= limit
        got += batch
    return got


class Server(threading.Thread):
    """Answers each call with what `handle` gives."""

    def __init__(self, bus: Bus, function: str, handle: Callable[[Call], None]) -> None:
        super().__init__()
        self.provider = bus.provide(function).wait()
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
        self.provider.end().wait()


def echo(call: Call) -> None:
    call.answer(call.args, "list", call.types)


@pytest.fixture
def echoing(bus: Bus) -> Iterator[Server]:
    server = Server(bus, "echo", echo)
    yield server
    server.end()
