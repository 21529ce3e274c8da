"""Rate limit: so many jobs a second over all machines, however many workers there are.

A clock puts tokens into a queue that holds only a few, and a job takes one first.
`rate_limit.py [ADDRESS]`
"""

import contextlib
import sys
import threading
import time

import pymq

PER_SECOND = 50
BURST = 5


def give_tokens(bus: pymq.NativeEventBus, ended: threading.Event) -> None:
    """To run once for the whole bus, in a service of its own."""
    tokens = bus.queue("recipes.tokens", maxsize=BURST)
    while not ended.wait(1 / PER_SECOND):
        with contextlib.suppress(pymq.Full):
            tokens.put_nowait(1)


def main(address: str = "memory://") -> None:
    with pymq.connect(address) as bus:
        tokens = bus.queue("recipes.tokens")

        def call_the_api(job: int) -> None:
            tokens.get()  # waits for its turn
            # … the request …

        ended = threading.Event()
        clock = threading.Thread(target=give_tokens, args=(bus, ended))
        begun = time.monotonic()
        clock.start()
        jobs = bus.queue("recipes.limited")
        with jobs.work(call_the_api, concurrency=4):
            jobs.put_many(range(20))
            jobs.join()
        took = time.monotonic() - begun
        ended.set()
        clock.join()
        tokens.purge()
        print("not faster than", PER_SECOND, "a second:", took >= (20 - BURST) / PER_SECOND)


if __name__ == "__main__":
    main(*sys.argv[1:])
