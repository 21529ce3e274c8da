"""Processes of one machine that talk without a server."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pymq
from conftest import HANG_GUARD, Box, wait_until
from pages import ROOT, read
from pymq import aio
from pymq.provider import ipc
from pymq.provider.ipc import IpcConfig, IpcEventBus, IpcQueue

if sys.platform != "linux":
    pytest.skip("needs Linux", allow_module_level=True)


@pytest.fixture
def ipc_url(shared_name: str) -> str:
    return f"ipc://{shared_name}"


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process, in Python."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


SERVER = """
    import sys, pymq
    pymq.init(sys.argv[1])
    jobs = pymq.queue("jobs", ack="manual")
    pymq.subscribe(pymq.queue("seen").put, "news.*", pattern=True)
    @pymq.remote("product")
    def product(a, b=1):
        return a * b
    print("ready", flush=True)
    for job in jobs:
        print(job, flush=True)
        jobs.get()
"""


def test_processes_talk_and_what_one_held_comes_back_when_it_is_killed(ipc_url: str) -> None:
    server = run(SERVER, ipc_url)
    assert read_line(server) == "ready"
    with pymq.connect(ipc_url) as bus:
        assert bus.publish({"hello": "world"}, "news.today") == 1
        assert bus.queue("seen").get(timeout=HANG_GUARD) == {"hello": "world"}
        assert bus.stub("product", timeout=HANG_GUARD)(6, b=7) == 42
        jobs = bus.queue("jobs", ack="manual")
        jobs.put("pack")
        assert read_line(server) == "pack"
        server.send_signal(signal.SIGKILL)
        server.wait(HANG_GUARD)
        delivery = jobs.get_delivery(timeout=HANG_GUARD)
        assert (delivery.item, delivery.deliveries) == ("pack", 2)
        delivery.ack()
        assert bus.publish("anyone?", "news.today") == 0
        assert bus.stub("product", timeout=HANG_GUARD)(1) is None
    assert server.stdout is not None
    server.stdout.close()


def test_a_process_that_joins_later_finds_what_was_put_before(ipc_url: str) -> None:
    first = run("import sys, pymq; pymq.init(sys.argv[1]); pymq.queue('q').put('kept')", ipc_url)
    first.communicate(timeout=HANG_GUARD)
    assert first.returncode == 0
    with pymq.connect(ipc_url) as bus:
        assert bus.queue("q").get(timeout=HANG_GUARD) == "kept"


def test_the_programs_of_the_readme_talk_without_a_server(tmp_path: Path, shared_name: str) -> None:
    for block in read(ROOT / "README.md").blocks:
        if block.title in ("worker.py", "shop.py"):
            text = block.text.replace("ipc://shop", f"ipc://{shared_name}")
            (tmp_path / block.title).write_text(text)

    def start(name: str) -> subprocess.Popen[str]:
        program = [sys.executable, str(tmp_path / name)]
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        pipe = subprocess.PIPE
        return subprocess.Popen(program, stdout=pipe, stderr=pipe, text=True, env=env)

    with start("worker.py") as worker, start("shop.py") as shop:
        try:
            assert read_line(worker) == "packing tea"
            # As the text says: whenever you like, and start it again.
            worker.kill()
            with start("worker.py") as again:
                try:
                    shown, said = shop.communicate(timeout=HANG_GUARD)
                finally:
                    again.kill()
        finally:
            worker.kill()
    # The first one may have packed everything before it died, and the second one not be there yet:
    # that is an error, as the text says.
    answered = "tea costs" in shown and shop.returncode == 0
    assert answered or "nobody exposes it" in said


def _child(url: str) -> None:
    pymq.init(url)
    pymq.queue("from child").put(os.getpid())
    pymq.queue("to child").get(timeout=HANG_GUARD)
    pymq.shutdown()


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_is_a_connection_of_its_own(ipc_url: str, method: str) -> None:
    with pymq.connect(ipc_url) as bus:
        process = multiprocessing.get_context(method).Process(target=_child, args=(ipc_url,))
        process.start()
        assert bus.queue("from child").get(timeout=HANG_GUARD) == process.pid
        bus.queue("to child").put("go")
        process.join(HANG_GUARD)
        assert process.exitcode == 0
        # And its parent's is as it was.
        bus.queue("q").put(1)
        assert bus.queue("q").get(timeout=HANG_GUARD) == 1


def test_who_sends_a_bus_or_a_queue_to_another_process_is_told_what_to_do(ipc_url: str) -> None:
    with pymq.connect(ipc_url) as bus:
        for what, told in ((bus, "connect in the other one"), (bus.queue("q"), "send its name")):
            with pytest.raises(TypeError, match=told):
                pickle.dumps(what)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_the_end_of_a_forked_child_leaves_its_parents_bus_alone(ipc_url: str, box: Box) -> None:
    with pymq.connect(ipc_url) as bus:
        bus.subscribe(box.put, "news")
        held = bus.queue("held", ack="manual")
        held.put("mine")
        assert held.get(timeout=HANG_GUARD) == "mine"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                bus.publish("from the child", "news")
            except pymq.PymqError:
                # Finalisers too leave the parent's alone.
                del bus, held
                gc.collect()
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert held.stats().leased == 1
        assert bus.publish("still there", "news") == 1
        assert box.take(1) == ["still there"]
        held.task_done()


def test_asyncio_is_served(ipc_url: str) -> None:
    async def main() -> None:
        async with aio.connect(ipc_url) as one, aio.connect(ipc_url) as other:
            queue = one.queue("q")
            waiting = asyncio.ensure_future(queue.get(timeout=HANG_GUARD))
            await asyncio.sleep(0)
            await other.queue("q").put("item")
            assert await waiting == "item"

            async def double(number: int) -> int:
                return 2 * number

            await other.expose(double, "double")
            assert await one.stub("double")(21) == 42

    asyncio.run(main())


def test_a_loop_over_events_raises_when_the_file_of_its_bus_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "bus"
    folder.mkdir(0o700)

    async def main() -> None:
        async with aio.connect(f"ipc://{folder}") as bus:
            events = bus.topic("news").events()
            await events.start()
            await bus.publish("first", "news")
            shutil.rmtree(folder)
            assert [await anext(events)] == ["first"]
            with pytest.raises(pymq.ConnectionLostError, match="deleted"):
                await anext(events)

    asyncio.run(main())


def test_a_full_disk_is_an_error_and_what_is_there_can_be_taken(ipc_url: str) -> None:
    process = run(
        """
        import resource, sys, pymq
        # Larger than an empty bus, which has a hole of 512 MiB.
        most = (520 << 20)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        pymq.init(sys.argv[1])
        queue, count = pymq.queue("q"), 0
        try:
            while True:
                queue.put("x" * 100_000)
                count += 1
        except pymq.PymqError as error:
            print(type(error).__name__, "no space" in str(error), count > 10, flush=True)
        got = [queue.get(timeout=60) for _ in range(count)]
        print(all(item == "x" * 100_000 for item in got), queue.qsize(), flush=True)
        queue.put("again")
        print(queue.get(timeout=60), flush=True)
        """,
        ipc_url,
    )
    output, _ = process.communicate(timeout=HANG_GUARD)
    assert output.splitlines() == ["ServerError True True", "True 0", "again"]
    assert process.returncode == 0


def test_a_stopped_process_delays_others_within_their_timeouts_only(ipc_url: str) -> None:
    busy = run(
        """
        import sys, pymq
        pymq.init(sys.argv[1])
        queue = pymq.queue("busy")
        print("ready", flush=True)
        while True:
            queue.put("x" * 50_000)
            queue.get()
        """,
        ipc_url,
    )
    try:
        with pymq.connect(ipc_url) as bus:
            assert read_line(busy) == "ready"
            for _ in range(20):
                # Sooner or later it is stopped while it has the lock.
                busy.send_signal(signal.SIGSTOP)
                # It ends while the other process is stopped, which nobody but this test lets go on.
                with pytest.raises((pymq.Empty, pymq.PymqError)):
                    bus.queue("nothing").get(timeout=0.05)
                busy.send_signal(signal.SIGCONT)
                # For it to go on a little; wherever it is stopped next is right.
                time.sleep(0.003)
            bus.queue("q").put("all is well")
            assert bus.queue("q").get(timeout=HANG_GUARD) == "all is well"
    finally:
        busy.kill()
        busy.communicate()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_another_user_is_refused_and_refuses(ipc_url: str, shared_name: str) -> None:
    place = Path(f"/dev/shm/pymq-test-{shared_name}")
    with pymq.connect(f"ipc://{place}"):
        process = run(
            """
            import os, sys, pymq
            os.setuid(65534)
            try:
                pymq.init(sys.argv[1])
            except pymq.PymqError as error:
                print(type(error).__name__, "another user" in str(error), flush=True)
            """,
            f"ipc://{place}",
        )
        assert process.communicate(timeout=HANG_GUARD)[0].strip() == "ConfigError True"
    place.rmdir()


def _answer(config: IpcConfig, ready: Any) -> None:
    pymq.init(config)
    pymq.expose(lambda number: number + 1, "increment")
    ready.set()
    time.sleep(HANG_GUARD)


class TestTheOriginalsProvider:
    """What programs do that were written for `pymq.provider.ipc` of the original."""

    @pytest.fixture
    def config(self, shared_name: str) -> IpcConfig:
        return IpcConfig(shared_name)

    def test_a_bus_is_made_by_its_factory(self, config: IpcConfig, box: Box) -> None:
        bus = pymq.init(config)
        assert isinstance(bus, IpcEventBus)
        assert (bus.namespace, bus.dispatcher) == ("global", None)
        pymq.subscribe(box.put, "some.*", pattern=True)
        assert pymq.publish("event", "some.channel") == 1
        assert box.take(1) == ["event"]

    def test_names_of_queues_are_known(self, config: IpcConfig) -> None:
        bus = config()
        queue = bus.queue("jobs/today")
        assert (queue.name, queue.mqname) == ("jobs/today", "/pymq_global_jobs/today")
        assert bus.event_loop_name == f"/pymq_global_${os.getpid()}"
        queue.put({"large": "x" * 100_000})
        for number in range(100):
            queue.put(number)
        assert queue.get(timeout=HANG_GUARD) == {"large": "x" * 100_000}
        assert queue.qsize() == 100
        bus.close()

    def test_a_queue_that_is_freed_is_gone(self, config: IpcConfig) -> None:
        bus = config()
        queue = bus.queue("jobs")
        assert not queue.exists()
        queue.put("job")
        assert queue.exists()
        assert bus.queue("jobs").exists()
        queue.close()
        queue.free()
        assert not queue.exists()
        assert not bus.queue("jobs").exists()
        with pytest.raises(pymq.Empty):
            queue.get(block=False)
        bus.close()

    def test_a_queue_outlives_its_bus(self, config: IpcConfig) -> None:
        pymq.init(config)
        queue = pymq.queue("jobs")
        queue.put("before")
        pymq.shutdown()
        queue.put("after")
        assert queue.name == "jobs"
        assert [queue.get(timeout=HANG_GUARD) for _ in range(2)] == ["before", "after"]
        queue.put("last")
        for item in queue:
            assert item == "last"
            break
        assert isinstance(queue, IpcQueue)
        queue.free()

    def test_a_queue_is_made_without_a_bus(self) -> None:
        name = f"test-{os.getpid()}-{time.monotonic_ns()}"
        one, other = IpcQueue(name), IpcQueue(f"/{name}")
        assert one.mqname == other.mqname == f"/{name}"
        one.put("item")
        assert other.get(timeout=HANG_GUARD) == "item"
        on_bus = IpcQueue("x", f"/pymq_global_{name}")
        on_bus.put("item")
        with pymq.connect("ipc://pymq") as bus:
            assert bus.queue(name).get(timeout=HANG_GUARD) == "item"
        one.free()
        on_bus.free()

    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
    def test_a_queue_is_inherited_by_a_forked_child(self, config: IpcConfig) -> None:
        bus = config()
        queue = bus.queue("jobs")
        child = os.fork()
        if child == 0:
            queue.put("from the child")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert queue.get(timeout=HANG_GUARD) == "from the child"
        bus.close()

    @pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
    def test_calls_to_other_processes(self, config: IpcConfig) -> None:
        context = multiprocessing.get_context("fork")
        ready = [context.Event() for _ in range(2)]
        others = [context.Process(target=_answer, args=(config, event)) for event in ready]
        for other in others:
            other.start()
        pymq.init(config)
        assert all(event.wait(HANG_GUARD) for event in ready)
        assert pymq.stub("increment", timeout=HANG_GUARD)(1) == 2
        multi: Callable[..., Any] = pymq.stub("increment", timeout=HANG_GUARD, multi=True)
        assert multi(2) == [3, 3]
        for other in others:
            other.kill()
            other.join(HANG_GUARD)
        wait_until(lambda: multi(2) == [], "the dead are not asked any more")


def test_what_the_dead_left_is_cleaned(ipc_url: str, shared_name: str) -> None:
    for _ in range(5):
        left = run(SERVER, ipc_url)
        assert read_line(left) == "ready"
        left.kill()
        left.communicate()
    place = Path(f"/dev/shm/pymq-{os.geteuid()}/{shared_name}")
    assert place.exists()
    with pymq.connect(ipc_url) as bus:
        assert bus.publish("anyone?", "news.today") == 0
    wait_until(lambda: not place.exists(), "the last one takes an unused bus along")


def test_a_bus_is_looked_at_and_cleaned_without_joining_it(ipc_url: str) -> None:
    assert ipc.look(ipc_url) is None
    with pymq.connect(ipc_url) as bus:
        bus.queue("jobs").put("job")
        found = ipc.look(ipc_url)
        assert found is not None
        assert found in ipc.buses()
        assert [member.process for member in found.living] == [os.getpid()]
        assert (found.queues, found.items, found.dead, found.has_leftovers) == (1, 1, [], False)
    left = run(SERVER, ipc_url)
    assert read_line(left) == "ready"
    assert read_line(left) == "job"
    left.kill()
    left.communicate()
    found = ipc.look(ipc_url)
    assert found is not None
    assert [member.holds for member in found.dead] == [1]
    assert found.has_leftovers
    found = ipc.clean(ipc_url)
    assert found is not None
    assert (found.dead, found.items, found.has_leftovers) == ([], 1, False)
    with pymq.connect(ipc_url) as bus:
        jobs = bus.queue("jobs")
        assert jobs.get(timeout=HANG_GUARD) == "job"
        jobs.join()
    assert ipc.clean(ipc_url) is None
    with pytest.raises(pymq.ConfigError):
        ipc.look("redis://localhost")


def test_memory_is_used_again(ipc_url: str, shared_name: str) -> None:
    file = Path(f"/dev/shm/pymq-{os.geteuid()}/{shared_name}/bus")
    with pymq.connect(ipc_url) as bus:
        queue = bus.queue("q")
        sizes = []
        for _ in range(5):
            for number in range(2000):
                queue.put("x" * (number % 700))
            for _ in range(2000):
                queue.get(timeout=HANG_GUARD)
            queue.join()
            sizes.append(file.stat().st_blocks)
        assert sizes[-1] == sizes[0]
