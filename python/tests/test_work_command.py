"""`python -m pymq work`: a process that serves queues, and how it ends and begins anew."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pymq
from conftest import HANG_GUARD, wait_until

HANDLER = """
    import os, time
    import pymq

    @pymq.worker("jobs", concurrency=2)
    def handle(item: str) -> None:
        print("begun", item, flush=True)
        {takes}
        print("done", item, flush=True)
"""

#: How long a handler takes: until the test lets it go on.
UNTIL_LET_GO = "while not os.path.exists('let go'): time.sleep(0.01)"

Start = Callable[..., "subprocess.Popen[str]"]


def write(folder: Path, takes: str = f"time.sleep({2 * HANG_GUARD})") -> None:
    text = textwrap.dedent(HANDLER.format(takes=takes))
    (folder / "shop.py").write_text(text)


@pytest.fixture
def start(redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Starts the command in a folder of its own."""
    children: list[subprocess.Popen[str]] = []

    def start(*options: str, target: str = "shop:jobs") -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-m", "pymq", "work", target, "--url", redis_url, *options],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def line(child: subprocess.Popen[str]) -> str:
    """The next line of a child, which is killed if none comes: then it is empty."""
    assert child.stdout is not None
    with guarded(child):
        return child.stdout.readline().rstrip()


def hear(child: subprocess.Popen[str], words: str) -> None:
    """Waits until a child says so on its standard error."""
    assert child.stderr is not None
    with guarded(child):
        while words not in child.stderr.readline():
            assert child.poll() is None


@contextlib.contextmanager
def guarded(child: subprocess.Popen[str]) -> Iterator[None]:
    guard = threading.Timer(HANG_GUARD, child.kill)
    guard.start()
    try:
        yield
    finally:
        guard.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_finishes_what_is_in_hand(
    redis_url: str, tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    # Usually it is asked to end meanwhile; one that is done by then is right too.
    write(tmp_path, takes="time.sleep(0.3)")
    child = start()
    with pymq.connect(redis_url) as bus:
        queue = bus.queue("jobs")
        queue.put("one")
        assert line(child) == "begun one"
        child.send_signal(number)
        out, err = child.communicate(timeout=HANG_GUARD)
        assert (child.returncode, out) == (0, "done one\n"), err
        assert queue.unfinished_tasks == 0


def test_what_does_not_end_within_its_grace_goes_back_uncounted(
    redis_url: str, tmp_path: Path, start: Start
) -> None:
    write(tmp_path)

    def goes_back_uncounted(item: str) -> bool:
        child = start("--grace", "0.1")
        queue.put(item)
        assert line(child) == f"begun {item}"
        child.send_signal(signal.SIGTERM)
        _, err = child.communicate(timeout=HANG_GUARD)
        assert child.returncode == 0, err
        assert "its item goes back" in err
        with queue.get_delivery(timeout=HANG_GUARD) as delivery:
            assert (delivery.item, delivery.deliveries in (1, 2)) == (item, True)
            return delivery.deliveries == 1

    with pymq.connect(redis_url) as bus:
        queue = bus.queue("jobs")
        # The server may not have answered when it left: then the item's lease had to end.
        assert any(goes_back_uncounted(item) for item in ("one", "two"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_twice_it_ends_at_once_and_the_item_comes_back(
    redis_url: str, tmp_path: Path, start: Start, number: signal.Signals
) -> None:
    write(tmp_path)
    with (tmp_path / "shop.py").open("a") as program:
        # A lease that a test can wait for.
        program.write("_ = pymq.worker('short', lease=0.5)(lambda item: handle(item))\n")
    child = start("--grace", str(2 * HANG_GUARD), target="shop:short")
    with pymq.connect(redis_url) as bus:
        queue = bus.queue("short")
        queue.put("one")
        assert line(child) == "begun one"
        child.send_signal(number)
        # Long enough for one that ends at once to do so; a right one passes at any speed.
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3)

        def ended() -> bool:
            # Two signals that find it standing still are one.
            child.send_signal(number)
            return child.poll() is not None

        wait_until(ended, "it ends")
        assert child.returncode == 128 + number
        assert queue.get(timeout=HANG_GUARD) == "one"


def test_it_begins_anew_when_a_file_changes_and_finishes_first(
    redis_url: str, tmp_path: Path, start: Start
) -> None:
    write(tmp_path, UNTIL_LET_GO)
    child = start("--reload")
    with pymq.connect(redis_url) as bus:
        queue = bus.queue("jobs")
        queue.put("one")
        assert line(child) == "begun one"
        text = (tmp_path / "shop.py").read_text()
        (tmp_path / "shop.py").write_text(text.replace('"begun"', '"anew"'))
        hear(child, "a file has changed")
        (tmp_path / "let go").touch()
        assert line(child) == "done one"
        # It says that a file has changed before it closes, and may be slow to.
        hear(child, "serving queue")
        queue.put("two")
        assert [line(child), line(child)] == ["anew two", "done two"]
        # What cannot be imported is about to be mended.
        (tmp_path / "shop.py").write_text("import nothing_of_that_name\n")
        hear(child, "nothing_of_that_name")
        (tmp_path / "shop.py").write_text("not even Python\n")
        hear(child, "SyntaxError")
        (tmp_path / "shop.py").write_text(text)
        queue.put("three")
        assert [line(child), line(child)] == ["begun three", "done three"]
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=HANG_GUARD)
        assert child.returncode == 0


def test_a_target_that_names_no_handler_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    for target, words in (("empty:jobs", "names no handler"), ("nothing", "No module")):
        done = subprocess.run(
            [sys.executable, "-m", "pymq", "work", target],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=HANG_GUARD,
        )
        assert done.returncode == 2
        assert words in done.stderr


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--concurrency=0", "--concurrency: it is a number of items from 1, not '0'"),
        ("--concurrency=two", "--concurrency: it is a number of items from 1, not 'two'"),
        ("--grace=-1", "--grace: it is a length in seconds from 0, not '-1'"),
        ("--grace=nan", "--grace: it is a length in seconds from 0, not 'nan'"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_words(
    capsys: pytest.CaptureFixture[str], option: str, words: str
) -> None:
    from pymq._work import main

    with pytest.raises(SystemExit) as ended:
        main(["work", "shop", option])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
