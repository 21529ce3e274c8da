"""A dependency that is away for a while costs no job, with the default options.

Workers die meanwhile. `PYMQ_OUTAGE` says for how many seconds; `make torture` has a minute.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import pymq
from conftest import HANG_GUARD

SECONDS = float(os.environ.get("PYMQ_OUTAGE", "1.5"))
JOBS = 1000
WORKERS = 2
KILLS = 20 if SECONDS >= 30 else 4
#: What a killed worker had in hand comes back after its lease, for which a short run cannot wait.
LEASE = 30.0 if SECONDS >= 30 else 1.0
#: After an outage the longest pause between two tries may still lie ahead, and a lease before it.
PATIENCE = HANG_GUARD + 100.0 + 2 * LEASE

PROGRAM = textwrap.dedent(
    """
    import logging, os, sys
    import pymq

    url, lease, away, done = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4]
    logging.getLogger("pymq").setLevel(logging.CRITICAL)
    log = os.open(done, os.O_WRONLY | os.O_APPEND)

    def handle(job: int) -> None:
        if os.path.exists(away):
            raise OSError("the dependency is away")
        os.write(log, b"%d\\n" % job)

    with pymq.connect(url) as bus:
        worker = bus.queue("jobs", lease=lease).work(handle, concurrency=4)
        print("works", flush=True)
        worker.wait()
    """
)


class Dependency:
    """What handlers need, and who has done what: a file that is there while it is away."""

    def __init__(self, folder: Path) -> None:
        self.away = folder / "away"
        self.done = folder / "done"
        self.away.touch()
        self.done.touch()
        self._back = threading.Timer(SECONDS, self.away.unlink)
        self._back.start()

    def wait(self) -> None:
        """Until it is back."""
        self._back.join()

    def jobs(self) -> Counter[int]:
        """What was done, and how often."""
        return Counter(int(line) for line in self.done.read_text().split())


@pytest.fixture
def dependency(tmp_path: Path) -> Iterator[Dependency]:
    dependency = Dependency(tmp_path)
    yield dependency
    dependency.wait()


def settled(queue: pymq.Queue[int], dependency: Dependency) -> None:
    """Nothing is lost, and nothing was given up."""
    deadline = time.monotonic() + PATIENCE
    while queue.unfinished_tasks:
        assert time.monotonic() < deadline, queue.stats()  # type: ignore[attr-defined]
        time.sleep(0.05)
    assert set(dependency.jobs()) == set(range(JOBS))
    assert queue.stats().dead == 0  # type: ignore[attr-defined]


def test_no_job_is_lost_or_given_up_though_workers_are_killed(
    redis_url: str, dependency: Dependency
) -> None:
    def worker() -> subprocess.Popen[bytes]:
        options = [redis_url, str(LEASE), str(dependency.away), str(dependency.done)]
        program = [sys.executable, "-c", PROGRAM, *options]
        worker = subprocess.Popen(program, stdout=subprocess.PIPE)
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"works\n"
        return worker

    def kill(worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.communicate()

    workers = [worker() for _ in range(WORKERS)]
    try:
        with pymq.connect(redis_url) as bus:
            queue = bus.queue("jobs")
            queue.put_many(range(JOBS))
            for killed in range(KILLS):
                time.sleep(SECONDS / KILLS)
                kill(workers[killed % WORKERS])
                workers[killed % WORKERS] = worker()
            settled(queue, dependency)
    finally:
        for process in workers:
            kill(process)


def test_no_job_is_lost_or_given_up_in_memory(dependency: Dependency) -> None:
    """Where nobody can be killed, workers end without their time."""

    def handle(job: int) -> None:
        if dependency.away.exists():
            raise OSError("the dependency is away")
        with dependency.done.open("a") as log:
            log.write(f"{job}\n")

    with pymq.connect(f"memory://outage-{time.monotonic_ns()}") as bus:
        queue = bus.queue("jobs")
        queue.put_many(range(JOBS))
        for _ in range(KILLS):
            worker = queue.work(handle, concurrency=4)
            time.sleep(SECONDS / KILLS)
            worker.close(grace=0)
        with queue.work(handle, concurrency=4):
            settled(queue, dependency)
