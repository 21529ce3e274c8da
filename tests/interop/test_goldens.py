"""What the originals have written is read right by ours, and what ours write is read by them.

Goldens are bytes taken from 0.2.2 and 0.7.0 on their way; nothing is compared as text, always as
values. The rule for our own bytes: what an original reads right from an original, it reads right
from us, and all else is right, or as an original's would be, or loud.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from description import describe
from expected import plain, same, untyped_in_rust
from recording import REPLY_NAME, load
from rig import NEW, OLD, PREFIX, Peer, PeerFailed, Server

Golden = dict[str, Any]

GOLDENS = {version: load(version) for version in OLD}
WRITTEN = [
    pytest.param(golden, id=f"{version}-{golden['kind']}-{golden['name']}")
    for version, goldens in GOLDENS.items()
    for golden in goldens
    if golden["bytes"] is not None
]


def of_kind(*kinds: str) -> list[Any]:
    return [param for param in WRITTEN if param.values[0]["kind"] in kinds]  # type: ignore[index]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


def lasting(server: Server, kind: str) -> Iterator[Peer]:
    with Peer(server, kind) as peer:
        yield peer


@pytest.fixture(scope="module", params=NEW)
def ours(request: pytest.FixtureRequest, server: Server) -> Iterator[Peer]:
    yield from lasting(server, request.param)


@pytest.fixture(scope="module", params=OLD)
def original(request: pytest.FixtureRequest, server: Server) -> Iterator[Peer]:
    yield from lasting(server, request.param)


@pytest.fixture(scope="module")
def python(server: Server) -> Iterator[Peer]:
    yield from lasting(server, "python")


@pytest.fixture(scope="module")
def rust(server: Server) -> Iterator[Peer]:
    yield from lasting(server, "rust")


def outcome(peer: Peer, data: str | bytes, hint: str | None = None) -> Golden:
    """What a peer decodes bytes into, or the name of its error."""
    encoded = data.encode() if isinstance(data, str) else data
    try:
        return {"value": peer.do("decode", hex=encoded.hex(), type=hint)}
    except PeerFailed as failure:
        return {"error": failure.name}


def acceptable(golden: Golden) -> list[Any]:
    """What was sent, if an original can tell it from the bytes, else what the originals make of it.

    The originals lose attributes without an annotation that are on the wire: reading them is right.
    """
    readings = [reading["value"] for reading in golden["decoded"].values() if "value" in reading]
    sent = golden["sent"]
    if any(same(reading, sent) for reading in readings):
        return [sent]
    return [sent, *readings]


def is_one_of(value: Any, candidates: list[Any]) -> bool:
    return any(same(value, candidate) for candidate in candidates)


@pytest.mark.parametrize("golden", of_kind("event", "item"))
def test_python_reads_what_an_original_has_written(python: Peer, golden: Golden) -> None:
    read = outcome(python, golden["bytes"])
    assert "value" in read, read
    assert is_one_of(read["value"], acceptable(golden)), read


@pytest.mark.parametrize(
    "golden", [param for param in of_kind("event") if "hint" in param.values[0]]
)
def test_python_reads_it_with_a_hint_as_the_originals_do(python: Peer, golden: Golden) -> None:
    read = outcome(python, golden["bytes"], golden["hint"])
    readings = golden["decoded_with_hint"].values()
    values = [reading["value"] for reading in readings if "value" in reading]
    if values:
        assert "value" in read, read
        assert is_one_of(read["value"], [golden["sent"], *values]), (read, values)
    else:
        assert "error" in read or same(read["value"], golden["sent"]), read


@pytest.mark.parametrize("golden", of_kind("event", "item"))
def test_rust_reads_what_an_original_has_written(rust: Peer, golden: Golden) -> None:
    read = outcome(rust, golden["bytes"])
    if "\\ud" in golden["bytes"] and "surrogate" in golden["name"]:
        # Half a surrogate pair is no text in Rust: an error, never another text.
        assert read == {"error": "pymq.exceptions.DecodeError"}
    elif golden["name"] == "int of 401 digits":
        assert read == {"error": "pymq.exceptions.DecodeError"}
    else:
        assert "value" in read, read
        candidates = [*acceptable(golden), as_data(golden["bytes"])]
        assert is_one_of(read["value"], [untyped_in_rust(one) for one in candidates]), read


@pytest.mark.parametrize(
    "golden",
    [
        param
        for param in of_kind("event")
        if param.values[0].get("hint")
        in ("Reading", "Marker", "Order", "Point", "Drawing", "Folder", "OutOfStock")
    ],
)
def test_rust_reads_it_into_a_struct(rust: Peer, golden: Golden) -> None:
    read = outcome(rust, golden["bytes"], golden["hint"])
    assert "value" in read, read
    assert same(read["value"], golden["sent"]), read


def as_data(text: str) -> Any:
    """The plain data in an original's bytes, tags taken off: what a program without classes gets."""
    value = json.loads(text)
    if isinstance(value, dict) and "__type" in value:
        value.pop("__type")
        for key in ("__obj", "__list"):
            if key in value:
                return describe(value[key])
    return describe(value)
