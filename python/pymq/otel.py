"""OpenTelemetry: what the buses of this process do, as spans and metrics by the conventions.

It needs what the extra `otel` installs. `opentelemetry-instrument python app.py` finds it by
itself; a program that sets its own providers says `PymqInstrumentor().instrument()`.

    what happens                        span, by kind                parent            links
    an event is published               `publish TOPIC`: producer    what is active
    items are put                       `put QUEUE`: producer        what is active
    the program gets what it asked for  `receive NAME`: client       what is active    the senders
    a handler or a subscriber runs      `process NAME`: consumer     what is active,   the sender
                                                                     else the sender
    the program settles an item         `ack QUEUE`, `requeue …`,    what is active
                                        `reject QUEUE`: client
    a function is called                `FUNCTION`: client           what is active
    an exposed function answers         `FUNCTION`: server           the call

The context travels in headers, by the propagators of the program (`traceparent`). Peers of the
original pass over them; a program in between that is not watched hands them on to the functions
that it calls.

Calls have the attributes and metrics of the stable conventions (`rpc.system.name`, `rpc.method`,
`error.type`; `rpc.client.call.duration`, `rpc.server.call.duration`). Those for messaging are in
development: attributes and metrics whose names begin with `messaging.` come with
`OTEL_SEMCONV_STABILITY_OPT_IN=messaging` in the environment. `pymq.redelivered.messages` counts
items that came again, and `watch` adds how queues and the connection stand.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import context as contexts
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.instrumentor import (  # type: ignore[attr-defined]
    BaseInstrumentor,
)
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from pymq import __version__, telemetry
from pymq._gauges import LOST_POSTS, Gauges, Watchable, gauges_of, watchable

if TYPE_CHECKING:
    from pymq._message import Message

__all__ = ["PymqInstrumentor", "context_of", "watch"]

Attributes = dict[str, AttributeValue]

# The bounds that the conventions give for durations, in seconds.
BOUNDS = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]

_KINDS = {
    "publish": SpanKind.PRODUCER,
    "put": SpanKind.PRODUCER,
    "process": SpanKind.CONSUMER,
    "call": SpanKind.CLIENT,
    "serve": SpanKind.SERVER,
    "ack": SpanKind.CLIENT,
    "requeue": SpanKind.CLIENT,
    "reject": SpanKind.CLIENT,
}

#: The types of the operations, of which there are fewer than names.
_TYPES = {
    "publish": "send",
    "put": "send",
    "process": "process",
    "ack": "settle",
    "requeue": "settle",
    "reject": "settle",
}


class PymqInstrumentor(BaseInstrumentor):  # type: ignore[misc, unused-ignore]
    """Tells OpenTelemetry what all buses of this process do, from `instrument` to `uninstrument`.

    `instrument` takes a `tracer_provider` and a `meter_provider`, by default the global ones.
    """

    _observer: Telemetry | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """Nothing: what is told of is this very package."""
        return ()

    def _instrument(self, **options: Any) -> None:
        self._observer = Telemetry(options.get("tracer_provider"), options.get("meter_provider"))
        telemetry.observe(self._observer)

    def _uninstrument(self, **options: Any) -> None:
        if self._observer is not None:
            telemetry.forget(self._observer)
            self._observer = None


def context_of(message: Message | None) -> Context:
    """The context that a message's sender was in, to go on with its trace.

    A span is started with `context=context_of(pymq.current_message())`. Where the sender said none
    it is the one that is active here.
    """
    return propagate.extract(dict(message.headers) if message is not None else {})


class Telemetry:
    """The observer behind `PymqInstrumentor`."""

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("pymq", __version__, tracer_provider)
        self._counts = _Counts(metrics.get_meter("pymq", __version__, meter_provider))
        self.messaging: bool = _opted_in()

    def begin(self, operation: telemetry.Operation, /) -> _Told:
        """An operation begins."""
        verb, name, message, asked_for, server = operation
        parent = contexts.get_current()
        links: list[Link] = []
        if message is not None:
            parent, links = _descent(verb, message)
            self._counts.came(name, [] if asked_for else [message])
        attributes = {**self._attributes(verb, name), **_address(server)}
        if self.messaging and verb == "process" and message is not None:
            attributes.update(_of_message(message))
        span = self._tracer.start_span(
            name if verb in ("call", "serve") else f"{verb} {name}",
            context=parent,
            kind=_KINDS[verb],
            attributes=attributes,
            links=links,
        )
        return _Told(self, operation, span, trace.set_span_in_context(span, parent))

    def received(self, receipt: telemetry.Receipt, /) -> None:
        """Messages were got: their span is over already."""
        name, waited, messages = receipt
        now = time.time_ns()
        attributes: Attributes = {}
        if self.messaging:
            attributes = of_destination("receive", "receive", name)
            self._counts.receipt(name, waited, len(messages))
            if len(messages) == 1:
                attributes.update(_of_message(messages[0]))
            else:
                attributes["messaging.batch.message_count"] = len(messages)
        self._counts.came(name, messages)
        senders = [_sender(message) for message in messages]
        self._tracer.start_span(
            f"receive {name}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=[Link(sender) for sender in senders if sender is not None],
            start_time=now - int(waited * 1e9),
        ).end(now)

    def _attributes(self, verb: str, name: str) -> Attributes:
        if verb in ("call", "serve"):
            return of_function(name)
        if not self.messaging:
            return {}
        return of_destination(verb, _TYPES[verb], name)

    def _ended(
        self, operation: telemetry.Operation, seconds: float, messages: int, error: str | None
    ) -> None:
        attributes = self._attributes(operation.verb, operation.name)
        if error is not None:
            attributes["error.type"] = error
        self._counts.ended(operation, seconds, messages, attributes if attributes else None)


class _Told:
    """A span under way."""

    def __init__(
        self, observer: Telemetry, operation: telemetry.Operation, span: Span, context: Context
    ) -> None:
        self._observer = observer
        self._operation = operation
        self._span = span
        self._context = context
        self._token: Any = None
        self._begun = time.perf_counter()

    def headers(self) -> Mapping[str, str]:
        """The span's context."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier, context=self._context)
        return carrier

    def enter(self) -> None:
        """The span is the active one."""
        self._token = contexts.attach(self._context)

    def end(self, messages: int, error: BaseException | str | None) -> None:
        """The span has ended."""
        seconds = time.perf_counter() - self._begun
        token, self._token = self._token, None
        # A block that ends in another context has left the span's already.
        if token is not None and contexts.get_current() is self._context:
            contexts.detach(token)
        kind = type(error).__qualname__ if isinstance(error, BaseException) else error
        if kind is not None:
            self._span.set_attribute("error.type", kind)
            # What a program's own code raised is told as such; of others, their kind is enough.
            if isinstance(error, BaseException) and self._operation.message is not None:
                self._span.record_exception(error)
            self._span.set_status(Status(StatusCode.ERROR))
        if self._observer.messaging and messages > 1:
            self._span.set_attribute("messaging.batch.message_count", messages)
        # Counted first: who sees the span finds it counted.
        self._observer._ended(self._operation, seconds, messages, kind)
        self._span.end()


