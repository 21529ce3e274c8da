//! What this process tells OpenTelemetry, to be read by the tests.

use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use pymq::Bus;
use pymq::otel::Telemetry;
use serde_json::{Value, json};

/// The spans of a bus that is watched.
pub(crate) struct Traces {
    spans: InMemorySpanExporter,
    _provider: SdkTracerProvider,
}

impl Traces {
    pub(crate) fn of(bus: &Bus) -> Self {
        let spans = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        bus.observe(Telemetry::to(&provider, &SdkMeterProvider::default()));
        Self { spans, _provider: provider }
    }

    /// Those that have ended, in that order.
    pub(crate) fn ended(&self) -> Value {
        let spans = self.spans.get_finished_spans().expect("the exporter is open");
        spans.iter().map(described).collect()
    }
}

fn described(span: &SpanData) -> Value {
    json!({
        "name": span.name,
        "kind": format!("{:?}", span.span_kind).to_lowercase(),
        "trace": span.span_context.trace_id().to_string(),
        "span": span.span_context.span_id().to_string(),
        "parent": span.parent_span_id.to_string(),
    })
}
