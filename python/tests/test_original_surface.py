"""What the original's versions 0.2.2 to 0.7.0 promise their programs, kept here."""

from __future__ import annotations

import importlib
import inspect
import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import pymq
from conftest import Box, wait_until
from pymq.provider.ipc import IpcQueue
from pymq.provider.simple import SimpleEventBus

Factory = Callable[[], pymq.EventBus]


class Point(NamedTuple):
    x: int
    y: int


class Measured:
    where: Point
    value: float

    def __init__(self, where: Point, value: float) -> None:
        self.where = where
        self.value = value


class Station:
    def __init__(self, box: Box) -> None:
        self.box = box

    def on_measured(self, event: Measured) -> None:
        self.box.put((event.where, event.value))

    def add(self, a: int, b: int = 10) -> int:
        return a + b

    def fail(self, why: str) -> None:
        raise ValueError(why, 3)


# ---- life


def test_every_import_path_of_the_original_is_there() -> None:
    names = {
        "pymq": "Empty EventBus NoSuchRemoteError Queue RemoteInvocationError RpcException "
        "RpcRequest RpcResponse StubMethod Topic expose init publish queue remote shutdown stub "
        "subscribe subscriber topic unexpose unsubscribe __version__ provider name core "
        "exceptions",
        "pymq.core": "Empty Full EventBus Queue RpcRequest RpcResponse StubMethod Topic start init",
        "pymq.exceptions": "NoSuchRemoteError RemoteInvocationError RpcException",
        "pymq.json": "DeepDictDecoder DeepDictEncoder dumps loads",
        "pymq.provider.base": "AbstractEventBus DefaultSkeletonMethod DefaultStubMethod "
        "WrapperTopic get_remote_name inspect_listener invoke_function",
        "pymq.provider.ipc": "IpcConfig IpcEventBus IpcQueue",
        "pymq.provider.redis": "RedisConfig RedisEventBus RedisQueue",
        "pymq.provider.simple": "SimpleEventBus",
        "pymq.typing": "deep_from_dict deep_to_dict fullname is_generic load_class new_instance",
    }
    for module, wanted in names.items():
        found = importlib.import_module(module)
        assert [name for name in wanted.split() if not hasattr(found, name)] == []


def test_the_arguments_are_named_and_ordered_as_ever() -> None:
    wanted = {
        pymq.init: ["factory", "start_bus"],
        pymq.publish: ["event", "channel"],
        pymq.subscribe: ["callback", "channel", "pattern"],
        pymq.unsubscribe: ["callback", "channel", "pattern"],
        pymq.topic: ["name", "pattern"],
        pymq.stub: ["fn", "timeout", "multi"],
        pymq.unexpose: ["fn"],
        pymq.EventBus.subscribe: ["self", "callback", "channel", "pattern"],
        pymq.EventBus.stub: ["self", "fn", "timeout", "multi"],
        pymq.EventBus.expose: ["self", "fn", "channel"],
        pymq.Queue.get: ["self", "block", "timeout"],
        pymq.Queue.put: ["self", "item", "block", "timeout"],
    }
    for fn, parameters in wanted.items():
        assert list(inspect.signature(fn).parameters)[: len(parameters)] == parameters


def test_requests_and_responses_are_the_tuples_they_were() -> None:
    assert pymq.RpcRequest("f", "c") == ("f", "c", None, None)
    assert pymq.RpcResponse("f", 1) == ("f", 1, None, False)
    assert pymq.RpcRequest.__module__ == pymq.RpcResponse.__module__ == "pymq.core"


def test_init_gives_the_bus_that_the_factory_made(factory: Factory) -> None:
    made: list[pymq.EventBus] = []

    def make() -> pymq.EventBus:
        made.append(factory())
        return made[-1]

    assert pymq.init(make) is made[0]


def test_shutdown_without_init_and_twice_does_nothing(factory: Factory) -> None:
    pymq.shutdown()
    pymq.init(factory)
    pymq.shutdown()
    pymq.shutdown()


def test_after_shutdown_init_works_again(factory: Factory, box: Box) -> None:
    for number in range(3):
        pymq.init(factory)
        pymq.subscribe(box.put, "news")
        pymq.publish(number, "news")
        assert box.take(number + 1) == list(range(number + 1))
        pymq.shutdown()


def test_a_bus_that_was_not_started_starts_by_start(factory: Factory, box: Box) -> None:
    pymq.init(factory, start_bus=False)
    pymq.subscribe(box.put, "news")
    pymq.core.start()
    pymq.publish("hello", "news")
    assert box.take(1) == ["hello"]


def test_start_without_init_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="Bus not set"):
        pymq.core.start()


