//! Queues: each item goes to one consumer, and none is lost on the way.
//!
//! [`get`](Queue::get) takes an item for good: it is confirmed by itself, with the next `get` or
//! within 10 ms. [`claim`](Queue::claim) gives a [`Delivery`] that its holder settles; until then
//! the item is leased, and it comes back if the holder drops it, dies or falls silent. An item that
//! cannot be decoded goes to the dead letters as it is.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::error::{Error, Result};
use crate::transport::{QueueStats, Settlement, Shelf, Wait};

mod ahead;
mod bytes;
mod deliveries;
mod delivery;
mod worker;

pub use bytes::ByteQueue;
pub use deliveries::Deliveries;
pub use delivery::{ByteDelivery, Delivery};
pub use worker::Worker;

/// A queue of items of type `T`. Cheap to clone; options are this handle's, items everybody's.
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
    items: PhantomData<fn(T) -> T>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), items: PhantomData }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queue").field(&self.bytes.name()).finish()
    }
}

impl<T> Queue<T> {
    pub(crate) fn new(bytes: ByteQueue) -> Self {
        Self { bytes, items: PhantomData }
    }

    /// How many items may wait at a time; 0 (the default) is no bound. Exact among peers of this
    /// library, advisory beside those of the original.
    #[must_use]
    pub fn maxsize(self, maxsize: usize) -> Self {
        Self::new(self.bytes.with(|spec| spec.maxsize = maxsize))
    }

    /// How long a claimed item stays with a consumer of which nothing is heard; 30 s by default.
    /// The lease of a living process is prolonged by itself.
    #[must_use]
    pub fn lease(self, lease: Duration) -> Self {
        Self::new(self.bytes.with(|spec| spec.lease = lease))
    }

    /// How many items one round trip may fetch ahead for this handle and its clones; 1, the default,
    /// is none.
    ///
    /// Those that were not handed out are leased all the same: no other consumer has them, and
    /// [`stats`](Self::stats) counts them so. They go back uncounted when the handle and its clones
    /// are dropped, and with [`give_back`](Self::give_back). When the bus is closed or the process
    /// dies they go back with everything else that it holds, and counted.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs").prefetch(100);
    /// jobs.put_many(&[1, 2, 3]).await?;
    /// assert_eq!(jobs.get().await?, 1);
    /// assert_eq!(jobs.stats().await?.leased, 2);
    /// drop(jobs);
    /// assert_eq!(bus.queue::<u32>("jobs").get_many(10).await?, [2, 3]);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn prefetch(self, items: usize) -> Self {
        Self::new(self.bytes.prefetch(items))
    }

    /// After how many deliveries an item becomes a dead letter; 5 by default, 0 is never.
    #[must_use]
    pub fn max_deliveries(self, max_deliveries: u32) -> Self {
        Self::new(self.bytes.with(|spec| spec.max_deliveries = max_deliveries))
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
        Ok(self.stats().await?.waiting + self.bytes.fetched_ahead())
    }

    /// Whether no item waits.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// How many items wait, are leased, and are dead letters.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn stats(&self) -> Result<QueueStats> {
        self.bytes.stats().await
    }

    /// Waits until no item waits and none is leased, on any machine.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn join(&self) -> Result<()> {
        self.bytes.join().await
    }

    /// Deletes the items that wait, with those that this handle has fetched ahead, and lifts a
    /// shutdown; says how many there were.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn purge(&self) -> Result<usize> {
        self.bytes.purge(Shelf::Waiting).await
    }

    /// Shuts the queue down for everyone: puts fail with `ShutDown`, and gets too once it is empty.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn shut_down(&self) -> Result<()> {
        self.bytes.shut_down().await
    }

    /// Returns what this handle has fetched ahead to the head of the queue, uncounted. It does not
    /// wait, and the handle goes on working.
    pub fn give_back(&self) {
        self.bytes.give_back();
    }

    /// Moves up to `limit` dead letters back to the queue, oldest first; says how many.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn redrive(&self, limit: usize) -> Result<usize> {
        self.bytes.redrive(limit).await
    }
}

impl<T: Serialize> Queue<T> {
    /// Appends an item; waits for space where the queue is bounded.
    ///
    /// # Errors
    /// `Encode`, `ShutDown`, and those of the connection; it is never repeated by itself, so after
    /// `Ambiguous` the item may be there.
    pub async fn put(&self, item: &T) -> Result<()> {
        self.put_within(item, Wait::Forever).await
    }

