"""Prometheus: what the buses of this process do and how they stand, for `prometheus_client`.

It needs what the extra `prometheus` installs:

    from prometheus_client import REGISTRY, start_http_server
    from pymq.prometheus import Collector

    REGISTRY.register(Collector(bus))
    start_http_server(9000)

What is counted has OpenTelemetry's names: `rpc_client_call_duration_seconds` and
`rpc_server_call_duration_seconds` by `rpc_method`; by `messaging_destination_name`
`messaging_client_operation_duration_seconds` (publishing, putting, receiving),
`messaging_process_duration_seconds` (handlers and subscribers),
`messaging_client_sent_messages_total`, `messaging_client_consumed_messages_total` and
`pymq_redelivered_messages_total`. How the bus stands: `pymq_connected`, `pymq_reconnects_total`,
`pymq_unread_events`, `pymq_lost_events`, `pymq_lost_posts`; and each queue: `pymq_queue_items` by
`state` (`waiting`, `delayed`, `leased`, `dead`), `pymq_queue_oldest_seconds`,
`pymq_queue_consumers`.

A label that does not apply is empty. From the thousandth series of a kind on, others are counted
together as `_OTHER`, so that a program that makes up names without end keeps a bounded number.
"""

from __future__ import annotations

import bisect
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector as _Collector

from pymq import telemetry
from pymq._gauges import LOST_POSTS, Gauges, Watchable, gauges_of, watchable

if TYPE_CHECKING:
    from pymq._message import Message

__all__ = ["Collector"]

# The bounds that OpenTelemetry's conventions give for durations, in seconds.
BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
# The most series of each kind that are told apart, and what the others are called.
MOST_SERIES = 1000
OTHER = "_OTHER"

# What is timed and what is counted: by name, what it is and its labels.
_DURATIONS = {
    "rpc_client_call_duration_seconds": ("How long calls took.", ["rpc_method", "error_type"]),
    "rpc_server_call_duration_seconds": (
        "How long exposed functions took.",
        ["rpc_method", "error_type"],
    ),
    "messaging_client_operation_duration_seconds": (
        "How long publishing, putting and receiving took.",
        ["messaging_destination_name", "messaging_operation_name", "error_type"],
    ),
    "messaging_process_duration_seconds": (
        "How long handlers took.",
        ["messaging_destination_name", "error_type"],
    ),
}
_COUNTERS = {
    "messaging_client_sent_messages": (
        "Messages that were sent.",
        ["messaging_destination_name", "messaging_operation_name"],
    ),
    "messaging_client_consumed_messages": (
        "Messages that were received.",
        ["messaging_destination_name", "messaging_operation_name"],
    ),
    "pymq_redelivered_messages": ("Items that came once more.", ["messaging_destination_name"]),
}

_Labels = tuple[str, ...]


