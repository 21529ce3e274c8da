//! Publish/subscribe, queues and remote procedure calls between programs, in Rust and Python.
//!
//! A [`Bus`] is connected to an address and hands out everything else. What works on `memory://`
//! works on `redis://`, since both pass the same conformance suite.
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
//! // Events: to everyone who listens, at most once.
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
//!
//! # Layout, in reading order
//! [`Bus`] · typed events ([`Topic`], [`Events`]) · [`Queue`], [`Delivery`] and [`Worker`] · calls ([`rpc`]) ·
//! what they look like as bytes ([`wire`]) · names and patterns ([`name`]) · [`Error`] · the
//! contract with whoever moves the bytes ([`transport`]).

mod bus;
mod topic;
mod queue;
pub mod rpc;
mod codec;
pub mod wire;
mod json;
pub mod name;
mod error;
pub mod transport;
#[cfg(feature = "conformance")]
pub mod conformance;

pub use bus::Bus;
pub use error::{Error, ErrorKind, RemoteError, Result};
pub use name::Namespace;
pub use queue::{ByteDelivery, ByteQueue, Deliveries, Delivery, Queue, Worker};
pub use rpc::{Remote, Service, Stub};
pub use topic::{Event, Events, PatternEvents, Topic};
pub use transport::{QueueStats, Shelf, Wait};

/// The derive beside the trait of its name, so that `use pymq::Event` brings both.
#[cfg(feature = "macros")]
pub use pymq_macros::{Event, remote, service};

/// The README's blocks, run as tests.
#[cfg(all(doctest, feature = "macros"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
