"""A server for each test, and peers of any kind on it that end with the test."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from rig import Peer, Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture
def start(server: Server) -> Iterator[Callable[..., Peer]]:
    """Starts a peer: its kind, and a name where two of a kind take part."""
    with contextlib.ExitStack() as stack:
        yield lambda kind, name=None: stack.enter_context(Peer(server, kind, name))
