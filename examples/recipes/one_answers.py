"""One of N answers: a question goes to the provider that has least to do.

`one_answers.py [ADDRESS]`
"""

import collections
import sys
import threading

import pymq


def provider(address: str, name: str) -> pymq.NativeEventBus:
    """Stands for a process of its own."""
    bus = pymq.connect(address)

    def thumbnail(picture: str) -> str:
        threading.Event().wait(0.01)  # stands for work
        return name

    bus.expose(thumbnail, "recipes.thumbnail", concurrency=4)
    return bus


def main(address: str = "memory://one-answers") -> None:
    providers = [provider(address, name) for name in ("north", "south", "west")]
    done: collections.Counter[str] = collections.Counter()
    with pymq.connect(address) as bus:
        ask = bus.stub("recipes.thumbnail", timeout=10, required=True)

        def call(number: int) -> None:
            done[ask(f"cat-{number}.png")] += 1

        threads = [threading.Thread(target=call, args=(n,)) for n in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for each in providers:
        each.close()
    print(sum(done.values()), "calls, each executed once, by", len(done), "providers")


if __name__ == "__main__":
    main(*sys.argv[1:])