def test_run_serves_until_close(factory: Factory, box: Box) -> None:
    bus = factory()
    bus.subscribe(box.put, "news")
    runner = threading.Thread(target=bus.run)
    runner.start()
    wait_until(lambda: bus.publish("hello", "news") == 1, "it is subscribed")
    assert box.take(1) == ["hello"]
    bus.close()
    runner.join(60)
    assert not runner.is_alive()


def test_run_ends_without_an_error_when_it_is_closed_while_it_begins(
    factory: Factory, box: Box
) -> None:
    bus = factory()
    for number in range(200):
        bus.subscribe(box.put, f"news.{number}")
    runner = threading.Thread(target=bus.run)
    runner.start()
    wait_until(lambda: bus.publish("hello", "news.0") == 1, "the first is subscribed")
    # An exception of the thread fails the test.
    bus.close()
    runner.join(60)
    assert not runner.is_alive()
    with pytest.raises(pymq.ClosedError):
        bus.run()


def test_a_second_init_leaves_the_first_bus_running_until_shutdown(
    factory: Factory, box: Box
) -> None:
    first = pymq.init(factory)
    first.subscribe(box.put, "news")
    second = pymq.init(SimpleEventBus)
    assert second is not first
    first.publish("hello", "news")
    assert box.take(1) == ["hello"]
    pymq.shutdown()
    with pytest.raises(pymq.ClosedError):
        first.publish("hello", "news")


# ---- before init


def test_publish_before_init_logs_an_error_and_gives_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert pymq.publish("hello", "news") is None
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "pymq.init" in caplog.text


@pytest.mark.parametrize("verb", [pymq.queue, pymq.stub, pymq.unexpose])
def test_before_init_these_are_value_errors(verb: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="Bus not set"):
        verb("name")


def test_what_is_declared_before_init_is_bound_when_init_returns(
    factory: Factory, box: Box
) -> None:
    pymq.subscribe(box.put, "news")
    pymq.topic("weather").subscribe(box.put)
    pymq.topic("w*", pattern=True).subscribe(lambda event: box.put(("pattern", event)))

    @pymq.remote("double")
    def double(n: int) -> int:
        return 2 * n

    pymq.init(factory)
    pymq.publish("hello", "news")
    pymq.topic("weather").publish("rain")
    assert sorted(map(str, box.take(3))) == ["('pattern', 'rain')", "hello", "rain"]
    assert pymq.stub("double")(4) == 8


def test_what_is_taken_back_before_init_is_not_bound(factory: Factory) -> None:
    def callback(event: str) -> None: ...

    pymq.subscribe(callback, "news")
    pymq.unsubscribe(callback, "news")
    pymq.init(factory)
    assert pymq.publish("hello", "news") == 0
    pymq.shutdown()
    with pytest.raises(ValueError, match="is not subscribed"):
        pymq.unsubscribe(callback, "news")


def test_shutdown_forgets_what_was_bound(factory: Factory) -> None:
    pymq.subscribe(print, "news")
    pymq.init(factory)
    pymq.shutdown()
    pymq.init(factory)
    assert pymq.publish("hello", "news") == 0


# ---- events


