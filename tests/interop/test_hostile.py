"""Hostile bytes on every channel and queue that a peer of ours listens on, and on its way back.

After each of them the peer serves its canaries, and nothing has been imported, opened, started,
loaded or written; afterwards a call that was in flight all the time gets its own answer.
"""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from description import describe
from expected import same
from fixtures import server, start
from hostile import messages, names, replies, requests, values
from resp import Capture
from rig import NEW, PREFIX, Peer, PeerFailed, Pending, Server, wait_until
from shared_types import Reading

__all__ = ["server", "start"]

FOLDER = Path("/proc/self/cwd") / "a-folder-that-stands-for-another"
INBOX = b"__pymq:global:inbox:"
CONSUMERS = b"__pymq:{"
"""What the keys beside a queue begin with: dead letters are looked at one by one."""
NUMBERS = ("5,000 digits", "nan", "more than a float holds", "more than 64 bits hold")
"""Values with numbers that not every peer can hold."""
QUEUES: dict[str, dict[str, Any]] = {
    "work": {},
    "leased": {"ack": "manual"},
    "typed": {"type": "Reading"},
}
"""The target's queues, with their options; what has no hints has no use for a type."""


class Target:
    """A peer of ours that does everything at once, and a second one that does it with it."""

    def __init__(
        self, server: Server, kind: str, folder: Path, stack: contextlib.ExitStack
    ) -> None:
        self.server = server
        self.folder = folder
        self.peer = stack.enter_context(Peer(server, kind, "target"))
        self.other = stack.enter_context(Peer(server, "rust", "other"))
        self.peer.subscribe("untyped")
        self.peer.subscribe("typed", type="Reading")
        self.peer.subscribe("some.*", pattern=True)
        self.peer.expose("product", "product")
        self.peer.expose("echo", "echo")
        self.other.expose("held", "held")
        self.in_flight: Pending = self.peer.begin_call("held")
        wait_until(lambda: self.other.do("ran") == ["held"], "a call is in flight")
        self.canary("warm-up")
        self.attack(b"warm-up, so that what is loaded for errors is there")
        self.attack(b'{"__obj": 1, "__type": "warm.up"}')
        self.canary("warm")
        self._before = self._traces()

    def channels(self) -> list[bytes]:
        """What the target listens on by name, channels of ours too, and one that matches."""
        reply = self.server.command("PUBSUB", "CHANNELS", "*")
        assert isinstance(reply, list)
        held = (f"{PREFIX}held".encode(), b"__pymq:global:marker:held")
        names = [name for name in reply if isinstance(name, bytes) and name not in held]
        return [*names, f"{PREFIX}some.thing".encode()]

    def attack(self, data: bytes) -> None:
        for channel in self.channels():
            self.server.command("PUBLISH", channel, data)
        for queue, options in QUEUES.items():
            self.queue(data, queue, options)

    def queue(self, data: bytes, queue: str, options: dict[str, Any]) -> None:
        """The item is got, or it is a dead letter, byte for byte: it is never gone."""
        self.server.command("LPUSH", PREFIX + queue, data)
        dead = f"__pymq:{{{PREFIX}{queue}}}:dead"
        try:
            assert is_data(self.peer.get(queue, timeout=60, **options))
        except PeerFailed:
            [letter] = self.server.command("LRANGE", dead, 0, -1)
            # Spaces in front are how deliveries are counted, for every peer.
            assert letter.split(b"\0", 6)[6] == data.lstrip(b" ")
            self.server.command("DEL", dead)
        else:
            assert self.server.command("LLEN", dead) == 0
            if options.get("ack") == "manual":
                self.peer.do("task_done", queue=queue)

    def canary(self, token: str) -> None:
        """One good message through every door: each one is served."""
        reading = Reading(token, 1.5)
        for channel in ("untyped", "some.thing"):
            assert self.other.publish(token, channel) == 1
        assert self.other.publish(reading, "typed") == 1
        self.other.put("work", token)
        assert self.peer.get("work") == token
        assert self.other.call("product", 2, 4) == 8
        assert self.other.call("echo", token) == token
        self.peer.expose("who", f"{token}.who")
        assert self.peer.call(f"{token}.who") == "target"
        self.peer.do("unexpose", channel=f"{token}.who")
        expected = [token, token, describe(reading)]
        while expected:
            [event, *more] = self.peer.received(1)
            for value in (event, *more):
                found = next((one for one in expected if same(one, value)), None)
                if found is not None:
                    expected.remove(found)
                else:
                    assert is_data(value), value

    def check(self, what: str) -> None:
        """Nothing of what an attack may leave is there."""
        self.canary(f"canary of {what}")
        assert self._traces() == self._before
        assert not self.in_flight.done()
        assert all(self.server.command("LLEN", PREFIX + queue) == 0 for queue in QUEUES)
        assert list(self.folder.iterdir()) == [self.folder / "run"]

    def _keys(self) -> list[bytes]:
        """All but what consumers need, and answers that wait a minute for callers who are away."""
        keys = self.server.command("KEYS", "*")
        assert isinstance(keys, list)
        waiting = [key for key in keys if isinstance(key, bytes) and key.startswith(INBOX)]
        for key in waiting:
            # -2: it has gone meanwhile.
            assert self.server.command("TTL", key) in (-2, *range(61))
        return sorted(
            key
            for key in keys
            if isinstance(key, bytes) and key not in waiting and not key.startswith(CONSUMERS)
        )

    def _traces(self) -> dict[str, Any]:
        process = Path("/proc") / str(self.peer.pid)
        children = []
        for task in (process / "task").iterdir():
            # Threads come and go; what one that has gone leaves behind is another's.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                children.append((task / "children").read_text())
        opened = set()
        for link in (process / "fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                opened.add(os.readlink(link))
        mapped = {line.split()[-1] for line in (process / "maps").read_text().splitlines()}
        return {
            "children": "".join(children),
            "opened": {path for path in opened if path.startswith("/")},
            "mapped": {path for path in mapped if path.startswith("/")},
            "modules": self.peer.do("modules") if self.peer.kind == "python" else [],
            "keys": self._keys(),
        }


def is_data(described: Any) -> bool:
    """Plain data, or one of the data classes that the program has: nothing conjured by a tag."""
    if isinstance(described, list):
        return all(is_data(item) for item in described)
    if not isinstance(described, dict):
        return True
    if "object" in described:
        fields = described["fields"].values()
        return described["object"].startswith("shared_types.") and all(map(is_data, fields))
    if "dict" in described:
        return all(is_data(key) and is_data(item) for key, item in described["dict"])
    if "named" in described:
        known = ("pymq.core.RpcRequest", "pymq.core.RpcResponse")
        return described["named"] in known and all(map(is_data, described["items"]))
    return described.keys() <= {"int", "float"}


@pytest.fixture(scope="module", params=NEW)
def target(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Target]:
    folder = tmp_path_factory.mktemp("bait")
    script = folder / "run"
    script.write_text(f"#!/bin/sh\ntouch {folder}/ran\n")
    script.chmod(0o755)
    with Server() as server, contextlib.ExitStack() as stack:
        target = Target(server, request.param, folder, stack)
        yield target
        target.other.do("release")
        assert target.in_flight.result() == "other"


def bait(text: str, target: Target) -> str:
    return text.replace(str(FOLDER), str(target.folder))


def test_the_bait_is_good_an_original_runs_it(start: Any, server: Server, tmp_path: Path) -> None:
    # Without this the tests below might pass because nothing could ever happen.
    original = start("0.7.0")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    data = json.dumps({"__type": "subprocess.Popen", "__obj": str(program)})
    server.command("LPUSH", PREFIX + "work", data)
    original.get("work")
    wait_until((tmp_path / "ran").exists, "it has run")


@pytest.mark.parametrize("name", values(FOLDER))
def test_a_dangerous_value_is_data_and_nothing_else(target: Target, name: str) -> None:
    text = bait(values(FOLDER)[name], target)
    target.attack(text.encode())
    target.check(name)


# A request that is beyond what JSON may be here is dropped whole, so nobody knows whom to answer.
@pytest.mark.parametrize("name", [name for name in values(FOLDER) if name != "5,000 digits"])
def test_a_dangerous_argument_is_data_and_the_call_is_answered(target: Target, name: str) -> None:
    text = bait(values(FOLDER)[name], target)
    reply = f"__rpc_{uuid.uuid4()}"
    for arguments in (f"[{text}], {{}}", f'[], {{"value": {text}}}'):
        request = f'{{"__obj": ["echo", "{reply}", {arguments}], "__type": "pymq.core.RpcRequest"}}'
        target.server.command("PUBLISH", PREFIX + "echo", request)
        assert target.server.command("BLPOP", PREFIX + reply, 30) is not None
    target.check(name)


@pytest.mark.parametrize("name", values(FOLDER))
def test_a_dangerous_result_is_data_or_an_error(target: Target, name: str) -> None:
    text = bait(values(FOLDER)[name], target)
    tagged = json.loads(text.replace("NaN", "0")) if len(text) < 4000 else None
    tag = tagged.get("__type") if isinstance(tagged, dict) else "int"
    for failed in ("false", "true"):
        with target.server.listen("fake") as provider:
            pending = target.peer.begin_call("fake")
            request = json.loads(provider.message()[1])
            elements = f'"fake", {text}, {json.dumps(tag)}, {failed}'
            reply = f'{{"__obj": [{elements}], "__type": "pymq.core.RpcResponse"}}'
            target.server.command("LPUSH", PREFIX + request["__obj"][1], reply)
            with contextlib.suppress(PeerFailed):
                assert is_data(pending.result())
    target.check(name)


@pytest.mark.parametrize("name", messages())
def test_a_message_that_is_none_is_dropped(target: Target, name: str) -> None:
    target.attack(messages()[name])
    target.check(name)


@pytest.mark.parametrize("name", requests("product", "__rpc_x"))
def test_a_broken_request_makes_nobody_write_anywhere(target: Target, name: str) -> None:
    reply = f"__rpc_{uuid.uuid4()}"
    target.server.command("LPUSH", PREFIX + "kept", "an item of somebody")
    target.attack(requests("product", reply)[name])
    target.canary(f"before {name}")
    # Who sent it may be told what is wrong, where the place for that is sound.
    target.server.command("DEL", PREFIX + reply)
    assert target.server.command("TTL", PREFIX + "kept") == -1
    assert target.server.command("LRANGE", PREFIX + "kept", 0, -1) == [b"an item of somebody"]
    target.server.command("DEL", PREFIX + "kept")
    target.check(name)


@pytest.mark.parametrize("name", replies("", ""))
def test_a_forged_reply_completes_no_call(target: Target, name: str) -> None:
    inboxes = target.server.command("PUBSUB", "CHANNELS", "__pymq:global:inbox:*")
    assert isinstance(inboxes, list)
    with Capture(target.server.port, "__pymq:global:instance:*") as spy:
        pending = target.peer.begin_call("held")
        call = json.loads(spy.message()[1])["__obj"][4]["id"]
        for inbox in inboxes:
            target.server.command("PUBLISH", inbox, replies(call, "held")[name])  # type: ignore[arg-type]
        target.check(name)
        assert not pending.done()


@pytest.mark.parametrize("name", [b"\xff\xfe", b"\r\nPING\r\n", b"\x00", b"*[?", b"x" * 65_536])
def test_a_name_of_any_bytes_reaches_a_pattern_or_is_dropped(target: Target, name: bytes) -> None:
    target.server.command("PUBLISH", f"{PREFIX}some.".encode() + name, b'"x"')
    target.check(f"name {len(name)} {name[:1].hex()}")


@pytest.mark.parametrize("number", range(len(names())))
def test_an_odd_name_is_a_name_as_any_other(target: Target, number: int) -> None:
    name, token = names()[number], f"token {number}"
    target.server.command("LPUSH", "work", "an item of somebody")
    target.peer.subscribe(name)
    assert target.other.publish(token, name) == 1
    wait_until(lambda: token in target.peer.received(), "the event is there")
    target.other.put(name, token)
    assert target.peer.get(name) == token
    target.peer.do("unsubscribe", subscription=name, channel=name)
    target.peer.expose("product", name)
    assert target.other.call(name, 2, 4) == 8
    target.peer.do("unexpose", channel=name)
    assert target.server.command("LRANGE", "work", 0, -1) == [b"an item of somebody"]
    target.server.command("DEL", "work")
    target.check(f"name {number}")


def test_what_an_honest_program_sends_comes_back_as_it_was(target: Target) -> None:
    # The same texts, as values that somebody has: a dict with keys that look like tags is a dict.
    for name, text in values(FOLDER).items():
        # Peers are told what to send in JSON, which has no half pairs and is not that deep.
        if name in (*NUMBERS, "190 deep") or "\\ud800" in text:
            continue
        value = json.loads(bait(text, target))
        assert same(target.peer.call("echo", value), describe(value)), name
        target.other.put("work", value)
        assert same(target.peer.get("work"), describe(value)), name
    target.check("honest values")
