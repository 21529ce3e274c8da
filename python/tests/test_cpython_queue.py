"""CPython's own tests of `queue.Queue`, on queues over every transport.

Skipped is only what asks for an attribute that is a lock of one process, see `SKIPPED`.
"""

from __future__ import annotations

import queue
import threading
import unittest
from collections.abc import Callable
from typing import Any

import pytest

import pymq
from pymq._queue import NativeQueue

test_queue = pytest.importorskip("test.test_queue", reason="this Python has no test package")

#: Test and the reason why it says nothing about a queue that is no object of one process.
SKIPPED: dict[str, str] = {}

NAMES = [
    name
    for name in dir(test_queue.BaseQueueTestMixin)
    if name.startswith("test_") and name not in SKIPPED
]


class Queue(NativeQueue[Any]):
    """The tests look at the name of the class."""


def case(make: Callable[[int], pymq.Queue[Any]]) -> type[unittest.TestCase]:
    """The mixin's tests on queues that `make` makes."""

    class Case(test_queue.BaseQueueTestMixin, unittest.TestCase):  # type: ignore[misc]
        queue = queue

        def setUp(self) -> None:
            self.cum = 0
            self.cumlock = threading.Lock()

        def type2test(self, maxsize: int = 0) -> pymq.Queue[Any]:
            return make(maxsize)

    return Case


@pytest.mark.parametrize("name", NAMES)
def test_a_manual_queue_passes(name: str, bus: pymq.NativeEventBus) -> None:
    numbers = iter(range(1_000_000))

    def make(maxsize: int = 0) -> pymq.Queue[Any]:
        return Queue(bus._handle(f"queue-{next(numbers)}", maxsize=maxsize, ack="manual"))

    result = unittest.TestResult()
    case(make)(name).run(result)
    problems = [text for _, text in result.failures + result.errors]
    assert not problems, problems[0]
    assert not result.skipped
