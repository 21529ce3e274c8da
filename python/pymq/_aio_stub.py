"""Remote functions as callers on an event loop hold them.

What a call carries and what its answers mean is the same as for threads, and is `_stub.py`'s.
"""

from __future__ import annotations

from typing import Any, Generic, ParamSpec, TypeVar

from pymq import _telemetry
from pymq._reactor import run
from pymq._stub import UNANSWERED, NativeStub, result_of
from pymq._telemetry import Watched
from pymq.exceptions import NoSuchRemoteError

P = ParamSpec("P")
R = TypeVar("R")


class AsyncStub(Generic[P, R]):
    """A remote function, to be awaited."""

    def __init__(self, stub: NativeStub[P, R]) -> None:
        self._stub = stub

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it, as `pymq.StubMethod` does; cancelling tells the provider."""
        try:
            answer = await self.rpc(*args, **kwargs)
        except NoSuchRemoteError:
            if self._stub.required:
                raise
            return self._stub.nothing()  # type: ignore[no-any-return]
        return result_of(answer)  # type: ignore[no-any-return]

    async def rpc(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Call it and give the `RpcResponse`, with `multi` a list of them."""
        if _telemetry.observers:
            with Watched("call", self._stub.channel) as watched:
                return self._stub.told(await self._rpc(args, dict(kwargs), watched), watched)
        return await self._rpc(args, dict(kwargs))

    async def _rpc(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], watched: Watched | None = None
    ) -> Any:
        stub = self._stub
        asked = stub.asked(args, kwargs, watched)
        try:
            return stub.answered(await run(stub.calling(asked)))
        except UNANSWERED as error:
            return stub.unanswered(error, asked)

    def __repr__(self) -> str:
        return repr(self._stub)