@pytest.mark.usefixtures("original")
class TestEvents:
    def test_a_bound_method_gets_its_class_of_events(self, box: Box) -> None:
        pymq.subscribe(Station(box).on_measured)
        assert pymq.publish(Measured(Point(1, 2), 0.5)) == 1
        assert box.take(1) == [(Point(1, 2), 0.5)]

    def test_the_channel_is_the_full_name_of_the_class(self, box: Box) -> None:
        @pymq.subscriber
        def on_measured(event: Measured) -> None:
            box.put(event.value)

        pymq.publish(Measured(Point(0, 0), 1.5), f"{__name__}.Measured")
        assert box.take(1) == [1.5]

    def test_the_decorator_takes_channel_and_pattern(self, box: Box) -> None:
        @pymq.subscriber("news.sport")
        def sport(event: str) -> None:
            box.put(("sport", event))

        @pymq.subscriber("news.*", True)
        def news(event: str) -> None:
            box.put(("news", event))

        @pymq.subscriber("n?ws.[a-m]*", pattern=True)
        def some(event: str) -> None:
            box.put(("some", event))

        pymq.publish("goal", "news.sport")
        pymq.publish("crash", "news.market")
        assert sorted(box.take(4)) == [
            ("news", "crash"),
            ("news", "goal"),
            ("some", "crash"),
            ("sport", "goal"),
        ]

    def test_the_decorator_gives_the_function_back(self) -> None:
        def callback(event: Measured) -> None: ...

        assert pymq.subscriber(callback) is callback
        assert pymq.subscriber("news")(callback) is callback

    def test_events_come_in_order(self, box: Box) -> None:
        pymq.subscribe(box.put, "news")
        for number in range(500):
            pymq.publish(number, "news")
        assert box.take(500) == list(range(500))

    def test_a_callback_that_is_subscribed_twice_is_called_twice(self, box: Box) -> None:
        pymq.subscribe(box.put, "news")
        pymq.subscribe(box.put, "news")
        pymq.publish("hello", "news")
        assert box.take(2) == ["hello", "hello"]

    def test_unsubscribe_ends_one_callback(self, box: Box) -> None:
        def other(event: str) -> None:
            box.put(("other", event))

        pymq.subscribe(box.put, "news")
        pymq.subscribe(other, "news")
        pymq.unsubscribe(box.put, "news")
        assert pymq.publish("hello", "news") == 1
        assert box.take(1) == [("other", "hello")]
        pymq.unsubscribe(other, "news")
        assert pymq.publish("hello", "news") == 0

    def test_unsubscribe_of_a_stranger_is_a_value_error_where_there_are_others(
        self, box: Box
    ) -> None:
        pymq.unsubscribe(box.put, "news")
        pymq.subscribe(box.take, "news")
        with pytest.raises(ValueError, match="not subscribed"):
            pymq.unsubscribe(box.put, "news")

    def test_topics_have_a_name_and_publish(self, box: Box) -> None:
        topic, pattern = pymq.topic("news"), pymq.topic("n*", pattern=True)
        assert (topic.name, topic.is_pattern) == ("news", False)
        assert (pattern.name, pattern.is_pattern) == ("n*", True)
        topic.subscribe(box.put)
        assert topic.publish("hello") == 1
        assert box.take(1) == ["hello"]
        with pytest.raises(ValueError, match="pattern"):
            pattern.publish("hello")

    def test_a_listener_without_a_class_and_without_a_channel_is_refused(self) -> None:
        def bare(event): ...  # type: ignore[no-untyped-def]
        def two(a: Measured, b: Measured) -> None: ...

        with pytest.raises(ValueError, match="annotate"):
            pymq.subscribe(bare)
        with pytest.raises(ValueError, match="exactly one"):
            pymq.subscribe(two)

    def test_a_callback_that_raises_is_logged_and_others_go_on(
        self, box: Box, caplog: pytest.LogCaptureFixture
    ) -> None:
        def bad(event: str) -> None:
            raise RuntimeError("broken")

        pymq.subscribe(bad, "news")
        pymq.subscribe(box.put, "news")
        pymq.publish("secret one", "news")
        pymq.publish("secret two", "news")
        box.take(2)
        wait_until(lambda: len(caplog.records) == 2, "both are logged")
        assert all(record.name == "pymq" for record in caplog.records)
        assert "bad" in caplog.text
        assert "'news'" in caplog.text
        assert "secret" not in caplog.text


# ---- queues


@pytest.mark.usefixtures("original")
class TestQueues:
    def test_items_come_first_in_first_out(self) -> None:
        queue = pymq.queue("jobs")
        assert queue.name == "jobs"
        assert queue.empty()
        for item in (1, "two", [3], {"four": 4}, None, Point(5, 6)):
            queue.put(item)
        assert queue.qsize() == 6
        assert [queue.get() for _ in range(6)] == [1, "two", [3], {"four": 4}, None, Point(5, 6)]
        assert queue.empty()

    def test_an_empty_queue_raises_empty(self) -> None:
        queue = pymq.queue("jobs")
        for get in (
            queue.get_nowait,
            lambda: queue.get(block=False),
            lambda: queue.get(timeout=0.01),
            lambda: queue.get(True, 0),
        ):
            with pytest.raises(pymq.Empty):
                get()

    def test_put_nowait_and_get_nowait(self) -> None:
        queue = pymq.queue("jobs")
        queue.put_nowait("job")
        assert queue.get_nowait() == "job"

    def test_handles_of_one_name_are_one_queue(self) -> None:
        pymq.queue("jobs").put("job")
        assert pymq.queue("jobs").get() == "job"

    def test_close_and_free_may_be_called(self) -> None:
        queue = pymq.queue("jobs")
        queue.put("job")
        queue.close()
        queue.free()
        if isinstance(queue, IpcQueue):
            # There, as in the original, it deletes the queue.
            assert queue.qsize() == 0
        else:
            assert queue.get(timeout=60) == "job"


# ---- remote calls


