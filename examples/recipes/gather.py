"""Fan out and gather: cut work into parts, let any worker do a part, put the results together.

The parts are items of a queue: they wait where there are more than workers, and come again when a
worker dies. Results go to a queue of this one job. `gather.py [ADDRESS]`
"""

import sys
import uuid

import pymq


def count(part: dict, bus: pymq.NativeEventBus) -> None:
    """A worker's function: it may run on any machine, and more than once."""
    words = len(part["text"].split())
    bus.queue(part["results"]).put(
        (part["number"], words), id=f"{part['results']}-{part['number']}"
    )


def main(address: str = "memory://") -> None:
    text = ["to be or not to be", "that is the question", "whether it is nobler"]
    with pymq.connect(address) as bus:
        parts = bus.queue("recipes.parts")
        with parts.work(lambda part: count(part, bus), concurrency=4):
            results = bus.queue(f"recipes.results.{uuid.uuid4()}")
            parts.put_many(
                {"number": number, "text": line, "results": results.name}
                for number, line in enumerate(text)
            )
            done = dict(results.get(timeout=30) for _ in text)
        print([done[number] for number in range(len(text))], "=", sum(done.values()))


if __name__ == "__main__":
    main(*sys.argv[1:])
