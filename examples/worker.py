"""Job workers: `worker.py work [ADDRESS]` in as many processes as you like, then `worker.py put N`.

Kill a worker with a job in hand: the job comes back, and another worker does it. Without an address
they meet on `ipc://jobs`, for which no server is needed; workers on several machines are given one
such as `redis://host`.
"""

import os
import sys
import time
from dataclasses import dataclass

import pymq


@dataclass
class Job:
    number: int
    seconds: float


def jobs() -> pymq.Queue[Job]:
    return pymq.queue("jobs", ack="manual", lease=5, type=Job)


def work() -> None:
    for job in jobs():  # each job is confirmed when the next one is asked for
        print(f"worker {os.getpid()}: job {job.number}", flush=True)
        time.sleep(job.seconds)


def put(count: int) -> None:
    for number in range(count):
        jobs().put(Job(number, 0.05))
    jobs().join()  # on whatever machine they are done
    print(f"{count} jobs done", flush=True)


def main(what: str, *rest: str) -> None:
    address = rest[-1] if rest and "://" in rest[-1] else "ipc://jobs"
    with pymq.init(address):
        if what == "work":
            work()
        else:
            put(int(rest[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
