//! Putting items: one or many, and what else there is to say of them.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::Queue;
use crate::codec;
use crate::error::Result;
use crate::name::shortened;
use crate::telemetry::{self, Operation, Verb};
use crate::transport::{Put, PutOptions, Wait};

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
        self.put_values(vec![self.encode(item)?], options.into()).await
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
        let values = items.into_iter().map(|item| self.encode(item)).collect::<Result<_>>()?;
        self.put_values(values, options.into()).await.map(drop)
    }

    fn encode(&self, item: &T) -> Result<Bytes> {
        codec::encode(self.name(), item)
    }

    /// Puts encoded items, each with what is said beside it.
    async fn put_values(&self, values: Vec<Bytes>, options: PutOptions) -> Result<Put> {
        let (count, limits) = (values.len(), self.bytes.limits());
        let observed = self.bytes.observers().begin(self.putting());
        let attach = |value| telemetry::attach(observed.as_ref(), &self.metadata, value, limits);
        let put = match values.into_iter().map(attach).collect() {
            Ok(messages) => self.bytes.put(messages, options).await,
            Err(error) => Err(error.of("put", shortened(self.name()))),
        };
        telemetry::ended(observed, count, put)
    }

    fn putting(&self) -> Operation<'_> {
        Operation::new(Verb::Put, self.name())
    }
}
