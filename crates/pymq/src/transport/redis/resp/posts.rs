//! Commands that were posted: written without anybody's waiting for the answer.
//!
//! The one invariant: what was begun is counted as lost unless the server took it, whatever becomes of
//! the connection, of the runtime and of whoever waits for room. Losses are told in the log, once a
//! second at most. What is written, and where, is not known here.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often losses are told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// All of a transport.
#[derive(Debug, Default)]
pub(crate) struct Posts {
    /// Begun, and neither taken nor lost yet.
    open: AtomicUsize,
    lost: AtomicU64,
    told: Mutex<Option<Instant>>,
}

impl Posts {
    /// How many were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Whether the server has still to take, or to refuse, any.
    pub(crate) fn are_under_way(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// One more, which is lost if it is dropped before it was answered.
    pub(crate) fn begin(self: &Arc<Self>) -> Posted {
        self.open.fetch_add(1, Ordering::AcqRel);
        Posted { posts: Arc::clone(self), known: false }
    }

    fn lose(&self, why: &str) {
        let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            *told = Some(Instant::now());
            drop(told);
            tracing::warn!(lost, why, "events were lost that nobody waited for");
        }
    }
}

/// A posted event on its way.
#[derive(Debug)]
pub(crate) struct Posted {
    posts: Arc<Posts>,
    /// Whether it is known what became of it.
    known: bool,
}

impl Posted {
    /// The server has it.
    pub(crate) fn taken(mut self) {
        self.known = true;
    }

    /// It does not get there.
    pub(crate) fn lost(mut self, why: &str) {
        self.known = true;
        self.posts.lose(why);
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if !self.known {
            self.posts.lose("the connection was lost before the server said that it has them");
        }
        self.posts.open.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_lost_whatever_becomes_of_it() {
        let posts = Arc::<Posts>::default();
        let (one, two, three) = (posts.begin(), posts.begin(), posts.begin());
        assert!(posts.are_under_way());
        one.taken();
        two.lost("refused");
        drop(three);
        assert_eq!((posts.lost(), posts.are_under_way()), (2, false));
    }
}
