//! Queues: each item goes to one consumer, and none is lost on the way.
//!
//! [`get`](Queue::get) takes an item for good: it is confirmed by itself, with the next `get` or
//! within 10 ms. [`claim`](Queue::claim) gives a [`Delivery`] that its holder settles; until then
//! the item is leased, and it comes back if the holder drops it, dies or falls silent. An item that
//! cannot be decoded goes to the dead letters as it is.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::error::Result;
use crate::transport::{Letters, QueueStats, Shelf};
use crate::wire::Metadata;

mod any;
mod bytes;
mod dead_letters;
mod deliveries;
mod delivery;
mod get;
mod handles;
mod handling;
mod origin;
mod prefetched;
mod put;
mod retry;
mod serve;
mod stop;
mod worker;

pub use any::{claim_any, get_any};
pub use bytes::ByteQueue;
pub use dead_letters::{DeadLetters, Letter};
pub use deliveries::Deliveries;
pub use delivery::{ByteDelivery, Delivery};
pub(crate) use handles::Handles;
#[cfg(feature = "blocking")]
pub(crate) use handling::carried;
pub(crate) use handling::is_of_bus;
pub use retry::Retry;
pub use worker::Worker;

/// A queue of items of type `T`. Cheap to clone; options are this handle's, items everybody's.
///
/// Where handles of one queue contradict each other, each is right for what it does: the bound is
/// that of who puts, and an item's lease, its number of deliveries and its retries are those of who
/// has taken it. The log says once for each queue and option where handles of one bus differ in the
/// bound or in priorities.
///
/// ```
/// # use pymq::Bus;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// # let bus = Bus::connect("memory://").await?;
/// let jobs = bus.queue::<u32>("jobs").max_deliveries(3);
/// jobs.put(&7).await?;
/// let job = jobs.claim().await?;
/// assert_eq!((*job, job.deliveries()), (7, 1));
/// job.ack().await?;
/// assert_eq!(jobs.len().await?, 0);
/// # Ok(()) }
/// ```
pub struct Queue<T> {
    bytes: ByteQueue,
    metadata: Metadata,
    items: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        let (bytes, metadata) = (self.bytes.clone(), self.metadata.clone());
        Self { bytes, metadata, items: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&self.bytes.name()).finish()
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(bytes: ByteQueue) -> Self {
        Self { bytes, metadata: Metadata::default(), items: PhantomData }
    }

    /// How many items may wait at a time; 0 (the default) is no bound. Exact among peers of this
    /// library, advisory beside those of the original.
    #[must_use]
    pub fn maxsize(self, maxsize: usize) -> Self {
        Self { bytes: self.bytes.with(|spec| spec.maxsize = maxsize), ..self }
    }

