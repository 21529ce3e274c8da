//! Which connections an operation takes: one set for everything, or on a cluster one for each slot that
//! has queues in use, beside the one for events and calls.
//!
//! The one invariant: all that has to do with one queue goes to one [`Core`], that of its slot, which
//! knows nothing of the others. So nothing below this file knows that there are nodes. Sockets are not
//! as many as slots: those of one node share the connection for commands, and one on which nobody waits
//! is anybody's. Hints are listened to at the node of their queue: other nodes have them a moment later.
//! A slot whose queues nobody uses any more is forgotten.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::Core;
use super::cluster::slot_of;
use super::core::Stage;
use super::poll::{Absent, Poll};
use super::purpose::Purpose;
use super::queue::key_in_slot;
use super::resp::Fault;
use crate::error::{ErrorKind, Result};

/// All connections of a transport.
pub(super) struct Cores {
    /// Where events and calls go; without a cluster, queues as well.
    home: Arc<Core>,
    of_slots: Mutex<Kept<Core>>,
    /// The nodes that did not answer what all of them were asked.
    absent: Absent,
}

/// For so long, and at most twice as long, a slot is remembered that nobody uses.
const KEPT: Duration = Duration::from_secs(60);

/// What is kept of slots while it is used.
struct Kept<T> {
    /// With whether it was used since it was looked at.
    of_slots: HashMap<u16, (Arc<T>, bool)>,
    looked: Instant,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self { of_slots: HashMap::new(), looked: Instant::now() }
    }
}

impl<T> Kept<T> {
    /// That of a slot, which is used now.
    fn used(&mut self, slot: u16) -> Option<Arc<T>> {
        let (one, used) = self.of_slots.get_mut(&slot)?;
        *used = true;
        Some(Arc::clone(one))
    }

    /// Takes out, from time to time, what was not used since the last time, and nobody has.
    fn take_idle(&mut self) -> Vec<Arc<T>> {
        if self.looked.elapsed() < KEPT {
            return Vec::new();
        }
        self.looked = Instant::now();
        let mut idle = Vec::new();
        self.of_slots.retain(|_, (one, used)| {
            let stays = std::mem::take(used) || Arc::strong_count(one) > 1;
            idle.extend((!stays).then(|| Arc::clone(one)));
            stays
        });
        idle
    }

    fn all(&self) -> impl Iterator<Item = &Arc<T>> {
        self.of_slots.values().map(|(one, _)| one)
    }
}

impl Cores {
    pub(super) fn new(home: Arc<Core>) -> Self {
        Self { home, of_slots: Mutex::default(), absent: Absent::default() }
    }

    /// Those of a queue.
    ///
    /// # Errors
    /// `Closed`.
    pub(super) fn of(&self, operation: &'static str, queue: &str) -> Result<Arc<Core>> {
        match self.home.dialer.nodes() {
            None => Ok(Arc::clone(&self.home)),
            Some(_) => self.at(&Purpose::change(operation, queue), &key_in_slot(queue)),
        }
    }

    /// Those of a queue that are there already, whatever their state.
    pub(super) fn holding(&self, queue: &str) -> Option<Arc<Core>> {
        match self.home.dialer.nodes() {
            None => Some(Arc::clone(&self.home)),
            Some(_) => self.lock().used(slot_of(&key_in_slot(queue))),
        }
    }

    /// Begins to ask every server: on a cluster each node that takes writes and can be reached.
    ///
    /// # Errors
    /// `Closed`, and where no node is known.
    pub(super) async fn poll(&self, operation: &'static str) -> Result<Poll<'_>> {
        let purpose = Purpose::idempotent(operation, "nodes");
        self.home.check(&purpose)?;
        let Some(nodes) = self.home.dialer.nodes() else {
            return Ok(Poll::of_one(Arc::clone(&self.home), &self.absent));
        };
        let fails = |fault| match fault {
            Fault::Lost(why) => purpose.error(ErrorKind::Connection, why),
            Fault::Refused(refusal) => purpose.refused(&refusal),
        };
        let places = nodes.masters().await.map_err(fails)?;
        let names: Vec<_> = places.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        self.absent.keep(&names);
        let opened = join_all(places.iter().map(|place| nodes.member(place))).await;
        let mut poll = Poll::of_several(&self.absent);
        for ((place, name), socket) in places.iter().zip(names).zip(opened) {
            let core = socket.map(|socket| self.home.of_node(place, socket));
            poll.add(name, core.map_err(fails));
        }
        Ok(poll)
    }

    /// The nodes that did not answer when all of them were asked last.
    pub(super) fn absent(&self) -> &Absent {
        &self.absent
    }

    /// Those for the slot of a key.
    fn at(&self, purpose: &Purpose<'_>, key: &str) -> Result<Arc<Core>> {
        let slot = slot_of(key);
        let mut kept = self.lock();
        // Under the lock: whoever closes takes what is there, and nothing comes after.
        self.home.check(purpose)?;
        let core = kept.used(slot).unwrap_or_else(|| {
            let core = self.home.beside(key);
            kept.of_slots.insert(slot, (Arc::clone(&core), true));
            core
        });
        let idle = kept.take_idle();
        drop(kept);
        // Nobody has them, so that their tasks end.
        drop(idle);
        Ok(core)
    }

    /// All, that of events and calls last.
    pub(super) fn all(&self) -> Vec<Arc<Core>> {
        let mut all: Vec<_> = self.lock().all().cloned().collect();
        all.push(Arc::clone(&self.home));
        all
    }

    /// Whether the caller is the one who closes; nothing comes after.
    pub(super) fn begin_closing(&self) -> bool {
        let cores = self.lock();
        let first = self.home.begin_closing();
        for core in cores.all() {
            core.begin_closing();
        }
        first
    }

    /// Returns when they are all closed.
    pub(super) async fn closed(&self) {
        let mut stage = self.home.stage.subscribe();
        // An error is impossible: we hold the sender.
        let _ = stage.wait_for(|stage| *stage == Stage::Closed).await;
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Kept<Core>> {
        self.of_slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_is_not_used_and_that_nobody_has_is_forgotten() {
        let mut kept = Kept::default();
        let held = Arc::new("held");
        kept.of_slots.insert(1, (Arc::clone(&held), true));
        kept.of_slots.insert(2, (Arc::new("idle"), true));
        kept.of_slots.insert(3, (Arc::new("used"), true));
        assert!(kept.take_idle().is_empty());
        tokio::time::advance(KEPT).await;
        assert!(kept.take_idle().is_empty());
        assert!(kept.used(3).is_some());
        tokio::time::advance(KEPT).await;
        assert_eq!(kept.take_idle(), [Arc::new("idle")]);
        assert!(kept.used(2).is_none());
        assert_eq!(kept.all().count(), 2);
    }
}
