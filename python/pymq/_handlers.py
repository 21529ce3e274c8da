"""Handlers that a module declares for `python -m pymq work`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from pymq._bus import NativeEventBus
    from pymq._worker import Worker

C = TypeVar("C", bound=Callable[..., Any])

_declared: list[Declared] = []


@dataclass(frozen=True)
class Declared:
    """A handler, and the queue that it is for."""

    handler: Callable[..., Any]
    queue: str
    concurrency: int
    options: dict[str, Any]

    def start(self, bus: NativeEventBus, concurrency: int | None, grace: float) -> Worker:
        """Starts it on a bus."""
        queue = bus.queue(self.queue, **self.options)
        return queue.work(self.handler, concurrency or self.concurrency, grace)


def worker(queue: str, *, concurrency: int = 1, **options: Any) -> Callable[[C], C]:
    """Declare a handler for `python -m pymq work`: `@pymq.worker("jobs", concurrency=4)`.

    The options are those of `pymq.queue`. The function stays what it is.
    """

    def declare(handler: C) -> C:
        _declared.append(Declared(handler, queue, concurrency, options))
        return handler

    return declare


def declared_in(module: ModuleType) -> list[Declared]:
    """What a module declares, or has imported from where it is declared."""
    names = vars(module).values()
    return [one for one in _declared if any(one.handler is value for value in names)]
