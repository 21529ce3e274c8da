//! Queues that wait on the calling thread.
//!
//! The one invariant: a delivery keeps its bus alive, so that dropping it gives its item back
//! whatever was dropped before. How items are leased and come back is `queue`'s.

use std::fmt::{self, Display};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::mirror::{settings, waiting};
use super::{Bus, Incoming, calls};
use crate::error::Result;
use crate::queue::{self, Letter, Retry};
use crate::transport::{Put, PutOptions, QueueStats, Shelf, Wait};
use crate::wire::Metadata;

impl Bus {
    /// As [`pymq::Bus::queue`](crate::Bus::queue).
    ///
    /// ```
    /// # fn main() -> pymq::Result<()> {
    /// # let bus = pymq::blocking::Bus::connect("memory://")?;
    /// let jobs = bus.queue::<String>("jobs");
    /// jobs.put(&"pack".to_owned())?;
    /// let job = jobs.claim()?;
    /// assert_eq!(*job, "pack");
    /// job.ack()?;
    /// # Ok(()) }
    /// ```
    pub fn queue<T>(&self, name: &str) -> Queue<T> {
        Queue { inner: self.asynchronous().queue(name), bus: self.clone() }
    }
}

/// As [`pymq::Queue`](crate::Queue), waiting.
pub struct Queue<T> {
    inner: queue::Queue<T>,
    bus: Bus,
}

impl<T> Queue<T> {
    settings! {
        Queue:
        fn maxsize(self, maxsize: usize) -> Self;
        fn metadata(self, metadata: Metadata) -> Self;
        fn lease(self, lease: Duration) -> Self;
        fn prefetch(self, items: usize) -> Self;
        fn max_deliveries(self, max_deliveries: u32) -> Self;
        fn max_dead_letters(self, most: usize) -> Self;
        fn priorities(self, priorities: bool) -> Self;
        fn retry(self, retry: Retry) -> Self;
    }

    /// The queue's name, without the namespace.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    waiting! {
        Queue:
        fn len(&self) -> Result<usize>;
        fn is_empty(&self) -> Result<bool>;
        fn stats(&self) -> Result<QueueStats>;
        fn join(&self) -> Result<()>;
        fn purge(&self) -> Result<usize>;
        fn shut_down(&self) -> Result<()>;
        fn redrive(&self, limit: usize) -> Result<usize>;
    }

    /// As [`pymq::Queue::stop`](crate::Queue::stop).
    pub fn stop(&self) {
        self.inner.stop();
    }

    /// As [`pymq::Queue::dead_letters`](crate::Queue::dead_letters).
    pub fn dead_letters(&self) -> DeadLetters<T> {
        DeadLetters { inner: self.inner.dead_letters(), bus: self.bus.clone() }
    }

    /// As [`pymq::Queue::give_back`](crate::Queue::give_back).
    pub fn give_back(&self) {
        self.inner.give_back();
    }

    /// The queue of the async side.
    pub(super) fn asynchronous(&self) -> &queue::Queue<T> {
        &self.inner
    }

    fn deliver(&self, inner: queue::Delivery<T>) -> Delivery<T> {
        Delivery { inner, bus: self.bus.clone() }
    }
}

impl<T: Serialize> Queue<T> {
    waiting! {
        Queue:
        fn put(&self, item: &T) -> Result<()>;
        fn try_put(&self, item: &T) -> Result<()>;
        fn put_timeout(&self, item: &T, timeout: Duration) -> Result<()>;
        fn put_with(&self, item: &T, options: impl Into<PutOptions>) -> Result<Put>;
    }

    /// As [`pymq::Queue::put_many`](crate::Queue::put_many).
    ///
    /// # Errors
    /// Those of [`pymq::Queue::put_many`](crate::Queue::put_many).
    pub fn put_many<'a>(&self, items: impl IntoIterator<Item = &'a T>) -> Result<()>
    where
        T: 'a,
    {
        self.bus.wait(self.inner.put_many(items))
    }

    /// As [`pymq::Queue::put_many_with`](crate::Queue::put_many_with).
    ///
    /// # Errors
    /// Those of [`pymq::Queue::put_many_with`](crate::Queue::put_many_with).
    pub fn put_many_with<'a>(
        &self,
        items: impl IntoIterator<Item = &'a T>,
        options: impl Into<PutOptions>,
    ) -> Result<()>
    where
        T: 'a,
    {
        self.bus.wait(self.inner.put_many_with(items, options))
    }
}