    /// Appends an item if there is space now.
    ///
    /// # Errors
    /// `Full`, and as [`put`](Self::put).
    pub async fn try_put(&self, item: &T) -> Result<()> {
        self.put_within(item, Wait::No).await
    }

    /// Appends an item, waiting for space for at most `timeout`.
    ///
    /// # Errors
    /// `Full`, and as [`put`](Self::put).
    pub async fn put_timeout(&self, item: &T, timeout: Duration) -> Result<()> {
        self.put_within(item, Wait::at_most(timeout)).await
    }

    async fn put_within(&self, item: &T, wait: Wait) -> Result<()> {
        let payload = codec::encode(self.name(), item)?;
        self.bytes.put(vec![payload], wait).await
    }

    /// Appends several items, in order, in one round trip and one step: nobody else's come between.
    ///
    /// More items than a queue's `maxsize`, than 10,000, or than 64 MiB go in several steps, each as
    /// soon as there is space; dropping the future then leaves some of them put.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.put_many(&[1, 2]).await?;
    /// assert_eq!(jobs.get_many(10).await?, [1, 2]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`put`](Self::put). If some items were put, the message says how many, and the kind is not
    /// one that may simply be tried again (`Ambiguous` where it would be).
    pub async fn put_many<'a>(&self, items: impl IntoIterator<Item = &'a T>) -> Result<()>
    where
        T: 'a,
    {
        self.put_many_within(items, Wait::Forever).await
    }

    /// Appends several items if there is space for all of them in time: all or none.
    ///
    /// `wait` is [`Wait::No`], a length, or a moment.
    ///
    /// # Errors
    /// `Full`, then nothing was put; `Config` for more items than could ever be put in one step;
    /// and as [`put_many`](Self::put_many).
    pub async fn put_many_within<'a>(
        &self,
        items: impl IntoIterator<Item = &'a T>,
        wait: impl Into<Wait>,
    ) -> Result<()>
    where
        T: 'a,
    {
        let encode = |item| codec::encode(self.name(), item);
        let payloads = items.into_iter().map(encode).collect::<Result<_>>()?;
        self.bytes.put(payloads, wait.into()).await
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the first item, waiting for one. At most once: if this program dies, what `get` has
    /// returned is gone.
    ///
    /// # Errors
    /// `Decode` for an item that is no `T` (it is a dead letter then), `ShutDown`, and those of the
    /// connection.
    pub async fn get(&self) -> Result<T> {
        Ok(taken(self.claim().await?))
    }

    /// Takes the first item if there is one now.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn try_get(&self) -> Result<Option<T>> {
        Ok(self.try_claim().await?.map(taken))
    }

    /// Takes the first item, waiting for at most `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        Ok(self.claim_timeout(timeout).await?.map(taken))
    }

    /// Takes up to `limit` items in one round trip, waiting for the first one only. At most once, as
    /// [`get`](Self::get).
    ///
    /// There may be fewer than there are in the queue: over Redis 1,000 at a time, and with
    /// [`prefetch`](Self::prefetch) what is left of those that were fetched ahead. Items that are no
    /// `T` are logged, become dead letters and are left out.
    ///
    /// # Errors
    /// `Decode` if none of the items is a `T`, and as [`get`](Self::get).
    pub async fn get_many(&self, limit: usize) -> Result<Vec<T>> {
        self.get_many_within(limit, Wait::Forever).await
    }

    /// The same, waiting for the first item as `wait` says; no items if there is none in time.
    ///
    /// `wait` is [`Wait::No`], a length, or a moment.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    pub async fn get_many_within(&self, limit: usize, wait: impl Into<Wait>) -> Result<Vec<T>> {
        let deliveries = self.claim_many_within(limit, wait).await?;
        Ok(deliveries.into_iter().map(taken).collect())
    }

    /// Takes the first item on lease, waiting for one. At least once: it comes back unless it is
    /// settled.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn claim(&self) -> Result<Delivery<T>> {
        self.claim_within(Wait::Forever).await?.ok_or_else(|| self.bytes.empty())
    }

    /// Takes the first item on lease if there is one now.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn try_claim(&self) -> Result<Option<Delivery<T>>> {
        self.claim_within(Wait::No).await
    }

    /// Takes the first item on lease, waiting for at most `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn claim_timeout(&self, timeout: Duration) -> Result<Option<Delivery<T>>> {
        self.claim_within(Wait::at_most(timeout)).await
    }

    async fn claim_within(&self, wait: Wait) -> Result<Option<Delivery<T>>> {
        let Some(bytes) = self.bytes.claim(wait).await? else { return Ok(None) };
        match Delivery::decode(self.name(), bytes) {
            Ok(delivery) => Ok(Some(delivery)),
            Err(refused) => Err(self.reject(vec![*refused]).await),
        }
    }

    /// Takes up to `limit` items on lease in one round trip, waiting for the first one only. At least
    /// once; each is settled for itself. Fewer may come than there are, as of
    /// [`get_many`](Self::get_many).
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    pub async fn claim_many(&self, limit: usize) -> Result<Vec<Delivery<T>>> {
        self.claim_many_within(limit, Wait::Forever).await
    }

    /// The same, waiting for the first item as `wait` says; no items if there is none in time.
    ///
    /// `wait` is [`Wait::No`], a length, or a moment.
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    pub async fn claim_many_within(
        &self,
        limit: usize,
        wait: impl Into<Wait>,
    ) -> Result<Vec<Delivery<T>>> {
        let claimed = self.bytes.claim_many(limit, wait.into()).await?;
        let (mut good, mut bad) = (Vec::with_capacity(claimed.len()), Vec::new());
        for bytes in claimed {
            match Delivery::decode(self.name(), bytes) {
                Ok(delivery) => good.push(delivery),
                Err(refused) => bad.push(*refused),
            }
        }
        if good.is_empty() && !bad.is_empty() {
            return Err(self.reject(bad).await);
        }
        // Their neighbours do not wait for them.
        bad.into_iter().for_each(|(bytes, _)| bytes.reject_soon());
        Ok(good)
    }

    /// Sends items to the dead letters, for the first one's reason.
    async fn reject(&self, refused: Vec<(ByteDelivery, Error)>) -> Error {
        let mut first = None;
        for (bytes, error) in refused {
            if let Err(error) = bytes.settle(Settlement::Reject).await {
                tracing::warn!(queue = self.name(), %error, "an item is no dead letter yet");
            }
            first.get_or_insert(error);
        }
        first.unwrap_or_else(|| self.bytes.empty())
    }

    /// The items as they come, each on lease, as a [`Stream`](futures_core::Stream). At least once.
    ///
    /// It ends when the queue is shut down and empty, or the bus closed. Dropping it loses nothing.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.put_many(&[1, 2]).await?;
    /// jobs.shut_down().await?;
    /// let (mut deliveries, mut sum) = (jobs.deliveries(), 0);
    /// while let Some(job) = deliveries.recv().await {
    ///     let job = job?;
    ///     sum += *job;
    ///     job.ack().await?;
    /// }
    /// assert_eq!(sum, 3);
    /// # Ok(()) }
    /// ```
    pub fn deliveries(&self) -> Deliveries<T> {
        Deliveries::new(self.bytes.apart())
    }

    /// Up to `limit` items from the head of a shelf, left where they are.
    ///
    /// # Errors
    /// `Decode`, and those of the connection.
    pub async fn peek(&self, shelf: Shelf, limit: usize) -> Result<Vec<T>> {
        let items = self.bytes.peek(shelf, limit).await?;
        items.iter().map(|item| codec::decode(self.name(), item)).collect()
    }
}

