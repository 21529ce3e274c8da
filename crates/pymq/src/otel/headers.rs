//! A context as headers of a message: by the program's propagator, else as the W3C writes it.

use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::{
    SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, global};

use crate::wire::Metadata;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Headers under construction.
struct Headers(Vec<(String, String)>);

impl Injector for Headers {
    fn set(&mut self, key: &str, value: String) {
        self.0.push((key.to_owned(), value));
    }
}

/// What a message says beside its value.
struct Beside<'a>(&'a Metadata);

impl Extractor for Beside<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.headers().map(|(name, _)| name).collect()
    }
}

/// The headers that carry a context.
pub(super) fn write(context: &Context) -> Vec<(String, String)> {
    let mut headers = Headers(Vec::new());
    global::get_text_map_propagator(|propagator| match propagator.fields().next() {
        Some(_) => propagator.inject_context(context, &mut headers),
        None => plain(context, &mut headers),
    });
    headers.0
}

/// The context that a message carries, over one that is there.
pub(super) fn read(there: &Context, metadata: &Metadata) -> Context {
    if metadata.is_empty() {
        return there.clone();
    }
    let beside = Beside(metadata);
    global::get_text_map_propagator(|propagator| match propagator.fields().next() {
        Some(_) => propagator.extract_with_context(there, &beside),
        None => match sender(metadata) {
            Some(sender) => there.with_remote_span_context(sender),
            None => there.clone(),
        },
    })
}

fn plain(context: &Context, headers: &mut Headers) {
    let span = context.span();
    let span = span.span_context();
    if !span.is_valid() {
        return;
    }
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags().to_u8());
    headers.set(PARENT, format!("00-{trace}-{id}-{flags:02x}"));
    let state = span.trace_state().header();
    if !state.is_empty() {
        headers.set(STATE, state);
    }
}

/// What the header of the W3C says; what is none says nothing.
fn sender(metadata: &Metadata) -> Option<SpanContext> {
    let parent = metadata.get(PARENT)?.trim();
    let mut parts = parent.split('-');
    let (version, trace, id, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let well_formed = hex(version, 2) && hex(trace, 32) && hex(id, 16) && hex(flags, 2);
    // Version 0 ends there; a later one may say more.
    if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let state = metadata.get(STATE).and_then(|state| state.parse::<TraceState>().ok());
    let (trace, id) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(id).ok()?);
    let sender = SpanContext::new(trace, id, flags, true, state.unwrap_or_default());
    sender.is_valid().then_some(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of(parent: &str) -> Option<SpanContext> {
        sender(&Metadata::default().header(PARENT, parent).header(STATE, "a=1"))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let sender = of(&parent).expect("well-formed");
        assert!(sender.is_remote() && sender.is_sampled());
        let context = Context::new().with_remote_span_context(sender);
        let mut headers = Headers(Vec::new());
        plain(&context, &mut headers);
        assert_eq!(headers.0, [(PARENT.to_owned(), parent), (STATE.to_owned(), "a=1".to_owned())]);
    }

    #[test]
    fn a_header_that_is_none_says_nothing() {
        for parent in [
            "",
            "00",
            "nonsense",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert!(of(parent).is_none(), "{parent}");
        }
        assert!(of("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }
}
