"""What OpenTelemetry is told: which spans there are, whose children they are, what is counted."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import pymq
from conftest import HANG_GUARD, wait_until
from pymq import aio, telemetry
from pymq.exceptions import CallTimeoutError, NoSuchRemoteError, RemoteInvocationError
from pymq.otel import PymqInstrumentor, context_of, watch


class Told:
    """Where spans and metrics go."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        self.meters = MeterProvider([self._reader])

    def spans(self, name: str, kind: SpanKind, count: int = 1) -> list[ReadableSpan]:
        """The spans of that name, waited for: the other side of a message may end its own later."""

        def found() -> list[ReadableSpan]:
            finished = self._exporter.get_finished_spans()
            return [span for span in finished if span.name == name and span.kind is kind]

        wait_until(lambda: len(found()) >= count, f"{count} of {name!r}, {kind}")
        return found()

    def span(self, name: str, kind: SpanKind) -> ReadableSpan:
        return self.spans(name, kind)[0]

    def all(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()

    def points(self) -> dict[str, list[Any]]:
        """The newest points of each metric."""
        data = self._reader.get_metrics_data()
        points: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data is not None else []:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points.setdefault(metric.name, []).extend(metric.data.data_points)
        return points


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "http,messaging")
    told = Told()
    PymqInstrumentor().instrument(tracer_provider=told.traces, meter_provider=told.meters)
    yield told
    PymqInstrumentor().uninstrument()
    told.meters.shutdown()


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    return (
        span.parent is not None
        and span.parent.span_id == parent.context.span_id
        and span.context.trace_id == parent.context.trace_id
    )


def is_linked(span: ReadableSpan, to: ReadableSpan) -> bool:
    return any(link.context.span_id == to.context.span_id for link in span.links)


def test_a_call_and_the_calls_within_it_are_one_trace(told, connect):
    caller, outer, inner = connect(), connect(), connect()
    inner.expose(lambda n: n + 1, "inner")
    stub = outer.stub("inner")
    outer.expose(lambda n: stub(n), "outer")
    with told.traces.get_tracer("test").start_as_current_span("user") as user:
        assert caller.stub("outer")(1) == 2
    call = told.span("outer", SpanKind.CLIENT)
    assert call.parent.span_id == user.get_span_context().span_id
    serve = told.span("outer", SpanKind.SERVER)
    assert is_child(serve, call)
    assert serve.parent.is_remote
    nested = told.span("inner", SpanKind.CLIENT)
    assert is_child(nested, serve)
    assert is_child(told.span("inner", SpanKind.SERVER), nested)
    assert dict(call.attributes) == {"rpc.system.name": "pymq", "rpc.method": "outer"}
    assert call.status.status_code is StatusCode.UNSET
    points = told.points()
    assert set(points) == {"rpc.client.call.duration", "rpc.server.call.duration"}
    assert {point.attributes["rpc.method"] for point in points["rpc.client.call.duration"]} == {
        "outer",
        "inner",
    }


def test_every_provider_that_is_called_is_a_child_of_the_call(told, connect):
    caller = connect()
    for _ in range(2):
        connect().expose(lambda: 1, "stock")
    assert caller.stub("stock", multi=True)() == [1, 1]
    call = told.span("stock", SpanKind.CLIENT)
    assert all(is_child(span, call) for span in told.spans("stock", SpanKind.SERVER, 2))


