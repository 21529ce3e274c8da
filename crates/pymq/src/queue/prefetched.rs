//! What a handle has fetched ahead: one round trip for many items that are handed out one by one.
//!
//! The one invariant: an item in here was handed to nobody. So it goes back to its queue uncounted when
//! it is not wanted or its process dies; when it is handed out, the transport is told, and it counts from
//! there on; and it is handed out only while its lease is surely ours. One getter at a time asks the
//! broker and the others wait for what it brings: else one could wait at the broker for an item that
//! lies here.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use super::origin::Origin;
use crate::drain_list::Unshown;
use crate::error::{ErrorKind, Result};
use crate::transport::{Claimed, Receipt, SettleOptions, Settlement, Wait};

/// How long the broker has to say whether items are still ours to one who does not want to wait.
const MOMENT: Duration = Duration::from_millis(100);

/// The items that a handle, with all its clones, has claimed and not handed out yet.
pub(super) struct Prefetched {
    origin: Origin,
    items: Mutex<Items>,
    /// Held by the one who asks the broker.
    turn: tokio::sync::Mutex<()>,
}

struct Items {
    line: VecDeque<Claimed>,
    /// When they were last known to be ours.
    known: Instant,
}

impl Prefetched {
    pub(super) fn new(origin: Origin) -> Self {
        let items = Mutex::new(Items { line: VecDeque::new(), known: Instant::now() });
        Self { origin, items, turn: tokio::sync::Mutex::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.lock().line.len()
    }

    /// Up to `limit` items, from here or else from the broker.
    pub(super) async fn claim(&self, limit: usize, wait: Wait) -> Result<Vec<Claimed>> {
        let here = self.take(limit, wait).await?;
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
            return Ok(self.keep_rest(limit, self.origin.claim(limit, Wait::No).await?));
        }
        // Whoever had the turn before may have left some.
        let here = self.take(limit, wait).await?;
        if !here.is_empty() {
            return Ok(here);
        }
        Ok(self.keep_rest(limit, self.origin.claim(limit, wait).await?))
    }

    /// The items that were asked for; what came beyond them is kept here.
    fn keep_rest(&self, limit: usize, mut claimed: Vec<Claimed>) -> Vec<Claimed> {
        if claimed.len() > limit {
            let mut items = self.lock();
            items.line.extend(claimed.drain(limit..));
            items.known = Instant::now();
        }
        claimed
    }

    /// Returns the items to the head of their queue, uncounted. Does not wait, works on any thread.
    pub(super) fn give_back(&self) {
        let items = std::mem::take(&mut self.lock().line);
        // The newest first, so that the oldest comes to lie at the head.
        for Claimed { receipt, .. } in items.into_iter().rev() {
            let Origin { transport, spec, .. } = &self.origin;
            transport.settle_soon(spec, receipt, Settlement::Return, SettleOptions::default());
        }
    }

    /// Items from here; none, and an error, when the bus takes in nothing more.
    async fn take(&self, limit: usize, wait: Wait) -> Result<Vec<Claimed>> {
        // With the bus goes what it holds: by now somebody else may have these.
        self.origin.check().inspect_err(|_| self.give_back())?;
        if let Some(first) = self.in_doubt() {
            self.make_sure(&first, wait).await;
        }
        let mut items = self.lock();
        let count = limit.min(items.line.len());
        let taken: Vec<Claimed> = items.line.drain(..count).collect();
        drop(items);
        let Origin { transport, spec, .. } = &self.origin;
        taken.iter().for_each(|item| transport.show(spec, &item.receipt));
        Ok(taken)
    }

    /// The first item, if so long ago that a process that slept since may have lost its lease: no
    /// more than half of one had passed when they were claimed.
    fn in_doubt(&self) -> Option<Receipt> {
        let items = self.lock();
        let doubtful = items.known.elapsed() > self.origin.spec.lease / 2;
        items.line.front().filter(|_| doubtful).map(|first| first.receipt.clone())
    }

    /// Asks the broker; what is somebody else's goes. Cancel-safe: the items stay here meanwhile.
    async fn make_sure(&self, first: &Receipt, wait: Wait) {
        let Origin { transport, spec, .. } = &self.origin;
        let asked = Instant::now();
        let answer = transport.extend(spec, first, spec.lease);
        let answer = match wait {
            Wait::Until(deadline) => timeout_at(deadline, answer).await.ok(),
            // Who does not want to wait gets them as they are.
            Wait::No => timeout(MOMENT, answer).await.ok(),
            Wait::Forever => Some(answer.await),
        };
        match answer {
            Some(Ok(())) => self.lock().known = asked,
            Some(Err(error)) if error.kind() == ErrorKind::LeaseLost => {
                let handed_out =
                    self.lock().line.front().is_none_or(|front| front.receipt != *first);
                if !handed_out {
                    tracing::warn!(queue = spec.name, "the lease of items fetched ahead was lost");
                    self.give_back();
                }
            }
            // Nobody can say more than that they were ours.
            Some(Err(_)) | None => {}
        }
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Items> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unshown for Prefetched {
    fn give_back(&self) {
        self.give_back();
    }
}

impl Drop for Prefetched {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl fmt::Debug for Prefetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.origin.spec.prefetch;
        f.debug_struct("Prefetched").field("size", &size).field("len", &self.len()).finish()
    }
}
