"""Workers of ours that are killed: every item is done, and what is done twice is accounted for.

A worker notes what it has done in a second queue before it confirms, so an item is lost only if
no note of it ever appears; a note that appears twice is a delivery that was repeated. Runs are
seeded: ``PYMQ_SEED`` and ``PYMQ_KILLS`` make others, and longer ones.
"""

import contextlib
import itertools
import json
import os
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fixtures import server
from rig import NEW, OLD, PREFIX, Peer, PeerFailed, Server, wait_until

__all__ = ["server"]

SEED = int(os.environ.get("PYMQ_SEED", "2718"))
KILLS = int(os.environ.get("PYMQ_KILLS", "24"))
LEASE = 1.0
OPTIONS = {"ack": "manual", "lease": LEASE, "max_deliveries": 0}
#: For those who hold on to an item until they are killed, however often they stand still before.
PATIENT = {**OPTIONS, "lease": 6 * LEASE}

#: What waits on a queue or is held, counted in one step: an item may move meanwhile.
COUNT = """
local count = redis.call('LLEN', KEYS[1])
for _, held in ipairs(redis.call('KEYS', ARGV[1])) do count = count + redis.call('LLEN', held) end
return count
"""

Note = tuple[Any, int]


def notes(server: Server) -> list[Note]:
    """What workers of ours have done: items, each with the number of its delivery."""
    raw = server.command("LRANGE", PREFIX + "done", 0, -1)
    assert isinstance(raw, list)
    return [tuple(json.loads(note)) for note in raw]  # type: ignore[arg-type]


def held(server: Server) -> int:
    """How many items of the queue are in somebody's hands."""
    keys = server.command("KEYS", f"__pymq:{{{PREFIX}work}}:held:*")
    assert isinstance(keys, list)
    return sum(int(server.command("LLEN", key)) for key in keys)  # type: ignore[arg-type]


def unfinished(server: Server) -> int:
    """How many items of the queue wait, or are in somebody's hands."""
    held = f"__pymq:{{{PREFIX}work}}:held:*"
    count = server.command("EVAL", COUNT, 1, PREFIX + "work", held)
    assert isinstance(count, int)
    return count


class Crew:
    """Workers that are replaced when they are killed."""

    def __init__(self, server: Server, kinds: list[str], stack: contextlib.ExitStack) -> None:
        self.kills = 0
        self._server = server
        self._stack = stack
        self._numbers = itertools.count()
        self._workers = [self._hire(kind) for kind in kinds]

    def _hire(self, kind: str) -> Peer:
        name = f"{kind} worker {next(self._numbers)}"
        worker = self._stack.enter_context(Peer(self._server, kind, name))
        worker.begin("work", queue="work", done="done", options=OPTIONS, pause=0.01)
        return worker

    def kill(self, place: int) -> None:
        victim = self._workers[place]
        victim.kill()
        self.kills += 1
        self._workers[place] = self._hire(victim.kind)


class Originals:
    """One that puts numbers as long as few wait, and one that takes some with BRPOP; both live."""

    def __init__(self, server: Server, version: str, stack: contextlib.ExitStack) -> None:
        self.put: list[int] = []
        self.taken: list[Any] = []
        self._server = server
        self._producer = stack.enter_context(Peer(server, version, "producer"))
        self._consumer = stack.enter_context(Peer(server, version, "consumer"))
        self._threads = [threading.Thread(target=each) for each in (self._produce, self._consume)]
        self._stopped = [threading.Event() for _ in self._threads]
        for thread in self._threads:
            thread.start()
        stack.callback(self.stop_consuming)
        stack.callback(self.stop_producing)

    def stop_producing(self) -> None:
        self._stop(0)

    def stop_consuming(self) -> None:
        self._stop(1)

    def _stop(self, which: int) -> None:
        self._stopped[which].set()
        self._threads[which].join()

    def _produce(self) -> None:
        while not self._stopped[0].is_set():
            self._producer.put("work", len(self.put))
            self.put.append(len(self.put))
            self._stopped[0].wait(0 if self._producer.do("qsize", queue="work") < 30 else 0.02)

    def _consume(self) -> None:
        while not self._stopped[1].wait(0.01):
            with contextlib.suppress(PeerFailed):
                self.taken.append(self._consumer.get("work", timeout=1))


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.mark.parametrize("old", OLD)
def test_no_item_is_lost_by_kills_beside_an_original_that_produces_and_one_that_consumes(
    server: Server, stack: contextlib.ExitStack, old: str
) -> None:
    chance = random.Random(f"{SEED} {old}")
    originals = Originals(server, old, stack)
    crew = Crew(server, ["rust", "python", "rust"], stack)
    while crew.kills < KILLS:
        goal = len(notes(server)) + chance.randrange(1, 6)
        wait_until(lambda: len(notes(server)) >= goal, "ours have done some more")  # noqa: B023
        crew.kill(chance.randrange(3))
    originals.stop_producing()
    sent = len(originals.put)

    def done() -> set[Any]:
        return {item for item, _ in notes(server)} | set(originals.taken)

    wait_until(lambda: len(done()) == sent, f"all {sent} items are done")
    # Some of them twice, where the killed one had done them.
    wait_until(lambda: unfinished(server) == 0, "all are confirmed")
    originals.stop_consuming()
    noted, taken = notes(server), originals.taken
    redelivered = sum(delivery > 1 for _, delivery in noted)
    doubled = len(noted) + len(taken) - sent
    print(
        f"{crew.kills} kills beside {old}: {sent} items, {len(taken)} done by the original,"
        f" {len(noted)} by ours, {redelivered} redelivered, {doubled} done twice, 0 lost"
    )
    assert done() == set(range(sent))
    assert crew.kills >= 20
    assert redelivered >= 1
    # A worker holds one item, so a kill repeats at most one.
    assert 0 <= doubled <= crew.kills
    assert len(noted) > KILLS
    assert taken


@pytest.mark.parametrize("victims", NEW)
def test_the_item_of_a_killed_worker_comes_back(
    server: Server, stack: contextlib.ExitStack, victims: str
) -> None:
    items = [f"item {number:02}" for number in range(20)]
    workers = [stack.enter_context(Peer(server, victims)) for _ in items]
    for worker, item in zip(workers, items, strict=True):
        worker.put("work", item)
        assert worker.get("work", **PATIENT) == item
    assert held(server) == len(items)
    for worker in workers:
        worker.kill()
    # Whoever comes next takes them, of either kind.
    for kind in NEW:
        heir = stack.enter_context(Peer(server, kind, f"{kind} heir"))
        heir.begin("work", queue="work", done="done", options=PATIENT)
        stack.callback(heir.kill)
    wait_until(lambda: len(notes(server)) >= len(items), "they are done")
    wait_until(lambda: unfinished(server) == 0, "and confirmed")
    # In the order of their leases' ends, which is nobody's promise; each was handed out twice.
    assert sorted(notes(server)) == [(item, 2) for item in items]