class _Durations:
    """How long something took, each time."""

    def __init__(self) -> None:
        self._within = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self._within[bisect.bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """How many were within each bound, as `prometheus_client` takes them."""
        so_far, buckets = 0, []
        for bound, within in zip([*map(str, BOUNDS), "+Inf"], self._within, strict=True):
            so_far += within
            buckets.append((bound, float(so_far)))
        return buckets


class Collector(_Collector):
    """Counts what the buses of this process do, from now until `close`; to be registered.

    At each scrape it adds how the given buses and every queue of their namespaces stand. Where a
    broker is away there is nothing of its queues. Listing them takes time that grows with all that
    the broker holds, so of many processes few should be given a bus. Given several buses, each
    figure has a label `bus`: their places in the arguments, from 0.
    """

    def __init__(self, *buses: Watchable) -> None:
        self._buses = [weakref.ref(watchable(bus)) for bus in buses]
        self._lock = threading.Lock()
        self._durations: dict[str, dict[_Labels, _Durations]] = {name: {} for name in _DURATIONS}
        self._counters: dict[str, dict[_Labels, int]] = {name: {} for name in _COUNTERS}
        telemetry.observe(self)

    def close(self) -> None:
        """Count no more; what was counted can still be scraped."""
        telemetry.forget(self)

    # ---- scraping

    def describe(self) -> Iterable[Metric]:
        """Nothing: whoever registers it asks no broker."""
        return []

    def collect(self) -> Iterator[Metric]:
        """What was counted, and how the buses stand now."""
        with self._lock:
            counted = [*self._timed(), *self._counted()]
        yield from counted
        yield from self._standing()

    def _timed(self) -> Iterator[Metric]:
        for name, series in self._durations.items():
            help, labels = _DURATIONS[name]
            family = HistogramMetricFamily(name, help, labels=labels)
            for values, durations in series.items():
                family.add_metric(values, durations.buckets(), durations.sum)
            yield family

    def _counted(self) -> Iterator[Metric]:
        for name, series in self._counters.items():
            help, labels = _COUNTERS[name]
            family = CounterMetricFamily(name, help, labels=labels)
            for values, count in series.items():
                family.add_metric(values, count)
            yield family

    def _standing(self) -> Iterator[Metric]:
        found = enumerate(bus() for bus in self._buses)
        standing = [(str(place), gauges_of(bus)) for place, bus in found if bus is not None]
        if not standing:
            return
        several = len(self._buses) > 1
        yield from _of_buses([([place] if several else [], one) for place, one in standing])

    # ---- counting

    def begin(self, operation: telemetry.Operation, /) -> _Timed:
        """An operation begins."""
        message = operation.message
        if message is not None and not operation.asked_for:
            self._came(operation.name, [message])
        return _Timed(self, operation)

    def received(self, receipt: telemetry.Receipt, /) -> None:
        """Messages were got by who had asked for them."""
        name, waited, messages = receipt
        self._time("messaging_client_operation_duration_seconds", (name, "receive", ""), waited)
        self._count("messaging_client_consumed_messages", (name, "receive"), len(messages))
        self._came(name, messages)

    def _came(self, name: str, messages: Iterable[Message]) -> None:
        again = sum(1 for message in messages if (message.deliveries or 0) > 1)
        if again:
            self._count("pymq_redelivered_messages", (name,), again)

    def _ended(
        self, operation: telemetry.Operation, seconds: float, messages: int, error: str
    ) -> None:
        verb, name, asked_for = operation.verb, operation.name, operation.asked_for
        if verb in ("call", "serve"):
            side = "client" if verb == "call" else "server"
            self._time(f"rpc_{side}_call_duration_seconds", (name, error), seconds)
        elif verb == "process":
            self._time("messaging_process_duration_seconds", (name, error), seconds)
            if not asked_for:
                self._count("messaging_client_consumed_messages", (name, verb), messages)
        else:
            labels = (name, verb, error)
            self._time("messaging_client_operation_duration_seconds", labels, seconds)
            if verb in ("publish", "put"):
                self._count("messaging_client_sent_messages", (name, verb), messages)

    def _time(self, family: str, labels: _Labels, seconds: float) -> None:
        with self._lock:
            series = self._durations[family]
            *others, error = labels[1:]
            labels = _one_of(series, labels, (OTHER, *others, OTHER if error else ""))
            if labels not in series:
                series[labels] = _Durations()
            series[labels].add(seconds)

    def _count(self, family: str, labels: _Labels, messages: int) -> None:
        with self._lock:
            series = self._counters[family]
            labels = _one_of(series, labels, (OTHER, *labels[1:]))
            series[labels] = series.get(labels, 0) + messages


class _Timed:
    """An operation under way."""

    def __init__(self, collector: Collector, operation: telemetry.Operation) -> None:
        self._collector = collector
        self._operation = operation
        self._begun = time.perf_counter()

    def headers(self) -> Mapping[str, str]:
        return {}

    def enter(self) -> None:
        pass

    def end(self, messages: int, error: BaseException | str | None) -> None:
        kind = type(error).__qualname__ if isinstance(error, BaseException) else error or ""
        seconds = time.perf_counter() - self._begun
        self._collector._ended(self._operation, seconds, messages, kind)


def _one_of(series: Mapping[_Labels, Any], labels: _Labels, others: _Labels) -> _Labels:
    """The labels, unless there are too many already."""
    return labels if len(series) < MOST_SERIES or labels in series else others


def _of_buses(standing: list[tuple[list[str], Gauges]]) -> Iterator[Metric]:
    bus = ["bus"] if standing[0][0] else []
    for name, help, figure in [
        ("pymq_connected", "Whether the bus has its broker.", _is_connected),
        ("pymq_unread_events", "Events that nobody has read yet.", _figure("unread_events")),
        ("pymq_lost_events", "Events that came too fast.", _figure("lost_events")),
        ("pymq_lost_posts", LOST_POSTS, _figure("lost_posts")),
    ]:
        gauge = GaugeMetricFamily(name, help, labels=bus)
        for place, one in standing:
            gauge.add_metric(place, figure(one.health))
        yield gauge
    reconnects = CounterMetricFamily("pymq_reconnects", "How often it came back.", labels=bus)
    for place, one in standing:
        reconnects.add_metric(place, _figure("reconnects")(one.health))
    yield reconnects
    yield from _of_queues(bus, standing)


def _is_connected(health: Mapping[str, Any]) -> float:
    return float(health["state"] == "connected")


def _figure(name: str) -> Any:
    return lambda health: float(health.get(name, 0))


def _of_queues(bus: list[str], standing: list[tuple[list[str], Gauges]]) -> Iterator[Metric]:
    items = GaugeMetricFamily(
        "pymq_queue_items", "Items of a queue, by state.", labels=[*bus, "queue", "state"]
    )
    oldest = GaugeMetricFamily(
        "pymq_queue_oldest_seconds",
        "For how long the first item has waited.",
        labels=[*bus, "queue"],
    )
    consumers = GaugeMetricFamily(
        "pymq_queue_consumers", "Who holds items or waits for some.", labels=[*bus, "queue"]
    )
    for place, one in standing:
        for name, stats in one.queues or []:
            for state in ("waiting", "delayed", "leased", "dead"):
                items.add_metric([*place, name, state], getattr(stats, state))
            oldest.add_metric([*place, name], stats.oldest or 0.0)
            if stats.consumers is not None:
                consumers.add_metric([*place, name], stats.consumers)
    yield from (items, oldest, consumers)
