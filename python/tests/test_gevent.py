"""Under gevent's monkey patching: what waits does not stop the hub."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import pymq
from conftest import HANG_GUARD

pytest.importorskip("gevent")

PACKAGE = str(Path(pymq.__file__).parents[1])
FIRST = "from gevent import monkey; monkey.patch_all()\nimport gevent, time, threading, pymq\n"


def run(text: str, url: str, first: str = FIRST) -> str:
    code = first + textwrap.dedent(text).replace("URL", repr(url))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
        timeout=HANG_GUARD,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_events_and_calls_arrive(url: str) -> None:
    text = """
        bus = pymq.init(URL)
        box = gevent.queue.Queue()
        for n in range(20):
            pymq.subscribe(box.put, f"news.{n}")
        for n in range(20):
            pymq.publish(n, f"news.{n}")
        assert sorted(box.get() for _ in range(20)) == list(range(20))
        pymq.expose(lambda n: n if n == 0 else pymq.stub("fall")(n - 1) + 1, "fall")
        assert pymq.stub("fall", timeout=60)(5) == 5
        pymq.shutdown()
        print("fine")
    """
    assert run("import gevent.queue\n" + textwrap.dedent(text), url) == "fine\n"


def test_others_go_on_while_one_waits(url: str) -> None:
    text = """
        pymq.init(URL)
        ticks = []
        def tick():
            while True:
                ticks.append(1)
                time.sleep(0.001)
        gevent.spawn(tick)
        jobs = pymq.queue("jobs")
        waiting = [gevent.spawn(jobs.get) for _ in range(50)]
        while len(ticks) < 20:
            gevent.sleep(0.001)
        jobs.put_many(range(50))
        gevent.joinall(waiting)
        assert sorted(one.value for one in waiting) == list(range(50))
        pymq.shutdown()
        print("fine")
    """
    assert run(text, url) == "fine\n"


def test_a_wait_that_is_broken_off_loses_nothing(url: str) -> None:
    text = """
        pymq.init(URL)
        jobs = pymq.queue("jobs")
        for _ in range(5):
            with gevent.Timeout(0.05, False):
                jobs.get()
                raise SystemExit("got what was not there")
        jobs.put_many(range(20))
        got = [jobs.get(timeout=60) for _ in range(20)]
        assert sorted(got) == list(range(20)), got
        pymq.shutdown()
        print("fine")
    """
    assert run(text, url) == "fine\n"


def test_coroutines_are_refused_with_a_sentence() -> None:
    text = """
        bus = pymq.init("memory://")
        async def callback(event): ...
        try:
            pymq.subscribe(callback, "news")
        except pymq.UnsupportedError as error:
            print(error)
    """
    assert "gevent" in run(text, "")


def test_eventlet_is_refused_with_a_sentence() -> None:
    pytest.importorskip("eventlet")
    text = """
        import pymq
        try:
            pymq.init("memory://")
        except pymq.UnsupportedError as error:
            print(error)
    """
    first = """
import warnings
warnings.simplefilter("ignore")
import eventlet
eventlet.monkey_patch()
"""
    assert "eventlet" in run(text, "", first=first)


APPLICATION = """
    import os, pymq
    def on_news(event): pymq.queue("seen").put(event)
    pymq.init(os.environ["PYMQ_URL"])
    pymq.subscribe(on_news, "news")
    def app(environ, start_response):
        pymq.publish("hello", "news")
        event = pymq.queue("seen").get(timeout=60)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [event.encode()]
"""


def test_gunicorn_serves_with_gevent(redis_url: str, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(textwrap.dedent(APPLICATION))
    command = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2"]
    environment = {**os.environ, "PYTHONPATH": PACKAGE, "PYMQ_URL": redis_url}
    with (
        (tmp_path / "log").open("w") as log,
        # It listens before the program runs: who comes early waits, and nobody else has the port.
        socket.create_server(("127.0.0.1", 0)) as door,
        subprocess.Popen(
            [*command, "-b", f"fd://{door.fileno()}", "served:app"],
            cwd=tmp_path,
            env=environment,
            pass_fds=[door.fileno()],
            stdout=log,
            stderr=log,
        ) as server,
    ):
        try:
            asked = run_client(door.getsockname()[1])
            assert asked == ["hello"] * 20, (tmp_path / "log").read_text()
        finally:
            server.send_signal(signal.SIGTERM)
        assert server.wait(HANG_GUARD) == 0


def run_client(port: int) -> list[str]:
    def ask(_: int) -> str:
        address = f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(address, timeout=HANG_GUARD) as answer:
            return str(answer.read().decode())

    with ThreadPoolExecutor(5) as clients:
        return list(clients.map(ask, range(20)))
