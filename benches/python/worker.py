"""The measuring end of a process that the benches start.

It says `ready`, then answers each line `WORK SECONDS` with a number, until its input ends. It knows
nothing of what is measured.
"""

import statistics
import sys
import time
from collections.abc import Callable


def serve(works: dict[str, Callable[[float], float]]) -> None:
    """Answers until there are no questions left."""
    print("ready", flush=True)
    for line in sys.stdin:
        work, seconds = line.split()
        print(works[work](float(seconds)), flush=True)


def middle_time(seconds: float, once: Callable[[], object]) -> float:
    """Repeats `once`; the median time of one, in microseconds."""
    times = []
    now = time.perf_counter()
    end = now + seconds
    while now < end:
        once()
        begin, now = now, time.perf_counter()
        times.append(now - begin)
    return statistics.median(times) * 1e6


def rate(seconds: float, once: Callable[[], object]) -> float:
    """Repeats `once`; how often in a second."""
    done = 0
    now = begin = time.perf_counter()
    while now - begin < seconds:
        once()
        done += 1
        now = time.perf_counter()
    return done / (now - begin)
