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
late = pymq.queue(
    "later",
    maxsize=9,
    retry=pymq.Retry.after([1, 10], give_up_on=ValueError),
    max_dead_letters=100,
    priorities=True,
    type=Job,
)
late.put(Job(1), delay=2.5, id="order-17", priority=9, headers={"tenant": "north"})
late.put_many([Job(2)], headers={"tenant": "north"})
assert_type(pymq.get_from([q, late], timeout=1.0), tuple[pymq.Queue[Job], Job])
assert_type(late.peek(3), list[Job])
stats = late.stats()
assert_type(stats.oldest, float | None)
letters = late.dead_letters()
for letter in letters:
    assert_type(letter.item, Job)
    assert_type(letter.message.headers.get("tenant"), str | None)
letters.redrive(where=lambda letter: letter.item.n == 1, to=q)
print(len(letters), letters.purge(3))


def work_on(delivery: pymq.Delivery[Job]) -> None:
    assert_type(delivery.message.id, str | None)
    delivery.extend(30)
    delivery.requeue(delay=1.0)


with late.work(work_on, concurrency=4, retry=[1, 2]) as worker:
    worker.stop()
    assert_type(worker.wait(1.0), bool)
late.stop()


@pymq.worker("jobs", concurrency=2, retry=pymq.Retry.never())
def declared_handler(job: Job) -> None: ...


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
        await aq.put(Job(2), headers={"a": "b"}, delay=1)
        assert_type(await aio.get_from([aq]), tuple[aio.AsyncQueue[Job], Job])
        async with await aq.get_delivery() as delivery:
            assert_type(delivery.item, Job)
        assert_type(await aq.peek(), list[Job])
        async for dead in aq.dead_letters():
            assert_type(dead.item, Job)
        await aq.work(work_on, concurrency=2, retry=[1])
        assert_type(await b.ping(), float)
        async for state in b.states():
            assert_type(state.why, str | None)
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
    assert_type(other.ping(), float)
    assert_type(other.health(), dict[str, Any])
    for state in other.states():
        print(state.since)
    other.on_state(print)
mb = pymq.init(MemoryBus)
assert_type(mb, MemoryBus)
print(mb.published, mb.put, mb.failed)
pymq.shutdown()