@pytest.mark.usefixtures("original")
class TestCalls:
    def test_a_method_is_exposed_under_its_full_name(self, box: Box) -> None:
        pymq.expose(Station(box).add)
        assert pymq.stub(f"{__name__}.Station.add")(1, 2) == 3
        assert pymq.stub(Station.add)(1) == 11  # type: ignore[call-arg,arg-type]

    def test_the_decorator_takes_a_name(self) -> None:
        @pymq.remote("named")
        def one() -> int:
            return 1

        @pymq.remote
        def two() -> int:
            return 2

        assert pymq.stub("named")() == 1
        assert pymq.stub(two)() == 2

    def test_a_missing_remote_gives_none_or_nothing(self) -> None:
        assert pymq.stub("nobody")() is None
        assert pymq.stub("nobody", multi=True)() == []
        for multi in (False, True):
            with pytest.raises(pymq.NoSuchRemoteError):
                pymq.stub("nobody", multi=multi).rpc()

    def test_a_remote_that_raises_gives_its_error(self, box: Box) -> None:
        pymq.expose(Station(box).fail, "fail")
        with pytest.raises(pymq.RemoteInvocationError) as caught:
            pymq.stub("fail")("because")
        assert caught.value.args == ("ValueError", "because", 3)
        assert isinstance(caught.value, pymq.RpcException)
        (error,) = pymq.stub("fail", multi=True)("because")
        assert isinstance(error, pymq.RemoteInvocationError)
        assert error.args == ("ValueError", "because", 3)

    def test_rpc_gives_responses(self, box: Box) -> None:
        pymq.expose(Station(box).add, "add")
        pymq.expose(Station(box).fail, "fail")
        assert pymq.stub("add").rpc(1, 2) == pymq.RpcResponse("add", 3, "int", False)
        assert pymq.stub("add", multi=True).rpc(1, 2) == [("add", 3, "int", False)]
        assert pymq.stub("fail").rpc("x") == ("fail", ("x", 3), "ValueError", True)

    def test_a_call_that_takes_too_long_is_a_timeout_error(self) -> None:
        release = threading.Event()
        pymq.expose(lambda: release.wait(60), "slow")
        try:
            with pytest.raises(pymq.RemoteInvocationError) as caught:
                pymq.stub("slow", timeout=0.05)()
            assert caught.value.args == ("TimeoutError", "Gave up waiting after 0.05")
            assert isinstance(caught.value, TimeoutError)
        finally:
            release.set()

    def test_a_name_is_exposed_once(self) -> None:
        pymq.expose(len, "length")
        with pytest.raises(ValueError, match="already exposed"):
            pymq.expose(abs, "length")

    def test_unexpose_takes_the_function_or_its_name(self) -> None:
        def one() -> int:
            return 1

        pymq.expose(one)
        pymq.unexpose(one)
        assert pymq.stub(one)() is None
        pymq.expose(one, "one")
        pymq.unexpose("one")
        pymq.unexpose("one")
        assert pymq.stub("one")() is None

    def test_only_functions_and_names_have_stubs(self) -> None:
        with pytest.raises(TypeError, match="cannot create stub"):
            pymq.stub(3)  # type: ignore[call-overload]

    def test_arguments_are_built_by_their_hints(self) -> None:
        seen: list[Any] = []

        def take(point: Point, measured: Measured, points: list[Point]) -> Point:
            seen.extend([point, measured, points])
            return points[0]

        pymq.expose(take, "take")
        point = Point(1, 2)
        assert pymq.stub("take")(point, Measured(point, 2.0), [point]) == point
        assert seen[0] == point
        assert (seen[1].where, seen[1].value) == (point, 2.0)
        assert seen[2] == [point]


# ---- a user's own bus


class Loopback(pymq.EventBus):
    """The least that a user's own bus may be."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[..., Any]] = []
        self.over = threading.Event()

    def run(self) -> None:
        self.over.wait()

    def close(self) -> None:
        self.over.set()

    def publish(self, event: Any, channel: str | None = None) -> int:
        for callback in self.callbacks:
            callback(event)
        return len(self.callbacks)

    def subscribe(
        self, callback: Callable[..., Any], channel: str | None = None, pattern: bool = False
    ) -> None:
        self.callbacks.append(callback)


def test_any_subclass_of_event_bus_can_be_the_default(box: Box) -> None:
    pymq.subscribe(box.put, "news")
    bus = pymq.init(Loopback)
    assert isinstance(bus, Loopback)
    assert pymq.publish("hello") == 1
    assert box.items == ["hello"]
    with pytest.raises(NotImplementedError):
        pymq.queue("jobs")
    pymq.shutdown()
    assert bus.over.is_set()


def test_the_abstract_classes_implement_nothing() -> None:
    bus, queue, topic = pymq.EventBus(), pymq.Queue[Any](), pymq.Topic()
    for call in (
        bus.run,
        bus.close,
        lambda: bus.publish(1),
        lambda: bus.queue("x"),
        lambda: bus.stub("x"),
        queue.get,
        queue.qsize,
        lambda: topic.publish(1),
        pymq.StubMethod(),
    ):
        with pytest.raises(NotImplementedError):
            call()
