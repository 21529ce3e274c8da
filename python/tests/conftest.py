"""One `bus` for every transport, and a Redis server of the tests' own.

Whatever a test leaves behind fails it: the default bus is ended after each, and no thread of ours
may live on.
"""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pymq
from pymq import _message
from pymq.provider.ipc import IpcConfig
from pymq.provider.redis import RedisConfig
from pymq.provider.simple import SimpleEventBus

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "interop"))

from properties import SEED
from rig import Cluster, Server

#: Nothing here takes as long; it ends a test that hangs.
HANG_GUARD = 60.0

# Whoever is started in the background by a shell has Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

TRANSPORTS = ("memory", "ipc", "redis") if sys.platform == "linux" else ("memory", "redis")


#: Tests that go over a cluster as well: some of each kind, since what is below is one server's.
ON_CLUSTER = ("test_aio", "test_headers", "test_inspect", "test_pubsub", "test_queue_work")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of a bus are run on every transport."""
    if "url" in metafunc.fixturenames:
        on_cluster = metafunc.module.__name__ in ON_CLUSTER
        names = (*TRANSPORTS, "cluster") if on_cluster else TRANSPORTS
        metafunc.parametrize("url", names, indirect=True)


def pytest_report_header() -> str:
    return f"seed of the properties: PYMQ_TEST_SEED={SEED}"


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def redis_url(redis_server: Server) -> str:
    """The address of the tests' own redis-server, emptied."""
    redis_server.command("FLUSHALL")
    return redis_server.url


@pytest.fixture
def shared_name() -> Iterator[str]:
    """The name of a bus between processes; what a test leaves on it is deleted."""
    name = f"test-{os.getpid()}-{time.monotonic_ns()}"
    yield name
    gc.collect()
    shutil.rmtree(f"/dev/shm/pymq-{os.geteuid()}/{name}", ignore_errors=True)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """An address that several buses of a test can share, with nothing on it yet."""
    if request.param == "memory":
        return f"memory://{request.node.name.partition('[')[0]}-{time.monotonic_ns()}"
    if request.param == "ipc":
        return f"ipc://{request.getfixturevalue('shared_name')}"
    if request.param == "cluster":
        cluster = request.getfixturevalue("redis_cluster")
        cluster.empty()
        return str(cluster.url)
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.command("FLUSHALL")
        return str(server.url)
    raise AssertionError(f"there is no address for {request.param}")


@pytest.fixture
def bus(url: str) -> Iterator[pymq.NativeEventBus]:
    """A bus with subscribers side by side."""
    with pymq.connect(url) as bus:
        yield bus


@pytest.fixture
def connect(url: str) -> Iterator[Callable[..., pymq.NativeEventBus]]:
    """Makes buses at the same place."""
    buses: list[pymq.NativeEventBus] = []

    def connect(**options: Any) -> pymq.NativeEventBus:
        buses.append(pymq.connect(url, **options))
        return buses[-1]

    yield connect
    for bus in buses:
        bus.close()


@pytest.fixture(params=TRANSPORTS)
def factory(request: pytest.FixtureRequest) -> Callable[[], pymq.EventBus]:
    """A factory as programs of the original pass it to `init`."""
    if request.param == "memory":
        return SimpleEventBus
    if request.param == "ipc":
        return IpcConfig(request.getfixturevalue("shared_name"))
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.command("FLUSHALL")
        return RedisConfig(host="127.0.0.1", port=server.port)
    raise AssertionError(f"there is no factory for {request.param}")


@pytest.fixture
def original(factory: Callable[[], pymq.EventBus]) -> Iterator[pymq.EventBus]:
    """The default bus, made as programs of the original do."""
    yield pymq.init(factory)
    pymq.shutdown()


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    # What was there before is none of this test's garbage: looking at all of it costs more than
    # most tests.
    gc.freeze()
    yield
    pymq.shutdown()
    # As at the start: items that this thread has got are no other test's.
    _message._current.set(None)
    # A bus that was forgotten ends with its last reference, which may lie in a cycle.
    gc.collect()
    if _left(before):
        gc.unfreeze()
        gc.collect()
    for thread in _left(before):
        thread.join(HANG_GUARD)
    assert not _left(before)


def _left(before: set[threading.Thread]) -> list[threading.Thread]:
    new = set(threading.enumerate()) - before
    return [thread for thread in new if thread.name.startswith("pymq-")]


class Box:
    """Where callbacks put what they saw, and tests wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.items: list[Any] = []

    def put(self, item: Any) -> None:
        with self._changed:
            self.items.append(item)
            self._changed.notify_all()

    def take(self, count: int) -> list[Any]:
        """Waits for so many, and gives all there are."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.items) >= count, HANG_GUARD)
            assert enough, f"waited for {count} and saw {self.items!r}"
            return list(self.items)


@pytest.fixture
def box() -> Box:
    return Box()


def lengths(first: float) -> Iterator[float]:
    """Lengths of time in which something must happen.

    A machine may stand still for any of them; it has the next, longer one then.
    """
    while first <= HANG_GUARD:
        yield first
        first *= 4


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Polls for something that tells nobody when it happens."""
    deadline = time.monotonic() + HANG_GUARD
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.002)
