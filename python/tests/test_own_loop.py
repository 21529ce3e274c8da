"""What would wait on the thread of an event loop for what that loop has to do: told, not frozen."""

from __future__ import annotations

import asyncio
import sys
import threading
import types
from typing import Any

import pytest

import pymq
import pymq.aio
from conftest import HANG_GUARD, Box

FREEZES = pytest.raises(RuntimeError, match="event loop")


@pytest.mark.parametrize("how", ["get", "get_many", "get_delivery", "loop", "get_from"])
def test_a_get_that_would_wait_for_ever_on_a_loop_is_refused(
    bus: pymq.NativeEventBus, how: str
) -> None:
    queue = bus.queue("jobs", ack="manual")
    gets: dict[str, Any] = {
        "get": queue.get,
        "get_many": lambda: queue.get_many(3)[0],
        "get_delivery": lambda: queue.get_delivery().item,
        "loop": lambda: next(iter(queue)),
        "get_from": lambda: pymq.get_from([queue, bus.queue("others")])[1],
    }

    async def main() -> None:
        with FREEZES:
            gets[how]()
        queue.put("there")
        assert gets[how]() == "there"
        with pytest.raises(pymq.Empty):
            bus.queue("empty").get(timeout=0.01)
        with pytest.raises(pymq.Empty):
            bus.queue("empty").get(block=False)

    asyncio.run(main())


def test_a_put_and_a_join_that_would_wait_for_ever_on_a_loop_are_refused(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs", maxsize=1)

    async def main() -> None:
        queue.join()
        queue.put("there is space")
        with FREEZES:
            queue.put("there is none")
        with pytest.raises(pymq.Full):
            queue.put("there is none", timeout=0.01)
        with FREEZES:
            queue.join()

    asyncio.run(main())


def test_callbacks_on_a_loop_may_not_wait_on_it_for_each_other(
    bus: pymq.NativeEventBus, box: Box
) -> None:
    """Neither on a loop of the bus's own nor on the program's, with or without a limit."""

    async def on_event(event: str) -> None:
        try:
            bus.queue("jobs").get(timeout=HANG_GUARD)
        except RuntimeError as error:
            box.put(str(error))

    async def main() -> None:
        bus.subscribe(on_event, "here")
        bus.publish("x", "here")
        while len(box.items) < 2:
            await asyncio.sleep(0.001)

    bus.subscribe(on_event, "there")
    bus.publish("x", "there")
    box.take(1)
    asyncio.run(main())
    assert all("event loop" in words for words in box.take(2))


def test_waiting_for_the_states_of_a_bus_on_a_loop_is_refused(bus: pymq.NativeEventBus) -> None:
    async def main() -> None:
        states = bus.states()
        assert next(states) == "connected"
        with FREEZES:
            next(states)

    asyncio.run(main())


def test_a_worker_whose_handlers_run_on_a_loop_is_not_waited_for_there(
    bus: pymq.NativeEventBus,
) -> None:
    queue = bus.queue("jobs")
    done: list[int] = []

    async def main() -> None:
        begun, goes_on = asyncio.Event(), asyncio.Event()

        async def handle(item: int) -> None:
            begun.set()
            await goes_on.wait()
            done.append(item)

        worker = queue.work(handle)
        await asyncio.to_thread(queue.put, 1)
        await begun.wait()
        for wait in (worker.wait, worker.close, lambda: worker.wait(HANG_GUARD)):
            with FREEZES:
                wait()
        goes_on.set()
        await asyncio.to_thread(worker.close)
        assert not worker.running

    asyncio.run(main())
    assert done == [1]
    assert queue.unfinished_tasks == 0


def test_a_notebooks_cell_waits_as_any_program(
    url: str, monkeypatch: pytest.MonkeyPatch, box: Box
) -> None:
    """Cells run on the thread of their kernel's loop; that this is one, only the kernel says."""
    kernel = types.ModuleType("ipykernel.kernelapp")
    kernel.IPKernelApp = types.SimpleNamespace(initialized=lambda: True)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ipykernel.kernelapp", kernel)

    async def on_event(event: str) -> None: ...

    async def cells() -> None:
        with pymq.connect(url) as bus:
            queue = bus.queue("jobs")
            # Usually the cell waits by then; an item that is there already is right too.
            later = threading.Timer(0.05, queue.put, ["from elsewhere"])
            later.start()
            assert queue.get() == "from elsewhere"
            later.join()
            queue.join()
            bus.subscribe(on_event, "news")
            with FREEZES:
                queue.get()

    asyncio.run(cells())


def test_what_ends_by_itself_may_be_waited_for_on_a_loop(bus: pymq.NativeEventBus) -> None:
    bus.expose(lambda n: 2 * n, "double")
    queue = bus.queue("jobs")

    async def main() -> None:
        assert bus.stub("double")(2) == 4
        assert bus.ping() >= 0
        with queue.work(print):
            queue.put("x")
        assert queue.stats().dead == 0
        bus.subscribe(print, "x")
        bus.publish(1, "x")
        bus.close()

    asyncio.run(main())
