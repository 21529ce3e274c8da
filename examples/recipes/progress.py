"""Progress of a long call: the function publishes how far it is, its caller listens meanwhile.

`progress.py [ADDRESS]`
"""

import asyncio
import sys
import uuid

from pymq import aio


async def main(address: str = "memory://") -> None:
    async with aio.connect(address) as bus:

        async def render(film: str, tell: str) -> str:
            for part in range(1, 5):
                await asyncio.sleep(0.01)  # stands for work
                await bus.publish(part * 25, channel=tell)
            return f"{film}.mp4"

        await bus.expose(render, "recipes.render")

        topic = f"recipes.progress.{uuid.uuid4()}"  # for this call alone
        async with bus.topic(topic).events(int) as progress:
            call = asyncio.create_task(bus.stub("recipes.render", required=True)("cat", tell=topic))
            async for percent in progress:
                print(percent, "%")
                if percent == 100:
                    break
            print(await call)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