def test_what_handles_an_item_or_an_event_is_a_child_of_its_sender(told, connect, box):
    producer, consumer = connect(), connect()
    consumer.subscribe(box.put, "notes")

    def handle(item: int) -> None:
        consumer.publish(item, "seen")
        if pymq.current_message().deliveries == 1:
            raise ValueError("once more")

    with consumer.queue("jobs", retry=[0.0]).work(handle):
        producer.queue("jobs").put(1, id="order-17")
        work = told.spans("process jobs", SpanKind.CONSUMER, 2)
    put = told.span("put jobs", SpanKind.PRODUCER)
    assert all(is_child(span, put) and is_linked(span, put) for span in work)
    assert work[0].attributes["error.type"] == "ValueError"
    assert work[0].events[0].attributes["exception.message"] == "once more"
    assert "error.type" not in work[1].attributes
    assert work[1].attributes["messaging.pymq.deliveries"] == 2
    assert work[1].attributes["messaging.message.id"] == "order-17"
    assert put.attributes["messaging.operation.type"] == "send"
    seen = told.spans("publish seen", SpanKind.PRODUCER, 2)
    assert all(any(is_child(span, one) for one in work) for span in seen)
    # A worker's items are handled, not asked for.
    assert not [span for span in told.all() if span.name == "receive jobs"]
    producer.publish(1, "notes")
    box.take(1)
    publish = told.span("publish notes", SpanKind.PRODUCER)
    assert is_child(told.span("process notes", SpanKind.CONSUMER), publish)
    points = told.points()
    assert points["pymq.redelivered.messages"][0].value == 1
    consumed = {
        point.attributes["messaging.destination.name"]: point.value
        for point in points["messaging.client.consumed.messages"]
        if "error.type" not in point.attributes
    }
    assert consumed == {"jobs": 1, "notes": 1}
    for name in ("operation.duration", "sent.messages"):
        assert f"messaging.client.{name}" in points
    assert "messaging.process.duration" in points


def test_what_the_program_asks_for_is_linked_to_its_senders(told, connect):
    producer, consumer = connect(), connect()
    jobs = producer.queue("jobs")
    jobs.put(1)
    jobs.put_many([2, 3])
    with told.traces.get_tracer("test").start_as_current_span("user") as user:
        assert consumer.queue("jobs").get_many(10, timeout=HANG_GUARD) == [1, 2, 3]
    receive = told.span("receive jobs", SpanKind.CLIENT)
    puts = told.spans("put jobs", SpanKind.PRODUCER, 2)
    assert all(is_linked(receive, put) for put in puts)
    assert len(receive.links) == 3
    assert receive.parent.span_id == user.get_span_context().span_id
    assert receive.attributes["messaging.batch.message_count"] == 3
    assert puts[1].attributes["messaging.batch.message_count"] == 2
    with pytest.raises(pymq.Empty):
        consumer.queue("jobs").get_nowait()
    assert len(told.spans("receive jobs", SpanKind.CLIENT)) == 1


def test_each_way_of_getting_an_item_tells_of_it_once(told, connect):
    bus = connect()
    jobs = bus.queue("jobs")
    jobs.put_many([1, 2, 3, 4])
    jobs.get()
    with jobs.get_delivery():
        bus.publish(1, "within")
    pymq.get_from([jobs])
    for _ in jobs:
        break
    receipts = told.spans("receive jobs", SpanKind.CLIENT, 4)
    assert len(receipts) == 4
    # The block of a delivery is its processing.
    process = told.span("process jobs", SpanKind.CONSUMER)
    assert is_child(told.span("publish within", SpanKind.PRODUCER), process)
    consumed = told.points()["messaging.client.consumed.messages"]
    assert sum(point.value for point in consumed) == 4


def test_what_the_program_settles_is_told(told, connect, url):
    bus = connect()
    jobs = bus.queue("jobs", ack="manual")

    async def awaited() -> None:
        async with aio.connect(url, namespace="awaited") as other:
            queue = other.queue("tasks", ack="manual")
            await queue.put_many([1, 2])
            await queue.get()
            await queue.task_done()
            await (await queue.get_delivery()).reject()

    with told.traces.get_tracer("test").start_as_current_span("mine"):
        jobs.put_many([1, 2, 3])
        jobs.get_delivery().reject()
        jobs.get_delivery().requeue()
        jobs.get()
        jobs.task_done()
        with jobs.get_delivery():
            pass
        asyncio.run(awaited())
    mine = told.span("mine", SpanKind.INTERNAL)
    settled = [*told.spans("ack jobs", SpanKind.CLIENT, 2), told.span("ack tasks", SpanKind.CLIENT)]
    for name in ("reject jobs", "requeue jobs", "reject tasks"):
        settled.append(told.span(name, SpanKind.CLIENT))
    for span in settled:
        assert is_child(span, mine)
        assert span.attributes["messaging.operation.type"] == "settle"
    for span in [*settled[:2], told.span("put jobs", SpanKind.PRODUCER)]:
        assert ("server.port" in span.attributes) == url.startswith("redis")
    sent = told.points()["messaging.client.sent.messages"]
    assert sum(point.value for point in sent) == 5
    # What a worker settles is a part of its handler's end.
    jobs.put(4)
    with jobs.work(lambda item: None):
        jobs.join()
    told.span("process jobs", SpanKind.CONSUMER)
    assert len(told.spans("ack jobs", SpanKind.CLIENT, 2)) == 2


