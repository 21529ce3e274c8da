//! Commands that were posted: written without anybody's waiting for the answer.
//!
//! The one invariant: what was begun is counted as lost unless the server took it, whatever becomes of
//! the connection, of the runtime and of whoever waits for room. Losses are told in the log, once a
//! second at most and at the end: the last figure told is the whole one. What is written, and where, is
//! not known here.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until};

/// How often losses are told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// All of a transport.
#[derive(Debug)]
pub(crate) struct Posts {
    /// Begun, and neither taken nor lost yet.
    open: AtomicUsize,
    lost: AtomicU64,
    /// No more are begun.
    closed: AtomicBool,
    told: Mutex<Told>,
    runtime: Handle,
}

/// What the log has been told.
#[derive(Debug, Default)]
struct Told {
    lost: u64,
    at: Option<Instant>,
    /// Why the first of those was lost that are not told yet, if a task will tell them.
    due: Option<String>,
}

impl Posts {
    /// What is not told at once is told on that runtime.
    pub(crate) fn new(runtime: Handle) -> Self {
        Self {
            open: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            told: Mutex::default(),
            runtime,
        }
    }

    /// How many were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    /// Whether the server has still to take, or to refuse, any.
    pub(crate) fn are_under_way(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }

    /// One more, which is lost if it is dropped before it was answered.
    pub(crate) fn begin(self: &Arc<Self>) -> Posted {
        self.open.fetch_add(1, Ordering::SeqCst);
        Posted { posts: Arc::clone(self), known: false }
    }

    /// No more are begun: once it is known what became of the last, all is told.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.tell_if_over();
    }

    fn tell_if_over(&self) {
        if self.closed.load(Ordering::SeqCst) && !self.are_under_way() {
            self.tell(self.told(), "");
        }
    }

    fn lose(self: &Arc<Self>, why: &str) {
        self.lost.fetch_add(1, Ordering::AcqRel);
        let mut told = self.told();
        let again_at = told.at.map(|at| at + TELL_EVERY).filter(|at| *at > Instant::now());
        let Some(again_at) = again_at else {
            return self.tell(told, why);
        };
        if told.due.is_none() {
            told.due = Some(why.to_owned());
            drop(told);
            let posts = Arc::downgrade(self);
            self.runtime.spawn(async move {
                sleep_until(again_at).await;
                posts.upgrade().inspect(|posts| posts.tell(posts.told(), ""));
            });
        }
    }

    /// Tells how many were lost, if that is news; the reason of those that are due goes first.
    fn tell(&self, mut told: MutexGuard<'_, Told>, why: &str) {
        let due = told.due.take();
        let lost = self.lost();
        if lost > told.lost {
            (told.lost, told.at) = (lost, Some(Instant::now()));
            drop(told);
            let why = due.as_deref().unwrap_or(why);
            tracing::warn!(lost, why, "events were lost that nobody waited for");
        }
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the runtime ended first, nobody has told the rest.
impl Drop for Posts {
    fn drop(&mut self) {
        self.tell(self.told(), "");
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
        self.posts.open.fetch_sub(1, Ordering::SeqCst);
        self.posts.tell_if_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_taken_is_lost_whatever_becomes_of_it() {
        let posts = Arc::new(Posts::new(Handle::current()));
        let (one, two, three) = (posts.begin(), posts.begin(), posts.begin());
        assert!(posts.are_under_way());
        one.taken();
        two.lost("refused");
        drop(three);
        assert_eq!((posts.lost(), posts.are_under_way()), (2, false));
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_is_told_of_every_loss_in_the_end() {
        let posts = Arc::new(Posts::new(Handle::current()));
        for expected in [3, 6] {
            (0..3).for_each(|_| posts.begin().lost("there is no connection"));
            tokio::time::sleep(TELL_EVERY * 3).await;
            assert_eq!(posts.told().lost, expected);
        }
        let (one, two) = (posts.begin(), posts.begin());
        posts.close();
        one.lost("there is no connection");
        drop(two);
        assert_eq!(posts.told().lost, 8);
    }
}
