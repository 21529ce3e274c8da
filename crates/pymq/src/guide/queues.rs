//! Queues: each item to one consumer, now or later.
//!
//! Take them for work. Whoever consumes takes a *lease*: the item is his while he lives, and comes
//! back when he does not.
//!
//! # What is guaranteed
//! | operation | delivery | if the process dies |
//! |---|---|---|
//! | [`put`](crate::Queue::put), [`put_many`](crate::Queue::put_many) | the item is in the queue when it returns; after [`Ambiguous`](crate::ErrorKind::Ambiguous) it may be, and it is never repeated by itself | |
//! | [`claim`](crate::Queue::claim), [`work`](crate::Queue::work), [`deliveries`](crate::Queue::deliveries) | at least once | the item comes back within its [`lease`](crate::Queue::lease) (30 s by default) |
//! | [`get`](crate::Queue::get), [`get_many`](crate::Queue::get_many) | at most once, except that what a process took in the last 10 ms before it was killed may come once more; nothing is lost on the way to it | what it had returned is gone |
//!
//! Order is first in, first out; an item that comes back at once does so at the head. After
//! [`max_deliveries`](crate::Queue::max_deliveries) in vain (5 by default) it becomes a *dead
//! letter*, which is logged with its reason and kept until it is
//! [redriven](crate::DeadLetters::redrive). At least once means that a handler
//! may see an item twice; [`deliveries`](crate::Delivery::deliveries) tells when.
//!
//! # Workers
//! [`work`](crate::Queue::work) runs a handler for each item, so many at once: `Ok` acknowledges,
//! `Err` and a panic give the item back for later: by default it comes again after 1, 4, 16 and 64 s,
//! so that what it depends on may be away for a minute; [`Retry`](crate::Retry) says otherwise.
//!
//! ```
//! use pymq::{Bus, Retry};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Resize {
//!     picture: String,
//!     width: u32,
//! }
//!
//! async fn resize(job: Resize) -> Result<(), String> {
//!     if job.width == 0 { Err(format!("{} cannot vanish", job.picture)) } else { Ok(()) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let jobs = bus.queue::<Resize>("resize").max_deliveries(3).retry(Retry::at_once());
//! let job = |picture: &str, width| Resize { picture: picture.into(), width };
//! jobs.put_many(&[job("cat", 64), job("dog", 0)]).await?;
//!
//! let worker = jobs.work(4, resize)?;
//! jobs.join().await?; // until nothing waits and nothing is leased, on any machine
//! worker.drain().await?; // takes nothing new, finishes what it has in hand
//!
//! let given_up = jobs.dead_letters().read(0, 10).await?;
//! assert_eq!(given_up[0].item().unwrap().picture, "dog");
//! assert_eq!(given_up[0].failure().words, "dog cannot vanish");
//! # Ok(()) }
//! ```
//! In a service, wait for the signal to stop, then drain:
//! `tokio::signal::ctrl_c().await?; worker.drain().await?`.
//!
//! A handler that needs something of its surroundings clones it for every item, since items run side
//! by side; errors of any type that can be shown are fine:
//!
//! ```
//! use pymq::{Bus, Queue};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let (numbers, squares): (Queue<u64>, Queue<u64>) = (bus.queue("numbers"), bus.queue("squares"));
//! let results = squares.clone();
//! let _worker = numbers.work(1, move |number| {
//!     let results = results.clone();
//!     async move { results.put(&(number * number)).await }
//! })?;
//! numbers.put(&12).await?;
//! assert_eq!(squares.get().await?, 144);
//! # Ok(()) }
//! ```
//!
//! # By hand
//! A [`Delivery`](crate::Delivery) is settled once: [`ack`](crate::Delivery::ack),
//! [`requeue`](crate::Delivery::requeue) or [`reject`](crate::Delivery::reject). Dropping it, by a
//! return with `?` or a cancelled task, gives the item back.
//!
//! ```
//! use pymq::Bus;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let jobs = bus.queue::<u32>("jobs");
//! jobs.put(&7).await?;
//!
//! let job = jobs.claim().await?;
//! assert_eq!((*job, job.deliveries()), (7, 1));
//! drop(job); // as when the program fails here
//!
//! let job = jobs.claim().await?;
//! assert_eq!((*job, job.deliveries()), (7, 2));
//! job.ack().await?;
//! assert!(jobs.try_claim().await?.is_none());
//! # Ok(()) }
//! ```
//!
//! # Later, once, first
//! [`put_with`](crate::Queue::put_with) says more of an item: that it is due later, that it is put once
//! however often it is tried, that it goes before others. A transport that lacks one of these says so
//! with [`Unsupported`](crate::ErrorKind::Unsupported).
//!
//! ```
//! use std::time::Duration;
//! use pymq::{Bus, Put, PutOptions};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let jobs = bus.queue::<&str>("jobs").priorities(true);
//! jobs.put_with(&"remind", PutOptions::new().delay(Duration::from_millis(20))).await?;
//! jobs.put(&"pack").await?;
//! jobs.put_with(&"repair", PutOptions::new().priority(9)).await?;
//! let bill = PutOptions::new().id("order-17");
//! assert_eq!(jobs.put_with(&"bill", bill.clone()).await?, Put::Done);
//! assert_eq!(jobs.put_with(&"bill", bill).await?, Put::Already);
//!
//! # let jobs = bus.queue::<String>("jobs").priorities(true);
//! for expected in ["repair", "pack", "bill", "remind"] {
//!     assert_eq!(jobs.get().await?, expected);
//! }
//! # Ok(()) }
//! ```
//! [`claim_any`](crate::claim_any) takes from several queues, in order of preference.
//!
//! # Bounds
//! With [`maxsize`](crate::Queue::maxsize) a put waits until there is space;
//! [`try_put`](crate::Queue::try_put) and [`put_timeout`](crate::Queue::put_timeout) say
//! [`Full`](crate::ErrorKind::Full). Options belong to the handle, so every producer sets the bound.
//!
//! ```
//! use pymq::{Bus, ErrorKind};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://").await?;
//! let jobs = bus.queue::<u32>("jobs").maxsize(1);
//! jobs.put(&1).await?;
//! assert_eq!(jobs.try_put(&2).await.unwrap_err().kind(), ErrorKind::Full);
//! let (put, got) = tokio::join!(jobs.put(&2), jobs.get());
//! put?;
//! assert_eq!((got?, jobs.len().await?), (1, 1));
//! # Ok(()) }
//! ```
//!
//! # Many small items
//! [`put_many`](crate::Queue::put_many), [`get_many`](crate::Queue::get_many) and
//! [`claim_many`](crate::Queue::claim_many) move many in one round trip;
//! [`prefetch`](crate::Queue::prefetch) does so behind single claims.