def test_a_program_goes_on_with_the_trace_of_a_message(told, connect):
    bus = connect()
    jobs = bus.queue("jobs")
    jobs.put(1)
    jobs.get()
    tracer = told.traces.get_tracer("test")
    with tracer.start_as_current_span("mine", context=context_of(pymq.current_message())):
        pass
    mine = told.span("mine", SpanKind.INTERNAL)
    assert is_child(mine, told.span("put jobs", SpanKind.PRODUCER))
    assert not trace.get_current_span(context_of(None)).get_span_context().is_valid


def test_how_it_failed_is_told_by_its_kind(told, connect):
    caller, provider = connect(), connect()

    def fails(word: str) -> None:
        raise ValueError(word)

    release = threading.Event()
    provider.expose(fails, "fails")
    provider.expose(lambda: release.wait(HANG_GUARD), "endless")
    with pytest.raises(RemoteInvocationError):
        caller.stub("fails")("word")
    assert caller.stub("nobody")() is None
    with pytest.raises(NoSuchRemoteError):
        caller.stub("nobody", required=True)()
    with pytest.raises(CallTimeoutError):
        caller.stub("endless", timeout=0.05)()
    release.set()
    for name, kind, error in [
        ("fails", SpanKind.CLIENT, "ValueError"),
        ("fails", SpanKind.SERVER, "ValueError"),
        ("nobody", SpanKind.CLIENT, "NoSuchRemoteError"),
        ("endless", SpanKind.CLIENT, "TimeoutError"),
    ]:
        span = told.span(name, kind)
        assert span.attributes["error.type"] == error
        assert span.status.status_code is StatusCode.ERROR


def test_asyncio_is_told_of_in_the_context_of_its_tasks(told, url):
    async def double(n: int) -> int:
        await asyncio.sleep(0)
        await bus.publish(n, "within")
        return 2 * n

    async def main() -> None:
        global bus
        async with aio.connect(url) as bus, aio.connect(url) as other:
            await bus.expose(double, "double")
            tracer = told.traces.get_tracer("test")

            async def one(n: int) -> None:
                with tracer.start_as_current_span(f"task {n}"):
                    assert await other.stub("double")(n) == 2 * n

            await asyncio.gather(one(1), one(2))
            jobs = other.queue("jobs")
            await jobs.put(1)
            await jobs.put_many([2, 3])
            assert await bus.queue("jobs").get() == 1
            async with await bus.queue("jobs").get_delivery():
                await bus.publish(2, "in the block")
            async with bus.topic("notes").events() as events:
                await other.publish(7, "notes")
                assert await anext(events) == 7
                context = context_of(pymq.current_message())
                with tracer.start_as_current_span("mine", context=context):
                    pass

            async def handle(item: int) -> None:
                await bus.publish(item, "in the handler")
                await jobs.shutdown()

            await bus.queue("jobs").work(handle)

    asyncio.run(asyncio.wait_for(main(), HANG_GUARD))
    calls = told.spans("double", SpanKind.CLIENT, 2)
    tasks = [told.span(f"task {n}", SpanKind.INTERNAL) for n in (1, 2)]
    assert all(any(is_child(call, task) for task in tasks) for call in calls)
    serves = told.spans("double", SpanKind.SERVER, 2)
    assert all(any(is_child(serve, call) for call in calls) for serve in serves)
    within = told.spans("publish within", SpanKind.PRODUCER, 2)
    assert all(any(is_child(one, serve) for serve in serves) for one in within)
    puts = told.spans("put jobs", SpanKind.PRODUCER, 2)
    receipts = told.spans("receive jobs", SpanKind.CLIENT, 2)
    assert len(receipts) == 2
    assert is_linked(receipts[0], puts[0])
    work = told.spans("process jobs", SpanKind.CONSUMER, 2)
    assert all(is_child(one, puts[1]) for one in work)
    block = told.span("publish in the block", SpanKind.PRODUCER)
    assert is_child(block, work[0])
    assert is_child(told.span("publish in the handler", SpanKind.PRODUCER), work[1])
    publish = told.span("publish notes", SpanKind.PRODUCER)
    assert is_linked(told.span("receive notes", SpanKind.CLIENT), publish)
    assert is_child(told.span("mine", SpanKind.INTERNAL), publish)


