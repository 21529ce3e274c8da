"""The program `pymq`, as the console script and `python -m pymq` run it."""

from __future__ import annotations

import signal
import sys

from pymq._pymq import main as _main


def main() -> int:
    """Runs the command line of this process; gives the exit code."""
    words = sys.argv[1:]
    if words[:1] == ["work"]:
        from pymq._work import main as work

        return work(words)
    # The program hears Ctrl-C itself; Python's handler would raise when it is back.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _main(["pymq", *words])
