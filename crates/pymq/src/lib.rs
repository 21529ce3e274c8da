//! Publish/subscribe, queues and remote procedure calls between programs, in Rust and Python.
//!
//! A [`Bus`] is connected to an address and hands out everything else. What works on `memory://`
//! works between processes on `ipc://` and `redis://`, since all pass the same conformance suite.
//!
#![cfg_attr(feature = "macros", doc = "```")]
#![cfg_attr(not(feature = "macros"), doc = "```ignore")]
//! use pymq::{Bus, Event};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, Event)]
//! #[event(topic = "shop.OrderPlaced")]
//! struct OrderPlaced { id: u64 }
//!
//! #[pymq::remote]
//! async fn product(a: i64, b: i64) -> Result<i64, String> {
//!     a.checked_mul(b).ok_or("too large".to_owned())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//!
//! // Events: to everyone who subscribes, at most once.
//! let mut placed = bus.subscribe::<OrderPlaced>().await?;
//! bus.publish(&OrderPlaced { id: 1 }).await?;
//! assert_eq!(placed.recv().await.expect("the bus is open")?.id, 1);
//!
//! // Queues: each item to one consumer; claimed ones come back unless they are acknowledged.
//! let jobs = bus.queue::<String>("jobs");
//! jobs.put(&"pack".to_owned()).await?;
//! let job = jobs.claim().await?;
//! assert_eq!(*job, "pack");
//! job.ack().await?;
//!
//! // Calls: one provider executes, or all answer.
//! let _service = bus.expose(product).await?;
//! assert_eq!(bus.stub::<_, i64>("product").call((2, 4)).await?, 8);
//! # Ok(()) }
//! ```
//!
//! Several functions on shared state are a [`macro@service`], with a typed client. Without the default
//! feature `macros`, [`Event`] is implemented by hand and closures go to [`Bus::expose_fn`].
#![cfg_attr(feature = "macros", doc = "")]
#![cfg_attr(
    feature = "macros",
    doc = "The [guide] goes through it: [events](guide::events), [queues](guide::queues), [calls](guide::calls), [Rust beside Python](guide::python)."
)]
//!
//! # What each operation guarantees
//! | operation | delivery | what is lost, and how you learn of it |
//! |---|---|---|
//! | [`publish`](Bus::publish) → [`subscribe`](Bus::subscribe), [`pattern`](Bus::pattern) | at most once, in order per publisher and topic | what a slow subscriber or a lost connection misses; the stream tells of it, in Python the log |
//! | [`put`](Queue::put) | in the queue when it returns | nothing; after [`Ambiguous`](ErrorKind::Ambiguous) it may be there |
//! | [`claim`](Queue::claim), [`work`](Queue::work) | at least once | nothing; repeats are counted, hopeless items become dead letters |
//! | [`get`](Queue::get) | at most once, except that what a process took in the last 10 ms before it was killed may come once more | what it had returned to a process that died; nothing on the way to it |
//! | [`call`](Stub::call) | one provider executes, once | nothing: every call ends, with a result or an error that says why |
//! | [`call_all`](Stub::call_all) | every provider alive executes, once | who is missing stands in the answer |
//!
//! # What each transport can do
//! All pass the same [conformance suite](transport), and what one cannot do it says
//! ([`Bus::capabilities`]; [`Unsupported`](ErrorKind::Unsupported)).
//!
//! | [`Capabilities`](transport::Capabilities) | `memory://` | `ipc://` (Linux) | `redis://`, `rediss://`, `redis+unix://`, `redis+sentinel://`, `redis+cluster://` (Redis ≥ 6.2, Valkey) |
//! |---|---|---|---|
//! | `receiver_count`: `publish` tells how many received | yes | yes | yes |
//! | `counts_connections`: several subscriptions of one bus count as one | no | no | yes |
//! | `cross_process`: other processes are reached | no | yes, of this machine and user | yes |
//! | `originals`: processes of the original `pymq` take part | no | no | yes, but not on a cluster |
//! | `put_options`: items for later, puts done once by an id, priorities | yes | yes | yes |
//! | `letters`: dead letters tell why they died, and are moved one by one | yes | yes | yes |
//!
//! Anything else may be a transport: `examples/transport-tcp` in the repository is one that was
//! written from outside.
//!
//! # Features
//! | feature | default | what it brings |
//! |---|---|---|
//! | `macros` | yes | [`derive@Event`], [`macro@remote`], [`macro@service`] |
//! | `ipc` | yes | `ipc://`, on Linux; elsewhere its addresses are `Unsupported` |
//! | `redis` | yes | `redis://`, `redis+unix://`, `redis+sentinel://`, `redis+cluster://` |
//! | `tls` | | `rediss://`, by rustls |
//! | `blocking` | | `pymq::blocking`: the same for programs without a runtime |
//! | `otel` | | `pymq::otel`: spans and metrics by OpenTelemetry |
//! | `prometheus` | | `pymq::prometheus`: metrics in Prometheus's text format |
//! | `conformance` | | `pymq::conformance`: the contract as functions, for tests of transports |
//!
//! Memory is always there; features only add. The least Rust version is 1.95, the one that is tested;
//! raising it is a minor release.
//!
//! # Layout, in reading order
//! [`Bus`] · typed events ([`Topic`], [`Events`]) · [`Queue`], [`Delivery`] and [`Worker`] · calls ([`rpc`]) ·
//! what they look like as bytes ([`wire`]) · names and patterns ([`name`]) · [`Error`] · the
//! contract with whoever moves the bytes ([`transport`]) · who watches it all ([`telemetry`]).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod bus;
mod topic;
mod queue;
mod inspect;
pub mod rpc;
mod codec;
mod draft;
pub mod wire;
mod json;
mod drain_list;
mod limits;
pub mod telemetry;
pub mod name;
mod error;
mod sync;
pub mod transport;
#[cfg(feature = "blocking")]
pub mod blocking;
#[cfg(any(feature = "otel", feature = "prometheus"))]
mod gauges;
#[cfg(feature = "otel")]
pub mod otel;
#[cfg(feature = "prometheus")]
pub mod prometheus;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod proof;
#[cfg(feature = "macros")]
pub mod guide;
pub mod testing;

pub use builder::BusBuilder;
pub use bus::Bus;
pub use error::{Error, ErrorKind, RemoteError, Result};
pub use inspect::{FunctionFacts, Inspection, ProviderFacts, TopicFacts, Traffic};
pub use name::Namespace;
pub use queue::{
    ByteDelivery, ByteQueue, DeadLetters, Deliveries, Delivery, Letter, Queue, Retry, Worker,
    claim_any, get_any,
};
pub use rpc::{CallOptions, ExposeOptions, Remote, Replies, Service, Stub, StubReply};
pub use topic::{Event, Events, Message, PatternEvents, Topic};
pub use transport::{Failure, Filter, Put, PutOptions, QueueStats, Reason, Shelf, Wait};

/// The derive beside the trait of its name, so that `use pymq::Event` brings both.
#[cfg(feature = "macros")]
pub use pymq_macros::{Event, remote, service};
