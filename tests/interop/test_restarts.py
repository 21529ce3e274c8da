"""A server that dies, hangs or drops connections, under peers of ours that are in the middle of it.

Whatever listens goes on listening, what waits goes on waiting, and calls in flight end. A test
waits for the thing itself; what never comes back is a hang that the rig reports.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from fixtures import server, start
from rig import NEW, PREFIX, Peer, PeerFailed, Pending, Server, wait_until

__all__ = ["server", "start"]

Start = Callable[..., Peer]

KINDS = pytest.mark.parametrize("kinds", [*zip(NEW, NEW[::-1], strict=True)], ids="+".join)
"""The peer that is looked at, and the one that it works with."""


@dataclass
class Scene:
    """A peer that listens, serves and waits in every way, another one that calls it, and busy ones.

    Those are apart since a Python peer, as the original, runs one callback at a time.
    """

    server: Server
    peer: Peer
    other: Peer
    waiting_get: Pending
    in_flight: list[tuple[Peer, Pending]]

    def goes_on(self, token: str) -> None:
        """Everything works as if nothing had been."""
        self._is_subscribed()
        for channel in ("news", "some.thing"):
            assert self.server.command("PUBLISH", PREFIX + channel, f'"{token}"') == 1
        assert self.peer.received(2) == [token, token]
        self.peer.publish(f"{token} from it", "others")
        assert self.other.received(1) == [f"{token} from it"]
        assert self.other.call("product", 2, 4) == 8
        assert self.peer.call("echo", token) == token
        self.server.command("LPUSH", PREFIX + "work", f'"{token}"')
        assert self.waiting_get.result() == token
        self.waiting_get = self.peer.begin("get", queue="work")

    def calls_end(self) -> None:
        """With a result or an error, and nothing was run twice."""
        for busy, call in self.in_flight:
            busy.do("release")
            assert said(call) in (busy.name, "an error of ours")
            assert busy.do("ran") == ["held"]

    def _is_subscribed(self) -> None:
        def all_back() -> bool:
            exact = [(self.server.subscribers(name), name) for name in CHANNELS]
            patterns = self.server.pattern_subscriptions()
            return all(count == 1 for count, _ in exact) and patterns == 1

        wait_until(all_back, f"{CHANNELS} and a pattern are subscribed to again")
        for peer in (self.peer, self.other):
            # What is published or called finds no connection while it is being healed.
            wait_until(lambda: put(peer, "healed"), "a put is done again")  # noqa: B023


CHANNELS = ("news", "others", "product", "echo", "busy rust", "busy python")


def said(pending: Pending) -> object:
    """What a command has given, or that it failed with an error that a program can catch."""
    try:
        return pending.result()
    except PeerFailed as failure:
        return "an error of ours" if failure.name.startswith("pymq.") else failure


@pytest.fixture
def scene(server: Server, start: Start, kinds: tuple[str, str]) -> Scene:
    peer, other = start(kinds[0], "peer"), start(kinds[1], "other")
    peer.subscribe("news")
    peer.subscribe("some.*", pattern=True)
    other.subscribe("others")
    peer.expose("product", "product")
    other.expose("echo", "echo")
    in_flight = []
    for kind, caller in zip(NEW, (peer, other), strict=True):
        busy = start(kind, f"busy {kind}")
        busy.expose("held", busy.name)
        in_flight.append((busy, caller.begin_call(busy.name)))
        wait_until(lambda: busy.do("ran") == ["held"], "a call is in flight")  # noqa: B023
    waiting_get = peer.begin("get", queue="work")
    return Scene(server, peer, other, waiting_get, in_flight)


@KINDS
def test_everything_goes_on_after_the_server_was_killed_and_started(scene: Scene) -> None:
    scene.goes_on("before")
    for time in ("once", "twice"):
        scene.server.kill()
        scene.server.start_again()
        scene.goes_on(time)
    scene.calls_end()


@KINDS
def test_everything_goes_on_after_all_connections_were_cut(scene: Scene) -> None:
    for time in range(5):
        assert scene.server.cut() >= 4
        scene.goes_on(f"cut {time}")
    scene.calls_end()


@KINDS
def test_time_limits_hold_while_the_server_hangs_and_everything_goes_on_after(scene: Scene) -> None:
    with scene.server.paused():
        call = scene.peer.begin_call("echo", "x", timeout=1)
        get = scene.peer.begin("get", queue="empty", timeout=1)
        for pending in (call, get):
            with pytest.raises(PeerFailed):
                pending.result()
        publishing = scene.peer.begin("publish", value="late", channel="nobody listens")
    assert said(publishing) in (0, "an error of ours")
    scene.goes_on("after")
    scene.calls_end()


@pytest.mark.parametrize("kind", NEW)
def test_no_item_is_lost_or_doubled_on_connections_that_are_cut(
    server: Server, start: Start, kind: str
) -> None:
    peer = start(kind)
    cuts, got = 0, []
    for number in range(60):
        waiting = peer.begin("get", queue="work")
        if number % 2:
            wait_until(lambda: server.blocked_clients() >= 1, "the get waits")
        server.command("LPUSH", PREFIX + "work", number)
        if number % 3:
            cuts += server.cut() > 0
        got.append(waiting.result())
    assert got == list(range(60))
    assert cuts >= 20
    assert peer.do("qsize", queue="work") == 0


def put(peer: Peer, queue: str) -> bool:
    try:
        peer.begin("put", queue=queue, value=0).result()
    except PeerFailed:
        return False
    return True


@pytest.mark.parametrize("kind", NEW)
def test_a_put_on_a_connection_that_is_cut_is_done_once_or_said_to_have_failed(
    server: Server, start: Start, kind: str
) -> None:
    peer = start(kind)
    done, unknown = [], []
    for number in range(60):
        if number % 3 == 0:
            # A put that does not wait finds no connection while the last cut is being healed.
            wait_until(lambda: put(peer, "healed"), "a put is done again")
        putting = peer.begin("put", queue="work", value=number)
        if number % 3:
            server.cut()
        try:
            putting.result()
            done.append(number)
        except PeerFailed:
            unknown.append(number)
    items = server.command("LRANGE", PREFIX + "work", 0, -1)
    assert isinstance(items, list)
    numbers = [int(item) for item in items[::-1]]  # type: ignore[arg-type]
    assert len(set(numbers)) == len(numbers), "an item was put twice"
    assert set(done) <= set(numbers) <= set(done) | set(unknown)
    assert len(done) >= 20


@pytest.mark.parametrize("kind", NEW)
def test_work_that_waits_for_a_server_begins_when_it_comes(
    server: Server, start: Start, kind: str
) -> None:
    peer = start(kind)
    waiting = peer.begin("get", queue="work")
    wait_until(lambda: server.blocked_clients() == 1, "the get waits")
    server.kill()
    late = peer.begin("get", queue="late", timeout=1)
    with pytest.raises(PeerFailed):
        late.result()
    assert not waiting.done()
    server.start_again()
    server.command("LPUSH", PREFIX + "work", '"item"')
    assert waiting.result() == "item"
