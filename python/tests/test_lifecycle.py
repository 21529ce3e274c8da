"""How processes start, end, fork and are interrupted: each in a process of its own."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest

import pymq
from conftest import HANG_GUARD, Box, wait_until

#: How often a program is started and ended; the figure to show is 100.
STARTS = int(os.environ.get("PYMQ_TEST_STARTS", "10"))

PACKAGE = str(Path(pymq.__file__).parents[1])


def program(text: str, url: str) -> list[str]:
    # In a shared memory bus of its own name, a child would find nobody anyway.
    address = "memory://" if url.startswith("memory") else url
    body = textwrap.dedent(text).replace("URL", repr(address))
    return [sys.executable, "-X", "dev", "-W", "error", "-c", body]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": PACKAGE, "PYTHONUNBUFFERED": "1"}


def run(text: str, url: str) -> str:
    """Runs a program to its end; it must end well and say nothing on stderr."""
    done = subprocess.run(
        program(text, url), env=environment(), capture_output=True, text=True, timeout=HANG_GUARD
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


#: Where they sleep, what they began is usually under way then; at any other moment it ends as
#: well.
ENDINGS = {
    "a live bus": "bus = pymq.init(URL)",
    "subscriptions": """
        pymq.init(URL)
        for n in range(5): pymq.subscribe(lambda event: None, f"news.{n}")
        for n in range(50): pymq.publish(n, f"news.{n % 5}")
    """,
    "a blocked get": """
        pymq.init(URL)
        threading.Thread(target=lambda: pymq.queue("jobs").get(), daemon=True).start()
        time.sleep(0.02)
    """,
    "a call in flight": """
        pymq.init(URL)
        gone = threading.Event()
        pymq.expose(lambda: gone.wait(0.1), "slow")
        threading.Thread(target=lambda: pymq.stub("slow")(), daemon=True).start()
        time.sleep(0.02)
    """,
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_process_ends_whatever_is_under_way(ending: str, url: str) -> None:
    quiet = "import logging; logging.disable(); threading.excepthook = lambda *_: None\n"
    body = "import pymq, threading, time\n" + quiet + textwrap.dedent(ENDINGS[ending])
    for _ in range(STARTS):
        run(body, url)


def test_ctrl_c_ends_a_blocked_get(url: str) -> None:
    text = """
        import pymq
        pymq.init(URL)
        try:
            print("ready")
            pymq.queue("jobs").get()
        except KeyboardInterrupt:
            print("interrupted")
    """
    with subprocess.Popen(
        program(text, url), env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_until(lambda: sleeps(process.pid), "it waits")
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=HANG_GUARD)[0] == "interrupted\n"
        assert process.returncode == 0


def sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def test_a_forked_child_is_told_what_to_do_and_can_make_a_bus_of_its_own(url: str) -> None:
    text = """
        import os, sys, pymq
        bus = pymq.init(URL)
        queue, stub = pymq.queue("jobs"), pymq.stub("f")
        pymq.subscribe(print, "news")
        child = os.fork()
        if child == 0:
            for use in (lambda: pymq.publish(1, "x"), queue.qsize, stub, lambda: bus.queue("a")):
                try:
                    use()
                except pymq.ClosedError as error:
                    assert "fork" in str(error) or "pymq.init" in str(error), error
                else:
                    os._exit(1)
            pymq.shutdown()
            pymq.init(URL)
            pymq.queue("own").put(1)
            assert pymq.queue("own").get() == 1
            pymq.shutdown()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        queue.put("still here")
        assert queue.get() == "still here"
        pymq.shutdown()
        print("fine")
    """
    if sys.version_info >= (3, 12):
        # Python warns of every fork beside threads.
        text = "import warnings; warnings.simplefilter('ignore')\n" + textwrap.dedent(text)
    assert run(text, url) == "fine\n"


def test_a_system_without_fork_has_all_of_it(url: str) -> None:
    text = """
        import os
        del os.fork, os.register_at_fork, os.getuid, os.geteuid
        import pymq, pymq.provider.ipc, pymq.provider.redis
        with pymq.connect(URL) as bus:
            bus.expose(lambda n: 2 * n, "double")
            bus.queue("jobs").put(bus.stub("double")(4))
            print(bus.queue("jobs").get())
    """
    assert run(text, url) == "8\n"


def test_after_shutdown_no_thread_of_ours_is_alive(url: str) -> None:
    text = """
        import contextlib, pathlib, threading, time, pymq
        def tasks():
            names = []
            for task in pathlib.Path("/proc/self/task").iterdir():
                # It may end in this moment.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    names.append((task / "comm").read_text())
            return sorted(names)
        before = tasks()
        pymq.init(URL)
        pymq.subscribe(lambda event: None, "news")
        async def slow(): pass
        pymq.expose(slow, "f")
        pymq.stub("f")()
        assert len(tasks()) > len(before)
        pymq.shutdown()
        assert threading.enumerate() == [threading.main_thread()]
        # The system's threads end a moment after Python's.
        for _ in range(6000):
            if tasks() == before:
                break
            time.sleep(0.01)
        assert tasks() == before, tasks()
    """
    run(text, url)


def test_a_bus_that_was_forgotten_is_told_of(url: str) -> None:
    def told() -> bool:
        gc.collect()
        return len(warned) > 0

    def forget() -> None:
        pymq.connect(url).subscribe(print, "news")
        # A thread of the bus that is just about to begin may have it for a moment.
        wait_until(told, "the program is warned")

    with pytest.warns(ResourceWarning, match="unclosed") as warned:
        forget()


def test_a_closed_bus_is_not_told_of(url: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pymq.connect(url):
            pass
        gc.collect()


def test_handles_may_be_dropped_on_any_thread(bus: pymq.NativeEventBus) -> None:
    queue = bus.queue("jobs", ack="manual")
    queue.put_many(range(20))
    held = [bus.queue("jobs").get_delivery() for _ in range(20)]

    def drop() -> None:
        held.clear()
        gc.collect()

    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
    wait_until(lambda: queue.qsize() == 20, "all have come back")


def test_closing_tells_those_who_wait(url: str, box: Box) -> None:
    bus = pymq.connect(url)

    def get() -> None:
        try:
            bus.queue("jobs").get()
        except pymq.ClosedError:
            box.put("closed")

    thread = threading.Thread(target=get)
    thread.start()
    bus.close()
    thread.join(HANG_GUARD)
    assert box.items == ["closed"]
    bus.close()
    with pytest.raises(pymq.ClosedError):
        bus.subscribe(print, "news")
