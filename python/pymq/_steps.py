"""Native operations one after the other, as threads and event loops run them alike.

What does not depend on how one waits is written once: as a generator that yields operations and is
given their results, or has their errors raised where it stands. It waits for nothing itself.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from pymq._pymq import Operation
from pymq._reactor import run
from pymq.exceptions import PymqError

T = TypeVar("T")

#: Operations, and what comes of them.
Steps: TypeAlias = Generator["Operation[Any]", Any, T]


def waited(steps: Steps[T]) -> T:
    """Runs them on the calling thread."""
    try:
        operation = next(steps)
        while True:
            try:
                result = operation.wait()
            except PymqError as error:
                operation = steps.throw(error)
            else:
                operation = steps.send(result)
    except StopIteration as end:
        outcome: T = end.value
        return outcome


async def awaited(steps: Steps[T]) -> T:
    """Runs them on the running loop."""
    try:
        operation = next(steps)
        while True:
            try:
                result = await run(operation)
            except PymqError as error:
                operation = steps.throw(error)
            else:
                operation = steps.send(result)
    except StopIteration as end:
        outcome: T = end.value
        return outcome
