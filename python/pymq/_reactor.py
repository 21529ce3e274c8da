"""Native operations on an event loop: one descriptor for all of them, no threads.

An operation is begun under a token and its result is awaited; when the descriptor is readable the
loop drains what has ended. Cancelling the wait cancels the operation, which then loses nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from pymq._dispatch import yield_turn
from pymq._pymq import Completions, Operation

T = TypeVar("T")


class Reactor:
    """What one event loop has under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._completions = Completions()
        self._tokens = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[Any], Callable[[Any], None]]] = {}
        loop.add_reader(self._completions.fileno(), self._drain)

    async def run(self, operation: Operation[T], undo: Callable[[T], None]) -> T:
        """Begins an operation and waits for its result.

        `undo` gets a result that came although nobody waits for it any more.
        """
        yield_turn()
        token = next(self._tokens)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[token] = (future, undo)
        try:
            self._completions.begin(token, operation)
            result: T = await future
            return result
        except asyncio.CancelledError:
            if _has_result(future):
                # It ended in the same turn of the loop in which it was cancelled.
                undo(future.result())
            elif token in self._waiting:
                self._completions.cancel(token)
            raise
        finally:
            self._waiting.pop(token, None)

    def _drain(self) -> None:
        for token, error, result in self._completions.drain():
            future, undo = self._waiting.pop(token, (None, _nothing))
            if future is None or future.done():
                # Cancelled, but not yet told so.
                if error is None:
                    undo(result)
            elif error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)


_reactors: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Reactor] = (
    weakref.WeakKeyDictionary()
)


def _reactor() -> Reactor:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    found = _reactors.get(loop)
    if found is None:
        found = _reactors[loop] = Reactor(loop)
    return found


def _nothing(result: Any) -> None:
    """For a result of which there is nothing to undo."""


def _has_result(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


async def run(operation: Operation[T], undo: Callable[[T], None] = _nothing) -> T:
    """Runs a native operation on the running loop."""
    return await _reactor().run(operation, undo)
