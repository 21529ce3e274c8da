"""A connection to Redis that hides nothing: commands out, replies in, as bytes.

The rig looks at the server through this and through no client library, so that a mistake of a
client can never be on both sides of a comparison. It neither reconnects nor repeats.
"""

import select
import socket
from types import TracebackType
from typing import TypeAlias, TypeVar

Reply: TypeAlias = bytes | int | list["Reply"] | None

Itself = TypeVar("Itself", bound="Connection")

HANG_GUARD = 60.0
"""Seconds after which a wait is taken for a hang."""


class RespError(Exception):
    """An error that the server has answered."""


class Connection:
    """One socket, for one thread at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=HANG_GUARD)
        self._stream = self._socket.makefile("rb")

    def command(self, *words: str | bytes | int) -> Reply:
        """Send one command and read one reply."""
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self._socket.sendall(b"".join(parts))
        return self.read()

    def read(self) -> Reply:
        """Read one reply or, on a subscribed connection, one message."""
        line = self._stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RespError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        return rest

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def __enter__(self: Itself) -> Itself:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Capture(Connection):
    """Reads what is published on channels that match a pattern, or on one, exactly as it was sent.

    For the original a capture is a receiver like any other: it counts in what PUBLISH returns.
    """

    def __init__(self, port: int, pattern: str, command: str = "PSUBSCRIBE") -> None:
        super().__init__(port)
        self.command(command, pattern)

    def message(self) -> tuple[str, bytes]:
        """The channel and the bytes of the next message; waits for it."""
        message = self.read()
        assert isinstance(message, list), message
        *_, channel, data = message
        assert isinstance(channel, bytes), message
        assert isinstance(data, bytes), message
        return channel.decode(), data

    def has_message(self) -> bool:
        """Whether ``message`` would return at once; right while messages come one at a time."""
        return bool(select.select([self._socket], [], [], 0)[0])
