//! Spans: which there are, with which parent, links and attributes.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::global::BoxedTracer;
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer,
};
use opentelemetry::{Context, KeyValue};

use super::headers;
use crate::telemetry::{End, Operation, Receipt, Received, Verb};

/// What makes spans.
pub(super) struct Spans(BoxedTracer);

/// A span that has begun, in the context in which its work runs.
pub(super) struct Span(Context);

/// How often an item was handed out; a name of ours beside those of the conventions.
const DELIVERIES: &str = "messaging.pymq.deliveries";

impl Spans {
    pub(super) fn new(
        tracer: impl Tracer<Span: Send + Sync + 'static> + Send + Sync + 'static,
    ) -> Self {
        Self(BoxedTracer::new(Box::new(tracer)))
    }

    pub(super) fn begin(&self, operation: &Operation<'_>, messaging: bool) -> Span {
        let Operation { verb, name, message, server } = operation;
        let here = Context::current();
        let (parent, links) = match message {
            Some(message) => descent(*verb, &here, message),
            None => (here, Vec::new()),
        };
        let mut attributes = attributes(*verb, name, messaging);
        attributes.extend(of_server(*verb, *server));
        if let Some(message) = message.filter(|_| messaging && *verb == Verb::Process) {
            attributes.extend(of_message(&message));
        }
        let builder = self.0.span_builder(span_name(*verb, name));
        let builder = builder.with_kind(kind(*verb)).with_attributes(attributes).with_links(links);
        let span = self.0.build_with_context(builder, &parent);
        Span(parent.with_span(span))
    }

    /// A span for messages that the program got: it is over already.
    pub(super) fn received(&self, receipt: &Receipt<'_>, messaging: bool) {
        let here = Context::current();
        let senders = receipt.messages.iter().filter_map(|message| sender(&here, message));
        let links = senders.map(|sender| Link::new(sender, Vec::new(), 0)).collect();
        let mut attributes = address(receipt.server);
        if messaging {
            attributes.extend(of_destination("receive", "receive", receipt.name));
            match receipt.messages {
                [message] => attributes.extend(of_message(message)),
                messages => attributes.push(batch(messages.len())),
            }
        }
        let now = SystemTime::now();
        let builder = self.0.span_builder(format!("receive {}", receipt.name));
        let builder = builder
            .with_kind(SpanKind::Client)
            .with_start_time(now.checked_sub(receipt.waited).unwrap_or(now))
            .with_attributes(attributes)
            .with_links(links);
        self.0.build_with_context(builder, &here).end();
    }
}

impl Span {
    pub(super) fn headers(&self) -> Vec<(String, String)> {
        headers::write(&self.0)
    }

    pub(super) fn step(&self, work: &mut dyn FnMut()) {
        let _active = self.0.clone().attach();
        work();
    }

