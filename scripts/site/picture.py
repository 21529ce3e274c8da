"""Pictures of `pymq top` for the docs: a real screen of a bus with faults, as SVG.

    picture.py PYMQ SVG        PYMQ: the program; needs tmux and a redis-server (`REDIS_SERVER`)

It starts a server of its own, plants the faults of the guide, runs the program in a terminal of 80
columns and 24 rows, and draws what stands there as text, so that a picture takes some kilobytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "interop"))

from resp import Connection
from rig import Server

COLUMNS, ROWS = 80, 24
# Of one character, in units of the picture.
WIDTH, HEIGHT = 8.4, 18
INK, PAPER = "#d8dee9", "#1e222a"
SESSION = f"pymq-picture-{os.getpid()}"


def main(program: str, picture: Path) -> None:
    with Server() as server, planted(program, server):
        screen = captured(program, server.url)
    picture.write_text(drawn(screen))


@contextlib.contextmanager
def planted(program: str, server: Server) -> Iterator[None]:
    """A bus that works, with a provider that hangs, a queue that nobody takes from, dead letters,
    a server that deletes what it has no room for, and a client that may be the original."""
    server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    for number in range(500):
        server.command("LPUSH", "__pymq:{__eventbus:global:invoices}:dead", number)
    environment = {**os.environ, "PYMQ_URL": server.url}
    run(program, environment, "put", "parcels", "1", "2", "3")
    with contextlib.ExitStack() as stack:
        # Of whatever library, as the original's are.
        old = stack.enter_context(Connection(server.port))
        old.command("SUBSCRIBE", "__eventbus:global:shop.News")
        for words in (["sub", "shop.Sold"], ["serve", "shop.price", "--", "cat"]):
            stack.callback(end, start(environment, program, *words))
        hangs = start(environment, program, "serve", "shop.stock", "--", "cat")
        stack.callback(end, hangs)
        time.sleep(1)
        hangs.send_signal(signal.SIGSTOP)
        calls = "while :; do $0 call shop.price 1; $0 pub shop.Sold 1; sleep 0.1; done"
        stack.callback(end, start(environment, "bash", "-c", calls, program))
        yield


def silent() -> dict[str, int]:
    return {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def run(program: str, environment: dict[str, str], *words: str) -> None:
    subprocess.run([program, *words], env=environment, check=True, **silent())


def start(environment: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    """In a group of its own, with whatever it starts."""
    return subprocess.Popen(words, env=environment, process_group=0, **silent())


def end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def captured(program: str, url: str) -> list[str]:
    """The lines of the screen with their colours."""

    def tmux(*words: str) -> str:
        asked = ["tmux", "-L", SESSION, *words]
        return subprocess.run(asked, check=True, capture_output=True, text=True).stdout

    size = ["-x", str(COLUMNS), "-y", str(ROWS)]
    tmux("-f", "/dev/null", "new-session", "-d", *size, f"PYMQ_URL={url} {program} top")
    try:
        time.sleep(14)
        return tmux("capture-pane", "-e", "-p").splitlines()
    finally:
        tmux("kill-server")


def drawn(lines: list[str]) -> str:
    """The screen as SVG."""
    wide, high = (COLUMNS + 2) * WIDTH, (ROWS + 1) * HEIGHT
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}"'
            ' role="img" aria-label="pymq top on a bus with faults">',
            f'<rect width="100%" height="100%" rx="6" fill="{PAPER}"/>',
            f'<g font-family="monospace" font-size="14" fill="{INK}" xml:space="preserve">',
            *pieces(lines),
            "</g>",
            "</svg>",
            "",
        ]
    )


def pieces(lines: list[str]) -> Iterator[str]:
    """What stands between changes of the colours, each where it begins; they hold across lines."""
    bold = reverse = False
    for place, line in enumerate(lines):
        column, y = 0, (place + 1.25) * HEIGHT
        for piece in re.split(r"(\x1b\[[\d;]*m)", line):
            if found := re.fullmatch(r"\x1b\[([\d;]*)m", piece):
                codes = set(found[1].split(";"))
                if codes & {"", "0"}:
                    bold = reverse = False
                bold, reverse = bold or "1" in codes, reverse or "7" in codes
                continue
            yield from drawn_piece(piece, column, y, bold=bold, reverse=reverse)
            column += len(piece)


def drawn_piece(text: str, column: int, y: float, *, bold: bool, reverse: bool) -> Iterator[str]:
    x, length = (column + 1) * WIDTH, len(text) * WIDTH
    if reverse and text:
        box = f'x="{x:.1f}" y="{y - 14:.1f}" width="{length:.1f}" height="{HEIGHT}"'
        yield f'<rect {box} fill="{INK}"/>'
    if text.strip():
        weight = ' font-weight="bold"' if bold else ""
        colour = f' fill="{PAPER}"' if reverse else ""
        place = f'x="{x:.1f}" y="{y:.1f}" textLength="{length:.1f}"'
        yield f"<text {place}{weight}{colour}>{escape(text)}</text>"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
