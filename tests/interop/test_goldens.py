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
from samples import EVENTS, ITEMS
from shared_types import Loose, MyEvent, Reading, with_fields

Golden = dict[str, Any]


def built(kind: type, **fields: Any) -> Any:
    """An object with these attributes and no others."""
    return with_fields(kind.__new__(kind), **fields)


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


@pytest.fixture(scope="module")
def originals(server: Server) -> Iterator[list[Peer]]:
    with Peer(server, OLD[0]) as one, Peer(server, OLD[1]) as other:
        yield [one, other]


@pytest.fixture(scope="module")
def python(server: Server) -> Iterator[Peer]:
    yield from lasting(server, "python")


@pytest.fixture(scope="module")
def rust(server: Server) -> Iterator[Peer]:
    yield from lasting(server, "rust")


def outcome(peer: Peer, data: str | bytes, hint: str | None = None) -> Golden:
    """What a peer makes of bytes that come to it as a queue item, or the name of its error.

    With a hint its decoder is asked alone, since queues have none at the originals.
    """
    encoded = data.encode() if isinstance(data, str) else data
    try:
        if hint is not None:
            return {"value": peer.do("decode", hex=encoded.hex(), type=hint)}
        peer.server.command("LPUSH", PREFIX + "golden", encoded)
        return {"value": peer.get("golden")}
    except PeerFailed as failure:
        return {"error": failure.name}


def written(peer: Peer, **value: Any) -> bytes | PeerFailed:
    """The bytes that a peer puts for a value, taken from the server."""
    try:
        peer.do("put", queue="written", **value)
    except PeerFailed as failure:
        return failure
    data = peer.server.command("RPOP", PREFIX + "written")
    assert isinstance(data, bytes)
    return data


def acceptable(golden: Golden) -> list[Any]:
    """What was sent, if an original can tell it from the bytes, else what the originals make of it.

    The originals lose attributes without an annotation that are on the wire: reading them is right.
    """
    readings = [reading["value"] for reading in golden["decoded"].values() if "value" in reading]
    sent = golden["sent"]
    if any(same(reading, sent) for reading in readings):
        return [sent]
    return [sent, *readings]


READ_OTHERWISE: dict[str, Golden] = {
    "dict with __type of a class": {
        "value": {"object": "shared_types.Reading", "fields": {"sensor": "a"}}
    },
    "list of objects of two classes": {
        "value": describe([Reading("a", 1.0), built(Reading, number=1, items=[], note="")])
    },
    "object without annotations": {"value": describe(Loose("a", {"b": [1, 2]}))},
    "object with a field named __obj": {"error": "pymq.exceptions.DecodeError"},
    "class": {"error": "pymq.exceptions.DecodeError"},
    "function": {"value": "shared_types.product"},
}
"""What our Python makes of bytes that do not tell what was sent.

A tag alone rebuilds an object without its constructor, so no default appears; a list tagged with
its first element's class is one of that class; attributes are kept where the originals drop them;
what is no object of its class is refused, which the originals do as well or build nonsense.
"""


def is_exception(golden: Golden) -> bool:
    """Exceptions are never built from the wire: their arguments are what is read."""
    return golden["name"].startswith(("exception", "list of exceptions"))


def is_beyond_rust(golden: Golden) -> bool:
    """Half a surrogate pair is no text there, nor is such a number one: an error, never another."""
    return "surrogate" in golden["name"] or "int of 401 digits" in golden["name"]


def is_one_of(value: Any, candidates: list[Any]) -> bool:
    return any(same(value, candidate) for candidate in candidates)


@pytest.mark.parametrize("golden", of_kind("event", "item"))
def test_python_reads_what_an_original_has_written(python: Peer, golden: Golden) -> None:
    read = outcome(python, golden["bytes"])
    if golden["name"] in READ_OTHERWISE:
        assert read == READ_OTHERWISE[golden["name"]]
        return
    assert "value" in read, read
    expected = [plain(golden["sent"])] if is_exception(golden) else acceptable(golden)
    assert is_one_of(read["value"], expected), read


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
    if is_beyond_rust(golden):
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
    """The plain data in an original's bytes, tags taken off: what is there without any class."""
    value = json.loads(text)
    if isinstance(value, dict) and "__type" in value:
        value.pop("__type")
        for key in ("__obj", "__list"):
            if key in value:
                return describe(value[key])
    return describe(value)


SERVED: dict[str, tuple[Any, Any]] = {
    "two ints": (8, 8),
    "no arguments": ("python", "rust"),
    "keyword": ("hello you", "hello you"),
    "keywords only": ("a b", "a b"),
    "too few": (TypeError, TypeError),
    "too many": (TypeError, TypeError),
    "wrong types": (12, TypeError),
    "object": (42.0, 42.0),
    "object as keyword": (42.0, 42.0),
}
"""What a request's function gives in Python and in Rust; ``echo`` gives its argument.

The originals drop keyword arguments and those that are too many.
"""


EXPOSED: set[tuple[str, str]] = set()


