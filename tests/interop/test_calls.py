"""Calls between every two peers of which at least one is ours: the sender calls."""

from typing import Any

import pytest

from description import describe
from expected import arrives, plain, same
from fixtures import server, start
from pairs import Pair, lasting_pair, pair
from rig import NEW, OLD, Peer, PeerFailed
from shared_types import Point, Reading

__all__ = ["lasting_pair", "pair", "server", "start"]

REMOTE_ERROR = "pymq.exceptions.RemoteInvocationError"

CALLS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("product", (2, 4), 8),
    ("join_words", ("hello",), "hello world"),
    ("join_words", ("hello", "you"), "hello you"),
    ("echo", ("grüße",), "grüße"),
    ("echo", (None,), None),
    ("echo", (True,), True),
    ("echo", (0.5,), 0.5),
    ("echo", ([1, [2, None]],), [1, [2, None]]),
    ("echo", ({"a": [1, None]},), {"a": [1, None]}),
    ("echo", ({"__type": "x", "a": 1},), {"__type": "x", "a": 1}),
    ("doubled", (Reading("a", 21.0),), 42.0),
    ("make_reading", ("attic",), Reading("attic", 36.6)),
    ("make_nothing", (), None),
    ("make_list", (3,), [0, 1, 2]),
    ("make_dict", ("k",), {"k": 1, "other": 2}),
    ("make_tuple", (1, "x"), (1, "x")),
]


def returned(value: Any, pair: Pair) -> Any:
    """How the caller sees what the function has returned."""
    caller, provider = pair.kinds
    return arrives(value, provider, caller)


@pytest.mark.parametrize(("function", "args", "result"), CALLS, ids=str)
def test_a_call_returns_the_result_of_the_remote(
    pair: Pair, function: str, args: tuple[Any, ...], result: Any
) -> None:
    pair.receiver.expose(function, pair.name)
    received, expected = pair.sender.call(pair.name, *args), returned(result, pair)
    assert same(received, expected), (received, expected)
    assert function in pair.receiver.do("ran")


def test_a_call_finds_a_function_by_its_full_name(pair: Pair) -> None:
    pair.receiver.expose("make_dict")
    assert same(pair.sender.call("shared_types.make_dict", "k"), describe({"k": 1, "other": 2}))


def test_classes_inside_a_result_survive_where_both_sides_can(pair: Pair) -> None:
    # The original sends them as dicts; so does Rust, where a type of the caller gives them shape.
    pair.receiver.expose("make_readings", pair.name)
    readings = [Reading("sensor0", 0.0)]
    expected = describe(readings)
    if pair.kinds != ("python", "python"):
        expected = plain(expected)
    assert same(pair.sender.call(pair.name, 1), expected)


@pytest.mark.parametrize("value", [(1, 2), Point(1, 2), Reading("a", 1.0), {"t": (1,)}], ids=str)
def test_arguments_keep_their_types_where_both_sides_can(pair: Pair, value: Any) -> None:
    pair.receiver.expose("echo", pair.name)
    expected = describe(value)
    if pair.kinds != ("python", "python"):
        expected = plain(expected)
    assert same(pair.sender.call(pair.name, value), expected)


def test_a_hint_gives_a_big_integer_to_a_remote_exactly(pair: Pair) -> None:
    # Where nothing says otherwise, Rust reads numbers of up to 64 bits.
    pair.receiver.expose("product", pair.name)
    big = 2**31 * 2**31
    assert pair.sender.call(pair.name, 2**31, 2**31) == describe(big)


def test_a_call_raises_what_the_remote_has_raised(pair: Pair) -> None:
    for function, args, python, rust in (
        ("fail", (404,), ["ValueError", "no such order", 404], ["ValueError", "no such order 404"]),
        ("fail_of_stock", ("tea",), ["shared_types.OutOfStock", "tea"], ["OutOfStock", "tea"]),
    ):
        pair.receiver.expose(function, f"{pair.name}.{function}")
        with pytest.raises(PeerFailed) as failure:
            pair.sender.call(f"{pair.name}.{function}", *args)
        assert failure.value.name == REMOTE_ERROR
        assert failure.value.bases[0] == "pymq.exceptions.RpcException"
        assert failure.value.arguments == (rust if pair.receiver.kind == "rust" else python)


