"""A process on the bus, in this library's environment or in the original's: the same program.

    peer.py HOST:PORT NAME measure | provide

NAME begins the names of its channels, queues and functions, so that the two libraries do not hear
each other. Only what both libraries offer is used here, as their users use it.
"""

import json
import socket
import sys
import threading
import time

import sample
import worker

import pymq
from pymq.json import DeepDictEncoder
from pymq.provider.redis import RedisConfig

THREADS = 8
TEXT = "x" * 62
# A script inside the server fills queues and publishes, so that nobody else takes part.
REPEAT = """
redis.call('DEL', KEYS[1])
for _ = 1, tonumber(ARGV[3]) do redis.call(ARGV[1], KEYS[1], ARGV[2]) end"""


class Server:
    """A plain connection for what is done behind the library's back."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.answers = self.socket.makefile("rb")

    def repeat(self, command: str, key: str, value: str, count: int) -> None:
        """Does `command key value` so many times, in one step."""
        key = f"__eventbus:global:{key}"
        words = ["EVAL", REPEAT, "1", key, command, value, str(count)]
        encoded = [word.encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
        self.socket.sendall(b"".join(parts))
        answer = self.answers.readline()
        assert not answer.startswith(b"-"), answer


class Peer:
    """What is measured on the bus; each method takes seconds and gives a figure."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self.server = server
        self.echo = pymq.stub(f"{name}.echo", timeout=60)
        self.gets_per_second = 5_000.0
        self.events = None

    def call(self, seconds: float) -> worker.Figure:
        return worker.middle_time(seconds, lambda: self.echo(TEXT))

    def calls(self, seconds: float) -> worker.Figure:
        rates = []
        barrier = threading.Barrier(THREADS)

        def run() -> None:
            echo = pymq.stub(f"{self.name}.echo", timeout=60)
            assert echo(TEXT) == TEXT
            barrier.wait()
            rates.append(worker.rate(seconds, lambda: echo(TEXT)))

        threads = [threading.Thread(target=run) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(rates) == THREADS
        return worker.Figure(*map(sum, zip(*rates, strict=True)))

    def publish(self, seconds: float) -> worker.Figure:
        channel = f"{self.name}.silent"
        return worker.rate(seconds, lambda: pymq.publish(TEXT, channel=channel))

    def put(self, seconds: float) -> worker.Figure:
        name = f"{self.name}.put"
        self.server.repeat("LPUSH", name, "1", 0)
        queue = pymq.queue(name)
        return worker.rate(seconds, lambda: queue.put(TEXT, block=False))

    def get(self, seconds: float) -> worker.Figure:
        """Gets for a time that is guessed from the last rate, so that no get has to wait."""
        name = f"{self.name}.get"
        count = max(200, int(self.gets_per_second * seconds))
        self.server.repeat("LPUSH", name, json.dumps(TEXT), count)
        queue = pymq.queue(name)
        begin = time.perf_counter()
        for _ in range(count):
            queue.get(timeout=60)
        self.gets_per_second = count / (time.perf_counter() - begin)
        return worker.Figure(self.gets_per_second, count)

    def receive(self, seconds: float) -> worker.Figure:
        if self.events is None:
            self.events = Received(f"{self.name}.flooded", self.server)
        return self.events.measure(seconds)


class Received:
    """Typed events, counted as a callback gets them."""

    def __init__(self, channel: str, server: Server) -> None:
        self.channel = channel
        self.server = server
        self.text = json.dumps(sample.event(), cls=DeepDictEncoder)
        self.per_second = 1_000.0
        self.missing = 0
        self.all = threading.Event()
        pymq.subscribe(self.on_event, channel=channel)
        self.active()

    def on_event(self, event: sample.Event) -> None:
        assert type(event) is sample.Event
        self.missing -= 1
        if self.missing == 0:
            self.all.set()

    def active(self) -> None:
        """Waits until the subscription is there; the original's `subscribe` does not."""
        self.missing = 1
        while not self.all.wait(0.1):
            pymq.publish(sample.event(), channel=self.channel)

    def measure(self, seconds: float) -> worker.Figure:
        """The clock runs from the end of the script, when all events wait in the server."""
        count = min(50_000, max(200, int(self.per_second * seconds)))
        self.missing = count
        self.all.clear()
        self.server.repeat("PUBLISH", self.channel, self.text, count)
        begin = time.perf_counter()
        if not self.all.wait(300):
            raise TimeoutError(f"{self.missing} of {count} events did not come")
        self.per_second = count / (time.perf_counter() - begin)
        return worker.Figure(self.per_second, count)


def main() -> None:
    address, name, part = sys.argv[1:]
    host, port = address.split(":")
    pymq.init(RedisConfig(host=host, port=int(port)))
    if part == "provide":
        pymq.expose(lambda text: text, channel=f"{name}.echo")
        worker.serve({})
    else:
        peer = Peer(name, Server(host, int(port)))
        works = ["call", "calls", "publish", "put", "get"]
        worker.serve({work: getattr(peer, work) for work in works} | {"events": peer.receive})
    pymq.shutdown()


if __name__ == "__main__":
    main()
