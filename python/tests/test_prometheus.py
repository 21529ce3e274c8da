"""What Prometheus is told when it scrapes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import pymq
from conftest import wait_until
from pymq import aio, prometheus, telemetry
from pymq.prometheus import MOST_SERIES, OTHER, Collector


@pytest.fixture
def scraped(bus: pymq.NativeEventBus) -> Iterator[CollectorRegistry]:
    registry, collector = CollectorRegistry(), Collector(bus)
    registry.register(collector)
    yield registry
    collector.close()


def test_what_a_bus_did_and_how_it_stands_is_scraped(scraped, bus, box):
    def double(n: int) -> int:
        if n > 10:
            raise ValueError(n)
        return 2 * n

    bus.expose(double, "double")
    assert bus.stub("double")(2) == 4
    with pytest.raises(pymq.RemoteInvocationError):
        bus.stub("double")(11)
    bus.subscribe(box.put, "notes")
    bus.publish(1, "notes")
    box.take(1)

    def handle(item: int) -> None:
        if pymq.current_message().deliveries == 1:
            raise ValueError(item)

    jobs = bus.queue("jobs", retry=[0.0])
    with jobs.work(handle):
        jobs.put_many([1, 2])
        jobs.join()
    jobs.put(3)
    jobs.get()
    jobs.put(4)

    def value(name: str, **labels: str) -> float | None:
        return scraped.get_sample_value(name, labels)

    call = "rpc_client_call_duration_seconds_count"
    assert value(call, rpc_method="double", error_type="") == 1
    assert value(call, rpc_method="double", error_type="ValueError") == 1
    serve = "rpc_server_call_duration_seconds_count"
    wait_until(lambda: value(serve, rpc_method="double", error_type="ValueError") == 1, "served")
    sent = "messaging_client_sent_messages_total"
    where = "messaging_destination_name"
    done = "messaging_operation_name"
    assert value(sent, **{where: "notes", done: "publish"}) == 1
    assert value(sent, **{where: "jobs", done: "put"}) == 4
    consumed = "messaging_client_consumed_messages_total"
    assert value(consumed, **{where: "jobs", done: "process"}) == 4
    assert value(consumed, **{where: "jobs", done: "receive"}) == 1
    wait_until(lambda: value(consumed, **{where: "notes", done: "process"}) == 1, "handled")
    assert value("pymq_redelivered_messages_total", **{where: "jobs"}) == 2
    assert value("pymq_queue_items", queue="jobs", state="waiting") == 1
    assert value("pymq_queue_items", queue="jobs", state="dead") == 0
    assert value("pymq_connected") == 1
    assert value("pymq_reconnects_total") == 0
    assert value("pymq_lost_posts") == 0
    assert b"# HELP pymq_queue_items " in generate_latest(scraped)


def test_a_bus_that_is_closed_has_no_queues_and_is_away(scraped, bus):
    bus.queue("jobs").put(1)
    bus.close()
    text = generate_latest(scraped).decode()
    assert "pymq_connected 0.0" in text
    assert "pymq_queue_items{" not in text


def test_several_buses_are_told_apart(connect):
    one, two = connect(), connect()
    collector = Collector(one, aio.AsyncEventBus(two) if hasattr(aio, "AsyncEventBus") else two)
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        for bus in ("0", "1"):
            assert registry.get_sample_value("pymq_connected", {"bus": bus}) == 1
    finally:
        collector.close()
    assert telemetry._telemetry.observers == ()
    with pytest.raises(TypeError, match="a bus of PyMQ"):
        Collector("redis://localhost")  # type: ignore[arg-type]


def test_names_without_end_are_counted_together():
    collector = Collector()
    collector.close()
    for number in range(2 * MOST_SERIES):
        operation = telemetry.Operation("publish", f"t{number}")
        collector.begin(operation).end(1, "Timeout")
    registry = CollectorRegistry()
    registry.register(collector)
    labels = {"messaging_destination_name": OTHER, "messaging_operation_name": "publish"}
    counted = registry.get_sample_value("messaging_client_sent_messages_total", labels)
    assert counted == MOST_SERIES
    assert len(collector._counters["messaging_client_sent_messages"]) == MOST_SERIES + 1
    assert prometheus.__all__ == ["Collector"]
