//! What OpenTelemetry is told: which spans there are, whose children they are, what is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::trace::{
    SpanId, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, trace::FutureExt as _};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use place::{Place, lengths};
use pymq::otel::{self, Telemetry};
use pymq::wire::{LARGEST_METADATA, Metadata};
use pymq::{Bus, Delivery, Retry};

mod place;

everywhere!(
    a_call_and_the_calls_within_it_are_one_trace,
    every_provider_that_is_called_is_a_child_of_the_call,
    what_handles_an_item_is_a_child_of_its_put,
    what_the_program_asks_for_is_linked_to_its_senders,
    what_the_program_settles_is_told,
    a_program_goes_on_with_the_trace_of_an_event,
    how_it_failed_is_told_by_its_kind,
    who_is_not_watched_hands_a_trace_on,
    headers_never_cost_a_message,
    how_queues_stand_is_told,
);

/// Where spans and metrics go, and what tells them.
struct Told {
    spans: InMemorySpanExporter,
    traces: SdkTracerProvider,
    metrics: InMemoryMetricExporter,
    meters: SdkMeterProvider,
}

impl Told {
    fn new() -> Self {
        let (spans, metrics) = (InMemorySpanExporter::default(), InMemoryMetricExporter::default());
        let traces = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
        let reader = PeriodicReader::builder(metrics.clone()).build();
        let meters = SdkMeterProvider::builder().with_reader(reader).build();
        Self { spans, traces, metrics, meters }
    }

    fn telemetry(&self) -> Telemetry {
        Telemetry::to(&self.traces, &self.meters).messaging(true)
    }

    async fn bus(&self, place: &Place) -> Bus {
        let bus = place.bus().await;
        bus.observe(self.telemetry());
        bus
    }

    fn active(&self, name: &'static str) -> Context {
        Context::new().with_span(self.traces.tracer("test").start(name))
    }

    fn all(&self) -> Vec<SpanData> {
        self.spans.get_finished_spans().expect("the exporter is open")
    }

    /// The span of that name and kind, waited for: the other side of a message may end it later.
    async fn span(&self, name: &str, kind: SpanKind) -> SpanData {
        self.spans_of(name, kind, 1).await.remove(0)
    }

