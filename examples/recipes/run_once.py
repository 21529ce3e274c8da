"""Run once: a job that is put twice, or delivered twice, has its effect once.

The put's `id` keeps a repeated request out of the queue. What is delivered again, because a worker
died before its confirmation, is found in the database that the work itself is written to.
`run_once.py [ADDRESS]`
"""

import sqlite3
import sys
import time

import pymq


def pay(order: dict, database: sqlite3.Connection) -> None:
    """The note and the effect in one transaction: both are there, or neither."""
    with database:
        try:
            database.execute("INSERT INTO done VALUES (?)", (order["id"],))
        except sqlite3.IntegrityError:
            print("order", order["id"], "was paid before")
            return
        database.execute("UPDATE account SET balance = balance - ?", (order["amount"],))
    print("order", order["id"], "is paid")


def main(address: str = "memory://") -> None:
    database = sqlite3.connect(":memory:")
    database.executescript(
        "CREATE TABLE done (id PRIMARY KEY); CREATE TABLE account (balance);"
        "INSERT INTO account VALUES (100);"
    )
    with pymq.connect(address) as bus:
        orders = bus.queue("recipes.payments")
        order = {"id": time.time_ns(), "amount": 30}
        for _ in range(2):  # somebody clicked twice
            print("put" if orders.put(order, id=f"pay-{order['id']}") else "is there already")

        # A worker does it, and dies before it has confirmed.
        delivery = orders.get_delivery()
        pay(delivery.item, database)
        delivery.requeue()

        with orders.get_delivery() as delivery:
            pay(delivery.item, database)
    print("balance", database.execute("SELECT balance FROM account").fetchone()[0])
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
