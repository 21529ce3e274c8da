"""One process on the bus, driven by JSON lines, written for the original's public API.

It runs unchanged on every package that calls itself ``pymq``, so what differs between two runs is
the package; options of a queue, ``task_done`` and ``work`` are for packages that have them. A peer
in another language speaks the same lines:

    -> {"id": 1, "do": "call", "name": "shared_types.product", "args": [2, 4]}
    <- {"id": 1, "value": 8}    or    <- {"id": 1, "error": [class, [args]], "bases": [...]}

The first line out is ``{"ready": {...}}``. Every command runs in a thread of its own, so a waiting
``get`` stops nobody, and answers come as they are ready. Values travel as description.py says; a
field ``expression`` may stand for ``value``, and is Python. Talk goes to stderr.

    peer.py redis://127.0.0.1:6379 NAME
"""

import json
import logging
import platform
import sys
import threading
import time
import typing
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pymq
import shared_types
from description import build, class_name, describe
from pymq.provider.redis import RedisConfig

Command = dict[str, Any]


class Events:
    """What the callbacks of this process have received and nobody has drained yet."""

    def __init__(self) -> None:
        self._received: list[Any] = []
        self._changed = threading.Condition()

    def add(self, subscription: str, event: Any) -> None:
        with self._changed:
            self._received.append({"subscription": subscription, "value": describe(event)})
            self._changed.notify_all()

    def drain(self, count: int, timeout: float) -> list[Any]:
        """Wait for ``count`` events, at most ``timeout`` seconds, and take all there are."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._received) >= count, timeout)
            drained, self._received = self._received, []
            return drained


EVENTS = Events()
QUEUES: dict[str, Any] = {}
HELD: dict[str, list[Any]] = {}
CALLBACKS: dict[str, Callable[[Any], None]] = {}
OUTPUT = threading.Lock()


def hint(expression: str) -> Any:
    """A type, written as a program would write it in an annotation."""
    return eval(expression, dict(vars(typing), **vars(shared_types)))


def value_of(command: Command) -> Any:
    if "expression" in command:
        return eval(command["expression"], dict(vars(shared_types)))
    return build(command["value"])


def subscribe(command: Command) -> None:
    name = command["subscription"]

    def callback(event):  # type: ignore[no-untyped-def]
        EVENTS.add(name, event)

    if command.get("type"):
        callback.__annotations__["event"] = hint(command["type"])
    CALLBACKS[name] = callback
    pymq.subscribe(callback, command.get("channel"), command.get("pattern", False))


def unsubscribe(command: Command) -> None:
    callback = CALLBACKS.pop(command["subscription"])
    pymq.unsubscribe(callback, command.get("channel"), command.get("pattern", False))


def publish(command: Command) -> Any:
    return pymq.publish(value_of(command), command.get("channel"))


def received(command: Command) -> Any:
    return EVENTS.drain(command.get("count", 0), command.get("timeout", 60))


def queue(command: Command) -> Any:
    """A handle; one with options is kept, since what it has handed out is settled through it."""
    name, options = command["queue"], command.get("options")
    if not options:
        return pymq.queue(name)
    if name not in QUEUES:
        kinds = {"type": hint(options["type"])} if "type" in options else {}
        QUEUES[name] = pymq.queue(name, **(options | kinds))
    return QUEUES[name]


def put(command: Command) -> None:
    pymq.queue(command["queue"]).put(value_of(command), block=False)


def get(command: Command) -> Any:
    source, timeout = queue(command), command.get("timeout")
    if (command.get("options") or {}).get("ack") != "manual":
        return describe(source.get(timeout=timeout))
    delivery = source.get_delivery(timeout=timeout)
    HELD.setdefault(command["queue"], []).append(delivery)
    return describe(delivery.item)


def task_done(command: Command) -> None:
    """Confirms the oldest item in hand: as a delivery, since the thread that got it has ended."""
    HELD[command["queue"]].pop(0).ack()


def work(command: Command) -> None:
    """Works until the process ends: each item is noted, with its deliveries, then settled."""
    jobs, done = queue(command), pymq.queue(command["done"])
    while True:
        job = jobs.get_delivery()
        time.sleep(command.get("pause", 0))
        done.put([job.item, job.deliveries])
        job.ack()


def get_nowait(command: Command) -> Any:
    return describe(pymq.queue(command["queue"]).get_nowait())


def qsize(command: Command) -> Any:
    return pymq.queue(command["queue"]).qsize()


def expose(command: Command) -> None:
    pymq.expose(getattr(shared_types, command["name"]), command.get("channel"))


def unexpose(command: Command) -> None:
    pymq.unexpose(command["channel"])


def call(command: Command) -> Any:
    name = command["name"]
    if command.get("known"):
        name = getattr(shared_types, name.removeprefix("shared_types."))
    said = {"headers": command["headers"]} if command.get("headers") else {}
    stub = pymq.stub(name, command.get("timeout"), command.get("multi", False), **said)
    positional = [build(argument) for argument in command.get("args", [])]
    keywords = {name: build(argument) for name, argument in command.get("kwargs", {}).items()}
    return describe((stub.rpc if command.get("rpc") else stub)(*positional, **keywords))


def ran(command: Command) -> Any:
    """The names of the remotes that have run in this process, oldest first."""
    return list(shared_types.CALLS)


def multiplied(command: Command) -> Any:
    """The first argument of each ``product`` that has run in this process."""
    return list(shared_types.PRODUCTS)


def modules(command: Command) -> Any:
    """The names of the modules that are loaded."""
    return sorted(sys.modules)


def release(command: Command) -> None:
    shared_types.RELEASED.set()


def encode(command: Command) -> Any:
    import pymq.json as codec

    text = json.dumps(value_of(command), cls=codec.DeepDictEncoder)
    return text.encode("utf-8", "surrogatepass").hex()


def decode(command: Command) -> Any:
    import pymq.json as codec

    decoder: Any = codec.DeepDictDecoder
    if command.get("type"):
        decoder = decoder.for_type(hint(command["type"]))
    text = bytes.fromhex(command["hex"]).decode("utf-8", "surrogatepass")
    return describe(json.loads(text, cls=decoder))


COMMANDS: dict[str, Callable[[Command], Any]] = {
    command.__name__: command
    for command in (
        subscribe,
        unsubscribe,
        publish,
        received,
        put,
        get,
        get_nowait,
        task_done,
        work,
        qsize,
        expose,
        unexpose,
        call,
        ran,
        multiplied,
        modules,
        release,
        encode,
        decode,
    )
}


def say(answer: dict[str, Any]) -> None:
    with OUTPUT:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def run(command: Command) -> None:
    """Answer one command; whatever it raises is its answer."""
    try:
        answer = {"value": COMMANDS[command["do"]](command)}
    except Exception as error:
        bases = [class_name(base) for base in type(error).__mro__[1:-1]]
        answer = {
            "error": [class_name(type(error)), [describe(item) for item in error.args]],
            "bases": bases,
        }
    say(dict(answer, id=command["id"]))


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version("pymq")
    except metadata.PackageNotFoundError:
        return str(pymq.__version__)


def main(url: str, name: str) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    shared_types.PEER_NAME[0] = name
    address = urlsplit(url)
    pymq.init(RedisConfig(host=address.hostname, port=address.port))
    say({"ready": {"pymq": version(), "python": platform.python_version(), "name": name}})
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "exit":
            break
        threading.Thread(target=run, args=(command,), daemon=True).start()
    shared_types.RELEASED.set()
    pymq.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
