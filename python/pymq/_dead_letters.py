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
from pymq._steps import Steps, awaited, waited

T = TypeVar("T")

# How many are fetched in one round trip: of the first one, at most, and how many bytes about.
FIRST, MOST, BYTES = 16, 500, 4 << 20


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


class DeadLetters(Generic[T]):
    """The dead letters of a queue, the oldest first."""

    def __init__(self, handle: Handle[T]) -> None:
        self._handle = handle

    def __len__(self) -> int:
        return self._handle.native.counts().wait()[2]

    def __bool__(self) -> bool:
        return len(self) > 0

    def __iter__(self) -> Iterator[DeadLetter[T]]:
        """Each as it lies there; those that are moved or added meanwhile may be missed."""
        pages = _Pages(self._handle)
        while page := pages.read(pages.next().wait()):
            yield from page

    def redrive(
        self,
        limit: int | None = None,
        *,
        where: Callable[[DeadLetter[T]], bool] | None = None,
        to: Any = None,
    ) -> int:
        """Move dead letters back to the tail of the queue, or `to` another one of the same bus.

        All of them, the `limit` oldest, or those `where` a predicate holds, page by page: if it
        raises, those of earlier pages were moved. Says how many. No `maxsize` holds it up, as with
        everything that comes back.
        """
        return waited(_redriving(self._handle, where, limit, to))

    def purge(
        self,
        limit: int | None = None,
        *,
        where: Callable[[DeadLetter[T]], bool] | None = None,
    ) -> int:
        """Delete dead letters, chosen as for `redrive`; says how many."""
        return waited(_taking(self._handle, where, limit, self._handle.native.discard))


class AsyncDeadLetters(Generic[T]):
    """The dead letters of a queue, the oldest first, for event loops."""

    def __init__(self, handle: Handle[T]) -> None:
        self._handle = handle

    async def count(self) -> int:
        """How many there are."""
        return (await run(self._handle.native.counts()))[2]

    async def __aiter__(self) -> AsyncIterator[DeadLetter[T]]:
        """Each as it lies there; those that are moved or added meanwhile may be missed."""
        pages = _Pages(self._handle)
        while page := pages.read(await run(pages.next())):
            for letter in page:
                yield letter

    async def redrive(
        self,
        limit: int | None = None,
        *,
        where: Callable[[DeadLetter[T]], bool] | None = None,
        to: Any = None,
    ) -> int:
        """Move dead letters, as `DeadLetters.redrive` does."""
        return await awaited(_redriving(self._handle, where, limit, to))

    async def purge(
        self,
        limit: int | None = None,
        *,
        where: Callable[[DeadLetter[T]], bool] | None = None,
    ) -> int:
        """Delete dead letters, chosen as for `redrive`; says how many."""
        return await awaited(_taking(self._handle, where, limit, self._handle.native.discard))


class _Pages(Generic[T]):
    """The letters of a queue, page by page."""

    def __init__(self, handle: Handle[T]) -> None:
        self._handle = handle
        self._skip, self._size = 0, FIRST

    def next(self) -> _pymq.Operation[list[_pymq.Letter]]:
        """Asks for the page behind those that were read."""
        return self._handle.native.letters(self._skip, self._size)

    def read(self, page: list[_pymq.Letter]) -> list[DeadLetter[T]]:
        """The letters of a page; none behind the last one."""
        if page:
            self._skip, self._size = self._skip + len(page), _next_size(page)
        return [DeadLetter(self._handle, letter) for letter in page]


def _redriving(
    handle: Handle[T],
    where: Callable[[DeadLetter[T]], bool] | None,
    limit: int | None,
    to: Any,
) -> Steps[int]:
    target = _target(to)
    return _taking(handle, where, limit, lambda which: handle.native.redrive(which, target))


def _target(to: Any) -> Any:
    """The native queue that letters go to; `None` is their own."""
    if to is None:
        return None
    handle = getattr(to, "_handle", None)
    if not isinstance(handle, Handle):
        raise TypeError(f"to is a queue of the same bus, as its queue() gives, not {to!r}")
    return handle.native


def _taking(
    handle: Handle[T],
    where: Callable[[DeadLetter[T]], bool] | None,
    limit: int | None,
    take: Callable[[int | list[_pymq.Letter]], _pymq.Operation[int]],
) -> Steps[int]:
    """Takes letters out. Of chosen ones, those that die meanwhile are not looked at twice."""
    if limit is not None:
        limit = count("limit", limit, least=0, most=sys.maxsize)
    most = 2**62 if limit is None else min(limit, 2**62)
    if where is None:
        taken: int = yield take(most)
        return taken
    if not callable(where):
        raise TypeError(f"where is a function of a dead letter, not {where!r}")
    unseen = (yield handle.native.counts())[2]
    taken = left = 0
    size = FIRST
    while unseen > 0 and most > 0:
        page = yield handle.native.letters(left, min(size, unseen))
        if not page:
            break
        chosen = [letter for letter in page if where(DeadLetter(handle, letter))][:most]
        unseen, most, size = unseen - len(page), most - len(chosen), _next_size(page)
        left += len(page) - len(chosen)
        if chosen:
            taken += yield take(chosen)
    return taken


def _next_size(page: list[_pymq.Letter]) -> int:
    """How many letters the next page has, by how large these are."""
    size = sum(len(letter.payload) for letter in page)
    return max(1, min(MOST, BYTES * len(page) // max(size, 1)))
