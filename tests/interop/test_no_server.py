"""Programs of both languages on a bus without a server, as the README shows them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rig import ROOT, rust_example

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


class Program:
    """A process that is talked to, or only listened to; killed when the block is left."""

    def __init__(self, *words: str) -> None:
        self.process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        print(file=self.process.stdin, flush=True)

    def ask(self, **command: Any) -> Any:
        assert self.process.stdin is not None
        print(json.dumps({"id": 1, **command}), file=self.process.stdin, flush=True)
        return json.loads(self.hear()).get("value")


def program_of_the_readme(title: str, url: str, folder: Path) -> str:
    text = (ROOT / "README.md").read_text()
    begin = text.index("\n", text.index(f'```python title="{title}"')) + 1
    program = text[begin : text.index("```", begin)].replace("ipc://shop", url)
    assert url in program
    # A job takes as long as the test says.
    program = program.replace('print("packing", job)', 'input(f"packing {job}\\n")')
    (folder / title).write_text(program)
    return str(folder / title)


def test_two_programs_in_python_and_one_in_rust_talk_and_nothing_is_lost_when_one_is_killed(
    tmp_path: Path,
) -> None:
    place = f"/dev/shm/pymq-test-readme-{os.getpid()}"
    url = f"ipc://{place}"
    worker = [sys.executable, program_of_the_readme("worker.py", url, tmp_path)]
    shop = [sys.executable, program_of_the_readme("shop.py", url, tmp_path)]
    try:
        with Program(rust_example("interop_peer"), url, "third") as rust:
            assert "ready" in rust.hear()
            rust.ask(do="subscribe", subscription="packed", channel="packed")
            rust.ask(do="put", queue="jobs", value="stamps")
            with Program(*worker) as first:
                assert first.hear() == "packing stamps"
                first.go_on()
                price = rust.ask(do="call", name="price", args=["cake"], timeout=60)
                assert price == {"float": "4.0"}
                with Program(*shop) as selling:
                    assert first.hear() == "packing tea"
                    first.process.send_signal(signal.SIGKILL)
                    first.process.wait(60)
                    with Program(*worker) as second:
                        again = []
                        for _ in range(3):
                            again.append(second.hear())
                            second.go_on()
                        shown = selling.process.communicate(timeout=60)[0]
                        assert "tea costs 2.5" in shown
                        packed = rust.ask(do="received", subscription="packed", count=4)
                    # What was in the hands of the killed one came first, and once more.
                    assert again == ["packing tea", "packing cake", "packing tea"]
                    assert len(packed) >= 4
            assert rust.ask(do="qsize", queue="jobs") == 0
    finally:
        shutil.rmtree(place, ignore_errors=True)
