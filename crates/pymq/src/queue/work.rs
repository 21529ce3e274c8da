//! Serving a queue with a handler; [`Worker`] is what then runs.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::{Delivery, Queue, Worker, serve};
use crate::error::Result;

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