impl<T: DeserializeOwned> Queue<T> {
    waiting! {
        Queue:
        fn get(&self) -> Result<T>;
        fn try_get(&self) -> Result<Option<T>>;
        fn get_timeout(&self, timeout: Duration) -> Result<Option<T>>;
        fn get_many(&self, limit: usize, wait: impl Into<Wait>) -> Result<Vec<T>>;
    }

    /// As [`pymq::Queue::claim`](crate::Queue::claim).
    ///
    /// # Errors
    /// Those of [`pymq::Queue::claim`](crate::Queue::claim).
    pub fn claim(&self) -> Result<Delivery<T>> {
        Ok(self.deliver(self.bus.wait(self.inner.claim())?))
    }

    /// As [`pymq::Queue::try_claim`](crate::Queue::try_claim).
    ///
    /// # Errors
    /// Those of [`pymq::Queue::try_claim`](crate::Queue::try_claim).
    pub fn try_claim(&self) -> Result<Option<Delivery<T>>> {
        Ok(self.bus.wait(self.inner.try_claim())?.map(|inner| self.deliver(inner)))
    }

    /// As [`pymq::Queue::claim_timeout`](crate::Queue::claim_timeout).
    ///
    /// # Errors
    /// Those of [`pymq::Queue::claim_timeout`](crate::Queue::claim_timeout).
    pub fn claim_timeout(&self, timeout: Duration) -> Result<Option<Delivery<T>>> {
        Ok(self.bus.wait(self.inner.claim_timeout(timeout))?.map(|inner| self.deliver(inner)))
    }

    /// As [`pymq::Queue::claim_many`](crate::Queue::claim_many).
    ///
    /// # Errors
    /// Those of [`pymq::Queue::claim_many`](crate::Queue::claim_many).
    pub fn claim_many(&self, limit: usize, wait: impl Into<Wait>) -> Result<Vec<Delivery<T>>> {
        let claimed = self.bus.wait(self.inner.claim_many(limit, wait))?;
        Ok(claimed.into_iter().map(|inner| self.deliver(inner)).collect())
    }

    /// As [`pymq::Queue::deliveries`](crate::Queue::deliveries): the items as they come, each on lease,
    /// until the queue is shut down and empty.
    pub fn deliveries(&self) -> impl Iterator<Item = Result<Delivery<T>>> {
        let (queue, stream) = (self.clone(), self.inner.deliveries());
        let incoming = Incoming { stream, bus: self.bus.clone() };
        incoming.map(move |delivery| Ok(queue.deliver(delivery?)))
    }

    waiting! {
        Queue:
        fn peek(&self, shelf: Shelf, limit: usize) -> Result<Vec<Result<T>>>;
    }
}

