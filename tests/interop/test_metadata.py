"""What is said beside a value disturbs no peer of the original: it reads the same as without.

Each value that the originals can have is written by a peer of ours, given headers, and read by both
originals as an item, as an event of a hint, and in a call.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from description import describe
from expected import same
from fixtures import server, start
from pymq._pymq import Metadata
from rig import OLD, Peer, Server, wait_until
from samples import EVENTS, ITEMS
from test_goldens import outcome, written
from test_originals import BOTH_READ

__all__ = ["server", "start"]

SAID = Metadata({"tenant": "nörth"}, {"trace": "7"}, "order-17", 1_700_000_000.5)


@pytest.fixture(scope="module")
def peers() -> Iterator[tuple[list[Peer], list[Peer]]]:
    """Ours, and the originals, on one server."""
    with (
        Server() as server,
        Peer(server, "python") as python,
        Peer(server, "rust") as rust,
        Peer(server, OLD[0]) as one,
        Peer(server, OLD[1]) as other,
    ):
        yield [python, rust], [one, other]


# Where the originals do not find an object's class they make a dict of all its keys, this one too.
WITHOUT_A_CLASS = {"list of exceptions", "object of a nested class"}


def check(bytes_of_ours: Any, originals: list[Peer], hint: str | None) -> None:
    if not isinstance(bytes_of_ours, bytes):
        # Refused at its sender.
        return
    for original in originals:
        for asked in {None, hint}:
            without = outcome(original, bytes_of_ours, asked)
            within = outcome(original, SAID.attach(bytes_of_ours), asked)
            assert same(within, without), (original.kind, asked, bytes_of_ours, within, without)


@pytest.mark.parametrize("name", sorted({*ITEMS, *EVENTS} - WITHOUT_A_CLASS))
def test_the_originals_read_a_value_of_python_with_headers_as_without(
    peers: tuple[list[Peer], list[Peer]], name: str
) -> None:
    source, hint = (ITEMS[name], None) if name in ITEMS else EVENTS[name]
    (python, _), originals = peers
    check(written(python, expression=source), originals, hint)


# No string of Rust holds half a surrogate pair.
@pytest.mark.parametrize("name", sorted(BOTH_READ.keys() - {"lone surrogate"}))
def test_the_originals_read_a_value_of_rust_with_headers_as_without(
    peers: tuple[list[Peer], list[Peer]], name: str
) -> None:
    (_, rust), originals = peers
    check(written(rust, value=describe(BOTH_READ[name])), originals, None)


@pytest.mark.parametrize("multi", [False, True])
def test_an_original_answers_a_call_with_headers(
    server: Server, start: Callable[..., Peer], multi: bool
) -> None:
    caller = start("python")
    for version in OLD:
        original = start(version)
        original.expose("product")
        results = caller.call("shared_types.product", 3, 4, multi=multi, headers={"a": "b"})
        assert results == ([12] if multi else 12)
        original.kill()
        wait_until(lambda: server.subscribers("shared_types.product") == 0, "it is gone")
