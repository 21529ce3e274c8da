"""The examples do what they say; `test_pages.py` follows the documents.

An example that talks between processes gets a redis-server of its own.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(*words: str | Path, text: str | None = None) -> str:
    """Runs a program of its own to its end; gives what it printed."""
    done = subprocess.run(
        [sys.executable, *map(str, words)],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_tour_shows_all_three_ways() -> None:
    shown = run(EXAMPLES / "tour.py")
    assert [line.split()[0] for line in shown.splitlines()] == ["event", "queue", "call", "call"]


def test_the_asyncio_worker_does_its_jobs() -> None:
    assert run(EXAMPLES / "asyncio_worker.py").splitlines() == [
        "done 0.02",
        "done 0.01",
        "done 0.03",
    ]


def test_people_hear_each_other_in_the_chat(redis_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "chat.py", "ann", redis_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as ann:
        assert ann.stdin is not None
        assert ann.stdout is not None
        print("anybody?", file=ann.stdin, flush=True)
        assert ann.stdout.readline() == "(1 here)\n"
        assert run(EXAMPLES / "chat.py", "bob", redis_url, text="hello\n") == "(2 here)\n"
        assert ann.stdout.readline() == "bob: hello\n"
        ann.stdin.close()


def test_the_job_of_a_killed_worker_is_done_by_another(redis_url: str) -> None:
    def worker() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, EXAMPLES / "worker.py", "work", redis_url],
            stdout=subprocess.PIPE,
            text=True,
        )

    putting = subprocess.Popen(
        [sys.executable, EXAMPLES / "worker.py", "put", "5", redis_url],
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker() as first, putting:
        assert first.stdout is not None
        assert "job 0" in first.stdout.readline()
        first.kill()
        with worker() as second:
            try:
                shown, _ = putting.communicate(timeout=60)
            finally:
                second.send_signal(signal.SIGKILL)
    assert shown == "5 jobs done\n"


def test_every_node_answers_the_question(redis_url: str) -> None:
    nodes = [
        subprocess.Popen(
            [sys.executable, EXAMPLES / "metrics_fanout.py", "node", redis_url],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for node in nodes:
            assert node.stdout is not None
            assert node.stdout.readline() == "serving\n"
        answers = run(EXAMPLES / "metrics_fanout.py", "ask", redis_url).splitlines()
    finally:
        for node in nodes:
            node.kill()
            node.communicate()
    assert sorted(re.findall(r"node=(\d+)", "\n".join(answers))) == sorted(
        str(node.pid) for node in nodes
    )
