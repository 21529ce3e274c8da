"""Every exception of the package, under one root.

The names of the original stay: code that catches `RpcException` catches what replaces it here.
"""

__all__ = [
    "DecodeError",
    "EncodeError",
    "NoSuchRemoteError",
    "PymqError",
    "RemoteInvocationError",
    "RpcException",
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


class NoSuchRemoteError(RpcException):
    """Nobody exposes a function of this name."""
