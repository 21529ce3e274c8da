"""The measuring end of a process that the benches start.

It says `ready`, then answers each line `WORK SECONDS` with a number and how many operations it is
of, until its input ends. It knows nothing of what is measured.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """What was measured, and of how many operations."""

    number: float
    operations: int


def serve(works: dict[str, Callable[[float], Figure]]) -> None:
    """Answers until there are no questions left."""
    print("ready", flush=True)
    for line in sys.stdin:
        work, seconds = line.split()
        print(*works[work](float(seconds)), flush=True)


def middle_time(seconds: float, once: Callable[[], object]) -> Figure:
    """Repeats `once`; the median time of one, in microseconds."""
    times = []
    now = time.perf_counter()
    end = now + seconds
    while now < end:
        once()
        begin, now = now, time.perf_counter()
        times.append(now - begin)
    return Figure(statistics.median(times) * 1e6, len(times))


def rate(seconds: float, once: Callable[[], object]) -> Figure:
    """Repeats `once`; how often in a second."""
    done = 0
    now = begin = time.perf_counter()
    while now - begin < seconds:
        once()
        done += 1
        now = time.perf_counter()
    return Figure(done / (now - begin), done)
