//! How many items a queue has, and for how long the first has waited.
//!
//! The one invariant: what the transport knows stands. Where an item has no time of its own in the broker,
//! as over Redis, its age is what its sender said beside it, or not known; asking costs a second look, and
//! a put nothing.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::bytes::ByteQueue;
use crate::error::Result;
use crate::transport::{QueueStats, Shelf};
use crate::wire::Metadata;

impl ByteQueue {
    /// As [`Queue::stats`](super::Queue::stats).
    ///
    /// # Errors
    /// `Config` for a bad name, and those of the connection.
    pub async fn stats(&self) -> Result<QueueStats> {
        let mut stats = self.counts().await?;
        // Which of the lists of priorities has the item that has waited longest, no sender says.
        if stats.oldest.is_none() && stats.waiting > 0 && !self.spec().priorities {
            // That this cannot be told is no reason to tell nothing.
            let first = self.peek(Shelf::Waiting, 1).await.unwrap_or_default().pop();
            stats.oldest = first.and_then(age);
        }
        Ok(stats)
    }
}

/// How long ago an item was sent, where it says so; a sender whose clock is ahead has just done so.
fn age(item: Bytes) -> Option<Duration> {
    let sent = Metadata::detach(item).0?.sent()?;
    Some(SystemTime::now().duration_since(sent).unwrap_or_default())
}