    pub(super) fn end(&self, end: &End<'_>, messaging: bool) {
        let span = self.0.span();
        if messaging && end.messages > 1 {
            span.set_attribute(batch(end.messages));
        }
        if let Some(error) = end.error {
            span.set_attribute(KeyValue::new("error.type", error.to_owned()));
            // What an error says may be the user's secret; its kind is enough here.
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// The parent of what handles a message, and its links: a call's is its caller; an item's work is a
/// part of what is active here, if something is, and else of its sender's.
fn descent(verb: Verb, here: &Context, message: &Received<'_>) -> (Context, Vec<Link>) {
    let Some(sender) = sender(here, message) else { return (here.clone(), Vec::new()) };
    let links = match verb {
        Verb::Serve => Vec::new(),
        _ => vec![Link::new(sender, Vec::new(), 0)],
    };
    match verb != Verb::Serve && here.span().span_context().is_valid() {
        true => (here.clone(), links),
        false => (headers::read(here, message.metadata), links),
    }
}

/// In which span a message was sent, where it says so.
fn sender(here: &Context, message: &Received<'_>) -> Option<SpanContext> {
    let context = headers::read(&without_span(here), message.metadata);
    let sender = context.span().span_context().clone();
    sender.is_valid().then_some(sender)
}

/// Nothing of this context is the message's.
fn without_span(here: &Context) -> Context {
    match here.has_active_span() {
        true => here.with_remote_span_context(SpanContext::empty_context()),
        false => here.clone(),
    }
}

fn kind(verb: Verb) -> SpanKind {
    match verb {
        Verb::Publish | Verb::Put => SpanKind::Producer,
        Verb::Process => SpanKind::Consumer,
        Verb::Call | Verb::Ack | Verb::Requeue | Verb::Reject => SpanKind::Client,
        Verb::Serve => SpanKind::Server,
    }
}

fn span_name(verb: Verb, name: &str) -> Cow<'static, str> {
    Cow::Owned(match verb {
        Verb::Call | Verb::Serve => name.to_owned(),
        verb => format!("{} {name}", verb.word()),
    })
}

/// The type of an operation, of which there are fewer than names.
pub(super) fn operation_type(verb: Verb) -> &'static str {
    match verb {
        Verb::Publish | Verb::Put => "send",
        Verb::Ack | Verb::Requeue | Verb::Reject => "settle",
        verb => verb.word(),
    }
}

fn attributes(verb: Verb, name: &str, messaging: bool) -> Vec<KeyValue> {
    match verb {
        Verb::Call | Verb::Serve => of_function(name),
        _ if messaging => of_destination(verb.word(), operation_type(verb), name),
        _ => Vec::new(),
    }
}

/// The broker, of what is said to it. A call is to a function, wherever that is.
fn of_server(verb: Verb, server: Option<&str>) -> Vec<KeyValue> {
    match verb {
        Verb::Call | Verb::Serve | Verb::Process => Vec::new(),
        _ => address(server),
    }
}

/// A server as `health` has it, by the names of the conventions: `redis://host:port`, or a path.
fn address(server: Option<&str>) -> Vec<KeyValue> {
    let Some(server) = server else { return Vec::new() };
    let place = server.split_once("://").map_or(server, |(_, place)| place);
    let known = |address: &str| KeyValue::new("server.address", address.to_owned());
    if place.starts_with('/') {
        return vec![known(place)];
    }
    let place = place.split_once('/').map_or(place, |(place, _)| place);
    let apart = place.rsplit_once(':');
    match apart.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))) {
        Some((host, port)) => vec![
            known(host.trim_matches(['[', ']'])),
            KeyValue::new("server.port", i64::from(port)),
        ],
        None => vec![known(place)],
    }
}

pub(super) fn of_function(name: &str) -> Vec<KeyValue> {
    vec![KeyValue::new("rpc.system.name", "pymq"), KeyValue::new("rpc.method", name.to_owned())]
}

pub(super) fn of_destination(word: &'static str, of: &'static str, name: &str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "pymq"),
        KeyValue::new("messaging.operation.name", word),
        KeyValue::new("messaging.operation.type", of),
        KeyValue::new("messaging.destination.name", name.to_owned()),
    ]
}

fn of_message(message: &Received<'_>) -> Vec<KeyValue> {
    let id = message.metadata.identity();
    let id = id.map(|id| KeyValue::new("messaging.message.id", id.to_owned()));
    let deliveries = message.deliveries.map(|times| KeyValue::new(DELIVERIES, i64::from(times)));
    id.into_iter().chain(deliveries).collect()
}

fn batch(messages: usize) -> KeyValue {
    KeyValue::new("messaging.batch.message_count", i64::try_from(messages).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn a_server_is_told_by_its_host_and_port_or_its_path() {
        let told = |server| {
            let pairs = address(Some(server)).into_iter();
            pairs.map(|pair| pair.value.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(told("redis://10.0.0.1:6379"), ["10.0.0.1", "6379"]);
        assert_eq!(told("rediss://[::1]:6380/2"), ["::1", "6380"]);
        assert_eq!(told("redis+unix:///run/redis.sock"), ["/run/redis.sock"]);
        assert!(address(None).is_empty());
    }
}
