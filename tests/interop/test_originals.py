"""The originals with each other: the rig is known to see what really happens before we are on it.

Where a test pins a surprise, its comment says so: these are facts about programs that are in use,
which our peers have to live with, not wishes.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

import recording
from description import build, describe
from fixtures import server, start
from resp import Connection
from rig import PREFIX, Peer, PeerFailed, Server, lengths, wait_until
from samples import EVENTS, INTERPRETER_DEPENDENT, ITEMS, REPLIES, REQUESTS
from shared_types import (
    Drawing,
    Folder,
    Loose,
    Marker,
    MyEvent,
    Order,
    OutOfStock,
    Point,
    Reading,
    with_fields,
)

__all__ = ["server", "start"]

Start = Callable[..., Peer]

OBJECTS = {
    "Reading": Reading("cellar", 4.5),
    "Marker": with_fields(Marker(), x=1, y=2, label="here"),
    "MyEvent": MyEvent(),
    "Order": Order(7, ["tea"], "urgent"),
    "Point": Point(3, 4),
    "Drawing": Drawing("d", [Drawing.Shape("square", 4)], {"t": Drawing.Shape("triangle", 3)}),
    "Folder": Folder(Order(1, ["x"]), [Reading("a", 1.0), Reading("b")]),
    "OutOfStock": OutOfStock("tea", 3),
}
BOTH_READ = {
    "bool": True,
    "int": -7,
    "big int": 2**70,
    "float": 0.1 + 0.2,
    "nan": float("nan"),
    "str": 'grüße 世界 😀 \x00 " \\',
    "lone surrogate": "\ud800",
    "none": None,
    "dict": {"b": 1, "a": {"c": [None, True]}},
    "list": [1, "a", None],
    "tuple": (1, "a"),
    **OBJECTS,
}


PAIRS = [("0.2.2", "0.7.0"), ("0.7.0", "0.2.2")]


@pytest.fixture(params=PAIRS, ids="->".join)
def pair(request: pytest.FixtureRequest, start: Start) -> tuple[Peer, Peer]:
    sender, receiver = request.param
    return start(sender), start(receiver)


@pytest.fixture(params=PAIRS, ids="->".join, scope="module")
def lasting_pair(request: pytest.FixtureRequest) -> Iterator[tuple[Peer, Peer]]:
    """For the long tables: starting two processes for every row would be most of the time."""
    sender, receiver = request.param
    with Server() as server, Peer(server, sender) as one, Peer(server, receiver) as other:
        yield one, other


def test_peers_run_the_versions_they_are_named_after(pair: tuple[Peer, Peer]) -> None:
    assert [peer.ready["pymq"] for peer in pair] == [peer.kind for peer in pair]


def test_an_event_reaches_the_subscriber_of_its_channel(pair: tuple[Peer, Peer]) -> None:
    sender, receiver = pair
    receiver.subscribe("news")
    for value in BOTH_READ.values():
        assert sender.publish(value, "news") == 1
    assert receiver.received(len(BOTH_READ)) == [describe(value) for value in BOTH_READ.values()]


@pytest.mark.parametrize("name", OBJECTS)
def test_a_typed_event_reaches_a_callback_with_its_hint(
    lasting_pair: tuple[Peer, Peer], name: str
) -> None:
    sender, receiver = lasting_pair
    receiver.subscribe(f"shared_types.{name}", type=name)
    assert sender.publish(OBJECTS[name]) == 1
    assert receiver.received(1) == [describe(OBJECTS[name])]


def test_the_default_channel_of_a_callback_is_the_full_name_of_its_hint(
    pair: tuple[Peer, Peer], server: Server
) -> None:
    sender, receiver = pair
    receiver.do("subscribe", subscription="typed", type="Reading")
    wait_until(lambda: server.subscribers("shared_types.Reading") == 1, "it is subscribed")
    assert sender.publish(Reading("a", 1.0)) == 1
    assert receiver.received(1) == [describe(Reading("a", 1.0))]


def test_a_hint_wins_over_the_tag_and_coerces(pair: tuple[Peer, Peer]) -> None:
    sender, receiver = pair
    receiver.subscribe("numbers", type="int")
    sender.publish("42", "numbers")
    assert receiver.received(1) == [42]


def test_attributes_without_annotation_are_lost(pair: tuple[Peer, Peer]) -> None:
    # Surprise: they are on the wire, and the reader leaves them there.
    sender, receiver = pair
    receiver.subscribe("news")
    sender.publish(Loose("a", 2), "news")
    sender.publish(with_fields(Reading("b", 1.0), extra=1), "news")
    assert receiver.received(2) == [describe(Loose()), describe(Reading("b", 1.0))]


def test_an_object_of_a_nested_class_arrives_as_a_dict(pair: tuple[Peer, Peer]) -> None:
    # Surprise: the tag is built from __name__, so it names a class that is not there.
    sender, receiver = pair
    receiver.subscribe("news")
    sender.publish(Drawing.Shape("square", 4), "news")
    assert receiver.received(1) == [describe({"kind": "square", "sides": 4})]


def test_a_pattern_sees_every_channel_that_matches(pair: tuple[Peer, Peer]) -> None:
    sender, receiver = pair
    receiver.subscribe("news.*", pattern=True)
    assert sender.publish(1, "news.sports") == 1
    assert sender.publish(2, "weather") == 0
    assert sender.publish(3, "news.art") == 1
    assert receiver.received(2) == [1, 3]


def test_an_exact_and_a_pattern_subscription_both_see_an_event(pair: tuple[Peer, Peer]) -> None:
    sender, receiver = pair
    receiver.subscribe("news.a")
    receiver.subscribe("news.?", pattern=True)
    assert sender.publish("x", "news.a") == 2
    assert receiver.received(2) == ["x", "x"]


def test_an_unsubscribed_channel_is_gone_from_the_server(
    pair: tuple[Peer, Peer], server: Server
) -> None:
    # The other subscription matters: with its last one gone the bus of 0.2.2 ends for good.
    sender, receiver = pair
    receiver.subscribe("kept")
    receiver.subscribe("left")
    receiver.do("unsubscribe", subscription="left", channel="left")
    wait_until(lambda: server.subscribers("left") == 0, "it is unsubscribed")
    assert sender.publish(1, "left") == 0
    assert sender.publish(2, "kept") == 1
    assert receiver.received(1) == [2]


def test_events_of_one_publisher_arrive_in_order(pair: tuple[Peer, Peer]) -> None:
    sender, receiver = pair
    receiver.subscribe("count")
    for number in range(100):
        sender.publish(number, "count")
    assert receiver.received(100) == list(range(100))


@pytest.mark.parametrize("name", BOTH_READ)
def test_a_queue_item_arrives_as_it_was_put(lasting_pair: tuple[Peer, Peer], name: str) -> None:
    sender, receiver = lasting_pair
    sender.put("work", BOTH_READ[name])
    assert receiver.get("work") == describe(BOTH_READ[name])


@pytest.mark.parametrize("name", BOTH_READ)
def test_encode_and_decode_of_a_peer_are_what_its_queue_does(
    lasting_pair: tuple[Peer, Peer], name: str
) -> None:
    for peer in lasting_pair:
        encoded = peer.do("encode", value=describe(BOTH_READ[name]))
        assert peer.do("decode", hex=encoded) == describe(BOTH_READ[name])
        peer.put("encoded", BOTH_READ[name])
        written = peer.server.command("RPOP", PREFIX + "encoded")
        assert written == bytes.fromhex(encoded)


def test_a_queue_is_first_in_first_out(pair: tuple[Peer, Peer]) -> None:
    sender, receiver = pair
    for number in range(10):
        sender.put("work", number)
    assert receiver.do("qsize", queue="work") == 10
    assert [receiver.get("work") for _ in range(10)] == list(range(10))


def test_a_waiting_get_is_woken_by_a_put(pair: tuple[Peer, Peer], server: Server) -> None:
    sender, receiver = pair
    waiting = receiver.begin("get", queue="work")
    wait_until(lambda: server.blocked_clients() == 1, "the get waits")
    assert not waiting.done()
    sender.put("work", "item")
    assert waiting.result() == "item"


def test_a_get_on_an_empty_queue_times_out_with_empty(pair: tuple[Peer, Peer]) -> None:
    for peer in pair:
        with pytest.raises(PeerFailed) as failure:
            peer.get("work", timeout=1)
        assert failure.value.name == "_queue.Empty"


def test_get_nowait_of_0_2_2_takes_an_item_and_loses_it(start: Start) -> None:
    # Surprise, and the reason why only blocking gets are tried with 0.2.2.
    old, new = start("0.2.2"), start("0.7.0")
    new.put("work", "first")
    new.put("work", "second")
    with pytest.raises(PeerFailed) as failure:
        old.do("get_nowait", queue="work")
    assert failure.value.name == "json.decoder.JSONDecodeError"
    assert new.do("get_nowait", queue="work") == "second"


@pytest.mark.parametrize(
    ("value", "bytes_sent", "read_by_old"),
    [
        ([[1, 2], [3]], b'{"__list": [[1, 2], [3]], "__type": "list"}', []),
        (
            [{"a": 1}],
            b'{"__list": [{"a": 1}], "__type": "dict"}',
            {"__list": [{"a": 1}]},
        ),
        ([(1, 2)], b'{"__list": [[1, 2]], "__type": "tuple"}', ()),
        ([None, 1], b'{"__list": [null, 1], "__type": "NoneType"}', {"__list": [None, 1]}),
    ],
    ids=["lists", "dicts", "tuples", "none"],
)
def test_a_tagged_list_of_0_7_0_turns_into_something_wrong_at_0_2_2(
    start: Start, server: Server, value: Any, bytes_sent: bytes, read_by_old: Any
) -> None:
    # Surprise: 0.2.2 does not know __list, drops the tag, and hands over what its class makes of
    # the rest, without an error.
    old, new = start("0.2.2"), start("0.7.0")
    new.put("work", value)
    assert server.command("LRANGE", PREFIX + "work", 0, -1) == [bytes_sent]
    assert old.get("work") == describe(read_by_old)


def test_a_list_that_starts_with_none_cannot_be_read_by_its_own_writer(start: Start) -> None:
    # Surprise: 0.7.0 tags it as a list of NoneType, and building one of those fails.
    new = start("0.7.0")
    new.put("work", [None, 1])
    with pytest.raises(PeerFailed) as failure:
        new.get("work")
    assert failure.value.name == "TypeError"


def test_plain_lists_of_lists_and_dicts_are_read_by_both(start: Start, server: Server) -> None:
    for kind in recording.VERSIONS:
        peer = start(kind)
        for text in ("[[1, 2], [3]]", '[{"a": 1}]', "[null, 1]"):
            server.command("LPUSH", PREFIX + "work", text)
        read = [build(peer.get("work")) for _ in range(3)]
        assert read == [[[1, 2], [3]], [{"a": 1}], [None, 1]]


def test_sets_are_read_by_both_and_written_by_0_7_0_only(start: Start) -> None:
    old, new = start("0.2.2"), start("0.7.0")
    new.put("work", {1, 2})
    assert old.get("work") == describe({1, 2})
    with pytest.raises(PeerFailed) as failure:
        old.put("work", {1, 2})
    assert failure.value.name == "TypeError"


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        ("product", (2, 4), 8),
        ("product", ("2", 4.0), 8),
        ("product", (2, 4, 6), 8),
        ("join_words", ("hello",), "hello world"),
        ("echo", ("grüße",), "grüße"),
        ("echo", (None,), None),
        ("echo", ((1, 2),), [1, 2]),
        ("echo", ({"a": [1, None]},), {"a": [1, None]}),
        ("doubled", (Reading("a", 21.0),), 42.0),
        ("make_reading", ("attic",), Reading("attic", 36.6)),
        ("make_nothing", (), None),
        ("make_list", (3,), [0, 1, 2]),
        ("make_dict", ("k",), {"k": 1, "other": 2}),
        ("make_tuple", (1, "x"), (1, "x")),
        ("slow", (0.2,), None),
    ],
    ids=str,
)
def test_a_call_returns_the_result_of_the_remote(
    lasting_pair: tuple[Peer, Peer], function: str, args: tuple[Any, ...], result: Any
) -> None:
    caller, provider = lasting_pair
    channel = f"{function}{args!r}"
    provider.expose(function, channel)
    expected = provider.name if function == "slow" else result
    assert caller.call(channel, *args) == describe(expected)


def test_objects_in_a_list_result_stay_dicts(pair: tuple[Peer, Peer]) -> None:
    # Surprise: the result is tagged "list", whatever the return hint says.
    caller, provider = pair
    provider.expose("make_readings")
    expected = [{"sensor": "sensor0", "celsius": 0.0}]
    assert caller.call("shared_types.make_readings", 1) == describe(expected)


def test_a_remote_has_the_name_it_is_exposed_under(pair: tuple[Peer, Peer]) -> None:
    caller, provider = pair
    provider.expose("product", "multiply")
    assert caller.call("multiply", 2, 4) == 8


def test_keyword_arguments_travel_and_are_dropped(pair: tuple[Peer, Peer], server: Server) -> None:
    # Surprise: no error, the default of the remote is used.
    caller, provider = pair
    provider.expose("join_words")
    with server.capture("shared_types.join_words") as capture:
        result = caller.call("shared_types.join_words", "hello", kwargs={"second": "you"})
        assert b'["hello"], {"second": "you"}]' in capture.message()[1]
    assert result == "hello world"


@pytest.mark.parametrize(
    ("function", "args", "arguments"),
    [
        ("fail", (404,), ["ValueError", "no such order", 404]),
        ("fail_of_stock", ("tea",), ["shared_types.OutOfStock", "tea"]),
    ],
)
def test_a_call_raises_what_the_remote_has_raised(
    pair: tuple[Peer, Peer], function: str, args: tuple[Any, ...], arguments: list[Any]
) -> None:
    caller, provider = pair
    provider.expose(function)
    with pytest.raises(PeerFailed) as failure:
        caller.call(f"shared_types.{function}", *args)
    assert failure.value.name == "pymq.exceptions.RemoteInvocationError"
    assert failure.value.bases[0] == "pymq.exceptions.RpcException"
    assert failure.value.arguments == arguments


def test_a_call_times_out_with_an_error_of_that_name(pair: tuple[Peer, Peer]) -> None:
    caller, provider = pair
    provider.expose("held")
    with pytest.raises(PeerFailed) as failure:
        caller.call("shared_types.held", timeout=1)
    assert failure.value.name == "pymq.exceptions.RemoteInvocationError"
    assert failure.value.arguments == ["TimeoutError", "Gave up waiting after 1"]
    provider.do("release")


def test_a_call_to_nobody_returns_nothing(pair: tuple[Peer, Peer]) -> None:
    for peer in pair:
        assert peer.call("shared_types.product", 2, 4) is None
        assert peer.call("shared_types.product", 2, 4, multi=True) == []
        with pytest.raises(PeerFailed) as failure:
            peer.call("shared_types.product", 2, 4, rpc=True)
        assert failure.value.name == "pymq.exceptions.NoSuchRemoteError"
        assert failure.value.arguments == ["shared_types.product"]


@pytest.mark.parametrize("caller", recording.VERSIONS)
def test_a_multi_call_returns_the_answer_of_every_provider(start: Start, caller: str) -> None:
    providers = [start("0.2.2", "old"), start("0.7.0", "new"), start("0.7.0", "newer")]
    for provider in providers:
        provider.expose("who")
    results = start(caller, "caller").call("shared_types.who", multi=True)
    assert sorted(results) == ["new", "newer", "old"]
    assert [provider.do("ran") for provider in providers] == [["who"]] * 3


@pytest.mark.parametrize("caller", recording.VERSIONS)
def test_errors_stand_in_the_list_of_a_multi_call(start: Start, caller: str) -> None:
    provider = start("0.2.2", "provider")
    provider.expose("fail")
    [error] = start(caller, "caller").call("shared_types.fail", 1, multi=True)
    assert error == {
        "exception": "pymq.exceptions.RemoteInvocationError",
        "args": ["ValueError", "no such order", 1],
    }


def test_a_call_without_multi_is_executed_by_every_provider(start: Start, server: Server) -> None:
    # Surprise: the caller takes one answer, the others stay on the server until they expire.
    providers = [start("0.2.2", "old"), start("0.7.0", "new")]
    for provider in providers:
        provider.expose("who")
    assert start("0.7.0", "caller").call("shared_types.who") in ("old", "new")
    wait_until(lambda: all(provider.do("ran") == ["who"] for provider in providers), "all ran it")
    # A provider notes that it ran before it answers.
    wait_until(lambda: server.command("KEYS", PREFIX + "__rpc_*") != [], "an answer is left over")
    keys = server.command("KEYS", PREFIX + "__rpc_*")
    assert isinstance(keys, list)
    assert len(keys) == 1


def test_a_multi_call_takes_every_subscriber_for_a_provider(start: Start, server: Server) -> None:
    # Surprise: somebody who only listens makes the caller wait for an answer that never comes.
    caller, provider = start("0.7.0", "caller"), start("0.2.2", "provider")
    provider.expose("product")

    def one_is_missed(timeout: int) -> bool:
        missed = {
            "exception": "pymq.exceptions.RemoteInvocationError",
            "args": ["TimeoutError", f"Gave up waiting after {timeout}"],
        }
        results = caller.call("shared_types.product", 2, 4, timeout=timeout, multi=True)
        assert missed in results
        return bool(results == [8, missed])

    with server.capture("*"):
        # The provider answers at once, which is in time where both can run.
        assert any(one_is_missed(timeout) for timeout in lengths(1))


def test_only_0_7_0_can_unexpose(start: Start, server: Server) -> None:
    old, new = start("0.2.2"), start("0.7.0")
    new.expose("product")
    new.do("unexpose", channel="shared_types.product")
    wait_until(lambda: server.subscribers("shared_types.product") == 0, "it is unexposed")
    assert old.call("shared_types.product", 2, 4) is None
    with pytest.raises(PeerFailed) as failure:
        old.do("unexpose", channel="shared_types.product")
    assert failure.value.name == "AttributeError"


@pytest.mark.parametrize("version", recording.VERSIONS)
def test_the_goldens_are_what_the_original_writes_today(version: str) -> None:
    recorded, kept = (
        {
            (golden["kind"], golden["name"]): golden
            for golden in goldens
            if golden["name"] not in INTERPRETER_DEPENDENT
        }
        for goldens in (recording.record(version), recording.load(version))
    )
    assert recorded == kept


@pytest.mark.parametrize("version", recording.VERSIONS)
def test_the_goldens_hold_every_sample(version: str) -> None:
    names = {(golden["kind"], golden["name"]) for golden in recording.load(version)}
    samples: dict[str, Mapping[str, Any]] = {
        "event": EVENTS,
        "item": ITEMS,
        "request": REQUESTS,
        "reply": REPLIES,
    }
    assert names == {(kind, name) for kind, named in samples.items() for name in named}


@pytest.mark.parametrize("name", [name for name, text in ITEMS.items() if "__import__" not in text])
def test_a_description_describes_what_it_builds(name: str) -> None:
    sent = next(golden["sent"] for golden in recording.load("0.7.0") if golden["name"] == name)
    if isinstance(sent, dict) and sent.keys() & {"class", "function", "other"}:
        with pytest.raises((ValueError, AttributeError)):
            build(sent)
    else:
        assert describe(build(sent)) == sent


def test_a_peer_that_dies_is_reported_with_what_it_wrote(server: Server) -> None:
    def use(peer: Peer) -> None:
        with peer:
            waiting = peer.begin("get", queue="work")
            wait_until(lambda: server.blocked_clients() == 1, "the get waits")
            peer.kill()
            waiting.result()

    with pytest.raises(AssertionError, match=r"peer victim ended; it wrote"):
        use(Peer(server, "0.7.0", "victim"))


def test_nothing_of_a_server_is_left_behind() -> None:
    def its_port_is_free() -> bool:
        with Server() as server:
            folder = server.folder
            assert (folder / "redis.sock").exists()
            port = server.port
        assert not folder.exists()
        try:
            with Connection(port):
                return False
        except ConnectionRefusedError:
            return True

    # A stranger may have it at once.
    assert any(its_port_is_free() for _ in range(5))