def test_headers_never_cost_a_message(told, connect):
    bus = connect()
    jobs = bus.queue("jobs")
    jobs.put(1, headers={"full": "x" * (8192 - 80)})
    assert set(jobs.get_delivery().message.headers) == {"full"}
    bus.publish("x" * ((16 << 20) - 2), "large")
    deep: Any = None
    for _ in range(199):
        deep = [deep]
    bus.publish(deep, "deep")
    own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    jobs = bus.queue("own")
    jobs.put(2, headers={"traceparent": own})
    assert jobs.get_delivery().message.headers["traceparent"] == own
    bus.expose(lambda: dict(pymq.current_message().headers), "headers")
    assert bus.stub("headers", passed={"traceparent": own})() == {"traceparent": own}


def test_names_that_may_change_are_opted_in_and_the_spans_are_there_all_the_same(
    told, bus, monkeypatch
):
    PymqInstrumentor().uninstrument()
    monkeypatch.delenv("OTEL_SEMCONV_STABILITY_OPT_IN")
    PymqInstrumentor().instrument(tracer_provider=told.traces, meter_provider=told.meters)
    bus.queue("jobs").put(1)
    with bus.queue("jobs").work(lambda item: None):
        work = told.span("process jobs", SpanKind.CONSUMER)
    put = told.span("put jobs", SpanKind.PRODUCER)
    assert is_child(work, put)
    assert not any(name.startswith("messaging.") for name in [*put.attributes, *work.attributes])
    assert told.points() == {}


def test_how_queues_and_the_connection_stand_is_told(told, bus):
    jobs = bus.queue("jobs")
    jobs.put_many([1, 2, 3])
    jobs.get_delivery().reject("no stock")
    held = jobs.get_delivery()
    watch(bus, meter_provider=told.meters)
    points = told.points()
    items = {p.attributes["state"]: p.value for p in points["pymq.queue.items"]}
    assert items == {"waiting": 1, "delayed": 0, "leased": 1, "dead": 1}
    assert points["pymq.bus.connected"][0].value == 1
    assert points["pymq.bus.lost_posts"][0].value == 0
    assert points["pymq.queue.oldest"][0].attributes == {"queue": "jobs"}
    held.ack()
    bus.close()
    assert "pymq.queue.items" not in told.points()


def test_what_an_observer_raises_costs_nobody_a_message(bus, caplog):
    class Broken:
        def begin(self, operation: telemetry.Operation, /) -> Any:
            raise ZeroDivisionError

        def received(self, receipt: telemetry.Receipt, /) -> None:
            raise ZeroDivisionError

    broken = Broken()
    telemetry.observe(broken)
    try:
        bus.queue("jobs").put(1)
        assert bus.queue("jobs").get() == 1
        bus.expose(lambda: 3, "three")
        assert bus.stub("three")() == 3
    finally:
        telemetry.forget(broken)
    assert caplog.text.count("ZeroDivisionError") >= 2
    caplog.clear()
    bus.queue("jobs").put(2)
    assert not caplog.text


PROGRAM = """
import sys, pymq
with pymq.connect("memory://") as bus:
    bus.queue("jobs").put(1)
    bus.queue("jobs").get()
    print([name for name in sys.modules if name.startswith(("opentelemetry", "prometheus"))])
    print(pymq._telemetry.observers)
"""


def test_nothing_is_imported_where_nobody_watches():
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=HANG_GUARD
    )
    assert ran.stdout.splitlines() == ["[]", "()"], ran.stderr


def test_the_agent_finds_it_without_a_line_of_code(tmp_path):
    program = tmp_path / "app.py"
    program.write_text(
        "import pymq\n"
        "from pymq import _telemetry\n"
        "print(type(_telemetry.observers[0]).__module__)\n"
    )
    agent = os.path.join(os.path.dirname(sys.executable), "opentelemetry-instrument")
    environment = {
        **os.environ,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    ran = subprocess.run(
        [agent, sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=HANG_GUARD,
        env=environment,
    )
    assert ran.stdout.splitlines() == ["pymq.otel"], ran.stderr
