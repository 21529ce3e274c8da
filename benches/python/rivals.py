"""What people would use instead, at the works that peer.py does: the same text, the same server.

    rivals.py HOST:PORT LIBRARY measure | provide

Each is used as its own guide does, at one thing at a time; where a library does not do a work, it
takes no part in it.
"""

import asyncio
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import worker

T = TypeVar("T")
TEXT = "x" * 62
NAME = "benches.rivals"
FLOOD = 20_000
PUBLISH_MANY = "for _ = 1, tonumber(ARGV[2]) do redis.call('PUBLISH', KEYS[1], ARGV[1]) end"
Work = Callable[[float], worker.Figure]


class Loop:
    """Runs coroutines for a program that waits for each."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def run(self, task: Awaitable[T]) -> T:
        return self.loop.run_until_complete(task)

    def rate(self, once: Callable[[], Awaitable[Any]]) -> Work:
        """The loop is entered once in many, as it is in a program that awaits."""

        async def measure(seconds: float) -> worker.Figure:
            done = 0
            now = begin = time.perf_counter()
            while now - begin < seconds:
                await once()
                done += 1
                now = time.perf_counter()
            return worker.Figure(done / (now - begin), done)

        return lambda seconds: self.run(measure(seconds))

    def middle_time(self, once: Callable[[], Awaitable[Any]]) -> Work:
        return lambda seconds: worker.middle_time(seconds, lambda: self.run(once()))


def redis_py(address: str, part: str) -> dict[str, Work]:
    import redis

    host, port = address.split(":")
    client = redis.Redis(host=host, port=int(port))
    fill = client.register_script(
        "redis.call('DEL', KEYS[1]) "
        "for _ = 1, tonumber(ARGV[2]) do redis.call('LPUSH', KEYS[1], ARGV[1]) end"
    )
    messages = client.pubsub(ignore_subscribe_messages=True)
    messages.subscribe(f"{NAME}.flood")
    while messages.get_message(timeout=0.1) is not None or not messages.subscribed:
        pass
    per_second = 5_000.0

    def get(seconds: float) -> worker.Figure:
        nonlocal per_second
        count = max(200, int(per_second * seconds))
        fill(keys=[f"{NAME}.get"], args=[json.dumps(TEXT), count])
        begin = time.perf_counter()
        for _ in range(count):
            json.loads(client.brpop(f"{NAME}.get")[1])
        per_second = count / (time.perf_counter() - begin)
        return worker.Figure(per_second, count)

    def receive(seconds: float) -> worker.Figure:
        count = min(FLOOD, max(200, int(20_000 * seconds)))
        client.eval(PUBLISH_MANY, 1, f"{NAME}.flood", json.dumps(TEXT), count)
        begin = time.perf_counter()
        for _ in range(count):
            while (message := messages.get_message(timeout=1)) is None:
                pass
            json.loads(message["data"])
        return worker.Figure(count / (time.perf_counter() - begin), count)

    return {
        "publish": lambda seconds: worker.rate(
            seconds, lambda: client.publish(f"{NAME}.silent", json.dumps(TEXT))
        ),
        "put": lambda seconds: worker.rate(
            seconds, lambda: client.lpush(f"{NAME}.put", json.dumps(TEXT))
        ),
        "get": get,
        "receive": receive,
    }


def faststream(address: str, part: str) -> dict[str, Work]:
    from faststream.redis import RedisBroker

    broker = RedisBroker(f"redis://{address}", logger=None)
    loop = Loop()
    got = 0
    all_came = asyncio.Event()
    awaited = 0

    if part == "provide":

        @broker.subscriber(f"{NAME}.echo")
        async def echo(text: str) -> str:
            return text
    else:

        @broker.subscriber(f"{NAME}.flood")
        async def flood(text: str) -> None:
            nonlocal got
            got += 1
            if got >= awaited:
                all_came.set()

    loop.run(broker.start())
    if part == "provide":
        threading.Thread(target=loop.loop.run_forever, daemon=True).start()
        return {}

    async def call() -> None:
        reply = await broker.request(TEXT, f"{NAME}.echo", timeout=60)
        assert await reply.decode() == TEXT

    async def receive(seconds: float) -> worker.Figure:
        nonlocal got, awaited
        got, awaited = 0, min(FLOOD, max(100, int(4_000 * seconds)))
        all_came.clear()
        begin = time.perf_counter()
        connection = await broker.connect()
        text = json.dumps(TEXT)
        await connection.eval(PUBLISH_MANY, 1, f"{NAME}.flood", text, awaited)
        await asyncio.wait_for(all_came.wait(), 60)
        return worker.Figure(awaited / (time.perf_counter() - begin), awaited)

    return {
        "call": loop.middle_time(call),
        "publish": loop.rate(lambda: broker.publish(TEXT, f"{NAME}.silent")),
        "receive": lambda seconds: loop.run(receive(seconds)),
    }


def celery(address: str, part: str) -> dict[str, Work]:
    from celery import Celery, signals

    url = f"redis://{address}/"
    app = Celery(NAME, broker=f"{url}1", backend=f"{url}2")
    app.conf.update(task_default_queue=NAME, broker_connection_retry_on_startup=True)
    # Else a worker takes what this program prints for its log, and nobody hears that it is ready.
    app.conf.update(worker_redirect_stdouts=False)

    @app.task(name=f"{NAME}.echo")
    def echo(text: str) -> str:
        return text

    if part == "provide":
        ready = threading.Event()
        signals.worker_ready.connect(lambda **_: ready.set(), weak=False)
        options = ["worker", "--pool=solo", "--loglevel=ERROR", "--without-gossip"]
        options += ["--without-mingle", "--without-heartbeat"]
        threading.Thread(target=app.worker_main, args=[options], daemon=True).start()
        assert ready.wait(60)
        return {}
    later = echo.signature(args=[TEXT], queue=f"{NAME}.silent", ignore_result=True)
    return {
        "call": lambda seconds: worker.middle_time(seconds, lambda: echo.delay(TEXT).get(60)),
        "put": lambda seconds: worker.rate(seconds, later.apply_async),
    }


def taskiq(address: str, part: str) -> dict[str, Work]:
    from taskiq.api import run_receiver_task
    from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

    url = f"redis://{address}/3"
    # redis-py 8 cuts sockets that are silent for 5 s, and with them a worker that waits for tasks.
    broker = ListQueueBroker(url, queue_name=f"{NAME}.taskiq", socket_timeout=None)
    broker = broker.with_result_backend(RedisAsyncResultBackend(url))
    silent = ListQueueBroker(url, queue_name=f"{NAME}.taskiq.silent", socket_timeout=None)

    @broker.task(task_name=f"{NAME}.echo")
    async def echo(text: str) -> str:
        return text

    @silent.task(task_name=f"{NAME}.later")
    async def later(text: str) -> None:
        pass

    loop = Loop()
    if part == "provide":
        loop.loop.create_task(run_receiver_task(broker, run_startup=True))
        threading.Thread(target=loop.loop.run_forever, daemon=True).start()
        return {}
    loop.run(broker.startup())
    loop.run(silent.startup())

    async def call() -> None:
        task = await echo.kiq(TEXT)
        # It polls; its default of 0.2 s would be all that is measured.
        result = await task.wait_result(check_interval=0.0005, timeout=60)
        assert result.return_value == TEXT

    return {
        "call": loop.middle_time(call),
        "put": loop.rate(lambda: later.kiq(TEXT)),
    }


def rpyc(address: str, part: str) -> dict[str, Work]:
    import rpyc as library
    from rpyc.utils.factory import unix_connect
    from rpyc.utils.server import ThreadedServer

    # It needs no server; the two ends find each other by its port all the same.
    path = os.path.join(tempfile.gettempdir(), f"pymq-benches-{address.split(':')[1]}.rpyc")

    class Echo(library.Service):
        def exposed_echo(self, text: str) -> str:
            return text

    if part == "provide":
        if os.path.exists(path):
            os.unlink(path)
        server = ThreadedServer(Echo, socket_path=path)
        threading.Thread(target=server.start, daemon=True).start()
        return {}
    connection = unix_connect(path)
    return {"call": lambda seconds: worker.middle_time(seconds, lambda: connection.root.echo(TEXT))}


LIBRARIES = {
    "redis-py": redis_py,
    "FastStream": faststream,
    "Celery": celery,
    "taskiq": taskiq,
    "RPyC": rpyc,
}

if __name__ == "__main__":
    address, library, part = sys.argv[1:]
    # What a library says is not an answer.
    sys.stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker.serve(LIBRARIES[library](address, part))
    # Loops and workers that still run end with the process.
    sys.stdout.flush()
    os._exit(0)
