//! OpenTelemetry: what a bus does as spans and metrics, by the semantic conventions.
//!
//! One line switches it on, after the program has set its providers:
//!
//! ```
//! use pymq::Bus;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! bus.observe(pymq::otel::Telemetry::new());
//! # Ok(()) }
//! ```
//!
//! | what happens | span, by kind | its parent | links |
//! |---|---|---|---|
//! | an event is published, items are put | `publish TOPIC`, `put QUEUE`: producer | what is active | |
//! | the program gets events or items that it had asked for | `receive NAME`: client | what is active | to the sender of each |
//! | a handler runs with an item | `process QUEUE`: consumer | what is active, else its sender | to its sender |
//! | the program settles a delivery | `ack QUEUE`, `requeue QUEUE`, `reject QUEUE`: client | what is active | |
//! | a function is called | `FUNCTION`: client | what is active | |
//! | an exposed function answers | `FUNCTION`: server | the call | |
//!
//! The context travels in headers (`traceparent`, and what the global propagator adds), which peers
//! of the original pass over; a program in between that is not watched hands it on to the functions
//! that it calls. Where no propagator is set, the headers of the W3C are written and read all the same.
//!
//! Calls have the attributes and metrics of the stable conventions (`rpc.system.name`, `rpc.method`,
//! `error.type`; `rpc.client.call.duration`, `rpc.server.call.duration`). Those for messaging are in
//! development: attributes and metrics whose names begin with `messaging.` come with
//! `OTEL_SEMCONV_STABILITY_OPT_IN=messaging` in the environment, or
//! [`messaging`](Telemetry::messaging). `pymq.redelivered.messages` counts items that came again, and
//! [`watch`](Telemetry::watch) adds how queues and the connection stand.

use std::fmt;
use std::sync::Arc;

use opentelemetry::metrics::{Meter, MeterProvider};
use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry::{Context, InstrumentationScope, global};

use crate::telemetry::{Observation, Observer, Operation, Receipt};
use crate::wire::Metadata;

mod headers;
mod instruments;
mod spans;
mod watch;

use instruments::Instruments;
use spans::Spans;
pub use watch::Watch;

/// Tells OpenTelemetry what a bus does, see [`Bus::observe`](crate::Bus::observe).
#[derive(Clone)]
pub struct Telemetry {
    spans: Arc<Spans>,
    instruments: Arc<Instruments>,
    meter: Meter,
    /// Whether names that may still change are used.
    messaging: bool,
}

impl Telemetry {
    /// To the providers that are the global ones now: the program sets its own before.
    #[expect(clippy::new_without_default, reason = "it reads globals and the environment")]
    pub fn new() -> Self {
        Self::to(&global::tracer_provider(), &*global::meter_provider())
    }

    /// To these providers.
    pub fn to<T>(traces: &T, metrics: &dyn MeterProvider) -> Self
    where
        T: TracerProvider,
        T::Tracer: Tracer<Span: Send + Sync + 'static> + Send + Sync + 'static,
    {
        let scope = InstrumentationScope::builder("pymq").with_version(env!("CARGO_PKG_VERSION"));
        let scope = scope.build();
        let messaging =
            std::env::var("OTEL_SEMCONV_STABILITY_OPT_IN").is_ok_and(|opted| is_in(&opted));
        let spans = Arc::new(Spans::new(traces.tracer_with_scope(scope.clone())));
        let meter = metrics.meter_with_scope(scope);
        Self { spans, instruments: Arc::new(Instruments::new(&meter)), meter, messaging }
    }

    /// The same with or without the names that may still change, whatever the environment says.
    #[must_use]
    pub fn messaging(self, messaging: bool) -> Self {
        Self { messaging, ..self }
    }
}

/// Whether the list of who opts in has messaging in it.
fn is_in(opted: &str) -> bool {
    opted.split(',').any(|word| matches!(word.trim(), "messaging" | "messaging/dup"))
}

impl Observer for Telemetry {
    fn begin(&self, operation: &Operation<'_>) -> Box<dyn Observation> {
        let span = self.spans.begin(operation, self.messaging);
        Box::new(instruments::Timed::new(span, &self.instruments, operation, self.messaging))
    }

    fn received(&self, receipt: &Receipt<'_>) {
        self.spans.received(receipt, self.messaging);
        self.instruments.received(receipt, self.messaging);
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("messaging", &self.messaging).finish_non_exhaustive()
    }
}

/// The context that a message's sender was in, for a program that goes on with its trace; the one that
/// is active here where its sender said none.
///
/// ```
/// use pymq::wire::Metadata;
/// use pymq::otel;
/// use opentelemetry::trace::TraceContextExt as _;
///
/// let sender = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let metadata = Metadata::default().header("traceparent", sender);
/// let context = otel::context(&metadata);
/// let trace = context.span().span_context().trace_id().to_string();
/// assert_eq!(trace, "4bf92f3577b34da6a3ce929d0e0e4736");
/// ```
pub fn context(metadata: &Metadata) -> Context {
    headers::read(&Context::current(), metadata)
}

#[cfg(test)]
mod tests {
    use super::is_in;

    #[test]
    fn messaging_is_opted_in_by_its_word_alone() {
        for opted in ["messaging", "http, messaging", "rpc,messaging/dup"] {
            assert!(is_in(opted), "{opted}");
        }
        for opted in ["", "http", "messagings", "rpc"] {
            assert!(!is_in(opted), "{opted}");
        }
    }
}
