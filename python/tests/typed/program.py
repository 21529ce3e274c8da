"""A program that uses everything, typed."""

import asyncio
from dataclasses import dataclass
from typing import Any

from typing_extensions import assert_type

import pymq
from pymq import aio
from pymq.testing import MemoryBus


@dataclass
class Job:
    n: int


@pymq.subscriber
def on_job(job: Job) -> None: ...


@pymq.subscriber("jobs.*", pattern=True)
def on_any(event: Any) -> None: ...


@pymq.remote
def add(a: int, b: int = 1) -> int:
    return a + b


@pymq.remote("sub", concurrency=3)
async def asub(a: int, b: int) -> int:
    return a - b


@aio.subscriber("x")
async def on_x(event: Job) -> None: ...


@aio.remote
async def aadd(a: int) -> str:
    return str(a)


bus = pymq.init("memory://")
assert_type(bus, pymq.NativeEventBus)
q = pymq.queue("jobs", type=Job)
assert_type(q, pymq.Queue[Job])
q2: pymq.Queue[Job] = pymq.queue(
    "jobs", ack="manual", lease=3.0, max_deliveries=2, prefetch=2, type=Job
)
print(q.unfinished_tasks, q.is_shutdown, q.purge())
q.put(Job(1))
q.put_nowait(Job(1))
q.put_many([Job(2)])
assert_type(q.get(), Job)
assert_type(q.get_many(3), list[Job])
with q.get_delivery() as d:
    assert_type(d.item, Job)
for job in q:
    assert_type(job, Job)
    break
q.task_done()
q.join()
q.close()
q.free()
q.shutdown()
assert_type(q.qsize(), int)
u = pymq.queue("any")
assert_type(u, pymq.Queue[Any])
assert_type(pymq.stub(add)(1, b=2), int)
assert_type(1 + pymq.stub(asub)(3, 1), int)
m = pymq.stub(add, multi=True)(1)
assert_type(m, list[int | pymq.RemoteInvocationError])
n = pymq.stub(asub, timeout=2.0, multi=True)(1, 2)
assert_type(n, list[int | pymq.RemoteInvocationError])
x: Any = pymq.stub("named")(1)
pymq.expose(asub)
pymq.expose(add, "add", concurrency=4)
pymq.unexpose(add)
t = pymq.topic("x")
t.publish(1)
t.subscribe(on_any)
msg = pymq.current_message()
topic: str | None = None if msg is None else msg.topic
pymq.publish(Job(1))
pymq.subscribe(on_job)
pymq.unsubscribe(on_job)


async def main() -> None:
    async with aio.connect("memory://") as b:
        aq = b.queue("jobs", type=Job)
        assert_type(aq, aio.AsyncQueue[Job])
        await aq.put(Job(1))
        assert_type(await aq.get(), Job)
        assert_type(await b.stub(add)(1), int)
        assert_type(await b.stub(asub)(1, 2), int)
        async with b.topic("x").events(Job) as events:
            async for e in events:
                assert_type(e, Job)
                break
        async for topic, ev in b.topic("x*", pattern=True).events(topics=True):
            assert_type(topic, str)
            print(ev)
        print(b.closed)
        await b.close(timeout=1)
    await aio.init("memory://")
    await aio.expose(aadd, "n", concurrency=2)
    assert_type(await aio.stub(aadd)(1), str)
    aq2 = aio.queue("x", type=Job)
    assert_type(aq2, aio.AsyncQueue[Job])
    await aio.shutdown()


asyncio.run(main())
with pymq.connect("memory://", workers=3) as other:
    oq = other.queue("jobs", type=Job)
    assert_type(oq.get(), Job)
    other.close(timeout=2)
mb = pymq.init(MemoryBus)
assert_type(mb, MemoryBus)
print(mb.published, mb.put, mb.failed)
pymq.shutdown()
