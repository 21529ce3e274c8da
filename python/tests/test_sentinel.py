"""A master behind sentinels, from Python: everything follows it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pymq
from conftest import HANG_GUARD
from pymq import aio
from pymq.provider.redis import RedisConfig
from rig import Sentinel, Server

QUICK = ("--repl-diskless-sync-delay", "0")


def until(what: str, holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG_GUARD
    while True:
        # The server may be about to go.
        with contextlib.suppress(pymq.exceptions.PymqError):
            if holds():
                return
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


async def get(url: str, connected: threading.Event) -> Any:
    async with await aio.connect(url) as bus:
        connected.set()
        return await bus.queue("later").get(timeout=HANG_GUARD)


def test_everything_follows_the_master_that_the_sentinels_name() -> None:
    heard: list[int] = []
    with Server(*QUICK) as one, contextlib.ExitStack() as stack:
        two = stack.enter_context(Server(*QUICK, "--replicaof", f"127.0.0.1 {one.port}"))
        sentinel = stack.enter_context(Sentinel(one))
        bus = stack.enter_context(pymq.connect(sentinel.url))
        other = stack.enter_context(pymq.connect(f"{sentinel.url}/0?replicas=1"))
        pool = stack.enter_context(ThreadPoolExecutor(2))
        assert bus.health()["server"] == f"redis://127.0.0.1:{one.port}"
        bus.subscribe(heard.append, "news")
        bus.expose(lambda: 7, "seven")
        waiting = pool.submit(lambda: bus.queue("jobs").get(timeout=HANG_GUARD))
        connected = threading.Event()
        later = pool.submit(lambda: asyncio.run(get(sentinel.url, connected)))
        assert connected.wait(HANG_GUARD)
        other.queue("kept").put(1)

        sentinel.fail_over()
        until("the bus is there", lambda: str(two.port) in str(bus.health()["server"]))
        with pymq.connect(sentinel.url) as third:
            third.queue("jobs").put(5)
            third.queue("later").put(6)
            assert waiting.result(HANG_GUARD) == 5
            assert later.result(HANG_GUARD) == 6
            until("a call is answered", lambda: third.stub("seven")() == 7)
            until("an event is heard", lambda: third.publish(9, "news") and heard)
            assert third.queue("kept").get(timeout=HANG_GUARD) == 1
        until("the bus is well", lambda: str(bus.state) == "connected")
        # The only replica is the master by now.
        with pytest.raises(pymq.exceptions.OutcomeUnknownError, match=r"replicas|time was over"):
            other.queue("kept").put(2, timeout=1)


def test_the_master_of_redis_py_is_followed_by_its_sentinels() -> None:
    redis = pytest.importorskip("redis")
    with Server() as server, Sentinel(server) as sentinel:
        client = redis.Sentinel([("127.0.0.1", sentinel.port)]).master_for("mymaster")
        with RedisConfig(client)() as bus:
            assert bus.rds is client
            bus.queue("jobs").put(1)
            assert client.lrange("__eventbus:global:jobs", 0, -1) == [b"1"]
        with RedisConfig(sentinel.url)() as bus:
            assert bus.rds.lrange("__eventbus:global:jobs", 0, -1) == ["1"]
            bus.rds.close()
        client.close()
