"""A program that is traced goes on with the traces of others, in Python or Rust; it disturbs no
peer of the original, and is disturbed by none.

What it sends carries a context in its headers; the originals read the values as ever, and what they
send comes without one.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

import pymq
from description import describe
from fixtures import server, start
from pymq.otel import PymqInstrumentor
from rig import OLD, Peer, Server, wait_until

__all__ = ["server", "start"]

VALUES: list[Any] = [7, "tëxt", None, [1, {"a": None}], {"a": 1}, 1.5, True]


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, traces = InMemorySpanExporter(), TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    PymqInstrumentor().instrument(tracer_provider=traces)
    yield exporter
    PymqInstrumentor().uninstrument()


@pytest.fixture
def bus(server: Server, spans: InMemorySpanExporter) -> Iterator[pymq.NativeEventBus]:
    with pymq.connect(server.url) as bus:
        yield bus


def span(spans: InMemorySpanExporter, name: str, kind: SpanKind) -> ReadableSpan:
    def found() -> list[ReadableSpan]:
        return [one for one in spans.get_finished_spans() if (one.name, one.kind) == (name, kind)]

    wait_until(lambda: bool(found()), f"a span {name!r} of {kind}")
    return found()[0]


@pytest.mark.parametrize("version", OLD)
def test_the_original_reads_what_a_traced_program_sends(
    start: Callable[..., Peer], bus: pymq.NativeEventBus, version: str
) -> None:
    original = start(version)
    original.subscribe("notes")
    for value in VALUES:
        bus.publish(value, "notes")
        assert original.received(1) == [describe(value)]
        bus.queue("jobs").put(value)
        assert bus.queue("jobs").peek() == [value]
        assert original.get("jobs", timeout=60) == describe(value)


@pytest.mark.parametrize("version", OLD)
def test_calls_between_the_original_and_a_traced_program(
    start: Callable[..., Peer],
    bus: pymq.NativeEventBus,
    spans: InMemorySpanExporter,
    version: str,
) -> None:
    original = start(version)
    original.expose("product")
    assert bus.stub("shared_types.product")(3, 4) == 12
    call = span(spans, "shared_types.product", SpanKind.CLIENT)
    assert "error.type" not in (call.attributes or {})
    bus.expose(lambda a, b: a + b, "ours")
    assert original.call("ours", 3, 4) == 7
    serve = span(spans, "ours", SpanKind.SERVER)
    assert (serve.parent, serve.links) == (None, ())


@pytest.mark.parametrize("version", OLD)
def test_what_the_original_sends_begins_a_trace(
    start: Callable[..., Peer],
    bus: pymq.NativeEventBus,
    spans: InMemorySpanExporter,
    version: str,
) -> None:
    original = start(version)
    bus.subscribe(lambda event: None, "notes")
    original.publish(1, "notes")
    original.put("jobs", 1)
    with bus.queue("jobs").work(lambda item: None):
        for name in ("process notes", "process jobs"):
            process = span(spans, name, SpanKind.CONSUMER)
            assert (process.parent, process.links) == (None, ())


def told(rust: Peer, name: str, kind: str) -> dict[str, str]:
    """A span that a program in Rust has told of."""
    found: list[dict[str, str]] = []

    def there() -> bool:
        found[:] = [one for one in rust.do("spans") if (one["name"], one["kind"]) == (name, kind)]
        return bool(found)

    wait_until(there, f"a span {name!r} of {kind} in Rust")
    return found[0]


def ids(span: ReadableSpan) -> tuple[str, str]:
    """The trace of a span and its own number, as text."""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def test_a_call_from_python_to_rust_and_back_is_one_trace(
    start: Callable[..., Peer], bus: pymq.NativeEventBus, spans: InMemorySpanExporter
) -> None:
    rust = start("rust")
    rust.do("trace")
    rust.expose("relay")
    bus.expose(lambda a, b: a * b, "ours")
    assert bus.stub("shared_types.relay")("ours", 3, 4) == 12

    trace, asked = ids(span(spans, "shared_types.relay", SpanKind.CLIENT))
    relayed, asks = told(rust, "shared_types.relay", "server"), told(rust, "ours", "client")
    served = span(spans, "ours", SpanKind.SERVER)
    assert served.parent is not None
    assert [relayed["trace"], asks["trace"], ids(served)[0]] == [trace] * 3
    parents = relayed["parent"], asks["parent"], f"{served.parent.span_id:016x}"
    assert parents == (asked, relayed["span"], asks["span"])


def test_items_and_events_between_python_and_rust_are_linked_to_their_senders(
    start: Callable[..., Peer], bus: pymq.NativeEventBus, spans: InMemorySpanExporter
) -> None:
    rust = start("rust")
    rust.do("trace")
    heard: list[int] = []
    bus.subscribe(heard.append, "notes")
    rust.publish(1, "notes")
    rust.put("jobs", 2)
    with bus.queue("jobs").work(heard.append):
        for does, name in (("publish", "notes"), ("put", "jobs")):
            process = span(spans, f"process {name}", SpanKind.CONSUMER)
            sent = told(rust, f"{does} {name}", "producer")
            assert process.parent is not None
            assert f"{process.parent.span_id:016x}" == sent["span"]
            assert [f"{one.context.span_id:016x}" for one in process.links] == [sent["span"]]
