"""Native operations on an event loop: one descriptor for all of them, no threads.

An operation is begun under a token and its result is awaited; when the descriptor is readable the
loop hands out what has ended. Breaking off the wait ends the operation, which then loses nothing;
so does closing the loop.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from typing import Any, TypeVar

from pymq._nested_waits import yield_turn
from pymq._pymq import Completions, Operation

T = TypeVar("T")


class Reactor:
    """What one event loop has under way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.waiting: dict[int, asyncio.Future[Any]] = {}
        self._completions = Completions()
        self._tokens = itertools.count(1)
        # The loop alone keeps the reader, and the reader keeps this: with the loop all ends.
        try:
            loop.add_reader(self._completions.fileno(), self._completions.reader(self))
        except NotImplementedError:
            # The default one on Windows.
            raise RuntimeError(
                f"pymq.aio needs an event loop that watches sockets, and {type(loop).__name__} "
                "does not; run on an asyncio.SelectorEventLoop"
            ) from None

    async def run(self, operation: Operation[T]) -> T:
        """Begins an operation and waits for its result."""
        yield_turn()
        token = next(self._tokens)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.waiting[token] = future
        try:
            self._completions.begin(token, operation)
            return await future
        finally:
            if self.waiting.pop(token, None) is not None:
                # It has not ended, and nobody waits for it any more.
                self._completions.cancel(token)


_reactors: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Reactor]] = (
    weakref.WeakKeyDictionary()
)


def _reactor() -> Reactor:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    known = _reactors.get(loop)
    found = known() if known is not None else None
    if found is None:
        found = Reactor(loop)
        _reactors[loop] = weakref.ref(found)
    return found


async def run(operation: Operation[T]) -> T:
    """Runs a native operation on the running loop."""
    return await _reactor().run(operation)
