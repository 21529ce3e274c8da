"""A bus ends though its server does not say that nothing more is to come."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

import pytest

import pymq
import pymq.aio
from conftest import HANG_GUARD


class Relay:
    """Stands before a server; what ends a subscription does not get there from some moment on."""

    def __init__(self, url: str) -> None:
        self._server = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.keeps = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with self._listener, contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._carry, args=pair, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with source:
            with contextlib.suppress(OSError):
                while data := source.recv(1 << 16):
                    if not (self.keeps and b"UNSUBSCRIBE" in data):
                        target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)


def close(url: str, relay: Relay) -> None:
    bus = pymq.connect(url)
    for number in range(40):
        bus.expose(lambda: 1, f"f{number}")
        bus.subscribe(lambda event: None, f"news.{number}")
    relay.keeps = True
    bus.close()


def aio_close(url: str, relay: Relay) -> None:
    async def main() -> None:
        bus = await pymq.aio.connect(url)
        for number in range(40):
            await bus.expose(lambda: 1, f"f{number}")
        relay.keeps = True
        await bus.close()

    asyncio.run(main())


@pytest.mark.parametrize("closes", [close, aio_close])
def test_a_bus_ends_in_its_time_though_the_server_does_not_confirm_it(closes, redis_url):
    relay = Relay(redis_url)
    thread = threading.Thread(target=closes, args=(relay.url, relay), daemon=True)
    thread.start()
    thread.join(HANG_GUARD)
    relay.end()
    assert not thread.is_alive()
