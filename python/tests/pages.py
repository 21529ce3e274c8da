"""The pages of `docs/` as their readers use them: what is written is saved, what is typed is run.

- A block of Python is a program of its own, unless it has a title: then it is a file of that name.
  So is a titled block of any other kind.
- A block of text right after a program is what the program prints; one of Rust has a title.
- A `console` block is typed into a shell in the page's folder, line by line; what stands below a
  line is what it prints. `...` is any number of lines, `…` any text within one.
- A `console` block with a title is a terminal of its own, whose program runs on; its lines appear
  by the end of the page. `^C` is pressed when the rest of the page is done.
- A page that needs packages which the tests do not have names them: `<!-- needs: django -->`.
  Where that is `cargo`, `cargo run` runs the program of Rust that stands above.
- What is typed on a page that a test of its own follows is left to that: `<!-- followed by: … -->`.

`redis://localhost` and port 6379 are the tests' server, and port 8000 is one that is free; `ipc://NAME`
lies in the page's folder.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "python/README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: Languages whose programs print what stands after them.
SHOWN = ("python", "rust")

#: Nothing on a page takes as long.
HANG_GUARD = 60.0

_FENCE = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")? *\n(.*?)^\1``` *$', re.M | re.S)
_SNIPPET = re.compile(r'^( *)(?:#|//) --8<-- "([^"]+)"$', re.M)
_NEEDS = re.compile(r"^<!-- needs: (.*) -->$", re.M)


@dataclass
class Block:
    """What stands between two fences, without the indentation of a tab."""

    language: str
    title: str | None
    text: str
    #: What the program is said to print.
    shown: str | None = None


@dataclass
class Page:
    """A document with its blocks."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    needs: list[str] = field(default_factory=list)
    #: Whether a test of its own types what stands there.
    elsewhere: bool = False

    @property
    def name(self) -> str:
        """For the names of tests."""
        return str(self.path.relative_to(ROOT)).removeprefix("docs/").removesuffix(".md")

    @property
    def programs(self) -> list[Block]:
        """The blocks of Python that run by themselves."""
        return [one for one in self.blocks if one.language == "python" and one.title is None]

    @property
    def is_typed(self) -> bool:
        """Whether its reader types something."""
        if self.elsewhere or self.path.name == "README.md":
            return False
        return any(block.language == "console" for block in self.blocks)


def read(path: Path) -> Page:
    """A document's blocks, with the programs that it takes from `examples/`."""
    text = _SNIPPET.sub(_program, path.read_text())
    page = Page(path, elsewhere="<!-- followed by: " in text)
    needs = _NEEDS.search(text)
    if needs:
        page.needs = needs[1].split()
    end = 0
    for found in _FENCE.finditer(text):
        indent, language, title, inside = found.groups()
        lines = [line.removeprefix(indent) for line in inside.split("\n")]
        block = Block(language, title, "\n".join(lines))
        before = page.blocks[-1] if page.blocks else None
        follows = before is not None and not text[end : found.start()].strip()
        if language == "text" and title is None and follows and before.language in SHOWN:
            before.shown = block.text
        page.blocks.append(block)
        end = found.end()
    return page


def _program(found: re.Match[str]) -> str:
    lines = (ROOT / found[2]).read_text().rstrip("\n").split("\n")
    return "\n".join(found[1] + line if line else "" for line in lines)


def pages() -> list[Page]:
    """Every document of the repository that has blocks."""
    return [page for page in map(read, DOCUMENTS) if page.blocks]


