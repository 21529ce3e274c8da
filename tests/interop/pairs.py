"""Every ordered pair of peers of which at least one is ours, each pair on a server of its own.

The pairs last for a whole file, since starting processes would be most of the time; every test
works under a name that no other has used.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from rig import NEW, OLD, Peer, Server

PAIRS = [
    *itertools.product(NEW, OLD),
    *itertools.product(OLD, NEW),
    *itertools.product(NEW, NEW),
]


@dataclass
class Pair:
    """One who sends, puts or calls, and one who receives, gets or provides."""

    sender: Peer
    receiver: Peer
    server: Server
    name: str

    @property
    def kinds(self) -> tuple[str, str]:
        return self.sender.kind, self.receiver.kind


@pytest.fixture(params=PAIRS, ids="->".join, scope="module")
def lasting_pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    sender, receiver = request.param
    with (
        Server() as server,
        Peer(server, sender, f"{sender} sender") as one,
        Peer(server, receiver, f"{receiver} receiver") as other,
    ):
        yield Pair(one, other, server, "")


_NUMBERS = itertools.count()


@pytest.fixture
def pair(lasting_pair: Pair) -> Pair:
    lasting_pair.name = f"name{next(_NUMBERS)}"
    return lasting_pair
