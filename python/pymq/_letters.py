"""Dead letters: items that were given up, readable though their values may not be.

What is known of each end stands in a `DeadLetter`; moving and deleting are the native queue's.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar

from pymq import _pymq
from pymq._handle import Handle
from pymq._message import Message, message_of
from pymq._options import count
from pymq._pymq import Metadata
from pymq._reactor import run

T = TypeVar("T")

# How many are fetched in one round trip.
PAGE = 100


class DeadLetter(Generic[T]):
    """An item that was given up, and what is known of its end."""

    def __init__(self, handle: Handle[T], native: _pymq.Letter) -> None:
        self._handle = handle
        self._native = native

    @property
    def item(self) -> T:
        """What was put; raises `DecodeError` if it cannot be read."""
        return self._handle.decoded(self.payload)

    @property
    def message(self) -> Message:
        """What was said beside it when it was put."""
        metadata = Metadata.detach(self.payload)[0]
        return message_of(self._handle.name, metadata, self.deliveries)

    @property
    def payload(self) -> bytes:
        """The bytes as they were put."""
        return self._native.payload

    @property
    def reason(self) -> str:
        """`"undecodable"`, `"too many deliveries"`, `"rejected"`, `"failed"` or `"unknown"`."""
        return self._native.reason

    @property
    def error(self) -> str:
        """The type of the error that was its end; empty where there was none."""
        return self._native.failure[0]

    @property
    def words(self) -> str:
        """The error's words, or the reason that was given; cut where they are long."""
        return self._native.failure[1]

    @property
    def origin(self) -> str:
        """Where it failed, as `host:process`; empty where it is not known."""
        return self._native.failure[2]

    @property
    def deliveries(self) -> int | None:
        """How often it was handed out, where that was written down."""
        return self._native.deliveries

    @property
    def died(self) -> datetime | None:
        """When it was given up, where that was written down."""
        died = self._native.died
        return None if died is None else datetime.fromtimestamp(died, timezone.utc)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._handle.name!r} {self.reason}>"


Choice = Callable[[DeadLetter[Any]], bool]


class DeadLetters(Generic[T]):
    """The dead letters of a queue, the oldest first."""

    def __init__(self, handle: Handle[T]) -> None:
        self._handle = handle

    def __len__(self) -> int:
        return self._handle.native.stats().wait()[2]

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[DeadLetter[T]]:
        """Each as it lies there; those that are moved or added meanwhile may be missed."""
        skip = 0
        while page := self._handle.native.letters(skip, PAGE).wait():
            skip += len(page)
            for letter in page:
                yield DeadLetter(self._handle, letter)

    def redrive(
        self,
        limit: int | None = None,
        *,
        where: Callable[[DeadLetter[T]], bool] | None = None,
        to: Any = None,
    ) -> int:
        """Move dead letters back to the tail of the queue, or `to` another one of the same bus.

        All of them, the `limit` oldest, or those `where` a predicate holds. Says how many. No
        `maxsize` holds it up, as with everything that comes back.
        """
        target = _target(to)
        which = _chosen([*self] if where else [], where, limit)
        return self._handle.native.redrive(which, target).wait()

    def purge(
        self,
        limit: int | None = None,
        *,
        where: Callable[[DeadLetter[T]], bool] | None = None,
    ) -> int:
        """Delete dead letters, chosen as for `redrive`; says how many."""
        return self._handle.native.discard(_chosen([*self] if where else [], where, limit)).wait()


class AsyncDeadLetters(Generic[T]):
    """The dead letters of a queue, the oldest first, for event loops."""

    def __init__(self, handle: Handle[T]) -> None:
        self._handle = handle

    async def count(self) -> int:
        """How many there are."""
        return (await run(self._handle.native.stats()))[2]

    async def __aiter__(self) -> AsyncIterator[DeadLetter[T]]:
        """Each as it lies there; those that are moved or added meanwhile may be missed."""
        skip = 0
        while page := await run(self._handle.native.letters(skip, PAGE)):
            skip += len(page)
            for letter in page:
                yield DeadLetter(self._handle, letter)

    async def redrive(
        self,
        limit: int | None = None,
        *,
        where: Callable[[DeadLetter[T]], bool] | None = None,
        to: Any = None,
    ) -> int:
        """Move dead letters, as `DeadLetters.redrive` does."""
        target = _target(to)
        which = _chosen([one async for one in self] if where else [], where, limit)
        return await run(self._handle.native.redrive(which, target))

    async def purge(
        self,
        limit: int | None = None,
        *,
        where: Callable[[DeadLetter[T]], bool] | None = None,
    ) -> int:
        """Delete dead letters, chosen as for `redrive`; says how many."""
        which = _chosen([one async for one in self] if where else [], where, limit)
        return await run(self._handle.native.discard(which))


def _chosen(
    letters: list[DeadLetter[T]],
    where: Callable[[DeadLetter[T]], bool] | None,
    limit: int | None,
) -> int | list[_pymq.Letter]:
    if limit is not None:
        limit = count("limit", limit, least=0, most=sys.maxsize)
    if where is None:
        return 2**62 if limit is None else min(limit, 2**62)
    if not callable(where):
        raise TypeError(f"where is a function of a dead letter, not {where!r}")
    return [letter._native for letter in letters if where(letter)][:limit]


def _target(to: Any) -> Any:
    """The native queue that letters go to; `None` is their own."""
    if to is None:
        return None
    handle = getattr(to, "_handle", None)
    if not isinstance(handle, Handle):
        raise TypeError(f"to is a queue of the same bus, as its queue() gives, not {to!r}")
    return handle.native
