//! Queues: each item goes to one consumer, and none is lost on the way.
//!
//! [`get`](Queue::get) takes an item for good: it is confirmed by itself, with the next `get` or
//! within 10 ms. [`claim`](Queue::claim) gives a [`Delivery`] that its holder settles; until then
//! the item is leased, and it comes back if the holder drops it, dies or falls silent. An item that
//! cannot be decoded goes to the dead letters as it is.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::transport::{
    Claimed, QueueSpec, QueueStats, Receipt, Settlement, Shelf, Transport, Wait,
};

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

    /// After how many deliveries an item becomes a dead letter; 5 by default, 0 is never.
    #[must_use]
    pub fn max_deliveries(self, max_deliveries: u32) -> Self {
        Self::new(self.bytes.with(|spec| spec.max_deliveries = max_deliveries))
    }

    /// The queue's name, without the namespace.
    pub fn name(&self) -> &str {
        self.bytes.name()
    }

    /// How many items wait.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn len(&self) -> Result<usize> {
        Ok(self.stats().await?.waiting)
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

    /// Deletes the items that wait, and lifts a shutdown; says how many there were.
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
}

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the first item, waiting for one. At most once: if this program dies, what `get` has
    /// returned is gone.
    ///
    /// # Errors
    /// `Decode` for an item that is no `T` (it is a dead letter then), `ShutDown`, and those of the
    /// connection.
    pub async fn get(&self) -> Result<T> {
        self.get_within(Wait::Forever).await?.ok_or_else(|| self.bytes.empty())
    }

    /// Takes the first item if there is one now.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn try_get(&self) -> Result<Option<T>> {
        self.get_within(Wait::No).await
    }

    /// Takes the first item, waiting for at most `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.get_within(Wait::at_most(timeout)).await
    }

    async fn get_within(&self, wait: Wait) -> Result<Option<T>> {
        let Some(delivery) = self.claim_within(wait).await? else { return Ok(None) };
        let Delivery { item, bytes } = delivery;
        bytes.ack_soon();
        Ok(Some(item))
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
        match codec::decode(self.name(), bytes.payload()) {
            Ok(item) => Ok(Some(Delivery { item, bytes })),
            Err(error) => {
                tracing::warn!(queue = self.name(), %error, "item moved to the dead letters");
                bytes.settle(Settlement::Reject).await?;
                Err(error)
            }
        }
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

/// An item on lease. Dropping it gives the item back, on any thread; so does losing its process.
#[derive(Debug)]
#[must_use = "dropping a delivery gives its item back; ack it when it is done"]
pub struct Delivery<T> {
    item: T,
    bytes: ByteDelivery,
}

impl<T> Delivery<T> {
    /// The item.
    pub fn item(&self) -> &T {
        &self.item
    }

    /// How often it was handed out, this time included.
    pub fn deliveries(&self) -> u32 {
        self.bytes.deliveries()
    }

    /// Done: the item is gone.
    ///
    /// # Errors
    /// `LeaseLost` if it belongs to somebody else by now, and those of the connection.
    pub async fn ack(self) -> Result<()> {
        self.bytes.settle(Settlement::Ack).await
    }

    /// Gives the item back to the head of the queue, one delivery more on its count.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn requeue(self) -> Result<()> {
        self.bytes.settle(Settlement::Requeue).await
    }

    /// Gives the item up: it becomes a dead letter.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn reject(self) -> Result<()> {
        self.bytes.settle(Settlement::Reject).await
    }

    /// Makes sure that the lease lasts for `duration` from now, even if this process does not.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn extend(&self, duration: Duration) -> Result<()> {
        self.bytes.extend(duration).await
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

/// A queue of bytes, for layers with a codec of their own.
#[derive(Clone, Debug)]
pub struct ByteQueue {
    transport: Arc<dyn Transport>,
    name: Arc<str>,
    spec: Arc<QueueSpec>,
}

impl ByteQueue {
    pub(crate) fn new(transport: Arc<dyn Transport>, name: &str, whole: String) -> Self {
        Self { transport, name: name.into(), spec: Arc::new(QueueSpec::new(whole)) }
    }

