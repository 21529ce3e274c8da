"""Several providers of one function, of several kinds: who executes, and who is waited for."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from fixtures import server, start
from resp import Capture
from rig import NEW, OLD, PREFIX, Peer, PeerFailed, Server, lengths, wait_until

__all__ = ["server", "start"]

Start = Callable[..., Peer]

ALL = (*NEW, *OLD)
MIXED = [("rust", "0.2.2"), ("rust", "0.7.0"), ("python", "0.2.2"), ("python", "0.7.0"), ALL]


class Cast:
    """A provider and a caller of each kind on one server, for a whole file of tests.

    Each test has a function name of its own; what has run is counted from its beginning.
    """

    def __init__(self, server: Server, providers: list[Peer], callers: list[Peer]) -> None:
        self.server = server
        self.callers = {peer.kind: peer for peer in callers}
        self._providers = {peer.kind: peer for peer in providers}
        self._numbers = itertools.count()

    def begin(self) -> None:
        self.name = f"function{next(self._numbers)}"
        self._before = {kind: len(peer.do("ran")) for kind, peer in self._providers.items()}

    def expose(self, kinds: Iterable[str], function: str = "who") -> None:
        for kind in kinds:
            self._providers[kind].expose(function, self.name)

    def ran(self, *kinds: str) -> list[int]:
        """How many calls each has executed in this test."""
        return [len(self._providers[kind].do("ran")) - self._before[kind] for kind in kinds]


@pytest.fixture(scope="module")
def lasting_cast() -> Iterator[Cast]:
    with Server() as server, contextlib.ExitStack() as stack:
        providers = [stack.enter_context(Peer(server, kind)) for kind in ALL]
        callers = [stack.enter_context(Peer(server, kind, f"{kind} caller")) for kind in ALL]
        yield Cast(server, providers, callers)


@pytest.fixture
def cast(lasting_cast: Cast) -> Cast:
    lasting_cast.begin()
    return lasting_cast


def answers_within(timeout: int, caller: Peer, name: str) -> list[Any]:
    """What a call to all gives; nothing where its time was over before it knew who is asked."""
    try:
        answers: list[Any] = caller.call(name, timeout=timeout, multi=True)
    except PeerFailed as failure:
        if failure.arguments[:1] != ["TimeoutError"]:
            raise
        return []
    return answers


def is_remote_error(value: Any) -> bool:
    return isinstance(value, dict) and value.get("exception", "").startswith("pymq.exceptions.")


@pytest.mark.parametrize("kinds", MIXED, ids="+".join)
@pytest.mark.parametrize("caller", ALL)
def test_a_call_to_all_is_executed_and_answered_once_by_each(
    cast: Cast, caller: str, kinds: tuple[str, ...]
) -> None:
    cast.expose(kinds)
    for times in (1, 2, 3):
        assert sorted(cast.callers[caller].call(cast.name, multi=True)) == sorted(kinds)
        assert cast.ran(*kinds) == [times] * len(kinds)


@pytest.mark.parametrize("kinds", MIXED, ids="+".join)
@pytest.mark.parametrize("caller", NEW)
def test_a_call_of_ours_is_executed_by_one_of_ours_where_there_is_one(
    cast: Cast, caller: str, kinds: tuple[str, ...]
) -> None:
    cast.expose(kinds)
    calling = cast.callers[caller]
    for _ in range(20):
        assert calling.call(cast.name) in NEW
    assert sum(cast.ran(*(kind for kind in kinds if kind in NEW))) == 20
    # A request that an original had received would have been run before this one.
    assert sorted(calling.call(cast.name, multi=True)) == sorted(kinds)
    assert set(cast.ran(*(kind for kind in kinds if kind in OLD))) == {1}


@pytest.mark.parametrize("caller", NEW)
def test_where_only_originals_provide_all_execute_and_one_answer_counts(
    cast: Cast, caller: str
) -> None:
    cast.expose(OLD)
    assert cast.callers[caller].call(cast.name) in OLD
    wait_until(lambda: cast.ran(*OLD) == [1, 1], "both have run it")


@pytest.mark.parametrize("kinds", MIXED, ids="+".join)
@pytest.mark.parametrize("caller", OLD)
def test_a_call_of_an_original_is_executed_by_all_as_ever(
    cast: Cast, caller: str, kinds: tuple[str, ...]
) -> None:
    cast.expose(kinds)
    assert cast.callers[caller].call(cast.name) in kinds
    wait_until(lambda: cast.ran(*kinds) == [1] * len(kinds), "all have run it")


def test_of_several_providers_of_ours_exactly_one_executes_each_call(start: Start) -> None:
    peers = [start(kind, f"{kind} {number}") for number, kind in enumerate((*NEW, "rust"))]
    for peer in peers:
        peer.expose("who")
    for caller in [start(kind, f"{kind} caller") for kind in NEW]:
        before = [len(peer.do("ran")) for peer in peers]
        pending = [caller.begin_call("shared_types.who") for _ in range(200)]
        answers = [call.result() for call in pending]
        # One that stood still when it was asked for is found again.
        while {peer.name for peer in peers} != set(answers) and len(answers) < 100_000:
            answers.append(caller.call("shared_types.who"))
        assert {peer.name for peer in peers} == set(answers)
        executed = [len(peer.do("ran")) - past for peer, past in zip(peers, before, strict=True)]
        assert executed == [answers.count(peer.name) for peer in peers]


@pytest.mark.parametrize("kinds", MIXED, ids="+".join)
@pytest.mark.parametrize("caller", NEW)
def test_errors_stand_in_the_list_of_a_call_to_all(
    cast: Cast, caller: str, kinds: tuple[str, ...]
) -> None:
    cast.expose(kinds, "fail")
    errors = cast.callers[caller].call(cast.name, 404, multi=True)
    assert len(errors) == len(kinds)
    assert all(is_remote_error(error) for error in errors), errors
    assert [error["args"][0] for error in errors] == ["ValueError"] * len(kinds)


@pytest.mark.parametrize("late", ALL)
@pytest.mark.parametrize("caller", NEW)
def test_who_has_not_answered_a_call_to_all_in_time_stands_in_the_list(
    start: Start, caller: str, late: str
) -> None:
    slow, prompt = start(late, "slow"), start("0.7.0" if late in OLD else "rust", "prompt")
    slow.expose("held", "function")
    prompt.expose("who", "function")
    calling = start(caller, "caller")

    def one_is_late(timeout: int) -> bool:
        answers = answers_within(timeout, calling, "function")
        late = [answer for answer in answers if answer != "prompt"]
        assert all(is_remote_error(answer) for answer in late)
        assert [answer["args"][0] for answer in late] == ["TimeoutError"] * len(late)
        return answers == ["prompt", *late] and len(late) == 1

    # Who answers at once is in time where all can run.
    assert any(one_is_late(timeout) for timeout in lengths(1))
    slow.do("release")


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
    cast: Cast, caller: str, kinds: tuple[str, ...]
) -> None:
    # Nothing limits the call, so one that waited for a spy would not end.
    cast.expose(kinds)
    calling = cast.callers[caller]
    with spies(cast.server):
        assert sorted(calling.call(cast.name, multi=True)) == sorted(kinds)
        assert calling.call(cast.name) in kinds
        assert calling.call("nobody") is None
        assert calling.call("nobody", multi=True) == []
    assert sum(cast.ran(*kinds)) == len(kinds) + 1


@pytest.mark.parametrize("provider", NEW)
@pytest.mark.parametrize("caller", NEW)
def test_a_foreign_subscriber_of_the_channel_itself_is_no_provider(
    cast: Cast, caller: str, provider: str
) -> None:
    cast.expose([provider])
    calling = cast.callers[caller]
    with spies(cast.server, cast.name) as [*_, exact]:
        assert calling.call(cast.name) == provider

        def answered(timeout: int) -> bool:
            # It cannot be told from an original, so it is waited for, but never missed.
            return answers_within(timeout, calling, cast.name) == [provider]

        assert any(answered(timeout) for timeout in lengths(1))
        assert exact.has_message()
    assert cast.ran(provider)[0] >= 2


@pytest.mark.parametrize("caller", NEW)
def test_originals_are_heard_beside_a_foreign_subscriber(cast: Cast, caller: str) -> None:
    kinds = ["0.2.2", "0.7.0", "rust"]
    cast.expose(kinds)
    calling, calls = cast.callers[caller], []
    with spies(cast.server, cast.name):

        def all_are_heard(timeout: int) -> bool:
            calls.append(answers_within(timeout, calling, cast.name))
            return sorted(map(str, calls[-1])) == kinds

        # Each of them answers at once, which is in time where all can run.
        assert any(all_are_heard(timeout) for timeout in lengths(1))
    # A call whose time was over may not have been sent to each of them.
    wait_until(lambda: min(cast.ran(*kinds)) >= 1, "each has run the call")
    assert max(cast.ran(*kinds)) <= len(calls)


@pytest.mark.parametrize("receiver", ALL)
@pytest.mark.parametrize("sender", ALL)
def test_foreign_subscribers_see_what_the_original_would_show_them(
    cast: Cast, sender: str, receiver: str
) -> None:
    listening, sending, server = cast.callers[receiver], cast.callers[sender], cast.server
    listening.subscribe(cast.name)
    with server.capture(cast.name[:-1] + "*") as pattern, server.listen(cast.name) as exact:
        assert sending.publish("hello", cast.name) == 3
        assert pattern.message() == exact.message() == (PREFIX + cast.name, b'"hello"')
    assert listening.received(1) == ["hello"]


@pytest.mark.parametrize("kind", NEW)
def test_a_provider_that_left_is_missing_at_once_and_others_go_on(start: Start, kind: str) -> None:
    leaving, staying = start(kind, "leaving"), start("rust", "staying")
    for peer in (leaving, staying):
        peer.expose("who")
    caller = start("rust", "caller")
    assert sorted(caller.call("shared_types.who", multi=True)) == ["leaving", "staying"]
    leaving.do("unexpose", channel="shared_types.who")
    assert caller.call("shared_types.who", multi=True) == ["staying"]
    assert [caller.call("shared_types.who") for _ in range(5)] == ["staying"] * 5
    staying.do("unexpose", channel="shared_types.who")
    with pytest.raises(PeerFailed) as failure:
        caller.call("shared_types.who", rpc=True)
    assert failure.value.name == "pymq.exceptions.NoSuchRemoteError"
