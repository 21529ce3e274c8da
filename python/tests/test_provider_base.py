"""The base class in pure Python: remote calls over a subclass's `_publish` and `queue`."""

from __future__ import annotations

import json
import queue
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

import pymq
from conftest import Box
from pymq.json import DeepDictDecoder, DeepDictEncoder
from pymq.provider.base import (
    AbstractEventBus,
    DefaultSkeletonMethod,
    DefaultStubMethod,
    get_remote_name,
    inspect_listener,
    invoke_function,
)


@dataclass
class Parcel:
    weight: int


class JsonQueue:
    """A queue as a provider of the original has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._items: queue.Queue[str] = queue.Queue()

    def put(self, item: Any) -> None:
        self._items.put(json.dumps(item, cls=DeepDictEncoder))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        return json.loads(self._items.get(block, timeout), cls=DeepDictDecoder)


class ThreadBus(AbstractEventBus):
    """A provider as users wrote them for the original."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: dict[str, JsonQueue] = {}
        self.dispatcher = ThreadPoolExecutor(2)
        self.guard = threading.Lock()
        self.calls: dict[str, int] = defaultdict(int)
        self.over = threading.Event()

    def run(self) -> None:
        self.over.wait()

    def close(self) -> None:
        self.dispatcher.shutdown()
        self.over.set()

    def queue(self, name: str) -> Any:
        with self.guard:
            return self.queues.setdefault(name, JsonQueue(name))

    def _publish(self, event: Any, channel: str) -> int:
        callbacks = list(self._subscribers.get((channel, False), []))
        for callback in callbacks:
            self.dispatcher.submit(
                invoke_function, callback, json.dumps(event, cls=DeepDictEncoder)
            )
        return len(callbacks)

    def _subscribe(self, callback: Callable[..., Any], channel: str, pattern: bool) -> None:
        self.calls["subscribe"] += 1

    def _unsubscribe(self, callback: Callable[..., Any], channel: str, pattern: bool) -> None:
        self.calls["unsubscribe"] += 1


@pytest.fixture
def own() -> Iterator[ThreadBus]:
    yield pymq.init(ThreadBus)
    pymq.shutdown()


def test_events_reach_their_subscribers(own: ThreadBus, box: Box) -> None:
    @pymq.subscriber
    def on_parcel(event: Parcel) -> None:
        box.put(event)

    assert pymq.publish(Parcel(3)) == 1
    assert box.take(1) == [Parcel(3)]
    pymq.unsubscribe(on_parcel)
    assert pymq.publish(Parcel(3)) == 0
    assert own.calls == {"subscribe": 1, "unsubscribe": 1}


def test_calls_run_over_publish_and_queue(own: ThreadBus) -> None:
    def heavier(parcel: Parcel, by: int = 1, *, times: int = 1) -> Parcel:
        return Parcel(parcel.weight + by * times)

    pymq.expose(heavier)
    stub = pymq.stub(heavier)
    assert isinstance(stub, DefaultStubMethod)
    assert stub(Parcel(1)) == Parcel(2)
    assert stub(Parcel(1), by=3, times=2) == Parcel(7)
    assert stub.rpc(Parcel(1)).error is False
    with pytest.raises(ValueError, match="already exposed"):
        pymq.expose(heavier)
    pymq.unexpose(heavier)
    assert pymq.stub(heavier)(Parcel(1)) is None


def test_errors_and_timeouts_are_those_of_every_bus(own: ThreadBus) -> None:
    def fail() -> None:
        raise ValueError("because", 3)

    pymq.expose(fail, "fail")
    with pytest.raises(pymq.RemoteInvocationError) as caught:
        pymq.stub("fail")()
    assert caught.value.args == ("ValueError", "because", 3)
    (error,) = pymq.stub("fail", multi=True)()
    assert error.args == ("ValueError", "because", 3)
    pymq.subscribe(lambda request: None, "silent")
    with pytest.raises(pymq.CallTimeoutError):
        pymq.stub("silent", timeout=0.01)()
    with pytest.raises(pymq.NoSuchRemoteError):
        pymq.stub("nobody").rpc()


def test_a_bus_that_does_not_count_cannot_call_all(own: ThreadBus) -> None:
    own._publish = lambda event, channel: None  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(RuntimeError, match="how many"):
        pymq.stub("anything", multi=True)()


def test_the_hooks_of_the_original_are_called(own: ThreadBus) -> None:
    seen: list[str] = []

    class Skeleton(DefaultSkeletonMethod):
        def _queue_response(self, request: Any, response: Any) -> None:
            seen.append(request.fn)
            super()._queue_response(request, response)

    class Stub(DefaultStubMethod):
        def _finalize_response_queue(self, queue: Any) -> None:
            seen.append("finalized")

    own._create_skeleton_method = lambda channel, fn: Skeleton(own, channel, fn)  # type: ignore[method-assign]
    own._create_stub_method = lambda *args: Stub(own, *args)  # type: ignore[method-assign]
    pymq.expose(lambda: 1, "one")
    assert pymq.stub("one")() == 1
    assert seen == ["one", "finalized"]


def test_the_pieces_work_by_themselves(box: Box, caplog: pytest.LogCaptureFixture) -> None:
    def on_parcel(event: Parcel) -> None:
        box.put(event)

    assert inspect_listener(on_parcel) == f"{__name__}.Parcel"
    assert get_remote_name(on_parcel).endswith("<locals>.on_parcel")
    invoke_function(on_parcel, '{"weight": 4}')
    invoke_function(on_parcel, b'{"weight": 5}')
    assert box.items == [Parcel(4), Parcel(5)]
    invoke_function(on_parcel, "{")
    assert "on_parcel" in caplog.text


def test_a_topic_hands_everything_to_its_bus(own: ThreadBus, box: Box) -> None:
    topic = pymq.topic("news")
    topic.subscribe(box.put)
    assert topic.publish("hello") == 1
    assert box.take(1) == ["hello"]
