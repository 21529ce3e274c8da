//! Which connections an operation takes: one set for everything, or on a cluster one for each slot that
//! has queues in use, beside the one for events and calls.
//!
//! The one invariant: all that has to do with one queue goes to one [`Core`], that of its slot, which
//! knows nothing of the others. So nothing below this file knows that there are nodes. Sockets are not
//! as many as slots: those of one node share the connection for commands, and one on which nobody waits
//! is anybody's. Hints are listened to at the node of their queue: other nodes have them a moment later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Core;
use super::cluster::slot_of;
use super::link::Stage;
use super::purpose::Purpose;
use super::queue::key_in_slot;
use super::resp::Fault;
use crate::error::{ErrorKind, Result};

/// All connections of a transport.
pub(super) struct Cores {
    /// Where events and calls go; without a cluster, queues as well.
    home: Arc<Core>,
    of_slots: Mutex<HashMap<u16, Arc<Core>>>,
}

impl Cores {
    pub(super) fn new(home: Arc<Core>) -> Self {
        Self { home, of_slots: Mutex::default() }
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
            Some(_) => self.lock().get(&slot_of(&key_in_slot(queue))).cloned(),
        }
    }

    /// One for each node that takes writes: what is asked of all of them is asked there.
    pub(super) async fn of_each_node(&self, purpose: &Purpose<'_>) -> Result<Vec<Arc<Core>>> {
        let Some(nodes) = self.home.dialer.nodes() else {
            return Ok(vec![Arc::clone(&self.home)]);
        };
        let nodes = nodes.masters().await.map_err(|fault| match fault {
            Fault::Lost(why) => purpose.error(ErrorKind::Connection, why),
            Fault::Refused(refusal) => purpose.refused(&refusal),
        })?;
        nodes.iter().map(|(_, key)| self.at(purpose, key)).collect()
    }

    /// Those for the slot of a key.
    fn at(&self, purpose: &Purpose<'_>, key: &str) -> Result<Arc<Core>> {
        let slot = slot_of(key);
        let mut cores = self.lock();
        // Under the lock: whoever closes takes what is there, and nothing comes after.
        self.home.check(purpose)?;
        if let Some(core) = cores.get(&slot) {
            return Ok(Arc::clone(core));
        }
        let core = self.home.beside(key);
        cores.insert(slot, Arc::clone(&core));
        Ok(core)
    }

    /// All, that of events and calls last.
    pub(super) fn all(&self) -> Vec<Arc<Core>> {
        let mut all: Vec<_> = self.lock().values().cloned().collect();
        all.push(Arc::clone(&self.home));
        all
    }

    /// Whether the caller is the one who closes; nothing comes after.
    pub(super) fn begin_closing(&self) -> bool {
        let cores = self.lock();
        let first = self.home.begin_closing();
        for core in cores.values() {
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
    fn lock(&self) -> MutexGuard<'_, HashMap<u16, Arc<Core>>> {
        self.of_slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
