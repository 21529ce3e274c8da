"""The three ways of talking, in one program: `tour.py [ADDRESS]`; in memory without an address."""

import queue
import sys
from dataclasses import dataclass
from datetime import date

import pymq


@dataclass
class OrderPlaced:
    id: int
    items: list[str]
    due: date


def main(address: str) -> None:
    with pymq.init(address):
        seen: queue.Queue[OrderPlaced] = queue.Queue()

        @pymq.subscriber
        def on_order(event: OrderPlaced) -> None:
            seen.put(event)

        pymq.publish(OrderPlaced(1, ["tea", "cake"], date(2026, 12, 24)))
        print("event   ", seen.get())

        jobs = pymq.queue("tour.jobs", ack="manual")
        jobs.put(OrderPlaced(2, ["tea"], date(2026, 12, 31)))
        with jobs.get_delivery() as job:
            print("queue   ", job.item, "delivery", job.deliveries)
        jobs.join()

        @pymq.remote("product")
        def product(a: int, b: int = 1) -> int:
            return a * b

        print("call    ", pymq.stub("product", required=True)(2, b=4))
        print("call all", pymq.stub("product", multi=True)(3, 5))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "memory://")