    /// How long a claimed item stays with a consumer of which nothing is heard; 30 s by default.
    /// The lease of a living process is prolonged by itself. It lasts from 10 ms to 100 years.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self { bytes: self.bytes.with(|spec| spec.lease = lease), ..self }
    }

    /// How many items one round trip may fetch ahead for this handle and its clones; 1, the default,
    /// is none.
    ///
    /// Those that were not handed out are leased all the same: no other consumer has them, and
    /// [`stats`](Self::stats) counts them so. They go back uncounted when the handle and its clones
    /// are dropped, with [`give_back`](Self::give_back), when the bus is drained, and when the process
    /// dies. What it was handed out counts then; over Redis, what it was handed out in the last few
    /// milliseconds may go back uncounted too, once.
    ///
    /// ```
    /// # use pymq::{Bus, Wait};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs").prefetch(100);
    /// jobs.put_many(&[1, 2, 3]).await?;
    /// assert_eq!(jobs.get().await?, 1);
    /// assert_eq!(jobs.stats().await?.leased, 2);
    /// drop(jobs);
    /// assert_eq!(bus.queue::<u32>("jobs").get_many(10, Wait::No).await?, [2, 3]);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn prefetch(self, items: usize) -> Self {
        Self { bytes: self.bytes.prefetch(items), ..self }
    }

    /// After how many deliveries an item becomes a dead letter; 5 by default, 0 is never.
    #[must_use]
    pub fn max_deliveries(self, max_deliveries: u32) -> Self {
        Self { bytes: self.bytes.with(|spec| spec.max_deliveries = max_deliveries), ..self }
    }

    /// How many dead letters are kept; 0, the default, is all. Beyond it the oldest go, which is
    /// logged. It holds for the items that this handle takes.
    #[must_use]
    pub fn max_dead_letters(self, most: usize) -> Self {
        Self { bytes: self.bytes.with(|spec| spec.max_dead_letters = most), ..self }
    }

    /// Whether items have priorities, see [`PutOptions::priority`](crate::PutOptions::priority); by
    /// default they do not. All handles of such a queue ask for them: one that does not may leave the
    /// others' items lying.
    #[must_use]
    pub fn priorities(self, priorities: bool) -> Self {
        Self { bytes: self.bytes.with(|spec| spec.priorities = priorities), ..self }
    }

    /// When workers of this handle try an item again that failed; see [`Retry`] for the default.
    #[must_use]
    pub fn retry(self, retry: Retry) -> Self {
        Self { bytes: self.bytes.retry(retry), ..self }
    }

    /// The same queue with something to say beside each item that is put through this handle:
    /// headers, an identity. The time of sending goes with them, and whoever takes the item reads
    /// them as [`Delivery::metadata`]. This identity is for its reader; what makes a put happen once
    /// is [`PutOptions::id`](crate::PutOptions::id).
    ///
    /// ```
    /// # use pymq::{Bus, wire::Metadata};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.clone().metadata(Metadata::default().header("tenant", "north")).put(&7).await?;
    /// let job = jobs.claim().await?;
    /// assert_eq!((*job, job.metadata().get("tenant")), (7, Some("north")));
    /// job.ack().await?;
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// The queue's name, without the namespace.
    pub fn name(&self) -> &str {
        self.bytes.name()
    }

    /// How many items wait, with those that this handle has fetched ahead.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn len(&self) -> Result<usize> {
        Ok(self.bytes.counts().await?.waiting + self.bytes.fetched_ahead())
    }

    /// Whether no item waits.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// How many items wait, are due later, are leased, and are dead letters, how long the first has
    /// waited, and how many consumers there are. Looking changes nothing.
    ///
    /// Over Redis items have no time of their own: there it is told of items that were put with
    /// [`metadata`](Self::metadata), how long ago they were sent.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn stats(&self) -> Result<QueueStats> {
        self.bytes.stats().await
    }

    /// Waits until no item waits, is due later, or is leased, on any machine.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn join(&self) -> Result<()> {
        self.bytes.join().await
    }

    /// Deletes the items that wait or are due later, with those that this handle has fetched ahead,
    /// and lifts a shutdown; says how many there were. Dead letters have
    /// [a purge of their own](DeadLetters::purge).
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn purge(&self) -> Result<usize> {
        self.bytes.purge(Shelf::Waiting).await
    }

    /// Shuts the queue down for everyone: puts fail with `ShutDown`, and gets too once it is empty
    /// and nothing is due later.
    ///
    /// # Errors
    /// Those of the connection; after `Ambiguous` it may be done, and asking once more does no harm.
    pub async fn shut_down(&self) -> Result<()> {
        self.bytes.shut_down().await
    }

    /// Returns what this handle has fetched ahead to the head of the queue, uncounted. It does not
    /// wait, and the handle goes on working.
    pub fn give_back(&self) {
        self.bytes.give_back();
    }

    /// Takes no more through this handle and its clones, for good: what waits in `get` and `claim`
    /// fails with `Closed`, streams of deliveries end, and workers end when what they have in hand is
    /// done. What was fetched ahead goes back uncounted. Other handles of the queue go on, and so
    /// does putting.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.put(&1).await?;
    /// let mut deliveries = jobs.deliveries();
    /// while let Some(job) = deliveries.recv().await {
    ///     job?.ack().await?;
    ///     jobs.stop();
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stop(&self) {
        self.bytes.stop();
    }

    /// The dead letters of this queue: the items that were given up, each with its reason.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.put(&7).await?;
    /// jobs.claim().await?.reject_because("seven is out of stock").await?;
    /// let letters = jobs.dead_letters();
    /// for letter in letters.read(0, 10).await? {
    ///     assert_eq!(letter.item().ok(), Some(&7));
    ///     assert_eq!(letter.failure().words, "seven is out of stock");
    /// }
    /// assert_eq!(letters.redrive_where(|letter| letter.deliveries() == Some(1)).await?, 1);
    /// assert_eq!(jobs.get().await?, 7);
    /// # Ok(()) }
    /// ```
    pub fn dead_letters(&self) -> DeadLetters<T> {
        DeadLetters::of(self.bytes.clone())
    }

    /// Moves up to `limit` dead letters back to the queue, oldest first; says how many.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn redrive(&self, limit: usize) -> Result<usize> {
        self.bytes.redrive(Letters::Oldest(limit), None).await
    }
}
