"""Records what one version of the original writes, and what every version makes of it.

The bytes are taken from the server on their way, never from an encoder called on its own, and the
readers are real too. Recordings are stable: the random part of reply names is set to zero, hash
seeds are fixed, and of errors only the class is kept, since messages differ between Pythons.
"""

import json
import re
from pathlib import Path
from typing import Any

import shared_types
from description import describe
from rig import PREFIX, Peer, PeerFailed, Pending, Server, wait_until
from samples import EVENTS, ITEMS, REPLIES, REQUESTS

VERSIONS = ("0.2.2", "0.7.0")
FOLDER = Path(__file__).with_name("goldens")
REPLY_NAME = "__rpc_00000000-0000-0000-0000-000000000000"

Golden = dict[str, Any]


def record(version: str) -> list[Golden]:
    """Everything in samples.py, as this version writes it; each version reads it."""
    with Server() as server, Peer(server, VERSIONS[0]) as one, Peer(server, VERSIONS[1]) as other:
        readers = dict(zip(VERSIONS, (one, other), strict=True))
        recorder = Recorder(server, readers[version], readers)
        return [
            *(recorder.event(name, *sample) for name, sample in EVENTS.items()),
            *(recorder.item(name, sample) for name, sample in ITEMS.items()),
            *(recorder.request(name, *sample) for name, sample in REQUESTS.items()),
            *(recorder.reply(name, *sample) for name, sample in REPLIES.items()),
        ]


def load(version: str) -> list[Golden]:
    """The recording that is kept in the repository."""
    return list(json.loads((FOLDER / f"{version}.json").read_text("ascii")))


def save(version: str, goldens: list[Golden]) -> Path:
    """Keep a recording; one golden a line, so that a change shows which."""
    path = FOLDER / f"{version}.json"
    path.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(golden) for golden in goldens)
    path.write_text(f"[\n{lines}\n]\n", "ascii")
    return path


class Recorder:
    """One writer whose bytes are caught, and readers that are given them."""

    def __init__(self, server: Server, writer: Peer, readers: dict[str, Peer]) -> None:
        self._server = server
        self._writer = writer
        self._readers = readers
        self._exposed: set[str] = set()

    def event(self, name: str, expression: str, hint: str | None) -> Golden:
        """Published without a channel, so that the default channel is recorded as well."""
        with self._server.capture() as capture:
            pending = self._writer.begin("publish", expression=expression)
            wait_until(lambda: pending.done() or capture.has_message(), f"{name} is published")
            error = _error_of(pending)
            channel, data = (None, None) if error else capture.message()
        golden = self._described("event", name, expression)
        golden["channel"] = channel and channel[len(PREFIX) :]
        golden.update(self._bytes_and_readings(data, error))
        if data is not None and hint is not None:
            golden["hint"] = hint
            golden["decoded_with_hint"] = {
                version: _outcome(reader.begin("decode", hex=data.hex(), type=hint))
                for version, reader in self._readers.items()
            }
        return golden

    def item(self, name: str, expression: str) -> Golden:
        error = _error_of(self._writer.begin("put", queue="golden", expression=expression))
        data = None if error else self._server.command("RPOP", PREFIX + "golden")
        assert data is None or isinstance(data, bytes)
        golden = self._described("item", name, expression)
        return {**golden, **self._bytes_and_readings(data, error)}

    def request(self, name: str, remote: str, args: str, kwargs: str) -> Golden:
        """The caller takes the capture for a provider, and is answered as one would."""
        remote = f"shared_types.{remote}"
        positional, keywords = (eval(text, vars(shared_types)) for text in (args, kwargs))
        with self._server.capture(remote) as capture:
            pending = self._writer.begin_call(remote, *positional, kwargs=keywords)
            wait_until(lambda: pending.done() or capture.has_message(), f"{name} is requested")
            data = None
            if not pending.done():
                data = capture.message()[1]
                self._answer(data, _reply(remote, 0, "int"))
            error = _error_of(pending)
        golden: Golden = {
            "name": name,
            "kind": "request",
            "expression": f"{remote}(*{args}, **{kwargs})",
        }
        return {**golden, **self._bytes_and_readings(_normal(data), error)}

    def reply(self, name: str, remote: str, args: str) -> Golden:
        """Kept with what a caller's stub returns for it, which is more than decoding it."""
        if remote not in self._exposed:
            self._writer.expose(remote)
            self._exposed.add(remote)
        data = self._reply_to(f"shared_types.{remote}", eval(args))
        golden: Golden = {
            "name": name,
            "kind": "reply",
            "expression": f"shared_types.{remote}(*{args})",
        }
        golden.update(self._bytes_and_readings(data, "no reply"))
        if data is not None:
            golden["returned"] = {
                version: self._returned(reader, data) for version, reader in self._readers.items()
            }
        return golden

    def _described(self, kind: str, name: str, expression: str) -> Golden:
        sent = describe(eval(expression, vars(shared_types)))
        return {"name": name, "kind": kind, "expression": expression, "sent": sent}

    def _reply_to(self, remote: str, args: list[Any]) -> bytes | None:
        """None where the provider fails on its own answer and so never sends one.

        That needs no clock: the provider runs one request after the other, so when the second one
        is answered, the first has been, or never will be.
        """
        if "who" not in self._exposed:
            self._writer.expose("who")
            self._exposed.add("who")
        for channel, name, arguments in (
            (remote, REPLY_NAME, args),
            ("shared_types.who", REPLY_NAME + "-next", []),
        ):
            request = {"__obj": [channel, name, arguments, {}], "__type": "pymq.core.RpcRequest"}
            self._server.command("PUBLISH", PREFIX + channel, json.dumps(request))
        assert self._server.command("BLPOP", PREFIX + REPLY_NAME + "-next", 60) is not None
        data = self._server.command("RPOP", PREFIX + REPLY_NAME)
        assert data is None or isinstance(data, bytes)
        return data

    def _returned(self, caller: Peer, data: bytes) -> Golden:
        with self._server.capture("golden") as capture:
            pending = caller.begin_call("golden")
            self._answer(capture.message()[1], data)
            return _outcome(pending)

    def _answer(self, request: bytes, reply: bytes) -> None:
        self._server.command("LPUSH", PREFIX + json.loads(request)["__obj"][1], reply)

    def _bytes_and_readings(self, data: bytes | None, error: str | None) -> Golden:
        if data is None:
            return {"bytes": None, "error": error}
        return {
            "bytes": data.decode("ascii"),
            "decoded": {version: self._read(peer, data) for version, peer in self._readers.items()},
        }

    def _read(self, reader: Peer, data: bytes) -> Golden:
        self._server.command("LPUSH", PREFIX + "golden", data)
        return _outcome(reader.begin("get", queue="golden"))


def _outcome(pending: Pending) -> Golden:
    try:
        return {"value": pending.result()}
    except PeerFailed as failure:
        if failure.name == "pymq.exceptions.RemoteInvocationError":
            return {"error": failure.name, "args": failure.arguments}
        return {"error": failure.name}


def _error_of(pending: Pending) -> str | None:
    return _outcome(pending).get("error")


def _reply(remote: str, result: Any, kind: str) -> bytes:
    reply = {"__obj": [remote, result, kind, False], "__type": "pymq.core.RpcResponse"}
    return json.dumps(reply).encode()


def _normal(request: bytes | None) -> bytes | None:
    """With zeros where the name of the reply list is random."""
    return request and re.sub(rb"__rpc_[0-9a-f-]{36}", REPLY_NAME.encode(), request)
