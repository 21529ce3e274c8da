"""Retry a flaky API: a job comes again later while the API is away, and a wrong one is given up.

`retry_api.py [ADDRESS]`
"""

import logging
import sys

import pymq


class WrongRequest(Exception):
    """What no repetition will mend."""


class Api:
    """Stands for somebody else's service: away at first, and strict."""

    def __init__(self) -> None:
        self.requests = 0

    def post(self, order: dict) -> None:
        self.requests += 1
        if order["amount"] < 0:
            raise WrongRequest(f"{order['amount']} is no amount")
        if self.requests <= 2:
            raise ConnectionError("503 Service Unavailable")


# In earnest: `pymq.Retry.exponential(1, most=600)`.
RETRY = pymq.Retry.exponential(0.01, most=0.1).giving_up_on(WrongRequest)


def main(address: str = "memory://") -> None:
    # Each failure is one line of the log, with the time at which the job comes again.
    logging.getLogger("pymq").setLevel(logging.CRITICAL)
    api = Api()
    with pymq.connect(address) as bus:
        orders = bus.queue("recipes.orders", retry=RETRY, max_deliveries=10)
        orders.put({"id": 1, "amount": 30})
        orders.put({"id": 2, "amount": -1})
        with orders.work(api.post):
            orders.join()
        print(api.requests, "requests for 2 orders")
        for letter in orders.dead_letters():
            print("given up:", letter.item["id"], letter.error, letter.words)
        orders.dead_letters().purge()


if __name__ == "__main__":
    main(*sys.argv[1:])
