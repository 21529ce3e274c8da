"""A cluster, from Python: each queue on the node of its slot, everything else where all find it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import pymq
from conftest import HANG_GUARD
from pymq import aio
from pymq.provider.redis import RedisConfig
from rig import Cluster

QUEUES = [f"jobs-{number}" for number in range(6)]
PREFIX = "__eventbus:global:"


@pytest.fixture
def cluster(redis_cluster: Cluster) -> Cluster:
    redis_cluster.empty()
    return redis_cluster


def until(what: str, holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + HANG_GUARD
    while True:
        # A slot may be on its way.
        with contextlib.suppress(pymq.exceptions.PymqError):
            if holds():
                return
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.02)


def add(a: int, b: int) -> int:
    return a + b


def test_events_calls_and_queues_go_over_all_nodes(cluster: Cluster) -> None:
    heard: list[Any] = []
    assert len({cluster.owner(PREFIX + name).port for name in QUEUES}) > 1
    with pymq.connect(cluster.url) as bus, pymq.connect(cluster.url) as other:
        bus.subscribe(heard.append, "news")
        bus.subscribe(heard.append, "ne*", pattern=True)
        bus.expose(add, "add")
        assert other.publish({"n": 1}, "news") == 2
        until("both have it", lambda: heard == [{"n": 1}] * 2)
        assert other.stub("add")(1, 2) == 3
        assert other.stub("add", multi=True)(3, 4) == [7]
        for name in QUEUES:
            other.queue(name).put(name)
        assert [bus.queue(name).get(timeout=HANG_GUARD) for name in QUEUES] == QUEUES
        with pytest.raises(pymq.Empty):
            bus.queue("never used").get_nowait()
        assert not bus.capabilities["originals"]


def test_asyncio_is_served_by_a_cluster(cluster: Cluster) -> None:
    async def work() -> tuple[Any, Any, Any]:
        async with await aio.connect(cluster.url) as bus, await aio.connect(cluster.url) as other:
            heard: asyncio.Queue[Any] = asyncio.Queue()
            await bus.subscribe(heard.put, "news")
            await bus.expose(add, "add")
            await other.publish(1, "news")
            later = asyncio.ensure_future(bus.queue("jobs").get(timeout=HANG_GUARD))
            await other.queue("jobs").put("tea")
            sum_ = await other.stub("add")(1, 2)
            return await asyncio.wait_for(heard.get(), HANG_GUARD), await later, sum_

    assert asyncio.run(work()) == (1, "tea", 3)


def test_a_slot_that_moves_takes_nothing_away(cluster: Cluster) -> None:
    heard: list[int] = []
    with (
        pymq.connect(cluster.url) as bus,
        pymq.connect(cluster.url) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        jobs, kept = bus.queue("jobs", ack="manual"), bus.queue("jobs-1", ack="manual")
        other.queue("jobs-1").put("leased")
        delivery = kept.get_delivery(timeout=HANG_GUARD)
        waiting = pool.submit(lambda: jobs.get_delivery(timeout=HANG_GUARD))
        bus.subscribe(heard.append, "news")
        bus.expose(add, "add")
        for key in (f"{PREFIX}jobs", f"{PREFIX}jobs-1", "{__pymq}"):
            cluster.move(key)
        other.queue("jobs").put("tea")
        item = waiting.result(HANG_GUARD)
        assert item.item == "tea"
        item.ack()
        delivery.ack()
        until("a call is answered", lambda: other.stub("add")(1, 2) == 3)
        until("an event is heard", lambda: other.publish(9, "news") and heard)
        assert other.queue("jobs-1").stats().leased == 0


def test_the_cluster_of_redis_py_is_used_and_one_is_made(cluster: Cluster) -> None:
    redis = pytest.importorskip("redis")
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port)
    with RedisConfig(client)() as bus:
        assert bus.rds is client
        bus.queue("jobs").put(1)
        assert client.lrange(f"{PREFIX}jobs", 0, -1) == [b"1"]
    with RedisConfig(cluster.url)() as bus:
        assert bus.rds.lrange(f"{PREFIX}jobs", 0, -1) == ["1"]
        bus.rds.close()
    client.close()
    # All the nodes that it knows, and what it logs in with.
    client = redis.RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port, client_name="me")
    url = RedisConfig(client).url
    assert url.startswith("redis+cluster://127.0.0.1:")
    assert url.count(",") == 2
    assert url.endswith("?client_name=me")
    client.close()


def test_what_a_cluster_cannot_do_is_refused_by_name(cluster: Cluster) -> None:
    with pytest.raises(pymq.ConfigError, match="database 0"):
        pymq.connect(f"{cluster.url}/1")
    with pytest.raises(pymq.ConfigError, match=r"redis\+cluster://"):
        pymq.connect(cluster.nodes[0].url)
