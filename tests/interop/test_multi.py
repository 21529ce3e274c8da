"""Several providers of one function, of several kinds: who executes, and who is waited for."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from resp import Capture
from rig import NEW, OLD, PREFIX, Peer, PeerFailed, Server, wait_until

Start = Callable[..., Peer]

ALL = (*NEW, *OLD)
MIXED = [("rust", "0.2.2"), ("rust", "0.7.0"), ("python", "0.2.2"), ("python", "0.7.0"), ALL]
WHO = "shared_types.who"


def providers(start: Start, kinds: tuple[str, ...], function: str = "who") -> list[Peer]:
    """One provider of each kind, named after it."""
    peers = [start(kind) for kind in kinds]
    for peer in peers:
        peer.expose(function)
    return peers


def ran(peers: list[Peer]) -> list[int]:
    """How many calls each has executed."""
    return [len(peer.do("ran")) for peer in peers]


def is_remote_error(value: Any) -> bool:
    return isinstance(value, dict) and value.get("exception", "").startswith("pymq.exceptions.")


@pytest.mark.parametrize("kinds", MIXED, ids="+".join)
@pytest.mark.parametrize("caller", ALL)
def test_a_call_to_all_is_executed_and_answered_once_by_each(
    start: Start, caller: str, kinds: tuple[str, ...]
) -> None:
    peers = providers(start, kinds)
    calling = start(caller, "caller")
    for times in (1, 2, 3):
        assert sorted(calling.call(WHO, multi=True)) == sorted(kinds)
        assert ran(peers) == [times] * len(peers)


@pytest.mark.parametrize("kinds", MIXED, ids="+".join)
@pytest.mark.parametrize("caller", NEW)
def test_a_call_of_ours_is_executed_by_one_of_ours_where_there_is_one(
    start: Start, caller: str, kinds: tuple[str, ...]
) -> None:
    peers = providers(start, kinds)
    calling = start(caller, "caller")
    ours = [peer for peer in peers if peer.kind in NEW]
    for _ in range(20):
        assert calling.call(WHO) in NEW
    assert sum(ran(ours)) == 20
    # A request that an original had received would have been run before this one.
    assert sorted(calling.call(WHO, multi=True)) == sorted(kinds)
    assert ran([peer for peer in peers if peer.kind in OLD]) == [1] * (len(peers) - len(ours))


@pytest.mark.parametrize("caller", NEW)
def test_where_only_originals_provide_all_execute_and_one_answer_counts(
    start: Start, caller: str
) -> None:
    peers = providers(start, OLD)
    assert start(caller, "caller").call(WHO) in OLD
    wait_until(lambda: ran(peers) == [1, 1], "both have run it")


@pytest.mark.parametrize("kinds", MIXED, ids="+".join)
@pytest.mark.parametrize("caller", OLD)
def test_a_call_of_an_original_is_executed_by_all_as_ever(
    start: Start, caller: str, kinds: tuple[str, ...]
) -> None:
    peers = providers(start, kinds)
    assert start(caller, "caller").call(WHO) in kinds
    wait_until(lambda: ran(peers) == [1] * len(peers), "all have run it")


@pytest.mark.parametrize("caller", NEW)
def test_of_several_providers_of_ours_exactly_one_executes_each_call(
    start: Start, caller: str
) -> None:
    peers = [start(kind, f"{kind} {number}") for number, kind in enumerate((*NEW, "rust"))]
    for peer in peers:
        peer.expose("who")
    calling = start(caller, "caller")
    pending = [calling.begin_call(WHO) for _ in range(200)]
    answers = [call.result() for call in pending]
    assert {peer.name for peer in peers} == set(answers)
    assert ran(peers) == [answers.count(peer.name) for peer in peers]


@pytest.mark.parametrize("kinds", MIXED, ids="+".join)
@pytest.mark.parametrize("caller", NEW)
def test_errors_stand_in_the_list_of_a_call_to_all(
    start: Start, caller: str, kinds: tuple[str, ...]
) -> None:
    providers(start, kinds, "fail")
    errors = start(caller, "caller").call("shared_types.fail", 404, multi=True)
    assert len(errors) == len(kinds)
    assert all(is_remote_error(error) for error in errors), errors
    assert [error["args"][0] for error in errors] == ["ValueError"] * len(kinds)


@pytest.mark.parametrize("late", ALL)
@pytest.mark.parametrize("caller", NEW)
def test_who_has_not_answered_a_call_to_all_in_time_stands_in_the_list(
    start: Start, caller: str, late: str
) -> None:
    slow = start(late, "slow")
    slow.expose("held", WHO)
    prompt = start("0.7.0" if late in OLD else "rust", "prompt")
    prompt.expose("who")
    answers = start(caller, "caller").call(WHO, timeout=1, multi=True)
    slow.do("release")
    assert len(answers) == 2
    assert answers[0] == "prompt"
    assert answers[1]["args"][0] == "TimeoutError"
    assert is_remote_error(answers[1])


@contextlib.contextmanager
def spies(server: Server, channel: str | None = None) -> Any:
    """Foreigners that listen to everything, and to one channel by its name where one is given."""
    with contextlib.ExitStack() as stack:
        listening = [
            stack.enter_context(Capture(server.port, pattern)) for pattern in ("*", PREFIX + "*")
        ]
        if channel is not None:
            listening.append(stack.enter_context(server.listen(channel)))
        yield listening


@pytest.mark.parametrize("kinds", [("rust",), ("python",), ("0.7.0",), *MIXED], ids="+".join)
@pytest.mark.parametrize("caller", NEW)
def test_foreign_pattern_subscribers_disturb_no_call(
    start: Start, server: Server, caller: str, kinds: tuple[str, ...]
) -> None:
    # Nothing limits the call, so one that waited for a spy would not end.
    peers = providers(start, kinds)
    calling = start(caller, "caller")
    with spies(server):
        assert sorted(calling.call(WHO, multi=True)) == sorted(kinds)
        assert calling.call(WHO) in kinds
        assert calling.call("shared_types.nobody") is None
        assert calling.call("shared_types.nobody", multi=True) == []
    assert sum(ran(peers)) == len(kinds) + 1


@pytest.mark.parametrize("provider", NEW)
@pytest.mark.parametrize("caller", NEW)
def test_a_foreign_subscriber_of_the_channel_itself_is_no_provider(
    start: Start, server: Server, caller: str, provider: str
) -> None:
    [providing] = providers(start, (provider,))
    calling = start(caller, "caller")
    with spies(server, WHO) as [*_, exact]:
        assert calling.call(WHO) == provider
        # It cannot be told from an original, so it is waited for, but never missed.
        assert calling.call(WHO, timeout=1, multi=True) == [provider]
        assert exact.has_message()
    assert ran([providing]) == [2]


@pytest.mark.parametrize("caller", NEW)
def test_originals_are_heard_beside_a_foreign_subscriber(
    start: Start, server: Server, caller: str
) -> None:
    peers = providers(start, ("rust", "0.2.2", "0.7.0"))
    calling = start(caller, "caller")
    with spies(server, WHO):
        answers = calling.call(WHO, timeout=2, multi=True)
    assert sorted(answers) == ["0.2.2", "0.7.0", "rust"]
    assert ran(peers) == [1, 1, 1]


@pytest.mark.parametrize("receiver", ALL)
@pytest.mark.parametrize("sender", ALL)
def test_foreign_subscribers_see_what_the_original_would_show_them(
    start: Start, server: Server, sender: str, receiver: str
) -> None:
    listening, sending = start(receiver, "listening"), start(sender, "sending")
    listening.subscribe("news")
    with server.capture("*") as pattern, server.listen("news") as exact:
        assert sending.publish("hello", "news") == 3
        assert pattern.message() == exact.message() == (PREFIX + "news", b'"hello"')
    assert listening.received(1) == ["hello"]


@pytest.mark.parametrize("kind", NEW)
def test_a_provider_that_left_is_missing_at_once_and_others_go_on(
    start: Start, server: Server, kind: str
) -> None:
    leaving, staying = start(kind, "leaving"), start("rust", "staying")
    for peer in (leaving, staying):
        peer.expose("who")
    caller = start("rust", "caller")
    assert sorted(caller.call(WHO, multi=True)) == ["leaving", "staying"]
    leaving.do("unexpose", channel=WHO)
    assert caller.call(WHO, multi=True) == ["staying"]
    assert [caller.call(WHO) for _ in range(5)] == ["staying"] * 5
    staying.do("unexpose", channel=WHO)
    with pytest.raises(PeerFailed) as failure:
        caller.call(WHO, rpc=True)
    assert failure.value.name == "pymq.exceptions.NoSuchRemoteError"
