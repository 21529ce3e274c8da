//! Publish/subscribe, queues and remote procedure calls between programs, in Rust and Python.
//!
//! A [`Bus`] is connected to an address and hands out everything else. What works on `memory://`
//! works on `redis://`, since both pass the same conformance suite.
//!
//! ```
//! use pymq::{Bus, Event};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct OrderPlaced { id: u64 }
//!
//! impl Event for OrderPlaced {
//!     const TOPIC: &'static str = "shop.OrderPlaced";
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
//! let _service = bus.expose_fn("product", |(a, b): (i64, i64)| async move {
//!     Ok::<_, String>(a * b)
//! }).await?;
//! assert_eq!(bus.stub::<_, i64>("product").call((2, 4)).await?, 8);
//! # Ok(()) }
//! ```
//!
//! # Layout, in reading order
//! [`Bus`] · typed events ([`Topic`], [`Events`]) · [`Queue`] and [`Delivery`] · calls ([`rpc`]) ·
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
pub use queue::{ByteDelivery, ByteQueue, Delivery, Queue};
pub use rpc::{Remote, Service, Stub};
pub use topic::{Event, Events, PatternEvents, Topic};

/// The derive beside the trait of its name, so that `use pymq::Event` brings both.
#[cfg(feature = "macros")]
pub use pymq_macros::{Event, remote, service};

/// The README's blocks, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
