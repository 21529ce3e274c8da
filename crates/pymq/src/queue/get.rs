//! Taking items: for good, or on a lease.
//!
//! The one invariant: what is no item of the queue's type becomes a dead letter, and keeps no other from its
//! getter.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::delivery::{ByteDelivery, Delivery, undecodable};
use super::{Deliveries, Queue};
use crate::codec;
use crate::error::{Error, Result};
use crate::transport::{Settlement, Shelf, Wait};

impl<T: DeserializeOwned> Queue<T> {
    /// Takes the first item, waiting for one. At most once, except that what a process took in the
    /// last 10 ms before it was killed may come once more; what `get` had returned to it is gone. The
    /// return of `main` confirms, whether or not the bus was closed.
    ///
    /// # Errors
    /// `Decode` for an item that is no `T` (it is a dead letter then), `ShutDown`, and those of the
    /// connection.
    pub async fn get(&self) -> Result<T> {
        taken(self.claim().await?)
    }

    /// Takes the first item if there is one now.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn try_get(&self) -> Result<Option<T>> {
        self.try_claim().await?.map(taken).transpose()
    }

    /// Takes the first item, waiting for at most `timeout`.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn get_timeout(&self, timeout: Duration) -> Result<Option<T>> {
        self.claim_timeout(timeout).await?.map(taken).transpose()
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
        let (mut items, mut late) = (Vec::with_capacity(deliveries.len()), None);
        for item in deliveries.into_iter().map(taken) {
            match item {
                Ok(item) => items.push(item),
                Err(error) => late = Some(error),
            }
        }
        late.filter(|_| items.is_empty()).map_or(Ok(items), Err)
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

    pub(super) async fn claim_within(&self, wait: Wait) -> Result<Option<Delivery<T>>> {
        let since = self.bytes.observers().waits();
        let Some(bytes) = self.bytes.claim(wait).await? else { return Ok(None) };
        match Delivery::<T>::decode(self.name(), bytes) {
            Ok(delivery) => {
                let observers = self.bytes.observers();
                observers.received(self.name(), since, &[delivery.received()]);
                Ok(Some(if since.is_some() { delivery.observed_by(observers) } else { delivery }))
            }
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
        let since = self.bytes.observers().waits();
        let claimed = self.bytes.claim_many(limit, wait.into()).await?;
        let (mut good, mut bad) = (Vec::with_capacity(claimed.len()), Vec::new());
        for bytes in claimed {
            match Delivery::<T>::decode(self.name(), bytes) {
                Ok(delivery) => good.push(delivery),
                Err(refused) => bad.push(*refused),
            }
        }
        if good.is_empty() && !bad.is_empty() {
            return Err(self.reject(bad).await);
        }
        if since.is_some() {
            let received: Vec<_> = good.iter().map(Delivery::received).collect();
            self.bytes.observers().received(self.name(), since, &received);
            let watched = good.into_iter().map(|one| one.observed_by(self.bytes.observers()));
            good = watched.collect();
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

/// The item, confirmed by itself; one that went back, since the bus was closed meanwhile, is nobody's.
pub(super) fn taken<T>(delivery: Delivery<T>) -> Result<T> {
    let (item, bytes) = delivery.into_parts();
    bytes.taken().map(|()| item)
}