class _Counts:
    """What is counted and timed, under the names of the conventions."""

    def __init__(self, meter: Meter) -> None:
        def duration(name: str, what: str) -> metrics.Histogram:
            return meter.create_histogram(
                name, unit="s", description=what, explicit_bucket_boundaries_advisory=BOUNDS
            )

        def count(name: str, what: str) -> metrics.Counter:
            return meter.create_counter(name, unit="{message}", description=what)

        self._calls = duration("rpc.client.call.duration", "How long calls took.")
        self._answers = duration("rpc.server.call.duration", "How long exposed functions took.")
        self._operations = duration(
            "messaging.client.operation.duration", "How long sending and receiving took."
        )
        self._handlers = duration("messaging.process.duration", "How long handlers took.")
        self._sent = count("messaging.client.sent.messages", "Messages that were sent.")
        self._consumed = count("messaging.client.consumed.messages", "Messages that were received.")
        self._redelivered = count("pymq.redelivered.messages", "Items that came once more.")

    def came(self, name: str, messages: Iterable[Message]) -> None:
        """Messages came, some of them perhaps not for the first time."""
        again = sum(1 for message in messages if (message.deliveries or 0) > 1)
        if again:
            self._redelivered.add(again, {"messaging.destination.name": name})

    def receipt(self, name: str, waited: float, messages: int) -> None:
        """Messages were got by who had asked for them."""
        attributes = of_destination("receive", "receive", name)
        self._operations.record(waited, attributes)
        self._consumed.add(messages, attributes)

    def ended(
        self,
        operation: telemetry.Operation,
        seconds: float,
        messages: int,
        attributes: Attributes | None,
    ) -> None:
        """An operation has ended; without attributes nothing of it is counted."""
        verb, asked_for = operation.verb, operation.asked_for
        if verb == "call":
            self._calls.record(seconds, attributes)
        elif verb == "serve":
            self._answers.record(seconds, attributes)
        elif attributes is None or "messaging.system" not in attributes:
            return
        elif verb == "process":
            self._handlers.record(seconds, attributes)
            if not asked_for:
                self._consumed.add(messages, attributes)
        else:
            self._operations.record(seconds, attributes)
            if _TYPES[verb] == "send":
                self._sent.add(messages, attributes)


def _opted_in() -> bool:
    opted = os.environ.get("OTEL_SEMCONV_STABILITY_OPT_IN", "").split(",")
    return any(word.strip() in ("messaging", "messaging/dup") for word in opted)


def of_function(name: str) -> Attributes:
    """The attributes of a call."""
    return {"rpc.system.name": "pymq", "rpc.method": name}


def of_destination(word: str, of: str, name: str) -> Attributes:
    """The attributes of messages."""
    return {
        "messaging.system": "pymq",
        "messaging.operation.name": word,
        "messaging.operation.type": of,
        "messaging.destination.name": name,
    }


