//! What a handle has fetched ahead: one round trip for many items that are handed out one by one.
//!
//! The one invariant: an item in here was handed to nobody, so it goes back to its queue uncounted
//! when it is not wanted. One getter at a time asks the broker; the others wait for what it brings,
//! or somebody could wait there while items lie here.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::timeout_at;

use super::bytes::Source;
use crate::error::Result;
use crate::transport::{Claimed, Settlement, Wait};

/// The items that a handle, with all its clones, has claimed and not handed out yet.
pub(super) struct Ahead {
    source: Source,
    size: usize,
    items: Mutex<VecDeque<Claimed>>,
    /// Held by the one who asks the broker.
    turn: tokio::sync::Mutex<()>,
}

impl Ahead {
    pub(super) fn new(source: Source, size: usize) -> Self {
        Self { source, size, items: Mutex::default(), turn: tokio::sync::Mutex::default() }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Up to `limit` items, from here or else from the broker.
    pub(super) async fn claim(&self, limit: usize, wait: Wait) -> Result<Vec<Claimed>> {
        let here = self.take(limit)?;
        if !here.is_empty() || limit == 0 {
            return Ok(here);
        }
        let turn = match wait {
            Wait::Forever => Some(self.turn.lock().await),
            Wait::Until(deadline) => timeout_at(deadline, self.turn.lock()).await.ok(),
            Wait::No => self.turn.try_lock().ok(),
        };
        if turn.is_none() {
            // Somebody else waits at the broker all the while, so there is hardly anything; but a
            // look costs nobody's place.
            return self.source.claim(limit, Wait::No).await;
        }
        // Whoever had the turn before may have left some.
        let here = self.take(limit)?;
        if !here.is_empty() {
            return Ok(here);
        }
        let mut claimed = self.source.claim(limit.max(self.size), wait).await?;
        let surplus = claimed.split_off(limit.min(claimed.len()));
        self.lock().extend(surplus);
        Ok(claimed)
    }

    /// Returns the items to the head of their queue, uncounted. Does not wait, works on any thread.
    pub(super) fn give_back(&self) {
        let items = std::mem::take(&mut *self.lock());
        // The newest first, so that the oldest comes to lie at the head.
        for Claimed { receipt, .. } in items.into_iter().rev() {
            let Source { transport, spec, .. } = &self.source;
            transport.settle_soon(spec, receipt, Settlement::Return);
        }
    }

    /// Items from here; none, and an error, when the bus takes in nothing more.
    fn take(&self, limit: usize) -> Result<Vec<Claimed>> {
        // With the bus goes what it holds: by now somebody else may have these.
        self.source.check().inspect_err(|_| self.give_back())?;
        let mut items = self.lock();
        let count = limit.min(items.len());
        Ok(items.drain(..count).collect())
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Claimed>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for Ahead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ahead").field("size", &self.size).field("len", &self.len()).finish()
    }
}
