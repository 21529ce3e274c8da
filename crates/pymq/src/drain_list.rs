//! What takes in from outside until the bus drains: subscriptions, exposed functions, workers, claims.
//!
//! The one invariant: what is registered here is stopped once, by its holder, by the drain or by
//! being dropped, and nothing is registered once the drain has begun. How each is stopped is its
//! own business.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_core::future::BoxFuture;
use futures_util::future::{FutureExt as _, Shared, WeakShared, join_all};
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};

/// How one of them is stopped; dropped uncalled, it stops without anybody waiting.
pub(crate) type Stop = Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send>;

/// What holds items that nobody was shown, and gives them back when the bus ends. It does not wait.
pub(crate) trait Unshown: Send + Sync {
    fn give_back(&self);
}

/// All that the drain of a bus stops.
#[derive(Default)]
pub(crate) struct DrainList {
    state: Mutex<Entries>,
    /// For those who wait; `Draining` when all who take in have been told to stop.
    phase: watch::Sender<Phase>,
}

#[derive(Default)]
struct Entries {
    open: BTreeMap<u64, Stop>,
    next: u64,
    draining: bool,
    /// The drain under way, for whoever drains meanwhile; it goes with the last who waits for it.
    stopping: Option<WeakShared<BoxFuture<'static, ()>>>,
    unshown: Vec<Weak<dyn Unshown>>,
    /// At how many of them the gone ones are looked for.
    clear_at: usize,
}

/// How far a bus is on its way to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    #[default]
    Open,
    Draining,
    Closed,
}

impl DrainList {
    /// Registers one.
    ///
    /// # Errors
    /// `Closed` when the bus drains; then `stop` is dropped.
    pub(crate) fn open(
        self: &Arc<Self>,
        operation: &'static str,
        object: &str,
        stop: Stop,
    ) -> Result<DrainEntry> {
        let mut state = self.lock();
        if state.draining {
            // Not under the lock: what `stop` owns runs code when it is dropped.
            drop(state);
            drop(stop);
            return Err(draining(operation, object));
        }
        let id = state.next;
        state.next += 1;
        state.open.insert(id, stop);
        drop(state);
        Ok(DrainEntry { id, drain_list: Arc::clone(self) })
    }

    /// Registers what gives its items back when the bus drains or closes.
    pub(crate) fn note_unshown(&self, unshown: Weak<dyn Unshown>) {
        let mut state = self.lock();
        if state.unshown.len() >= state.clear_at {
            state.unshown.retain(|unshown| unshown.strong_count() > 0);
            state.clear_at = (state.unshown.len() * 2).max(8);
        }
        state.unshown.push(unshown);
    }

    /// A regular end: what nobody was shown goes back uncounted, before the rest does.
    fn give_back_unshown(&self) {
        let unshown = self.lock().unshown.clone();
        for unshown in unshown.iter().filter_map(Weak::upgrade) {
            unshown.give_back();
        }
    }

    /// Stops all of them at once, and waits until they have, even if another drain began it.
    pub(crate) async fn drain(&self) {
        self.stopping().await;
        self.give_back_unshown();
    }

    fn stopping(&self) -> Shared<BoxFuture<'static, ()>> {
        let mut state = self.lock();
        if let Some(stopping) = state.stopping.as_ref().and_then(WeakShared::upgrade) {
            return stopping;
        }
        state.draining = true;
        let stopping = stop_all(std::mem::take(&mut state.open), self.phase.clone());
        let stopping = stopping.boxed().shared();
        state.stopping = stopping.downgrade();
        stopping
    }

    /// Notes that the bus closes.
    pub(crate) fn close(&self) {
        self.phase.send_replace(Phase::Closed);
        self.give_back_unshown();
    }

    /// Whether something may be taken in.
    ///
    /// # Errors
    /// `Closed` when the bus drains or was closed.
    pub(crate) fn check(&self, operation: &'static str, object: &str) -> Result<()> {
        match *self.phase.borrow() {
            Phase::Open => Ok(()),
            Phase::Draining => Err(draining(operation, object)),
            Phase::Closed => Err(Error::closed(operation, object)),
        }
    }

    /// Takes something in, unless the bus drains or begins to.
    ///
    /// # Errors
    /// `Closed` then; and those of `work`, which must be cancel-safe.
    pub(crate) async fn unless_draining<T>(
        &self,
        operation: &'static str,
        object: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.check(operation, object)?;
        tokio::select! {
            // What is there at once costs no subscription to the end.
            biased;
            result = work => result,
            () = self.begin_of_drain() => Err(draining(operation, object)),
        }
    }

    async fn begin_of_drain(&self) {
        let mut phase = self.phase.subscribe();
        // An error is impossible: we hold the sender. The transport itself ends who misses it
        // because the bus is closed by then.
        let _ = phase.wait_for(|phase| *phase == Phase::Draining).await;
    }

    fn take(&self, id: u64) -> Option<Stop> {
        self.lock().open.remove(&id)
    }

    /// Nothing of anybody else's runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for DrainList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainList").field("open", &self.lock().open.len()).finish()
    }
}

async fn stop_all(open: BTreeMap<u64, Stop>, phase: watch::Sender<Phase>) {
    let stopping: Vec<_> = open.into_values().map(|stop| stop()).collect();
    phase.send_modify(|phase| *phase = (*phase).max(Phase::Draining));
    for stopped in join_all(stopping).await {
        if let Err(error) = stopped {
            tracing::debug!(%error, "the broker was not told of an end");
        }
    }
}

fn draining(operation: &'static str, object: &str) -> Error {
    let why = "the bus is draining and takes nothing new; connect a new one";
    Error::new(ErrorKind::Closed, operation, object, why)
}

/// One that the drain stops; dropping it stops it, too, on any thread.
#[derive(Debug)]
pub(crate) struct DrainEntry {
    id: u64,
    drain_list: Arc<DrainList>,
}

impl DrainEntry {
    /// Stops it and waits until it has, unless a drain does already.
    ///
    /// # Errors
    /// When the broker could not be told; it is stopped all the same.
    pub(crate) async fn stop(&self) -> Result<()> {
        let stop = self.drain_list.take(self.id);
        match stop {
            Some(stop) => stop().await,
            None => Ok(()),
        }
    }
}

impl Drop for DrainEntry {
    fn drop(&mut self) {
        let stop = self.drain_list.take(self.id);
        drop(stop);
    }
}