impl<T: DeserializeOwned + Send + 'static> Queue<T> {
    /// Serves the queue with a handler, up to `concurrency` items at once, until the [`Worker`] is
    /// drained or dropped, or the queue is shut down and empty.
    ///
    /// At least once: an item is acknowledged when its handler has returned `Ok`. With `Err`, or if
    /// the handler panics, it is given back and comes again, to this worker or another, until
    /// [`max_deliveries`](Self::max_deliveries) makes it a dead letter; so does an item whose
    /// process dies. It comes again at once: a handler that knows better when to try waits before
    /// it returns. An item that is no `T` becomes a dead letter at once. Lost connections are
    /// waited for. Handlers run as tasks of the current runtime.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.put_many(&[1, 2, 3]).await?;
    /// let worker = jobs.work(2, async |number: u32| match number {
    ///     2 => Err("two is too much"),
    ///     _ => Ok(()),
    /// })?;
    /// jobs.join().await?;
    /// worker.drain().await?;
    /// assert_eq!(jobs.stats().await?.dead, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for a concurrency of 0, and outside a tokio runtime.
    pub fn work<E, F>(
        &self,
        concurrency: usize,
        handler: impl Fn(T) -> F + Send + Sync + 'static,
    ) -> Result<Worker>
    where
        E: fmt::Display + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        Worker::start(self.bytes.apart(), concurrency, handler)
    }
}

/// The item, confirmed by itself.
fn taken<T>(delivery: Delivery<T>) -> T {
    let (item, bytes) = delivery.into_parts();
    bytes.ack_soon();
    item
}
