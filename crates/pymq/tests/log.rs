//! The log: it tells names, paths and types, and never what a message says; each record is short.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use place::{Place, guarded};
use pymq::{Bus, ErrorKind, Filter, Retry, Shelf, Wait};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

mod place;

/// What stands in each message and in no record.
const MARKER: &str = "the-content-of-a-message";
/// No record is longer.
const SHORT: usize = 2000;

/// Keeps whatever the library traces, a record a line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

/// One record.
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, "{field}={value:?} ").expect("a text takes everything");
    }
}

impl Log {
    fn add(&self, fields: Fields) {
        self.0.lock().expect("nobody panics while writing").push(fields.0);
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("pymq")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = Fields(String::new());
        span.record(&mut fields);
        self.add(fields);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut fields = Fields(String::new());
        values.record(&mut fields);
        self.add(fields);
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields(format!("{} ", event.metadata().target()));
        event.record(&mut fields);
        self.add(fields);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A value whose own code quotes a message when it cannot be written.
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(S::Error::custom(MARKER))
    }
}

fn long() -> String {
    MARKER.repeat(50_000)
}

/// Bytes that are no message, and messages that are no request, response or value, all with content.
fn malformed() -> Vec<Bytes> {
    let (long, nested) = (long(), "[".repeat(150));
    let texts = [
        format!("{{\"{MARKER}\": "),
        format!("\"{long}"),
        format!("{nested}\"{MARKER}\""),
        json!({ MARKER: MARKER }).to_string(),
        json!([MARKER, [MARKER], { MARKER: MARKER }]).to_string(),
        json!({"__type": MARKER, "__obj": MARKER}).to_string(),
        json!({"__type": "pymq.core.RpcRequest", "__tuple": [MARKER]}).to_string(),
        json!({"__type": "pymq.core.RpcRequest", "__tuple": [1, MARKER, MARKER, MARKER]})
            .to_string(),
        json!({"kind": "who", "id": MARKER, "inbox": MARKER}).to_string(),
        json!({"kind": MARKER, "id": MARKER}).to_string(),
    ];
    texts.into_iter().map(Bytes::from).chain([Bytes::from_static(b"\xff\xfe")]).collect()
}

async fn events(bus: &Bus) {
    let topic = bus.topic::<u32>("news");
    let mut news = topic.subscribe().await.expect("subscribed");
    let mut all = bus.pattern::<Vec<u32>>("n*").await.expect("subscribed");
    for payload in malformed() {
        bus.publish_bytes("news", payload).await.expect("published");
        news.recv().await.expect("open").expect_err("no number");
        drop(all.recv().await.expect("open"));
    }
    let refused = bus.topic("news").publish(&Unwritable).await.expect_err("it cannot be written");
    assert_eq!(refused.kind(), ErrorKind::Encode);
}

async fn queues(bus: &Bus) {
    let (raw, jobs) = (bus.byte_queue("jobs"), bus.queue::<u32>("jobs").max_deliveries(2));
    let put = async || {
        let items = malformed();
        let count = items.len();
        raw.put(items, Wait::No).await.expect("put");
        count
    };
    for _ in 0..put().await / 2 {
        jobs.get().await.expect_err("no number");
        drop(jobs.try_claim().await);
    }
    jobs.purge().await.expect("purged");
    put().await;
    drop(jobs.get_many(100, Wait::No).await);
    put().await;
    drop(jobs.claim_many(100, Wait::No).await);
    put().await;
    let mut deliveries = jobs.deliveries();
    for _ in 0..3 {
        drop(deliveries.recv().await.expect("open"));
    }
    drop(deliveries);
    for shelf in [Shelf::Waiting, Shelf::Dead] {
        drop(jobs.peek(shelf, 100).await.expect("looked"));
    }
    drop(jobs.dead_letters().read(0, 100).await.expect("read"));
    let worker = jobs.work(4, async |_: u32| Ok::<(), String>(())).expect("works");
    jobs.join().await.expect("nothing is left");
    worker.drain().await.expect("it ended well");
    let texts = bus.queue::<String>("texts").max_deliveries(2).retry(Retry::at_once());
    texts.put_many(&[MARKER.to_owned(), long()]).await.expect("put");
    let worker = texts.work(4, async |_: String| Err::<(), _>("no")).expect("works");
    texts.join().await.expect("nothing is left");
    worker.drain().await.expect("it ended well");
    texts.put_many(&[long(), MARKER.to_owned()]).await.expect("put");
    let rejected = texts.claim().await.expect("claimed");
    let why = rejected.item().clone();
    rejected.reject_because(why).await.expect("rejected");
    texts.claim().await.expect("claimed").requeue().await.expect("given back");
    texts.claim().await.expect("claimed").requeue().await.expect("given up");
    texts.put(&"x".repeat(17 << 20)).await.expect_err("too large");
}

async fn calls(bus: &Bus) {
    type Failed<T> = Result<T, String>;
    let number = |(n,): (u32,)| async move { Ok::<_, String>(n) };
    let fails = |(text,): (String,)| async move { Failed::<()>::Err(text) };
    let returns = |(text,): (String,)| async move { Ok::<_, String>(text.repeat(20)) };
    let unwritable = |(_,): (String,)| async move { Ok::<_, String>(Unwritable) };
    let _services = [
        bus.expose_fn("number", number).await.expect("exposed"),
        bus.expose_fn("fails", fails).await.expect("exposed"),
        bus.expose_fn("returns", returns).await.expect("exposed"),
        bus.expose_fn("unwritable", unwritable).await.expect("exposed"),
    ];
    for name in ["number", "fails", "returns", "unwritable", "nobody"] {
        for text in [MARKER.to_owned(), long()] {
            let stub = bus.stub::<(String,), u32>(name).timeout(Duration::from_secs(20));
            stub.call((text.clone(),)).await.expect_err("it fails");
            drop(stub.call_all((text,)).await);
        }
        for payload in malformed() {
            bus.publish_bytes(name, payload).await.expect("published");
        }
        let other = json!([MARKER, MARKER, [MARKER], {}]).to_string();
        bus.publish_bytes(name, other.into()).await.expect("published");
    }
    // Whoever answers wrongly: what listens to replies reads what it is sent.
    let everything = bus.subscribe_bytes(&Filter::Pattern("*".to_owned())).await.expect("heard");
    drop(everything);
    let alive = bus.stub::<(u32,), u32>("number").call((7,)).await.expect("it lives on");
    assert_eq!(alive, 7);
}

async fn nothing_of_it_is_told(place: &Place) {
    let bus = place.bus().await;
    events(&bus).await;
    queues(&bus).await;
    calls(&bus).await;
    bus.close().await.expect("closed");
}

#[tokio::test]
async fn no_record_tells_what_a_message_says_and_each_is_short() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).expect("the only one here");
    guarded(nothing_of_it_is_told(&Place::memory())).await;
    #[cfg(feature = "redis")]
    guarded(nothing_of_it_is_told(&Place::redis())).await;
    let records = log.0.lock().expect("nobody panics while writing");
    assert!(records.len() > 20, "there is something to tell: {records:#?}");
    for record in &*records {
        assert!(record.len() < SHORT, "{} bytes: {record:.200}", record.len());
        assert!(!record.contains(MARKER), "{record}");
    }
}
