"""A Python process beside a Rust one, `warehouse.rs`, on one bus: `shop.py ADDRESS`."""

import sys
import threading
from dataclasses import dataclass

import pymq

# The same module name as when it is imported, since events travel on the class's full name.
sys.modules["shop"] = sys.modules[__name__]


@dataclass
class OrderPlaced:
    id: int
    items: list[str]


@dataclass
class Packed:
    id: int
    weight: float


OrderPlaced.__module__ = Packed.__module__ = "shop"


@pymq.remote("shop.weigh")
def weigh(item: str) -> float:
    return {"tea": 0.25, "cake": 1.5}[item]


def main(address: str) -> None:
    with pymq.init(address):
        packed = threading.Semaphore(0)

        @pymq.subscriber
        def on_packed(event: Packed) -> None:
            print(f"python  event: order {event.id} is packed, {event.weight} kg", flush=True)
            packed.release()

        stock = pymq.stub("warehouse.stock", timeout=10)
        while stock("tea") is None:
            packed.acquire(timeout=0.05)  # the warehouse is still opening
        print(f"python  call: Rust has {stock('tea')} tea and {stock('cake')} cake", flush=True)
        try:
            stock("ink")
        except pymq.RemoteInvocationError as error:
            print(f"python  call: Rust says {error}", flush=True)

        jobs = pymq.queue("warehouse.jobs")
        for number, items in enumerate([["tea"], ["tea", "cake"]], start=1):
            order = OrderPlaced(number, items)
            pymq.publish(order)
            jobs.put(order)
        for _ in range(2):
            packed.acquire()
        jobs.join()
        pymq.publish(None, channel="shop.closing")


if __name__ == "__main__":
    main(sys.argv[1])
