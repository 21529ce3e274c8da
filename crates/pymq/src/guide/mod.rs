//! How to talk: [events], [queues], [calls], and [Rust beside Python](python).
//!
//! Each page begins with when to take it and what it guarantees, and every example on it runs as a
//! test, on `memory://`. Nothing here is code to use.
//!
//! | you want | take | delivery |
//! |---|---|---|
//! | to tell whoever is subscribed now | [an event](events) | at most once; losses are told |
//! | work done once, by anybody, also later | [a queue](queues) | at least once with [`claim`](crate::Queue::claim) and [`work`](crate::Queue::work), at most once with [`get`](crate::Queue::get) |
//! | an answer | [a call](calls) | one provider executes, once; every call ends |
//!
//! # From one program to many
//! The address decides who is on the bus, and nothing else in a program changes with it:
//!
//! | address | reaches | lasts |
//! |---|---|---|
//! | `memory://` | this one [`Bus`](crate::Bus) and its clones | as long as they do |
//! | `memory://NAME` | every bus of that name in this process | as long as one of them |
//! | `redis://host:port/db`, `rediss://…` (feature `tls`), `redis+unix://…` | every process that uses that server and [`Namespace`](crate::Namespace) | queues as long as the server keeps them |
//! | `redis+sentinel://host,host/master` | the same, on the server that these sentinels name | less what a lost master had not passed on |
//! | `redis+cluster://host,host` | the same, each queue on one of several servers | as above |
//!
//! ```
//! use pymq::Bus;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let address = std::env::var("PYMQ_URL").unwrap_or_else(|_| "memory://".to_owned());
//! # let address = "memory://".to_owned();
//! let bus = Bus::connect(&address).await?;
//! // A bus is cheap to clone, and every handle made from it keeps it alive.
//! let for_a_task = bus.clone();
//! let putting = tokio::spawn(async move { for_a_task.queue("jobs").put(&1).await });
//! assert_eq!(bus.queue::<i64>("jobs").get().await?, 1);
//! putting.await.expect("putting does not panic")?;
//! bus.close().await?; // streams end, what waits fails with `Closed`, leases go back
//! # Ok(()) }
//! ```
//! [`Bus::builder`](crate::Bus::builder) says what an address does not: a namespace, credentials, how
//! a dead connection is noticed. [`Bus::drain`](crate::Bus::drain) closes in good order: calls that
//! run are answered and streams read to their end first. Operations are awaited within a tokio runtime,
//! and fail with `Config` elsewhere; when the runtime that a bus was connected on has ended, the bus is
//! closed. A program without a runtime takes the feature `blocking`, which has the same bus with
//! methods that wait, in `pymq::blocking`.
//!
//! # Beginning
//! ```toml
//! [dependencies]
//! pymq = { git = "https://github.com/pymq-rs/pymq" }
//! serde = { version = "1", features = ["derive"] }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```
//! The library says what happens beside the results (a lost connection, a handler that failed, an
//! item that became a dead letter) to [`tracing`]; a program that wants to see it installs a
//! subscriber, for example with `tracing_subscriber::fmt::init()`.
//!
//! # When something fails
//! There is one [`Error`](crate::Error). Programs ask it three things: its
//! [`kind`](crate::Error::kind), whether the same operation
//! [may simply be tried again](crate::Error::is_retryable), and, of a function that was called,
//! [what it said](crate::Error::remote). Lost connections come back by themselves, with
//! subscriptions, exposed functions and waiting claims; what was in the air is an error or a told
//! loss, never silence.
//!
//! ```
//! use pymq::{Bus, ErrorKind};
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let jobs = bus.queue::<String>("jobs").maxsize(1);
//! jobs.put(&"first".to_owned()).await?;
//! let full = jobs.put_timeout(&"second".to_owned(), Duration::from_millis(10)).await.unwrap_err();
//! assert_eq!(full.kind(), ErrorKind::Full);
//! assert!(full.is_retryable());
//! assert_eq!(full.to_string(), "put \"jobs\": queue full: maxsize is 1; get items first");
//! # Ok(()) }
//! ```

pub mod calls;
pub mod events;
#[cfg(doctest)]
mod pages;
pub mod python;
pub mod queues;