def _address(server: str | None) -> Attributes:
    """A server as `health` has it, `redis://host:port` or a path, by the conventions' names."""
    if server is None:
        return {}
    place = server.partition("://")[2] or server
    if place.startswith("/"):
        return {"server.address": place}
    host, _, port = place.partition("/")[0].rpartition(":")
    if not port.isdecimal():
        return {"server.address": place}
    return {"server.address": host.strip("[]"), "server.port": int(port)}


def _of_message(message: Message) -> Attributes:
    attributes: Attributes = {}
    if message.id is not None:
        attributes["messaging.message.id"] = message.id
    if message.deliveries is not None:
        attributes["messaging.pymq.deliveries"] = message.deliveries
    return attributes


def _sender(message: Message) -> trace.SpanContext | None:
    """In which span a message was sent, where it says so."""
    if not message.headers:
        return None
    context = propagate.extract(dict(message.headers), context=Context())
    sender = trace.get_current_span(context).get_span_context()
    return sender if sender.is_valid else None


def _descent(verb: str, message: Message) -> tuple[Context, list[Link]]:
    """The parent of what handles a message, and its links: a call's is its caller; an item's or an
    event's work is a part of what is active here, if something is, and else of its sender's."""
    here, sender = contexts.get_current(), _sender(message)
    if sender is None:
        return here, []
    links = [] if verb == "serve" else [Link(sender)]
    if verb != "serve" and trace.get_current_span(here).get_span_context().is_valid:
        return here, links
    return propagate.extract(dict(message.headers), context=here), links


def watch(bus: Watchable, *, meter_provider: MeterProvider | None = None) -> None:
    """Tell how a bus and its queues stand each time that metrics are collected, until it closes.

    Of each queue of its namespace `pymq.queue.items` by state, `pymq.queue.oldest` in seconds and
    `pymq.queue.consumers`; of the bus `pymq.bus.connected` (1 or 0), `pymq.bus.reconnects`,
    `pymq.bus.unread_events`, `pymq.bus.lost_events` and `pymq.bus.lost_posts`. Of the processes
    of a namespace one that watches is enough for the queues; listing them takes time that grows
    with all that the broker holds.
    """
    native = watchable(bus)
    reading = _Reading(weakref.ref(native))
    meter = metrics.get_meter("pymq", __version__, meter_provider)

    def gauge(name: str, unit: str, what: str, read: Callable[[Gauges], _Values]) -> None:
        def observe(_: CallbackOptions) -> Iterable[Observation]:
            figures = reading.newest(name)
            return [] if figures is None else [Observation(*value) for value in read(figures)]

        meter.create_observable_gauge(name, [observe], unit, what)

    gauge("pymq.bus.connected", "1", "Whether the bus has its broker.", _connected)
    for figure, unit, what in [
        ("reconnects", "{reconnect}", "How often it came back."),
        ("unread_events", "{event}", "Events that nobody has read yet."),
        ("lost_events", "{event}", "Events that came too fast."),
        ("lost_posts", "{event}", LOST_POSTS),
    ]:
        gauge(f"pymq.bus.{figure}", unit, what, _of_health(figure))
    gauge("pymq.queue.items", "{item}", "Items of a queue, by state.", _items)
    gauge("pymq.queue.oldest", "s", "For how long the first item has waited.", _oldest)
    gauge("pymq.queue.consumers", "{connection}", "Who holds or awaits items.", _consumers)


_Values = Iterable["tuple[float, Attributes]"]


class _Reading:
    """The figures of a bus, read once for all gauges of a collection."""

    def __init__(self, bus: weakref.ref[Any]) -> None:
        self._bus = bus
        self._figures: Gauges | None = None
        self._read: set[str] = set()

    def newest(self, gauge: str) -> Gauges | None:
        """As of this collection: the first gauge that comes again begins the next."""
        bus = self._bus()
        if bus is None or bus.closed:
            return None
        if self._figures is None or gauge in self._read:
            self._figures, self._read = gauges_of(bus), set()
        self._read.add(gauge)
        return self._figures


def _connected(figures: Gauges) -> _Values:
    return [(int(figures.health["state"] == "connected"), {})]


def _of_health(figure: str) -> Callable[[Gauges], _Values]:
    return lambda figures: [(figures.health.get(figure, 0), {})]


def _items(figures: Gauges) -> _Values:
    for name, stats in figures.queues or []:
        for state in ("waiting", "delayed", "leased", "dead"):
            yield getattr(stats, state), {"queue": name, "state": state}


def _oldest(figures: Gauges) -> _Values:
    return [(stats.oldest or 0.0, {"queue": name}) for name, stats in figures.queues or []]


def _consumers(figures: Gauges) -> _Values:
    known = [pair for pair in figures.queues or [] if pair[1].consumers is not None]
    return [(stats.consumers or 0, {"queue": name}) for name, stats in known]
