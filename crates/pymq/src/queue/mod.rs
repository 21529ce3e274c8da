//! Queues: each item goes to one consumer, and none is lost on the way.
//!
//! [`get`](Queue::get) takes an item for good: it is confirmed by itself, with the next `get` or
//! within 10 ms. [`claim`](Queue::claim) gives a [`Delivery`] that its holder settles; until then
//! the item is leased, and it comes back if the holder drops it, dies or falls silent. An item that
//! cannot be decoded goes to the dead letters as it is.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use ::bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::error::{Error, Result};
use crate::name::shortened;
use crate::transport::{Letters, Put, PutOptions, QueueStats, Settlement, Shelf, Wait};
use crate::wire::Metadata;

mod ahead;
mod any;
mod bytes;
mod deliveries;
mod delivery;
mod letters;
mod retry;
mod serve;
mod stop;
mod worker;

pub use any::{claim_any, get_any};
pub use bytes::ByteQueue;
pub use deliveries::Deliveries;
pub use delivery::{ByteDelivery, Delivery};
pub use letters::{DeadLetters, Letter};
pub use retry::Retry;
pub use worker::Worker;

use delivery::undecodable;

/// A queue of items of type `T`. Cheap to clone; options are this handle's, items everybody's.
///
/// Where handles of one queue contradict each other, each is right for what it does: the bound is
/// that of who puts, and an item's lease, its number of deliveries and its retries are those of who
/// has taken it.
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

    /// Whether items have priorities, see [`PutOptions::priority`]; by default they do not. All
    /// handles of such a queue ask for them: one that does not may leave the others' items lying.
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
    /// is [`PutOptions::id`].
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
        Ok(self.stats().await?.waiting + self.bytes.fetched_ahead())
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
    /// Those of the connection.
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

impl<T: Serialize> Queue<T> {
    /// Appends an item; waits for space where the queue is bounded.
    ///
    /// # Errors
    /// `Encode`, `ShutDown`, and those of the connection; it is never repeated by itself, so after
    /// `Ambiguous` the item may be there.
    pub async fn put(&self, item: &T) -> Result<()> {
        self.put_with(item, PutOptions::new()).await.map(drop)
    }

    /// Appends an item if there is space now.
    ///
    /// # Errors
    /// `Full`, and as [`put`](Self::put).
    pub async fn try_put(&self, item: &T) -> Result<()> {
        self.put_with(item, Wait::No).await.map(drop)
    }

    /// Appends an item, waiting for at most `timeout`.
    ///
    /// # Errors
    /// `Full`, and as [`put`](Self::put).
    pub async fn put_timeout(&self, item: &T, timeout: Duration) -> Result<()> {
        self.put_with(item, Wait::at_most(timeout)).await.map(drop)
    }

    /// Appends an item, with more to say: how long to wait, when it may be taken, under which id,
    /// how urgent it is. Says whether it was put, or had been before under the same id.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pymq::{Bus, Put, PutOptions};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<&str>("jobs");
    /// let once = PutOptions::new().id("order-17").delay(Duration::from_millis(5));
    /// assert_eq!(jobs.put_with(&"send the bill", once.clone()).await?, Put::Done);
    /// assert_eq!(jobs.put_with(&"send the bill", once).await?, Put::Already);
    /// assert_eq!(jobs.stats().await?.unfinished(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Full` if there was no space in time, `Config` for options that cannot be, `Unsupported` for
    /// those that the transport lacks, and as [`put`](Self::put); with an id, trying again is right
    /// after `Ambiguous` too.
    pub async fn put_with(&self, item: &T, options: impl Into<PutOptions>) -> Result<Put> {
        let payload = self.encode(item)?;
        self.bytes.put(vec![payload], options).await
    }