class Reader:
    """Somebody who follows a page, in a folder of their own."""

    def __init__(
        self, folder: Path, redis_url: str, built: Callable[[Block], Path] | None = None
    ) -> None:
        self._folder = folder
        self._built = built
        # Bound for as long as the page is followed, so that nobody else is given it. Servers may
        # bind it too, who say `SO_REUSEADDR` as this does, since nobody listens here.
        self._bound = socket.socket()
        self._bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._bound.bind(("127.0.0.1", 0))
        self._port = str(self._bound.getsockname()[1])
        self._url = redis_url
        self._terminals: list[Terminal] = []
        self._program: Block | None = None
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYMQ_")}
        self._environment = {
            **clean,
            "PATH": path,
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._bound.close()

    def follow(self, page: Page) -> None:
        """Does what the page says, and compares what it shows."""
        try:
            for block in page.blocks:
                if block.language == "rust" and "cargo" in page.needs:
                    self._program = block
                if block.title is not None and block.language != "console":
                    self._save(block.title, block.text)
                elif block.language == "console" and block.title is not None:
                    self._terminals.append(self._open(block))
                elif block.language == "console":
                    self._type(block)
            for terminal in self._terminals:
                terminal.finish()
        finally:
            for terminal in self._terminals:
                terminal.end()

    def run(self, block: Block) -> None:
        """Runs a program to its end, and compares what it prints."""
        self._save("block.py", block.text)
        printed = self._shell("python block.py", joined=False)
        if block.shown is not None:
            compare(block.shown, printed, "block.py")

    def _here(self, text: str) -> str:
        text = text.replace("redis://localhost", self._url)
        text = re.sub(r"\bipc://(?=\w)", f"ipc://{self._folder}/bus-", text)
        if self._program is not None and self._built is not None:
            text = text.replace("cargo run", str(self._built(self._program)))
        text = re.sub(r"\b6379\b", self._url.rpartition(":")[2], text)
        return re.sub(r"\b8000\b", self._port, text)

    def _save(self, name: str, text: str) -> None:
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self._here(text))

    def _type(self, block: Block) -> None:
        for line, shown in typed(block.text):
            assignment = re.fullmatch(r"export (\w+)=(\S+)", line)
            if assignment:
                self._environment[assignment[1]] = self._here(assignment[2])
                continue
            compare(shown, self._shell(self._here(line)), line)

    def _shell(self, line: str, joined: bool = True) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if joined else subprocess.PIPE,
            text=True,
            timeout=HANG_GUARD,
            check=False,
        )
        assert joined or done.returncode == 0, done.stderr
        return done.stdout

    def _open(self, block: Block) -> Terminal:
        ((line, shown),) = typed(block.text)
        return Terminal(self._here(line), self._here(shown), self._folder, self._environment)


class Terminal:
    """A program that runs while its reader goes on."""

    def __init__(self, line: str, shown: str, folder: Path, environment: dict[str, str]) -> None:
        self._line = line
        shown, pressed, after = shown.partition("^C\n")
        self._shown, self._after = shown.splitlines(), after.splitlines()
        self._interrupted = bool(pressed)
        self._printed: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            ["bash", "-c", line],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        if self._shown:
            self._wait_for(self._shown[:1])

    def finish(self) -> None:
        """Waits for all that it is said to print, and presses Ctrl-C where the page does."""
        self._wait_for(self._shown)
        if self._interrupted:
            # As a terminal does it.
            os.killpg(self._process.pid, signal.SIGINT)
            self._process.wait(HANG_GUARD)
            self._wait_for([*self._shown, *self._after])
            if not self._after:
                # Whoever presses Ctrl-C wants no traceback.
                self._reading.join()
                compare("\n".join(self._shown), "\n".join(self._printed), self._line)

    def end(self) -> None:
        """Ends it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reading.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._printed.append(line.rstrip("\n"))
                self._changed.notify_all()

    def _wait_for(self, shown: list[str]) -> None:
        wanted = re.compile("(.*\n)*?" + "(.*\n)*?".join(_pattern(line) for line in shown))

        def there() -> bool:
            return wanted.match("".join(line + "\n" for line in self._printed)) is not None

        with self._changed:
            assert self._changed.wait_for(there, HANG_GUARD), (
                f"{self._line}: waited for {shown}, and saw {self._printed}"
            )


def typed(text: str) -> Iterator[tuple[str, str]]:
    """What is typed, and what is printed then."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        line, _, shown = part.partition("\n")
        while line.endswith("\\"):
            more, _, shown = shown.partition("\n")
            line = line[:-1] + more.lstrip("> ")
        yield line, shown


def _pattern(line: str) -> str:
    if line.strip() == "...":
        return "(.*\n)*?"
    return ".*".join(map(re.escape, line.rstrip().split("…"))) + " *\n"


def compare(shown: str, printed: str, line: str) -> None:
    """Whether what is printed is what was shown."""
    pattern = "".join(_pattern(one) for one in shown.splitlines())
    if printed and not printed.endswith("\n"):
        printed += "\n"
    if re.fullmatch(pattern, printed) is None:
        raise AssertionError(f"{line} shows\n{shown}\nand printed\n{printed}")
