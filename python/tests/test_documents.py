"""What people are shown runs: the Python blocks of the documents, and the examples.

An example that talks between processes gets a redis-server of its own.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks() -> list[tuple[str, str]]:
    found = []
    for document in DOCUMENTS:
        texts = re.findall(r"^```python\n(.*?)^```", document.read_text(), re.M | re.S)
        found += [(f"{document.name}-{number}", text) for number, text in enumerate(texts, 1)]
    return found


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


@pytest.mark.parametrize("block", [pytest.param(text, id=name) for name, text in blocks()])
def test_a_block_of_the_documents_runs(block: str, tmp_path: Path) -> None:
    program = tmp_path / "block.py"
    program.write_text(block)
    run(program)


def test_the_readme_has_blocks() -> None:
    assert any(name.startswith("README") for name, _ in blocks())


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