    async fn spans_of(&self, name: &str, kind: SpanKind, count: usize) -> Vec<SpanData> {
        loop {
            let mut spans = self.all();
            spans.retain(|span| span.name == name && span.span_kind == kind);
            if spans.len() >= count {
                return spans;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn counted(&self) -> Vec<ResourceMetrics> {
        self.meters.force_flush().expect("the exporter is open");
        self.metrics.get_finished_metrics().expect("the exporter is open")
    }

    fn metric_names(&self) -> Vec<String> {
        let counted = self.counted();
        let metrics = counted.iter().flat_map(ResourceMetrics::scope_metrics);
        let names =
            metrics.flat_map(|scope| scope.metrics().map(|metric| metric.name().to_owned()));
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.dedup();
        names
    }

    /// The newest value of a gauge whose attributes have these values.
    fn gauge(&self, name: &str, values: &[&str]) -> Option<u64> {
        let counted = self.counted();
        let metrics = counted.iter().flat_map(ResourceMetrics::scope_metrics);
        let metrics = metrics.flat_map(opentelemetry_sdk::metrics::data::ScopeMetrics::metrics);
        let data = metrics
            .filter(|metric| metric.name() == name)
            .map(opentelemetry_sdk::metrics::data::Metric::data);
        let mut newest = None;
        for data in data {
            let AggregatedMetrics::U64(MetricData::Gauge(gauge)) = data else { continue };
            for point in gauge.data_points() {
                let has = |value: &&str| point.attributes().any(|it| it.value.as_str() == *value);
                if values.iter().all(has) {
                    newest = Some(point.value());
                }
            }
        }
        newest
    }
}

fn attribute(span: &SpanData, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|attribute| attribute.key.as_str() == key);
    found.map(|attribute| attribute.value.as_str().into_owned())
}

fn is_child(span: &SpanData, parent: &SpanData) -> bool {
    span.parent_span_id == parent.span_context.span_id()
        && span.span_context.trace_id() == parent.span_context.trace_id()
}

fn is_linked(span: &SpanData, to: &SpanData) -> bool {
    span.links.iter().any(|link| link.span_context.span_id() == to.span_context.span_id())
}

async fn a_call_and_the_calls_within_it_are_one_trace(place: &Place) {
    let told = Told::new();
    let [caller, outer, inner] =
        [told.bus(place).await, told.bus(place).await, told.bus(place).await];
    let _inner = inner
        .expose_fn("inner", |(n,): (i64,)| async move { Ok::<_, String>(n + 1) })
        .await
        .expect("exposed");
    let stub = outer.stub::<(i64,), i64>("inner");
    let _outer = outer
        .expose_fn("outer", move |(n,): (i64,)| {
            let stub = stub.clone();
            async move {
                tokio::task::yield_now().await;
                stub.call((n,)).await.map_err(|error| error.to_string())
            }
        })
        .await
        .expect("exposed");
    let active = told.active("user");
    let stub = caller.stub::<(i64,), i64>("outer");
    let result = stub.call((1,)).with_context(active.clone()).await;
    assert_eq!(result.expect("a result"), 2);
    let call = told.span("outer", SpanKind::Client).await;
    assert_eq!(call.parent_span_id, active.span().span_context().span_id());
    let serve = told.span("outer", SpanKind::Server).await;
    assert!(is_child(&serve, &call) && serve.parent_span_is_remote, "{serve:?}");
    let nested = told.span("inner", SpanKind::Client).await;
    assert!(is_child(&nested, &serve), "{nested:?}");
    assert!(is_child(&told.span("inner", SpanKind::Server).await, &nested));
    assert_eq!(attribute(&call, "rpc.system.name").as_deref(), Some("pymq"));
    assert_eq!(attribute(&serve, "rpc.method").as_deref(), Some("outer"));
    assert_eq!(call.status, Status::Unset);
    let names = told.metric_names();
    assert_eq!(names, ["rpc.client.call.duration", "rpc.server.call.duration"]);
}

async fn every_provider_that_is_called_is_a_child_of_the_call(place: &Place) {
    let told = Told::new();
    let [caller, one, two] = [told.bus(place).await, told.bus(place).await, told.bus(place).await];
    let stock = |(): ()| async { Ok::<_, String>(1) };
    let _one = one.expose_fn("stock", stock).await.expect("exposed");
    let _two = two.expose_fn("stock", stock).await.expect("exposed");
    let stub = caller.stub::<(), i64>("stock");
    assert_eq!(stub.call_all(()).await.expect("answers").len(), 2);
    let call = told.span("stock", SpanKind::Client).await;
    let answers = told.spans_of("stock", SpanKind::Server, 2).await;
    assert!(answers.iter().all(|span| is_child(span, &call)));
    told.spans.reset();
    let mut replies = stub.call_all_stream(()).await.expect("a call");
    while replies.recv().await.is_some() {}
    let call = told.span("stock", SpanKind::Client).await;
    assert_eq!(call.status, Status::Unset);
    let answers = told.spans_of("stock", SpanKind::Server, 2).await;
    assert!(answers.iter().all(|span| is_child(span, &call)));
}

async fn what_handles_an_item_is_a_child_of_its_put(place: &Place) {
    let told = Told::new();
    let [producer, consumer] = [told.bus(place).await, told.bus(place).await];
    let said = Metadata::default().id("order-17");
    producer.queue("jobs").metadata(said).put(&1).await.expect("a put");
    let jobs = consumer.queue::<i64>("jobs").retry(Retry::at_once());
    let inner = consumer.clone();
    let worker = jobs.work_deliveries(1, move |job: Delivery<i64>| {
        let inner = inner.clone();
        async move {
            inner.topic("seen").publish(&*job).await.map_err(|error| error.to_string())?;
            if job.deliveries() == 1 { Err("once more".to_owned()) } else { Ok(()) }
        }
    });
    let worker = worker.expect("a worker");
    let put = told.span("put jobs", SpanKind::Producer).await;
    let work = told.spans_of("process jobs", SpanKind::Consumer, 2).await;
    assert!(work.iter().all(|span| is_child(span, &put) && is_linked(span, &put)), "{work:?}");
    assert_eq!(attribute(&work[0], "error.type").as_deref(), Some("String"));
    assert_eq!(attribute(&work[1], "error.type"), None);
    assert_eq!(attribute(&work[1], "messaging.pymq.deliveries").as_deref(), Some("2"));
    assert_eq!(attribute(&work[1], "messaging.message.id").as_deref(), Some("order-17"));
    assert_eq!(attribute(&put, "messaging.operation.type").as_deref(), Some("send"));
    let seen = told.spans_of("publish seen", SpanKind::Producer, 2).await;
    assert!(seen.iter().all(|span| work.iter().any(|work| is_child(span, work))));
    worker.drain().await.expect("a good end");
    let names = told.metric_names();
    for name in [
        "messaging.client.consumed.messages",
        "messaging.client.operation.duration",
        "messaging.client.sent.messages",
        "messaging.process.duration",
        "pymq.redelivered.messages",
    ] {
        assert!(names.iter().any(|one| one == name), "{name} in {names:?}");
    }
}

async fn what_the_program_asks_for_is_linked_to_its_senders(place: &Place) {
    let told = Told::new();
    let [producer, consumer] = [told.bus(place).await, told.bus(place).await];
    let jobs = producer.queue::<i64>("jobs");
    jobs.put(&1).await.expect("a put");
    jobs.put_many(&[2, 3]).await.expect("a put");
    let active = told.active("user");
    let many = consumer.queue::<i64>("jobs");
    let many = many.get_many(10, Duration::from_secs(30)).with_context(active.clone());
    assert_eq!(many.await.expect("items"), [1, 2, 3]);
    let receive = told.span("receive jobs", SpanKind::Client).await;
    let puts = told.spans_of("put jobs", SpanKind::Producer, 2).await;
    assert!(puts.iter().all(|put| is_linked(&receive, put)), "{receive:?}");
    assert_eq!(receive.links.len(), 3);
    assert_eq!(receive.parent_span_id, active.span().span_context().span_id());
    assert_eq!(attribute(&receive, "messaging.batch.message_count").as_deref(), Some("3"));
    assert_eq!(attribute(&puts[1], "messaging.batch.message_count").as_deref(), Some("2"));
    // Who gets nothing has received nothing.
    assert_eq!(consumer.queue::<i64>("jobs").try_get().await.expect("asked"), None);
    assert_eq!(told.spans_of("receive jobs", SpanKind::Client, 1).await.len(), 1);
}

async fn what_the_program_settles_is_told(place: &Place) {
    let told = Told::new();
    let bus = told.bus(place).await;
    let jobs = bus.queue::<i64>("jobs");
    jobs.put_many(&[1, 2, 3]).await.expect("a put");
    let active = told.active("user");
    let settling = async {
        jobs.claim().await.expect("an item").reject().await.expect("it is ours");
        jobs.claim().await.expect("an item").requeue().await.expect("it is ours");
        for delivery in jobs.claim_many(2, Duration::from_secs(30)).await.expect("items") {
            delivery.ack().await.expect("it is ours");
        }
    };
    settling.with_context(active.clone()).await;
    let mut settled = told.spans_of("ack jobs", SpanKind::Client, 2).await;
    settled.push(told.span("reject jobs", SpanKind::Client).await);
    settled.push(told.span("requeue jobs", SpanKind::Client).await);
    for span in &settled {
        assert_eq!(span.parent_span_id, active.span().span_context().span_id());
        assert_eq!(attribute(span, "messaging.operation.type").as_deref(), Some("settle"));
        let server = bus.health().server;
        assert_eq!(attribute(span, "server.port").is_some(), server.is_some(), "{server:?}");
    }
    // What a worker settles is a part of its handler's end.
    jobs.put(&4).await.expect("a put");
    let worker = jobs.work(1, async |_| Ok::<_, String>(())).expect("a worker");
    told.span("process jobs", SpanKind::Consumer).await;
    worker.drain().await.expect("it ends");
    assert_eq!(told.spans_of("ack jobs", SpanKind::Client, 2).await.len(), 2);
}

async fn a_program_goes_on_with_the_trace_of_an_event(place: &Place) {
    let told = Told::new();
    let [publisher, subscriber] = [told.bus(place).await, told.bus(place).await];
    let mut all = subscriber.pattern::<i64>("shop.*").await.expect("a subscription");
    publisher.topic("shop.till").publish(&30).await.expect("published");
    let event = all.recv_message().await.expect("the bus is open").expect("an event");
    let publish = told.span("publish shop.till", SpanKind::Producer).await;
    let receive = told.span("receive shop.till", SpanKind::Client).await;
    assert!(is_linked(&receive, &publish));
    assert_eq!(receive.parent_span_id, SpanId::INVALID);
    let context = otel::context(&event.metadata);
    assert_eq!(context.span().span_context().span_id(), publish.span_context.span_id());
    subscriber.topic("next").publish(&1).with_context(context).await.expect("published");
    assert!(is_child(&told.span("publish next", SpanKind::Producer).await, &publish));
}

async fn how_it_failed_is_told_by_its_kind(place: &Place) {
    let told = Told::new();
    let [caller, provider] = [told.bus(place).await, told.bus(place).await];
    let _service = provider
        .expose_fn("fails", |(word,): (String,)| async move { Err::<(), _>(word) })
        .await
        .expect("exposed");
    let began = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&began);
    let endless = move |(): ()| {
        begins.store(true, Ordering::Relaxed);
        std::future::pending::<Result<(), String>>()
    };
    let _endless = provider.expose_fn("endless", endless).await.expect("exposed");
    caller.stub::<_, ()>("fails").call(("a secret",)).await.expect_err("it fails");
    caller.stub::<(), ()>("nobody").call(()).await.expect_err("nobody is there");
    for timeout in lengths(Duration::from_millis(50)) {
        let endless = caller.stub::<(), ()>("endless").timeout(timeout);
        endless.call(()).await.expect_err("it is too long");
        // One whose time was over before it arrived is not run.
        if began.load(Ordering::Relaxed) {
            break;
        }
    }
    for (name, kind, error) in [
        ("fails", SpanKind::Client, "Error"),
        ("fails", SpanKind::Server, "Error"),
        ("nobody", SpanKind::Client, "NoSuchRemote"),
        ("endless", SpanKind::Client, "Timeout"),
        ("endless", SpanKind::Server, "cancelled"),
    ] {
        let spans = told.spans_of(name, kind.clone(), 1).await;
        let span = spans.last().expect("one is there");
        assert_eq!(attribute(span, "error.type").as_deref(), Some(error), "{name} {kind:?}");
        assert_eq!(span.status, Status::error(""), "{name}");
    }
    assert!(!format!("{:?}", told.all()).contains("a secret"));
}

async fn who_is_not_watched_hands_a_trace_on(place: &Place) {
    let told = Told::new();
    let [caller, last] = [told.bus(place).await, told.bus(place).await];
    let between = place.bus().await;
    let _last =
        last.expose_fn("last", |(): ()| async { Ok::<_, String>(3) }).await.expect("exposed");
    let stub = between.stub::<(), i64>("last");
    let _between = between
        .expose_fn("between", move |(): ()| {
            let stub = stub.clone();
            async move { stub.call(()).await.map_err(|error| error.to_string()) }
        })
        .await
        .expect("exposed");
    assert_eq!(caller.stub::<(), i64>("between").call(()).await.expect("a result"), 3);
    let call = told.span("between", SpanKind::Client).await;
    assert!(is_child(&told.span("last", SpanKind::Server).await, &call));
}

async fn headers_never_cost_a_message(place: &Place) {
    let told = Told::new();
    let bus = told.bus(place).await;
    let jobs = bus.queue::<i64>("jobs");
    // As much as travels: nothing of ours fits beside it.
    let full = "x".repeat(LARGEST_METADATA - 60);
    let own = Metadata::default().header("full", full);
    jobs.clone().metadata(own).put(&1).await.expect("it is small enough");
    let job = jobs.claim().await.expect("an item");
    assert_eq!(job.metadata().headers().count(), 1);
    job.ack().await.expect("it is ours");
    // What the program says itself stands.
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    jobs.clone()
        .metadata(Metadata::default().header("traceparent", own))
        .put(&2)
        .await
        .expect("put");
    let job = jobs.claim().await.expect("an item");
    assert_eq!(job.metadata().get("traceparent"), Some(own));
    job.ack().await.expect("it is ours");
    // Nor do they make one too large that just fits.
    let largest = "x".repeat(pymq::wire::LARGEST_MESSAGE - 2);
    bus.topic("large").publish(&largest).await.expect("it fits");
}

async fn how_queues_stand_is_told(place: &Place) {
    let told = Told::new();
    let bus = place.bus().await;
    let jobs = bus.queue::<i64>("jobs");
    jobs.put_many(&[1, 2, 3]).await.expect("a put");
    jobs.claim().await.expect("an item").reject().await.expect("it is ours");
    let held = jobs.claim().await.expect("an item");
    let watch = told.telemetry().watch(&bus, Duration::from_millis(20)).expect("a runtime");
    for (state, items) in [("waiting", 1), ("leased", 1), ("dead", 1), ("delayed", 0)] {
        while told.gauge("pymq.queue.items", &["jobs", state]) != Some(items) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    assert_eq!(told.gauge("pymq.bus.connected", &[]), Some(1));
    assert_eq!(told.gauge("pymq.bus.lost_posts", &[]), Some(0));
    held.ack().await.expect("it is ours");
    assert_eq!(jobs.get().await.expect("an item"), 3);
    jobs.dead_letters().purge().await.expect("purged");
    // A queue that is gone is told to be empty, and not left as it was.
    for state in ["waiting", "leased", "dead"] {
        while told.gauge("pymq.queue.items", &["jobs", state]) != Some(0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    drop(watch);
}

#[tokio::test]
async fn names_that_may_change_are_opted_in_and_the_spans_are_there_all_the_same() {
    let (told, place) = (Told::new(), Place::memory());
    let bus = place.bus().await;
    bus.observe(told.telemetry().messaging(false));
    let jobs = bus.queue::<i64>("jobs");
    jobs.put(&1).await.expect("a put");
    let worker = jobs.work(1, async |_: i64| Ok::<_, String>(())).expect("a worker");
    let put = told.span("put jobs", SpanKind::Producer).await;
    let work = told.span("process jobs", SpanKind::Consumer).await;
    assert!(is_child(&work, &put));
    assert_eq!((&put.attributes[..], &work.attributes[..]), (&[][..], &[][..]));
    worker.drain().await.expect("a good end");
    assert_eq!(told.metric_names(), [""; 0]);
}

#[tokio::test]
async fn a_message_is_not_a_byte_longer_where_nothing_is_traced() {
    let place = Place::memory();
    let [watched, plain] = place.buses().await;
    // The global providers, of which there are none.
    watched.observe(Telemetry::new());
    for bus in [&watched, &plain] {
        bus.queue("jobs").put(&1).await.expect("a put");
    }
    let items = plain.byte_queue("jobs").peek(pymq::Shelf::Waiting, 2).await.expect("items");
    assert_eq!(items[0], items[1]);
}

#[cfg(feature = "blocking")]
#[test]
fn a_function_on_a_thread_of_the_pool_is_within_its_span() {
    let (told, place) = (Told::new(), Place::memory());
    let bus = pymq::blocking::Bus::connect(&place.url()).expect("the broker is there");
    bus.observe(told.telemetry());
    let inner = bus.clone();
    let _service = bus.expose_fn("f", move |(): ()| inner.topic("t").publish(&1)).expect("exposed");
    bus.stub::<(), Option<usize>>("f").call(()).expect("a result");
    bus.wait(async {
        let serve = told.span("f", SpanKind::Server).await;
        assert!(is_child(&told.span("publish t", SpanKind::Producer).await, &serve));
        assert!(is_child(&serve, &told.span("f", SpanKind::Client).await));
    });
}
