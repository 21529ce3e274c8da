"""The same verbs on asyncio: a worker, its jobs and a progress feed on one event loop."""

import asyncio
import sys

from pymq import aio


async def work(bus: aio.AsyncEventBus) -> None:
    async for seconds in bus.queue("async.jobs", ack="manual"):
        await asyncio.sleep(seconds)
        await bus.publish(seconds, channel="async.done")


async def main(address: str) -> None:
    async with aio.connect(address) as bus, bus.topic("async.done").events() as done:
        worker = asyncio.create_task(work(bus))
        jobs = bus.queue("async.jobs")
        for seconds in (0.02, 0.01, 0.03):
            await jobs.put(seconds)
        for _ in range(3):
            print("done", await anext(done))
        worker.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "memory://"))
