"""`python -m pymq work MODULE:HANDLER`: a process that serves queues."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

# First, since it says so if the original hides ours.
import pymq._original_check
from pymq._default import default_bus
from pymq._handlers import Declared, declared_in
from pymq._options import seconds

# How often the files of a program are looked at for changes, in seconds.
LOOK_EVERY = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; gives the exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.path.insert(0, str(Path.cwd()))
    # Before anything of it is read: what changes meanwhile is seen.
    files = Files()
    try:
        found = _find(options.target)
    except (ImportError, ValueError) as error:
        print(f"pymq work: {error}", file=sys.stderr)
        return _try_again(files) if options.reload else 2
    except Exception:
        if not options.reload:
            raise
        traceback.print_exc()
        return _try_again(files)
    return _work(found, options, files)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pymq", description="PyMQ for the command line")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    work = commands.add_parser("work", help="serve queues with the handlers of a module")
    work.add_argument("target", help="MODULE, MODULE:HANDLER, or MODULE:QUEUE, the queue's name")
    work.add_argument("--url", help="the bus's address; PYMQ_URL, else memory://")
    work.add_argument("--concurrency", type=_count, help="items at once; the handler's, else 1")
    work.add_argument(
        "--grace", type=_seconds, default=10.0, help="seconds to finish what is in hand"
    )
    work.add_argument("--reload", action="store_true", help="start anew when a file changes")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"it is a number of items from 1, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        return seconds("it", float(text))
    except ValueError:
        wanted = f"it is a length in seconds from 0, not {text!r}"
        raise argparse.ArgumentTypeError(wanted) from None


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


def _work(found: list[Declared], options: argparse.Namespace, files: Files) -> int:
    asked: list[int] = []
    workers: list[pymq.Worker] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            # Asked twice: no patience is left.
            os._exit(128 + number)
        asked.append(number)
        for worker in workers:
            worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    bus = default_bus()
    if not isinstance(bus, pymq.NativeEventBus):
        bus = pymq.connect(options.url)
    if not bus.capabilities["cross_process"]:
        logging.getLogger("pymq").warning(
            "this bus ends with this process, and no other one can put into its queues; "
            "give --url or set PYMQ_URL"
        )
    changed = False
    with bus:
        for one in found:
            workers.append(one.start(bus, options.concurrency, options.grace))
            logging.getLogger("pymq").info("serving queue %r", one.queue)
        while not asked and not changed and any(worker.running for worker in workers):
            workers[0].wait(LOOK_EVERY)
            changed = options.reload and files.have_changed()
        if changed:
            logging.getLogger("pymq").info("a file has changed; the worker begins anew")
        for worker in workers:
            worker.close(options.grace)
    return _again() if changed and not asked else 0


def _try_again(files: Files) -> int:
    """Waits until the program has changed: what cannot be imported is about to be mended."""
    while not files.have_changed():
        time.sleep(LOOK_EVERY)
    return _again()


def _again() -> NoReturn:
    """This process begins anew, with the program as it is now."""
    os.execv(sys.executable, [sys.executable, "-m", "pymq", *sys.argv[1:]])


class Files:
    """The program's own files, those below the current folder, and when they were changed."""

    def __init__(self) -> None:
        self._since = time.time()
        self._known = self._found()

    def have_changed(self) -> bool:
        """Whether one was changed, made or taken away since this was made."""
        found = self._found()
        for name, changed in found.items():
            # One that was loaded only since then is news if it is younger.
            if changed != self._known.get(name, changed if changed <= self._since else None):
                return True
        if self._known.keys() - found.keys():
            return True
        self._known = found
        return False

    def _found(self) -> dict[str, float]:
        here = Path.cwd()
        loaded = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
        # What could not be imported is not loaded.
        names = {*filter(None, loaded), *map(str, here.glob("*.py"))}
        found = {}
        for name in names:
            if Path(name).is_relative_to(here):
                with contextlib.suppress(OSError):
                    found[name] = os.stat(name).st_mtime
        return found
