"""Roles of queues that jobs run on, the twin of ``src/worker/jobs.rs``: putting jobs in every way,
handling them, and what administers their dead letters. What a number says is in ``src/job.rs``.
"""

import os
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pymq

BREATH = 0.02
RETRIES = [0.1, 0.2, 0.4]
MAX_DELIVERIES = 6


def has_id(number: int) -> bool:
    return number % 10 in (2, 3, 4)


def trouble_of(number: int) -> str:
    kind = number * 29 % 101
    return {1: "always", 2: "unwanted"}.get(kind, "twice" if kind < 17 else "none")


def queue_of(worker: Any) -> Any:
    return pymq.queue(
        worker.options.get("queue", "work"),
        lease=worker.seconds("lease", 30),
        prefetch=worker.number("ahead", 1),
        max_deliveries=MAX_DELIVERIES,
        retry=RETRIES,
        priorities=True,
    )


def offer(worker: Any) -> None:
    """Puts jobs, each in its way, and those of another producer that have an id once more."""
    queue, again = queue_of(worker), worker.number("again")
    first = worker.number("first")
    for place in range(worker.number("count", 1)):
        if place % 16 == 0:
            wait_for_space(queue, worker.number("most", 5000))
        put(worker, queue, first + place)
        if again and has_id(again + place):
            put(worker, queue, again + place)
        time.sleep(worker.seconds("pause"))


def wait_for_space(queue: Any, most: int) -> None:
    while True:
        try:
            if queue.unfinished_tasks <= most:
                return
        except Exception:
            return
        time.sleep(BREATH)


def options_of(worker: Any, number: int) -> dict[str, Any]:
    options: dict[str, Any] = {}
    sort = number % 10
    if sort in (0, 1, 4):
        delay = timedelta(milliseconds=20 + number // 10 % 50 * 20)
        due = datetime.now(timezone.utc) + delay
        micros = (due - datetime.fromtimestamp(0, timezone.utc)) // timedelta(microseconds=1)
        worker.history.note("t", [(number, micros)])
        if sort == 1:
            options["at"] = due
        else:
            options["delay"] = delay.total_seconds()
    if has_id(number):
        options["id"] = f"job-{number}"
    if sort in (5, 6):
        options["priority"] = 1 + number // 10 % 9
    return options


def put(worker: Any, queue: Any, number: int) -> None:
    while True:
        worker.history.note("b", [(number, 1)])
        try:
            done = queue.put(number, **options_of(worker, number))
            worker.history.note("o" if done else "y", [(number, 1)])
            return
        except Exception as error:
            letter = "a" if type(error).__name__ == "OutcomeUnknownError" else "f"
            worker.history.note(letter, [(number, 1)], type(error).__name__)
        time.sleep(BREATH)
        if not has_id(number):
            return


def work(worker: Any) -> None:
    """Handles jobs; the end of the bus lets it finish what is in hand."""
    history, away = worker.history, worker.options.get("away", "")
    pause = worker.seconds("pause")

    def handle(delivery: pymq.Delivery[int]) -> None:
        number, trouble = delivery.item, trouble_of(delivery.item)
        history.note("g", [(number, delivery.deliveries)])
        time.sleep(pause)
        if trouble == "unwanted":
            settle(history, "j", number, lambda: delivery.reject("nobody wants it"))
        elif (
            trouble == "always"
            or (trouble == "twice" and delivery.deliveries <= 2)
            or os.path.exists(away)
        ):
            history.note("q", [(number, delivery.deliveries)])
            raise OSError("what it needs is away")
        else:
            history.note("d", [(number, 0)])
            if number % 2 == 0:
                settle(history, "k", number, delivery.ack)

    queue_of(worker).work(handle, worker.number("many", 1)).wait()


def settle(history: Any, letter: str, number: int, settling: Callable[[], None]) -> None:
    try:
        settling()
        history.note(letter, [(number, 0)])
    except pymq.LeaseLostError:
        history.note("l", [(number, 0)])
    except Exception as error:
        history.note("u", [(number, 0)], type(error).__name__)


def redrive(worker: Any) -> None:
    """Brings dead letters back, again and again by other ways; or all of them `once`."""
    letters, once, turn = queue_of(worker).dead_letters(), worker.number("once"), 0
    while True:
        try:
            if once or turn % 3 == 2:
                moved = letters.redrive()
            elif turn % 3 == 1:
                moved = letters.redrive(7)
            else:
                moved = letters.redrive(where=lambda letter: bool(letter.item % 2))
            worker.history.note("v", [(0, moved)])
            if once and not letters:
                return
        except Exception as error:
            worker.history.note("e", [(0, 0)], type(error).__name__)
        turn += 1
        time.sleep(worker.seconds("pause"))


def letters(worker: Any) -> None:
    """Notes every dead letter."""
    for letter in queue_of(worker).dead_letters():
        worker.history.note("h", [(letter.item, letter.deliveries or 0)], letter.reason)


ROLES = {
    "offer": offer,
    "work": work,
    "redrive": redrive,
    "letters": letters,
}
