//! The dead letters of a queue: looked at, brought back, thrown away.

use std::fmt;
use std::marker::PhantomData;
use std::time::SystemTime;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::Queue;
use super::bytes::ByteQueue;
use crate::codec;
use crate::error::{Error, Result};
use crate::transport::{DeadLetter, Failure, Letters, Shelf};
use crate::wire::Metadata;

/// How many are read in the first step while some are chosen, in later ones at most, and how many bytes
/// about: nobody knows how large they are before.
const FIRST: usize = 16;
const MOST: usize = 500;
const BYTES: usize = 4 << 20;

/// The dead letters of a queue; see [`Queue::dead_letters`].
#[derive(Clone)]
pub struct DeadLetters<T> {
    queue: ByteQueue,
    items: PhantomData<fn() -> T>,
}

impl<T> DeadLetters<T> {
    pub(super) fn of(queue: ByteQueue) -> Self {
        Self { queue, items: PhantomData }
    }

    /// How many there are.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn len(&self) -> Result<usize> {
        Ok(self.queue.counts().await?.dead)
    }

    /// Whether there is none.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// Moves all of them back to the tail of the queue, oldest first, their counts reset; says how
    /// many. No bound holds it up, as with everything that comes back.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn redrive(&self) -> Result<usize> {
        self.queue.redrive(Letters::Oldest(usize::MAX), None).await
    }

    /// Moves all of them to the tail of another queue of the same bus; says how many.
    ///
    /// # Errors
    /// `Config` for a queue of another bus, `Unsupported` where the transport cannot, and those of
    /// the connection.
    pub async fn redrive_to<U>(&self, other: &Queue<U>) -> Result<usize> {
        self.queue.redrive(Letters::Oldest(usize::MAX), Some(&other.bytes)).await
    }

    /// Deletes all of them; says how many.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn purge(&self) -> Result<usize> {
        self.queue.purge(Shelf::Dead).await
    }
}

impl<T: DeserializeOwned> DeadLetters<T> {
    /// Up to `limit` of them after the `skip` oldest, oldest first, left where they are. Each can be
    /// looked at, whether or not its item can be read.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn read(&self, skip: usize, limit: usize) -> Result<Vec<Letter<T>>> {
        let letters = self.queue.letters(skip, limit).await?;
        Ok(letters.into_iter().map(|letter| Letter::of(self.queue.name(), letter)).collect())
    }

    /// Moves those that `choose` picks back to the tail of the queue; says how many.
    ///
    /// # Errors
    /// `Unsupported` where the transport cannot, and those of the connection; some may have been
    /// moved by then.
    pub async fn redrive_where(&self, choose: impl FnMut(&Letter<T>) -> bool) -> Result<usize> {
        self.each(choose, async |which| self.queue.redrive(which, None).await).await
    }

    /// Deletes those that `choose` picks; says how many.
    ///
    /// # Errors
    /// As [`redrive_where`](Self::redrive_where).
    pub async fn discard_where(&self, choose: impl FnMut(&Letter<T>) -> bool) -> Result<usize> {
        self.each(choose, async |which| self.queue.discard(which).await).await
    }

    /// Takes chosen ones out, page by page. Those that die meanwhile are not looked at twice.
    async fn each(
        &self,
        mut choose: impl FnMut(&Letter<T>) -> bool,
        take: impl AsyncFn(Letters) -> Result<usize>,
    ) -> Result<usize> {
        let (mut left, mut taken, mut size) = (0, 0, FIRST);
        let mut unseen = self.len().await?;
        while unseen > 0 {
            let page = self.read(left, size.min(unseen)).await?;
            if page.is_empty() {
                break;
            }
            let bytes: usize = page.iter().map(|letter| letter.payload().len()).sum();
            size = (BYTES * page.len() / bytes.max(1)).clamp(1, MOST);
            unseen = unseen.saturating_sub(page.len());
            let chosen: Vec<_> = page.iter().filter(|letter| choose(letter)).collect();
            left += page.len() - chosen.len();
            if !chosen.is_empty() {
                let receipts = chosen.iter().map(|letter| letter.letter.receipt.clone());
                taken += take(Letters::These(receipts.collect())).await?;
            }
        }
        Ok(taken)
    }
}

impl<T> fmt::Debug for DeadLetters<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeadLetters").field(&self.queue.name()).finish()
    }
}

/// A dead letter: an item that was given up, or the reason why it cannot be read, and how it died.
#[derive(Debug)]
pub struct Letter<T> {
    item: Result<T>,
    metadata: Metadata,
    letter: DeadLetter,
}

impl<T: DeserializeOwned> Letter<T> {
    fn of(queue: &str, letter: DeadLetter) -> Self {
        match codec::decode_message(queue, &letter.payload) {
            Ok((item, metadata)) => Self { item: Ok(item), metadata, letter },
            Err(error) => {
                let metadata = Metadata::detach(letter.payload.clone()).0.unwrap_or_default();
                Self { item: Err(error), metadata, letter }
            }
        }
    }
}

impl<T> Letter<T> {
    /// The item.
    ///
    /// # Errors
    /// `Decode` if it is no `T`; its [`payload`](Self::payload) is there all the same.
    pub fn item(&self) -> Result<&T, &Error> {
        self.item.as_ref()
    }

    /// What its sender said beside it, as [`Delivery::metadata`](super::Delivery::metadata).
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The bytes as they were put.
    pub fn payload(&self) -> &Bytes {
        &self.letter.payload
    }

    /// Why it died: the kind of end, the error's type and words, and where.
    pub fn failure(&self) -> &Failure {
        &self.letter.failure
    }

    /// How often it was handed out; `None` where that was not written down.
    pub fn deliveries(&self) -> Option<u32> {
        self.letter.deliveries
    }

    /// When it died; `None` where that was not written down.
    pub fn died(&self) -> Option<SystemTime> {
        self.letter.died
    }
}
