"""Stream to a browser: events of the bus as server-sent events, by a server of forty lines.

`browser.py [ADDRESS]`, then open the address that it prints. A framework's streaming response does
the same: what matters is one `events()` for each browser, left when the browser leaves.
"""

import asyncio
import contextlib
import json
import sys

from pymq import aio

PAGE = b"""<!doctype html><title>prices</title><ul id=list></ul><script>
new EventSource("/prices").onmessage = (event) => {
  const line = document.createElement("li");
  line.textContent = event.data;
  document.getElementById("list").append(line);
};
</script>"""


async def serve(bus: aio.AsyncEventBus, port: int) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).split()[1]
        while (await reader.readline()).strip():
            pass  # headers
        kind = b"text/event-stream" if path == b"/prices" else b"text/html"
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: %b\r\n\r\n" % kind)
        with contextlib.suppress(ConnectionError):
            if path == b"/prices":
                await stream(writer)
            else:
                writer.write(PAGE)
        writer.close()

    async def stream(writer: asyncio.StreamWriter) -> None:
        async with bus.topic("prices.*", pattern=True).events(float, topics=True) as prices:
            writer.write(b": subscribed\n\n")
            async for topic, price in prices:
                writer.write(f"data: {json.dumps({topic: price})}\n\n".encode())
                await writer.drain()

    return await asyncio.start_server(answer, "127.0.0.1", port)


async def main(address: str = "memory://", port: str = "0") -> None:
    async with aio.connect(address) as bus:
        server = await serve(bus, int(port))
        print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        for number in range(1_000_000):
            await bus.publish(1 + number / 10, channel="prices.tea")
            await asyncio.sleep(0.5)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
