"""Every exception of the package, under one root.

The names of the original stay: code that catches `RpcException` catches what replaces it here, and
what is of a kind that Python has a name for is that as well (`TimeoutError`, `ConnectionError`).
"""

from __future__ import annotations

import queue
import sys

__all__ = [
    "CallTimeoutError",
    "ClosedError",
    "ConfigError",
    "ConnectionLostError",
    "DecodeError",
    "EncodeError",
    "LeaseLostError",
    "NoSuchRemoteError",
    "OutcomeUnknownError",
    "ProviderLostError",
    "PymqError",
    "RemoteInvocationError",
    "RpcException",
    "ServerError",
    "ShutDown",
    "UnsupportedError",
]


class PymqError(Exception):
    """Root of all exceptions that the package raises by itself."""


class EncodeError(PymqError, TypeError):
    """A value cannot be sent; the message names its place in the value and its type."""


class DecodeError(PymqError, ValueError):
    """A message cannot be read, or not as what the receiver asks for."""


class RpcException(PymqError):
    """Root of what goes wrong in remote calls."""


class RemoteInvocationError(RpcException):
    """The remote function raised: the arguments are the exception's type name and its own."""

    #: The provider's id where it is known; those of the original are anonymous.
    provider: str | None = None


class CallTimeoutError(RemoteInvocationError, TimeoutError):
    """No answer came in time; the function may still run, or have run."""


class ProviderLostError(RemoteInvocationError):
    """The provider died or fell silent while it was busy with the call."""


class NoSuchRemoteError(RpcException):
    """Nobody exposes a function of this name."""


class ClosedError(PymqError):
    """The bus was closed, or belongs to the process that this one was forked from."""


class ConnectionLostError(PymqError, ConnectionError):
    """There is no connection to the server; nothing was done, and trying again is safe."""


class OutcomeUnknownError(ConnectionLostError):
    """The connection was lost before the answer came: it may have been done, or not."""


class LeaseLostError(PymqError):
    """The lease of a delivery ran out; the item belongs to somebody else now."""


class UnsupportedError(PymqError, NotImplementedError):
    """This transport cannot do it."""


class ConfigError(PymqError, ValueError):
    """An address, a name or an option that cannot be used."""


class ServerError(PymqError):
    """The server refused; the message has its words."""


if sys.version_info >= (3, 13):
    ShutDown = queue.ShutDown
else:

    class ShutDown(PymqError):
        """The queue was shut down: `queue.ShutDown` where Python has it."""
