"""CPython's own tests of `queue.Queue`, on queues over every transport.

Skipped is only what asks for an attribute that is a lock of one process, see `SKIPPED`.
"""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

import pymq

test_queue = pytest.importorskip("test.test_queue", reason="this Python has no test package")

#: Test and the reason why it says nothing about a queue that is no object of one process.
SKIPPED: dict[str, str] = {}

NAMES = [
    name
    for name in dir(test_queue.BaseQueueTestMixin)
    if name.startswith("test_") and name not in SKIPPED
]


class _Case(test_queue.BaseQueueTestMixin, unittest.TestCase):  # type: ignore[misc]
    """The mixin's tests on queues that `make` makes."""

    make: ClassVar[Callable[[int], pymq.Queue[Any]]]

    def setUp(self) -> None:
        self.cum = 0
        self.cumlock = test_queue.threading.Lock()
        self.queue = test_queue.c_queue
        if sys.version_info < (3, 13):
            return
        self.queue.ShutDown = pymq.ShutDown
        self.addCleanup(setattr, self.queue, "ShutDown", sys.modules["queue"].ShutDown)

    def type2test(self, maxsize: int = 0) -> pymq.Queue[Any]:
        return type(self).make(maxsize)


@pytest.mark.parametrize("name", NAMES)
def test_a_manual_queue_passes(name: str, bus: pymq.NativeEventBus) -> None:
    numbers = iter(range(1_000_000))

    def make(maxsize: int = 0) -> pymq.Queue[Any]:
        return bus.queue(f"queue-{next(numbers)}", maxsize, "manual")

    case = type("Case", (_Case,), {"make": staticmethod(make)})
    result = unittest.TestResult()
    case(name).run(result)
    problems = [text for _, text in result.failures + result.errors]
    assert not problems, problems[0]
    assert not result.skipped