def test_a_call_that_fits_no_signature_is_an_error_and_the_next_one_is_served(pair: Pair) -> None:
    pair.receiver.expose("product", pair.name)
    for wrong in ((), (2,), ("two", 4)):
        with pytest.raises(PeerFailed) as failure:
            pair.sender.call(pair.name, *wrong)
        assert failure.value.name == REMOTE_ERROR
        assert failure.value.arguments[0] in ("TypeError", "ValueError", "DecodeError")
    assert pair.sender.call(pair.name, 2, 4) == 8


def test_a_call_times_out_and_the_provider_goes_on_serving(pair: Pair) -> None:
    pair.receiver.expose("held", f"{pair.name}.held")
    with pytest.raises(PeerFailed) as failure:
        pair.sender.call(f"{pair.name}.held", timeout=1)
    assert REMOTE_ERROR in (failure.value.name, *failure.value.bases)
    assert failure.value.arguments[0] == "TimeoutError"
    pair.receiver.do("release")
    pair.receiver.expose("product", pair.name)
    assert pair.sender.call(pair.name, 2, 4) == 8


def test_a_call_to_nobody_returns_nothing(pair: Pair) -> None:
    for peer in (pair.sender, pair.receiver):
        assert peer.call(pair.name, 2, 4) is None
        assert peer.call(pair.name, 2, 4, multi=True) == []
        with pytest.raises(PeerFailed) as failure:
            peer.call(pair.name, 2, 4, rpc=True)
        assert failure.value.name == "pymq.exceptions.NoSuchRemoteError"


def test_an_unexposed_function_is_missing(pair: Pair) -> None:
    if pair.receiver.kind in OLD:
        pytest.skip("a provider of the original: 0.2.2 has no unexpose, 0.7.0 is tried elsewhere")
    pair.receiver.expose("product", pair.name)
    assert pair.sender.call(pair.name, 2, 4) == 8
    pair.receiver.do("unexpose", channel=pair.name)
    assert pair.server.subscribers(pair.name) == 0
    assert pair.sender.call(pair.name, 2, 4) is None


def test_twenty_calls_at_once_get_their_own_answers(pair: Pair) -> None:
    pair.receiver.expose("echo", pair.name)
    pending = [pair.sender.begin_call(pair.name, number) for number in range(20)]
    assert [call.result() for call in pending] == list(range(20))


def test_keyword_arguments_reach_providers_of_ours(pair: Pair) -> None:
    if pair.receiver.kind in OLD:
        pytest.skip("a provider of the original drops them; see the next tests")
    pair.receiver.expose("join_words", pair.name)
    assert pair.sender.call(pair.name, kwargs={"first": "a", "second": "b"}) == "a b"


def test_positional_and_keyword_arguments_mix_where_parameters_have_names(pair: Pair) -> None:
    if pair.receiver.kind in OLD or pair.sender.kind == "rust":
        pytest.skip("originals drop keywords; a stub of Rust takes a tuple or a struct, never both")
    pair.receiver.expose("join_words")
    assert pair.sender.call("shared_types.join_words", "a", kwargs={"second": "b"}) == "a b"
    assert pair.sender.call("shared_types.join_words", "a") == "a world"


@pytest.mark.parametrize("provider", OLD)
@pytest.mark.parametrize("caller", NEW)
@pytest.mark.parametrize("multi", [False, True], ids=["one", "all"])
def test_keyword_arguments_that_an_old_provider_would_drop_are_a_type_error(
    start: Any, caller: str, provider: str, multi: bool
) -> None:
    serving: Peer = start(provider)
    serving.expose("join_words")
    calling: Peer = start(caller, "caller")
    kwargs = {"first": "a", "second": "b"}
    with pytest.raises(PeerFailed) as failure:
        calling.call("shared_types.join_words", kwargs=kwargs, multi=multi)
    assert "TypeError" in (failure.value.name, *failure.value.bases)
    assert serving.do("ran") == []


@pytest.mark.parametrize("provider", OLD)
def test_keyword_arguments_become_positional_where_the_signature_is_known(
    start: Any, provider: str
) -> None:
    serving: Peer = start(provider)
    serving.expose("join_words")
    kwargs = {"second": "b", "first": "a"}
    caller: Peer = start("python", "caller")
    assert caller.call("shared_types.join_words", kwargs=kwargs, known=True) == "a b"
