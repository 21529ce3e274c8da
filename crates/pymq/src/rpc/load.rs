//! How much a provider holds in memory for its callers: requests that wait to run, and replies that wait
//! to be sent.
//!
//! The one invariant: a message counts from the moment it is taken in until its share is dropped, so a
//! provider takes in no more than it gets rid of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::transport::Limit;

/// What a provider holds in memory for its callers.
#[derive(Debug, Default)]
pub(super) struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    /// Room for one more message, unless `limit` is reached.
    pub(super) fn within(self: &Arc<Self>, limit: Limit, bytes: usize) -> Option<Share> {
        let share = self.over(bytes);
        let fits = self.messages.load(Ordering::Relaxed) <= limit.messages
            && self.bytes.load(Ordering::Relaxed) <= limit.bytes;
        fits.then_some(share)
    }

    /// Room for one more message, whatever is there already.
    pub(super) fn over(self: &Arc<Self>, bytes: usize) -> Share {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Share { load: Arc::clone(self), bytes }
    }
}

/// A message's share of the load, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    load: Arc<Load>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.load.messages.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