@pytest.mark.parametrize("golden", of_kind("request"))
def test_a_request_of_an_original_is_served(
    server: Server, ours: Peer, originals: list[Peer], golden: Golden
) -> None:
    function, _, arguments, _ = json.loads(golden["bytes"])["__obj"]
    if (ours.kind, function) not in EXPOSED:
        EXPOSED.add((ours.kind, function))
        ours.expose(function.removeprefix("shared_types."))
    server.command("PUBLISH", PREFIX + function, golden["bytes"])
    reply = server.command("BLPOP", PREFIX + REPLY_NAME, 30)
    assert isinstance(reply, list), "no answer came"
    default = (arguments[0], arguments[0]) if arguments else None
    expected = SERVED.get(golden["name"], default)[ours.kind == "rust"]  # type: ignore[index]
    for original in originals:
        read = outcome(original, reply[1])  # type: ignore[arg-type]
        assert read["value"]["named"] == "pymq.core.RpcResponse"
        named, result, kind, failed = read["value"]["items"][:4]
        assert named == function
        if ours.kind == "rust" and golden["name"] in ("big int", "unicode"):
            # Without a type, an integer above 64 bits is a float; half a pair is never a text.
            assert failed or same(result, untyped_in_rust(describe(expected)))
        elif expected is TypeError:
            assert (kind, failed) == ("TypeError", True)
        else:
            assert (same(result, describe(expected)), failed) == (True, False), read


@pytest.mark.parametrize("golden", of_kind("reply"))
def test_a_reply_of_an_original_is_understood(server: Server, ours: Peer, golden: Golden) -> None:
    # Whoever is subscribed to the channel itself may be a provider of the original, so he is asked.
    with server.listen("golden") as provider:
        pending = ours.begin_call("golden")
        request = json.loads(provider.message()[1])
        server.command("LPUSH", PREFIX + request["__obj"][1], golden["bytes"])
        try:
            received = {"value": pending.result()}
        except PeerFailed as failure:
            received = {"error": failure.name, "args": failure.arguments}
    expected = replies_to(ours.kind, golden)
    if all("args" not in one for one in expected):
        received.pop("args", None)
    assert any(same(received, one) for one in expected), (received, expected)


def replies_to(kind: str, golden: Golden) -> list[Golden]:
    """What a caller may make of a reply: errors as they are, objects where the kind has objects."""
    returned = list(golden["returned"].values())
    data = as_data_in_reply(golden)
    name = golden["name"].removeprefix("made: ")
    if kind == "rust":
        if is_beyond_rust(golden):
            return [{"error": "pymq.exceptions.DecodeError"}]
        return [one for one in returned if "args" in one] or [{"value": untyped_in_rust(data)}]
    otherwise = [READ_OTHERWISE[name]] if name in READ_OTHERWISE else []
    sent = [{"value": sample(f"item-{name}", "0.7.0")["sent"]}] if name in ITEMS else []
    return [*returned, *sent, *otherwise, {"value": data}]


def as_data_in_reply(golden: Golden) -> Any:
    return describe(json.loads(golden["bytes"])["__obj"][1])


SAMPLES = {f"event-{name}": text for name, (text, _) in EVENTS.items()} | {
    f"item-{name}": text for name, text in ITEMS.items()
}


def sample(name: str, version: str) -> Golden:
    """What an original made of a sample when it was written by one."""
    kind, _, name = name.partition("-")
    return next(
        golden for golden in GOLDENS[version] if (golden["kind"], golden["name"]) == (kind, name)
    )


AS_TYPES_SAYS: dict[str, Any] = {
    "item-frozen set": describe({1}),
    "item-object with a field named __obj": describe(MyEvent()),
    "item-class": "shared_types.Reading",
    "item-function": "shared_types.product",
}
"""What docs/types.md promises old peers where the value itself is not theirs; else plain data."""


@pytest.mark.parametrize("name", SAMPLES)
def test_what_python_writes_is_right_at_the_originals_or_loud(
    python: Peer, originals: list[Peer], name: str
) -> None:
    goldens = [sample(name, version) for version in OLD]
    sent = goldens[0]["sent"]
    ours = written(python, expression=SAMPLES[name])
    for original in originals:
        before = [golden["decoded"][original.kind] for golden in goldens if golden["bytes"]]
        values = [one["value"] for one in before if "value" in one]
        was_right = is_one_of(sent, values)
        if isinstance(ours, PeerFailed):
            # Loud at the sender: only where no original ever read it right.
            assert (ours.name, was_right) == ("pymq.exceptions.EncodeError", False)
            continue
        read = outcome(original, ours)
        if was_right:
            assert "value" in read, read
            assert same(read["value"], sent), read
        else:
            expected = AS_TYPES_SAYS.get(name, plain(sent))
            assert "error" in read or is_one_of(read["value"], [sent, expected, *values]), read


@pytest.mark.parametrize("name", SAMPLES)
def test_what_rust_writes_is_plain_data_at_the_originals(
    rust: Peer, originals: list[Peer], name: str
) -> None:
    if "surrogate" in name or "keys that become equal" in name:
        pytest.skip("no string of Rust holds half a surrogate pair, no map two kinds of keys")
    sent = sample(name, "0.7.0")["sent"]
    ours = written(rust, value=sent)
    if name in RUST_REFUSES:
        assert isinstance(ours, PeerFailed)
        assert ours.name == "pymq.exceptions.EncodeError"
        return
    assert isinstance(ours, bytes), ours
    for original in originals:
        assert same(outcome(original, ours)["value"], plain(sent))


RUST_REFUSES = {
    *(f"item-{name}" for name in ("class", "function", "enum", "list of enums", "bytes")),
    *(f"item-{name}" for name in ("bytearray", "list of bytes", "complex", "datetime", "path")),
    *(f"item-{name}" for name in ("timedelta", "decimal", "uuid", "dict with tuple keys")),
    *(f"item-{name}" for name in ("dict with mixed keys", "int of 401 digits")),
    "event-enum",
}
"""What a described value of Python has no counterpart for in Rust, or JSON no form."""
