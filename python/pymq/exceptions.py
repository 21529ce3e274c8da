"""What can go wrong: the original's exceptions, and those of this library under one base.

An exception that an old program catches is raised for everything that is its kind: all failures of
calls are a `RpcException`, and who catches `PymqError` misses nothing of ours.
"""

from __future__ import annotations

import queue
import sys

__all__ = [
    "CallNotSentError",
    "CallTimeoutError",
    "ClosedError",
    "ConfigError",
    "ConnectionLostError",
    "DecodeError",
    "EncodeError",
    "LeaseLostError",
    "NoSuchRemoteError",
    "OutcomeUnknownError",
    "ProviderBusyError",
    "ProviderLostError",
    "PymqError",
    "RemoteInvocationError",
    "RpcException",
    "ServerError",
    "ShutDown",
    "UnsupportedError",
]


class PymqError(Exception):
    """The base of all exceptions of this package, but for `queue.Full` and `queue.Empty`."""


class RpcException(PymqError):
    """A remote procedure call that did not give a result."""


class RemoteInvocationError(RpcException):
    """The remote function failed; the arguments are its error's type name and its arguments."""

    #: The provider's id where it is known; those of the original are anonymous.
    provider: str | None = None
    #: Where the function failed, as its own side tells it; for people.
    remote_traceback: str | None = None


class NoSuchRemoteError(RpcException):
    """Nobody exposes a function of that name."""


class ProviderBusyError(RpcException):
    """Too many calls wait at each provider of the function; it was not executed, try again."""


class ProviderLostError(RemoteInvocationError):
    """The provider died, or fell silent, while it ran the call."""

    def __str__(self) -> str:
        return str(self.args[-1]) if self.args else ""


class CallTimeoutError(RemoteInvocationError, TimeoutError):
    """The call took longer than its timeout; the function may still run, or have run."""

    # Without it, `OSError` takes the first two arguments for a number and its words.
    def __str__(self) -> str:
        return str(self.args[-1]) if self.args else ""


class ClosedError(PymqError):
    """The bus was closed, or belongs to another process; connect a new one.

    Nothing was done, except that a call that waited for its answer may have run.
    """


class ConnectionLostError(PymqError, ConnectionError):
    """There is no connection to the server; nothing was done, trying again is safe."""


class OutcomeUnknownError(ConnectionLostError):
    """The connection was lost before the answer came: it may or may not have been done."""


class CallNotSentError(CallTimeoutError, ConnectionLostError):
    """The call's time was over before the server took it; nothing was done, try again."""


class LeaseLostError(PymqError):
    """The lease of a delivery ran out; the item belongs to somebody else now."""


class UnsupportedError(PymqError, NotImplementedError):
    """The transport of this bus cannot do that."""


class ConfigError(PymqError, ValueError):
    """An address, a name or an option that cannot be used."""


class ServerError(PymqError):
    """The server refused; the message has its words."""


class _CodecError(PymqError):
    _redacted: str | None = None

    @property
    def redacted(self) -> str:
        """The error for logs: place and types, but nothing that the message holds."""
        return self._redacted or f"{type(self).__name__} (its text may show what a message holds)"


class DecodeError(_CodecError, ValueError):
    """Bytes that are not what they should be: malformed, too deep, too large, of a wrong type.

    The text may show a value, shortened; `redacted` does not.
    """


class EncodeError(_CodecError, TypeError):
    """A value that cannot be sent; the message names the field's path and its type."""


if sys.version_info >= (3, 13):

    class ShutDown(PymqError, queue.ShutDown):
        """The queue was shut down for everyone; purge it to use it again."""

else:

    class ShutDown(PymqError):
        """The queue was shut down for everyone; purge it to use it again."""
