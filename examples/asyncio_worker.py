"""The same verbs on asyncio: a worker, its jobs and a progress feed on one event loop."""

import asyncio
import sys

import pymq


async def work(bus: pymq.aio.Bus) -> None:
    jobs = bus.queue("async.jobs", ack="manual")
    while (job := await jobs.get()) is not None:
        await asyncio.sleep(job)
        await bus.publish(job, channel="async.done")
        await jobs.task_done()
    await jobs.task_done()


async def main(address: str) -> None:
    async with pymq.aio.connect(address) as bus:
        done = await bus.topic("async.done").events()
        jobs = bus.queue("async.jobs")
        for seconds in (0.02, 0.01, 0.03):
            await jobs.put(seconds)
        await jobs.put(None)
        worker = asyncio.create_task(work(bus))
        for _ in range(3):
            print("done", await anext(done))
        await worker
        await jobs.join()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
