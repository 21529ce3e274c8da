"""`python -m pymq work MODULE:HANDLER`: a process that serves queues."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import pymq
from pymq._handlers import Declared, declared_in

# How often the files of a program are looked at for changes, in seconds.
LOOK_EVERY = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; gives the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found = _find(options.target)
    except (ImportError, ValueError) as error:
        print(f"pymq work: {error}", file=sys.stderr)
        return 2
    return _work(found, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pymq", description="PyMQ for the command line")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    work = commands.add_parser("work", help="serve queues with the handlers of a module")
    work.add_argument("target", help="MODULE, MODULE:HANDLER, or MODULE:QUEUE, the queue's name")
    work.add_argument("--url", help="the bus's address; PYMQ_URL, else memory://")
    work.add_argument("--concurrency", type=_count, help="items at once; the handler's, else 1")
    work.add_argument("--grace", type=float, default=10.0, help="seconds to finish what is in hand")
    work.add_argument("--reload", action="store_true", help="start anew when a file changes")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise ValueError
    return count


def _find(target: str) -> list[Declared]:
    name, _, wanted = target.partition(":")
    module = importlib.import_module(name)
    found = declared_in(module)
    if wanted:
        named = getattr(module, wanted, None)
        found = [one for one in found if one.handler is named or one.queue == wanted]
    if not found:
        raise ValueError(
            f"{target!r} names no handler; declare one with @pymq.worker(QUEUE) in {name}"
        )
    return found


def _work(found: list[Declared], options: argparse.Namespace) -> int:
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            # Asked twice: no patience is left.
            os._exit(128 + number)
        asked.append(number)
        for worker in workers:
            worker.stop()

    workers: list[pymq.Worker] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    bus = pymq.core.default_bus()
    if not isinstance(bus, pymq.NativeEventBus):
        bus = pymq.connect(options.url)
    files = _files() if options.reload else {}
    with bus:
        workers += [one.start(bus, options.concurrency, options.grace) for one in found]
        for one in found:
            logging.getLogger("pymq").info("serving queue %r", one.queue)
        changed = False
        while not asked and not all(worker.wait(LOOK_EVERY) for worker in workers):
            if options.reload and _files() != files:
                changed = True
                break
        for worker in workers:
            worker.close(options.grace)
    if changed:
        os.execv(sys.executable, [sys.executable, "-m", "pymq", *sys.argv[1:]])
    return 0


def _files() -> dict[str, float]:
    """The program's own files, those below the current folder, and when they were changed."""
    here = str(Path.cwd())
    names = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    found = {}
    for name in names:
        if name is not None and name.startswith(here):
            try:
                found[name] = os.stat(name).st_mtime
            except OSError:
                continue
    return found


if __name__ == "__main__":
    sys.exit(main())
