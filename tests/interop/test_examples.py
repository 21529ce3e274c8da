"""The examples in Rust and in Python, beside each other on one server."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fixtures import server
from rig import ROOT, Server, catches, rust_example, wait_until

__all__ = ["server"]

EXAMPLES = ROOT / "examples"


def shown(*words: str) -> list[str]:
    """Runs a Python example to its end; gives the lines that it printed."""
    command = [sys.executable, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@contextlib.contextmanager
def running(*words: str) -> Iterator["subprocess.Popen[str]"]:
    """A program that is talked to, killed when the block is left."""
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip()


def say(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    print(line, file=process.stdin, flush=True)


def test_python_calls_calculators_of_rust(server: Server) -> None:
    program = rust_example("calculator")
    serving = [program, "serve", server.url]
    with running(*serving) as one, running(*serving) as other:
        assert [hear(one), hear(other)] == ["serving", "serving"]
        assert shown(str(EXAMPLES / "calculator.py"), server.url) == [
            "1 / 4 = 0.25",
            "the sum of 3 numbers is 6.5",
            "1 / 0: Error 1 divided by nothing",
            "2 calculators have answered 3 calls",
        ]


def test_people_chat_in_both_languages(server: Server) -> None:
    python = [sys.executable, str(EXAMPLES / "chat.py"), "ann", server.url]
    with running(*python) as ann:
        say(ann, "anybody?")
        assert hear(ann) == "(1 here)"
        with running(rust_example("chat"), "bob", server.url) as bob:
            say(bob, "hello")
            assert hear(bob) == "(2 here)"
            assert hear(ann) == "bob: hello"
            say(ann, "good morning")
            assert hear(bob) == "chat.lobby ann: good morning"


def test_a_warehouse_of_rust_serves_a_shop_of_python(server: Server) -> None:
    with running(rust_example("warehouse"), server.url) as warehouse:
        assert hear(warehouse) == "rust    warehouse open"
        packed = [line for line in shown(str(EXAMPLES / "shop.py"), server.url) if "packed" in line]
        assert len(packed) == 2
        assert warehouse.wait(timeout=60) == 0


def test_the_page_on_rust_beside_python_is_true(server: Server, tmp_path: Path) -> None:
    """Its provider is the example `shop_rust`, its caller the page's own block."""
    page = (ROOT / "docs/guides/rust.md").read_text()
    asking = tmp_path / "ask.py"
    block = page.partition('```python title="ask.py"\n')[2].partition("```")[0]
    asking.write_text(block.replace("redis://localhost", server.url))
    with running(rust_example("shop_rust"), server.url) as shop:
        assert hear(shop) == "open"
        assert shown(str(asking)) == ["6", "Rust says: no ink here"]
        wait_until(lambda: catches(shop.pid, signal.SIGINT), "it can be ended")
        shop.send_signal(signal.SIGINT)
        assert shop.wait(60) == 0
