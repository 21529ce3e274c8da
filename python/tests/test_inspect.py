"""Who looks at a bus from Python learns who is there, for threads and for event loops."""

from __future__ import annotations

import asyncio
import threading

import pymq
from conftest import HANG_GUARD, wait_until
from pymq import aio


def test_who_listens_and_who_provides(connect):
    bus, other = connect(), connect()
    other.subscribe(lambda event: None, "notes")
    release, begun = threading.Event(), threading.Event()

    def busy() -> None:
        begun.set()
        release.wait(HANG_GUARD)

    other.expose(busy, "busy")
    other.expose(lambda: 1, "idle")
    assert bus.inspect().topics() == [("notes", 1)]
    caller = threading.Thread(target=bus.stub("busy"))
    caller.start()
    assert begun.wait(HANG_GUARD)
    functions = {}

    def all_speak() -> bool:
        functions.update({function.name: function for function in bus.inspect().functions()})
        return all(function.silent == 0 for function in functions.values())

    # Who stands still for a second is silent.
    wait_until(all_speak, "all providers say that they are there")
    assert list(functions) == ["busy", "idle"]
    [provider] = functions["busy"].providers
    assert provider.open_calls == 1
    assert (functions["busy"].silent, functions["busy"].others) == (0, 0)
    release.set()
    caller.join()


def test_which_queues_there_are_and_who_holds_items(connect):
    bus, other = connect(), connect()
    assert bus.inspect().queues() == []
    jobs = other.queue("jobs")
    jobs.put_many([1, 2])
    held = jobs.get_delivery()
    assert bus.inspect().queues() == ["jobs"]
    [holder] = bus.inspect().holders("jobs")
    assert holder.items == 1
    assert holder.left is None or 0 < holder.left <= 30
    held.ack()
    assert bus.inspect().holders("jobs") == []


def left_here(leftovers, url):
    """Without what other tests, which run at the same time, leave of buses of this machine."""
    return [one for one in leftovers if not one.name.startswith("ipc://") or one.name == url]


def test_what_the_broker_is_and_what_was_left_behind(bus, url):
    findings = bus.inspect().examine()
    assert findings
    assert {finding.severity for finding in findings} <= {"fine", "note", "risk", "broken"}
    assert all(finding.subject and finding.words for finding in findings)
    assert left_here(bus.inspect().leftovers(), url) == []


def test_the_same_from_an_event_loop(url):
    async def main() -> None:
        async with aio.connect(url) as bus:
            await bus.expose(lambda: 1, "f")
            await bus.queue("jobs").put(1)
            look = bus.inspect()
            assert [function.name for function in await look.functions()] == ["f"]
            assert await look.topics() == []
            assert await look.queues() == ["jobs"]
            assert await look.holders("jobs") == []
            assert await look.examine()
            assert left_here(await look.leftovers(), url) == []

    asyncio.run(asyncio.wait_for(main(), HANG_GUARD))


def test_a_leftover_is_tidied_by_its_name(redis_url, redis_server):
    with pymq.connect(redis_url) as bus:
        # A reply list of a caller of the original that has gone, without an end.
        redis_server.command("RPUSH", "__eventbus:global:__rpc_gone", "reply")
        for leftover in bus.inspect().leftovers():
            bus.inspect().tidy(leftover)
        wait_until(lambda: bus.inspect().leftovers() == [], "nothing is left")


def test_a_closed_bus_is_not_looked_at(bus):
    look = bus.inspect()
    bus.close()
    try:
        look.queues()
    except pymq.ClosedError:
        return
    raise AssertionError("it was looked at")