impl<T: DeserializeOwned + Send + 'static> Queue<T> {
    /// Serves the queue as [`pymq::Queue::work`](crate::Queue::work) does, with a handler that may
    /// wait: each item on a thread of the bus's pool.
    ///
    /// ```
    /// # fn main() -> pymq::Result<()> {
    /// # let bus = pymq::blocking::Bus::connect("memory://")?;
    /// let jobs = bus.queue::<u32>("jobs").retry(pymq::Retry::never());
    /// jobs.put_many(&[1, 2, 3])?;
    /// let worker = jobs.work(2, |number| match number {
    ///     2 => Err("two is too much"),
    ///     _ => Ok(()),
    /// })?;
    /// jobs.join()?;
    /// worker.drain()?;
    /// assert_eq!(jobs.dead_letters().len()?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for a concurrency of 0.
    pub fn work<E>(
        &self,
        concurrency: usize,
        handler: impl Fn(T) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<Worker>
    where
        E: Display + Send + 'static,
    {
        let handler = Arc::new(handler);
        let handler = move |item| {
            let handler = Arc::clone(&handler);
            calls::on_a_thread(move || handler(item))
        };
        let inner = self.bus.wait(async { self.inner.work(concurrency, handler) })?;
        Ok(Worker { inner, bus: self.bus.clone() })
    }

    /// Serves the queue as [`pymq::Queue::work_deliveries`](crate::Queue::work_deliveries) does, with
    /// a handler that may wait.
    ///
    /// # Errors
    /// As [`work`](Self::work).
    pub fn work_deliveries<E>(
        &self,
        concurrency: usize,
        handler: impl Fn(Delivery<T>) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<Worker>
    where
        E: Display + Send + 'static,
    {
        let (handler, bus) = (Arc::new(handler), self.bus.clone());
        let handler = move |inner| {
            let (handler, bus) = (Arc::clone(&handler), bus.clone());
            calls::on_a_thread(move || handler(Delivery { inner, bus }))
        };
        let inner = self.bus.wait(async { self.inner.work_deliveries(concurrency, handler) })?;
        Ok(Worker { inner, bus: self.bus.clone() })
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), bus: self.bus.clone() }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// As [`pymq::Delivery`](crate::Delivery), waiting. Dropping it gives the item back.
#[derive(Debug)]
#[must_use = "dropping a delivery gives its item back; ack it when it is done"]
pub struct Delivery<T> {
    inner: queue::Delivery<T>,
    bus: Bus,
}

impl<T> Delivery<T> {
    /// How often it was handed out, this time included.
    pub fn deliveries(&self) -> u32 {
        self.inner.deliveries()
    }

    /// As [`pymq::Delivery::metadata`](crate::Delivery::metadata).
    pub fn metadata(&self) -> &Metadata {
        self.inner.metadata()
    }

    /// As [`pymq::Delivery::queue`](crate::Delivery::queue).
    pub fn queue(&self) -> &str {
        self.inner.queue()
    }

    waiting! {
        Delivery:
        fn ack(self) -> Result<()>;
        fn requeue(self) -> Result<()>;
        fn requeue_after(self, delay: Duration) -> Result<()>;
        fn reject_because(self, reason: impl Display) -> Result<()>;
        fn reject(self) -> Result<()>;
    }

    waiting! {
        Delivery:
        fn extend(&self, duration: Duration) -> Result<()>;
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// As [`pymq::Worker`](crate::Worker). Dropping it stops it; handlers that run on a thread go on
/// there to their end, and their items are given back.
#[derive(Debug)]
#[must_use = "dropping a worker stops it"]
pub struct Worker {
    inner: queue::Worker,
    bus: Bus,
}

impl Worker {
    /// As [`pymq::Worker::drain`](crate::Worker::drain).
    ///
    /// # Errors
    /// Those of [`pymq::Worker::drain`](crate::Worker::drain).
    pub fn drain(self) -> Result<()> {
        let Self { inner, bus } = self;
        bus.wait(inner.drain())
    }

    /// As [`pymq::Worker::ended`](crate::Worker::ended): waits until the queue is shut down and
    /// empty, or the worker has failed.
    pub fn join(&self) {
        self.bus.wait(self.inner.ended());
    }
}

/// As [`pymq::DeadLetters`](crate::DeadLetters), waiting.
#[derive(Debug)]
pub struct DeadLetters<T> {
    pub(super) inner: queue::DeadLetters<T>,
    pub(super) bus: Bus,
}

impl<T> DeadLetters<T> {
    waiting! {
        DeadLetters:
        fn len(&self) -> Result<usize>;
        fn is_empty(&self) -> Result<bool>;
        fn redrive(&self) -> Result<usize>;
    }

    /// As [`pymq::DeadLetters::redrive_to`](crate::DeadLetters::redrive_to).
    ///
    /// # Errors
    /// Those of [`pymq::DeadLetters::redrive_to`](crate::DeadLetters::redrive_to).
    pub fn redrive_to<U>(&self, other: &Queue<U>) -> Result<usize> {
        self.bus.wait(self.inner.redrive_to(other.asynchronous()))
    }

    waiting! {
        DeadLetters:
        fn purge(&self) -> Result<usize>;
    }
}

impl<T: DeserializeOwned> DeadLetters<T> {
    waiting! {
        DeadLetters:
        fn read(&self, skip: usize, limit: usize) -> Result<Vec<Letter<T>>>;
        fn redrive_where(&self, choose: impl FnMut(&Letter<T>) -> bool) -> Result<usize>;
        fn discard_where(&self, choose: impl FnMut(&Letter<T>) -> bool) -> Result<usize>;
    }
}
