"""The same look at a bus, to be awaited."""

from __future__ import annotations

from pymq import _pymq
from pymq._inspect import (
    Finding,
    FunctionFacts,
    Holder,
    Leftover,
    TopicFacts,
    finding,
    function_facts,
)
from pymq._reactor import run


class AsyncInspection:
    """A look at a bus from an event loop; what each says is said at `pymq.Inspection`."""

    def __init__(self, native: _pymq.Inspection) -> None:
        self._native = native

    async def topics(self) -> list[TopicFacts]:
        """As `Inspection.topics`."""
        return [TopicFacts(*topic) for topic in await run(self._native.topics())]

    async def functions(self) -> list[FunctionFacts]:
        """As `Inspection.functions`."""
        return [function_facts(*function) for function in await run(self._native.functions())]

    async def queues(self) -> list[str]:
        """As `Inspection.queues`."""
        return await run(self._native.queues())

    async def holders(self, queue: str) -> list[Holder]:
        """As `Inspection.holders`."""
        return [Holder(*holder) for holder in await run(self._native.holders(queue))]

    async def examine(self) -> list[Finding]:
        """As `Inspection.examine`."""
        return [finding(*found) for found in await run(self._native.examine())]

    async def leftovers(self) -> list[Leftover]:
        """As `Inspection.leftovers`."""
        return [Leftover(*leftover) for leftover in await run(self._native.leftovers())]

    async def tidy(self, leftover: Leftover) -> None:
        """As `Inspection.tidy`."""
        await run(self._native.tidy(*leftover))
