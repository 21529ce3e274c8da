"""The place of the bus between processes of one machine, without a server.

Its transport is not built yet: making such a bus raises an error that says what to use instead.
"""

from __future__ import annotations

from typing import Any, NoReturn

from pymq.core import EventBus
from pymq.exceptions import UnsupportedError

__all__ = ["IpcConfig", "IpcEventBus"]


class IpcEventBus(EventBus):
    """Raises `UnsupportedError`: the transport is not built yet."""

    def __new__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(
            "the IPC transport is not built yet; use RedisConfig (a Redis server on this machine "
            "will do), or SimpleEventBus within one process"
        )


class IpcConfig:
    """A factory for `pymq.init`; calling it raises `UnsupportedError` for now."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __call__(self) -> IpcEventBus:
        """Raises `UnsupportedError`."""
        return IpcEventBus()