    /// Appends several items, in order, in one round trip and one step: nobody else's come between.
    ///
    /// More items than a queue's `maxsize`, than 10,000, or than 64 MiB go in several steps, each as
    /// soon as there is space; dropping the future then leaves some of them put.
    ///
    /// ```
    /// # use pymq::{Bus, Wait};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.put_many(&[1, 2]).await?;
    /// assert_eq!(jobs.get_many(10, Wait::Forever).await?, [1, 2]);
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
        self.put_many_with(items, PutOptions::new()).await
    }

    /// Appends several items as `options` say; a [`Wait`] is enough. Those that do not wait for ever
    /// put all or none.
    ///
    /// # Errors
    /// `Full`, then nothing was put; `Config` for more items than could ever be put in one step and
    /// for one id for several; and as [`put_many`](Self::put_many).
    pub async fn put_many_with<'a>(
        &self,
        items: impl IntoIterator<Item = &'a T>,
        options: impl Into<PutOptions>,
    ) -> Result<()>
    where
        T: 'a,
    {
        let payloads = items.into_iter().map(|item| self.encode(item)).collect::<Result<_>>()?;
        self.bytes.put(payloads, options).await.map(drop)
    }

    fn encode(&self, item: &T) -> Result<Bytes> {
        let item = codec::encode(self.name(), item)?;
        let message = self.metadata.clone().stamped().attach(item);
        message.map_err(|error| error.of("put", shortened(self.name())))
    }
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the first item, waiting for one. At most once, except that what a process took in the
    /// last 10 ms before it was killed may come once more; what `get` had returned to it is gone. The
    /// return of `main` confirms, whether or not the bus was closed.
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

    /// Takes up to `limit` items in one round trip, waiting for the first one only, as `wait` says;
    /// no items if there is none in time. At most once, as [`get`](Self::get).
    ///
    /// `wait` is a [`Wait`], a length, or a moment. There may be fewer items than there are in the
    /// queue: over Redis 1,000 at a time, and with [`prefetch`](Self::prefetch) what is left of those
    /// that were fetched ahead. Items that are no `T` become dead letters and are left out.
    ///
    /// # Errors
    /// `Decode` if none of the items is a `T`, and as [`get`](Self::get).
    pub async fn get_many(&self, limit: usize, wait: impl Into<Wait>) -> Result<Vec<T>> {
        let deliveries = self.claim_many(limit, wait).await?;
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

    /// Takes up to `limit` items on lease in one round trip, waiting for the first one only, as `wait`
    /// says. At least once; each is settled for itself. Fewer may come than there are, as of
    /// [`get_many`](Self::get_many).
    ///
    /// # Errors
    /// As [`get_many`](Self::get_many).
    pub async fn claim_many(
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
        for (bytes, error) in bad {
            bytes.settle_soon(Settlement::Reject, undecodable(&error));
        }
        Ok(good)
    }

    /// Sends items to the dead letters, for the first one's reason.
    async fn reject(&self, refused: Vec<(ByteDelivery, Error)>) -> Error {
        let mut first = None;
        for (bytes, error) in refused {
            let settled = bytes.settle_with(Settlement::Reject, undecodable(&error)).await;
            if let Err(error) = settled {
                tracing::warn!(queue = self.name(), %error, "an item is no dead letter yet");
            }
            first.get_or_insert(error);
        }
        first.unwrap_or_else(|| self.bytes.empty())
    }

    /// The items as they come, each on lease, as a [`Stream`](futures_core::Stream). At least once.
    ///
    /// It ends when the queue is shut down and empty, this handle [stopped](Self::stop), or the bus
    /// closed. Dropping it loses nothing.
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

    /// Up to `limit` items from the head of a shelf, left where they are: each as a value, or as the
    /// reason why it is none.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn peek(&self, shelf: Shelf, limit: usize) -> Result<Vec<Result<T>>> {
        let items = self.bytes.peek(shelf, limit).await?;
        let read = |item| Ok(codec::decode_message(self.name(), item)?.0);
        Ok(items.iter().map(read).collect())
    }
}

impl<T: DeserializeOwned + Send + 'static> Queue<T> {
    /// Serves the queue with a handler, up to `concurrency` items at once, until the [`Worker`] is
    /// drained or dropped, this handle [stopped](Self::stop), or the queue is shut down and empty.
    ///
    /// At least once: an item is acknowledged when its handler has returned `Ok`. With `Err`, or if
    /// the handler panics, it comes again later, to this worker or another: by default after 1, 4, 16
    /// and 64 s ([`retry`](Self::retry) says otherwise), until [`max_deliveries`](Self::max_deliveries)
    /// makes it a dead letter that tells the error. An item whose process dies comes again within its
    /// [`lease`](Self::lease). An item that is no `T` becomes a dead letter at once. Lost connections
    /// are waited for. Handlers run as tasks of the current runtime.
    ///
    /// ```
    /// # use pymq::{Bus, Retry};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs").retry(Retry::never());
    /// jobs.put_many(&[1, 2, 3]).await?;
    /// let worker = jobs.work(2, async |number: u32| match number {
    ///     2 => Err("two is too much"),
    ///     _ => Ok(()),
    /// })?;
    /// jobs.join().await?;
    /// worker.drain().await?;
    /// let letters = jobs.dead_letters().read(0, 10).await?;
    /// assert_eq!(letters[0].failure().words, "two is too much");
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
        let (queue, handler) = (Arc::new(self.bytes.clone()), Arc::new(handler));
        Worker::start(self.bytes.apart(), concurrency, move |delivery| {
            serve::item(Arc::clone(&queue), delivery, Arc::clone(&handler))
        })
    }

    /// Serves the queue as [`work`](Self::work) does, with a handler that sees the delivery: how often
    /// the item was handed out; and that may extend its lease, or settle it itself. A delivery that the
    /// handler drops is settled by what it returns.
    ///
    /// ```
    /// # use pymq::{Bus, Delivery};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.put_many(&[1, 2, 3]).await?;
    /// let worker = jobs.work_deliveries(2, async |job: Delivery<u32>| match *job {
    ///     2 => job.reject_because("two is too much").await,
    ///     _ => Ok(()),
    /// })?;
    /// jobs.join().await?;
    /// worker.drain().await?;
    /// assert_eq!(jobs.dead_letters().len().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`work`](Self::work).
    pub fn work_deliveries<E, F>(
        &self,
        concurrency: usize,
        handler: impl Fn(Delivery<T>) -> F + Send + Sync + 'static,
    ) -> Result<Worker>
    where
        E: fmt::Display + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (queue, handler) = (Arc::new(self.bytes.clone()), Arc::new(handler));
        Worker::start(self.bytes.apart(), concurrency, move |delivery| {
            serve::delivery(Arc::clone(&queue), delivery, Arc::clone(&handler))
        })
    }
}

/// The item, confirmed by itself.
fn taken<T>(delivery: Delivery<T>) -> T {
    let (item, bytes) = delivery.into_parts();
    bytes.ack_soon();
    item
}
