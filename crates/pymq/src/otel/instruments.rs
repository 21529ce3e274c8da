//! Metrics: what is counted and timed, under the names of the conventions.

use std::sync::Arc;
use std::time::Instant;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::spans::{Span, of_destination, of_function, operation_type};
use crate::telemetry::{End, Observation, Operation, Receipt, Received, Verb};

/// The bounds that the conventions give for durations, in seconds.
const BOUNDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// What is counted and timed.
pub(super) struct Instruments {
    calls: Histogram<f64>,
    answers: Histogram<f64>,
    operations: Histogram<f64>,
    handlers: Histogram<f64>,
    sent: Counter<u64>,
    consumed: Counter<u64>,
    redelivered: Counter<u64>,
}

impl Instruments {
    pub(super) fn new(meter: &Meter) -> Self {
        let duration = |name: &'static str, what: &'static str| {
            let builder = meter.f64_histogram(name).with_description(what).with_unit("s");
            builder.with_boundaries(BOUNDS.to_vec()).build()
        };
        let count = |name: &'static str, what: &'static str| {
            meter.u64_counter(name).with_description(what).with_unit("{message}").build()
        };
        Self {
            calls: duration("rpc.client.call.duration", "How long calls took."),
            answers: duration("rpc.server.call.duration", "How long exposed functions took."),
            operations: duration(
                "messaging.client.operation.duration",
                "How long sending and receiving took.",
            ),
            handlers: duration("messaging.process.duration", "How long handlers took."),
            sent: count("messaging.client.sent.messages", "Messages that were sent."),
            consumed: count("messaging.client.consumed.messages", "Messages that were received."),
            redelivered: count("pymq.redelivered.messages", "Items that came once more."),
        }
    }

    pub(super) fn received(&self, receipt: &Receipt<'_>, messaging: bool) {
        receipt.messages.iter().for_each(|message| self.came(receipt.name, message));
        if messaging {
            let attributes = of_destination("receive", "receive", receipt.name);
            self.operations.record(receipt.waited.as_secs_f64(), &attributes);
            self.consumed.add(receipt.messages.len() as u64, &attributes);
        }
    }

    fn came(&self, name: &str, message: &Received<'_>) {
        if message.deliveries.is_some_and(|times| times > 1) {
            self.redelivered
                .add(1, &[KeyValue::new("messaging.destination.name", name.to_owned())]);
        }
    }
}

/// An operation that is timed, with its span.
pub(super) struct Timed {
    span: Span,
    instruments: Arc<Instruments>,
    verb: Verb,
    name: String,
    begun: Instant,
    messaging: bool,
}

impl Timed {
    pub(super) fn new(
        span: Span,
        instruments: &Arc<Instruments>,
        operation: &Operation<'_>,
        messaging: bool,
    ) -> Self {
        if let Some(message) = &operation.message {
            instruments.came(operation.name, message);
        }
        let (instruments, name) = (Arc::clone(instruments), operation.name.to_owned());
        Self { span, instruments, verb: operation.verb, name, begun: Instant::now(), messaging }
    }

    fn record(&self, end: &End<'_>) {
        let Self { instruments, verb, name, begun, messaging, .. } = self;
        let mut attributes = match verb {
            Verb::Call | Verb::Serve => of_function(name),
            _ if !messaging => return,
            verb => of_destination(verb.word(), operation_type(*verb), name),
        };
        let error = end.error.map(|error| KeyValue::new("error.type", error.to_owned()));
        attributes.extend(error);
        let (seconds, messages) = (begun.elapsed().as_secs_f64(), end.messages as u64);
        match verb {
            Verb::Call => instruments.calls.record(seconds, &attributes),
            Verb::Serve => instruments.answers.record(seconds, &attributes),
            Verb::Process => {
                instruments.handlers.record(seconds, &attributes);
                instruments.consumed.add(messages, &attributes);
            }
            Verb::Publish | Verb::Put => {
                instruments.operations.record(seconds, &attributes);
                instruments.sent.add(messages, &attributes);
            }
            Verb::Ack | Verb::Requeue | Verb::Reject => {
                instruments.operations.record(seconds, &attributes);
            }
        }
    }
}

impl Observation for Timed {
    fn headers(&self) -> Vec<(String, String)> {
        self.span.headers()
    }

    fn step(&self, work: &mut dyn FnMut()) {
        self.span.step(work);
    }

    fn end(&self, end: &End<'_>) {
        self.record(end);
        self.span.end(end, self.messaging);
    }
}