    /// The same queue with other options.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut QueueSpec)) -> Self {
        change(Arc::make_mut(&mut self.spec));
        self
    }

    /// The queue's name, without the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The options of this handle.
    pub fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    /// Appends items, all in one step.
    ///
    /// # Errors
    /// As [`Queue::put`]; `Full` if there was no space within `wait`.
    pub async fn put(&self, items: Vec<Bytes>, wait: Wait) -> Result<()> {
        name::check("put", &self.name)?;
        self.transport.push(&self.spec, items, wait).await
    }

    /// Takes the first item on lease; `None` if there was none within `wait`.
    ///
    /// # Errors
    /// `ShutDown`, and those of the connection.
    pub async fn claim(&self, wait: Wait) -> Result<Option<ByteDelivery>> {
        Ok(self.claim_many(1, wait).await?.pop())
    }

    /// Takes up to `limit` items on lease, waiting for the first one only.
    ///
    /// # Errors
    /// As [`claim`](Self::claim).
    pub async fn claim_many(&self, limit: usize, wait: Wait) -> Result<Vec<ByteDelivery>> {
        name::check("get", &self.name)?;
        let claimed = self.transport.claim(&self.spec, limit, wait).await?;
        Ok(claimed.into_iter().map(|claimed| ByteDelivery::new(self.clone(), claimed)).collect())
    }

    /// As [`Queue::stats`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn stats(&self) -> Result<QueueStats> {
        self.transport.stats(&self.spec).await
    }

    /// As [`Queue::join`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn join(&self) -> Result<()> {
        let mut pause = Duration::from_millis(2);
        loop {
            let stats = self.stats().await?;
            if stats.waiting + stats.leased == 0 {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(250));
        }
    }

    /// As [`Queue::peek`], without decoding.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn peek(&self, shelf: Shelf, limit: usize) -> Result<Vec<Bytes>> {
        self.transport.peek(&self.spec, shelf, limit).await
    }

    /// As [`Queue::purge`], of either shelf.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn purge(&self, shelf: Shelf) -> Result<usize> {
        self.transport.purge(&self.spec, shelf).await
    }

    /// As [`Queue::redrive`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn redrive(&self, limit: usize) -> Result<usize> {
        self.transport.redrive(&self.spec, limit).await
    }

    /// As [`Queue::shut_down`].
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn shut_down(&self) -> Result<()> {
        self.transport.shut_down(&self.spec).await
    }

    /// What a claim without end would say if it ended: only a transport that breaks the contract
    /// gets here.
    fn empty(&self) -> Error {
        Error::new(ErrorKind::Server, "get", &*self.name, "the transport ended a wait without end")
    }
}

/// A claimed item as bytes; see [`Delivery`].
#[derive(Debug)]
pub struct ByteDelivery {
    queue: ByteQueue,
    payload: Bytes,
    deliveries: u32,
    /// Gone once it is settled.
    receipt: Option<Receipt>,
}

impl ByteDelivery {
    fn new(queue: ByteQueue, claimed: Claimed) -> Self {
        let Claimed { payload, deliveries, receipt } = claimed;
        Self { queue, payload, deliveries, receipt: Some(receipt) }
    }

    /// The bytes as they were put.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// As [`Delivery::deliveries`].
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// Ends the lease.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn settle(mut self, how: Settlement) -> Result<()> {
        match self.receipt.take() {
            Some(receipt) => self.queue.transport.settle(&self.queue.spec, receipt, how).await,
            None => Ok(()),
        }
    }

    /// Confirms with the next claim or within 10 ms; does not wait, works on any thread.
    pub fn ack_soon(mut self) {
        self.settle_soon(Settlement::Ack);
    }

    /// Gives the item back to the head of its queue, uncounted: it was never handed to anybody. Does
    /// not wait, works on any thread.
    pub fn give_back(mut self) {
        self.settle_soon(Settlement::Return);
    }

    /// As [`Delivery::extend`]; the future does not hold the delivery, which may be settled meanwhile.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub fn extend(&self, duration: Duration) -> impl Future<Output = Result<()>> + Send + use<> {
        let (queue, receipt) = (self.queue.clone(), self.receipt.clone());
        async move {
            match &receipt {
                Some(receipt) => queue.transport.extend(&queue.spec, receipt, duration).await,
                None => Ok(()),
            }
        }
    }

    fn settle_soon(&mut self, how: Settlement) {
        if let Some(receipt) = self.receipt.take() {
            self.queue.transport.settle_soon(&self.queue.spec, receipt, how);
        }
    }
}

impl Drop for ByteDelivery {
    fn drop(&mut self) {
        self.settle_soon(Settlement::Requeue);
    }
}
