//! The consumers of a connection.
//!
//! The one invariant: there is one for each queue, lease and policy that is in use, an item is settled by
//! the one that took it, and none begins once its bus closes.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::super::Core;
use super::super::cluster::Place as Node;
use super::super::purpose::Purpose;
use super::super::resp::Command;
use super::claimer;
use super::consumer::Consumer;
use super::keys::{HeldList, Keys};
use super::last_words::Parcel;
use crate::error::{Error, Result};
use crate::transport::dead_letter_log::DeadLetterLog;
use crate::transport::{QueueSpec, Receipt};

/// The consumers of this process: one for each queue, lease and policy that is in use.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    running: Mutex<HashMap<String, Vec<Arc<Consumer>>>>,
    /// Settlements in the hands of tasks that send them.
    parcels: Mutex<Vec<Weak<Parcel>>>,
    shared: Arc<Shared>,
}

/// What all consumers of a bus share, whatever connections they are on.
#[derive(Debug, Default)]
struct Shared {
    /// The number of the next epoch: no two of a bus have the same name.
    sequence: Arc<AtomicU32>,
    /// The servers whose policy of eviction was looked at: of a cluster the nodes, else the only one.
    looked_at: Mutex<BTreeSet<Option<Node>>>,
    dead_letter_log: Arc<DeadLetterLog>,
}

impl Roster {
    /// Those of other connections of the same bus.
    pub(crate) fn beside(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), ..Self::default() }
    }

    pub(super) fn of(&self, queue: &str) -> Vec<Arc<Consumer>> {
        self.lock().get(queue).cloned().unwrap_or_default()
    }

    pub(super) fn forget(&self, consumer: &Arc<Consumer>) {
        let mut running = self.lock();
        let list = &consumer.keys().name;
        if let Some(consumers) = running.get_mut(list) {
            consumers.retain(|other| !Arc::ptr_eq(other, consumer));
            if consumers.is_empty() {
                running.remove(list);
            }
        }
    }

    /// Ends all of them; returns when what they held is given back, or cannot be.
    pub(crate) async fn finish(&self) {
        let running = self.all();
        for consumer in &running {
            consumer.close();
        }
        for consumer in running {
            consumer.finished().await;
        }
    }

    /// Fails all who wait, where there is no runtime any more whose tasks could serve them.
    pub(crate) fn abandon(&self) {
        for consumer in self.lock().values().flatten() {
            let queue = &consumer.keys().name;
            consumer.fail_all(|| Error::closed("claim", &**queue));
            for settling in consumer.end() {
                settling.answer(queue, Err(Error::closed("settle", &**queue)));
            }
        }
    }

    /// The number of queues that items are taken from, and the time since the oldest renewal of a lease.
    pub(crate) fn load(&self) -> (usize, Option<Duration>) {
        let running = self.lock();
        let open = |consumers: &&Vec<Arc<Consumer>>| consumers.iter().any(|one| one.is_open());
        let taken_from = running.values().filter(open).count();
        let oldest = running.values().flatten().filter_map(|one| one.oldest_heartbeat()).min();
        (taken_from, oldest.map(|at| at.elapsed()))
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Consumer>> {
        self.lock().values().flatten().cloned().collect()
    }

    /// The log of dead letters.
    pub(super) fn dead_letter_log(&self) -> &Arc<DeadLetterLog> {
        &self.shared.dead_letter_log
    }

    /// The settlements that tasks are to send.
    pub(super) fn parcels(&self) -> MutexGuard<'_, Vec<Weak<Parcel>>> {
        self.parcels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Consumer>>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Whether nobody has looked at that server yet.
    fn is_new(&self, server: Option<Node>) -> bool {
        self.looked_at.lock().unwrap_or_else(PoisonError::into_inner).insert(server)
    }
}

/// The running consumer for handles with these options, started if there is none.
///
/// # Errors
/// `Closed`.
pub(super) fn consumer(
    core: &Arc<Core>,
    spec: &QueueSpec,
    purpose: &Purpose<'_>,
) -> Result<Arc<Consumer>> {
    let mut running = core.consumers.lock();
    // Under the lock: whoever closes ends those that are there, and none comes after. It would go on
    // handing out items while the connections end, which nobody could confirm or give back.
    core.check(purpose)?;
    let consumers = running.entry(spec.name.clone()).or_default();
    let fits = |consumer: &&Arc<Consumer>| consumer.is_open() && consumer.serves(spec);
    if let Some(consumer) = consumers.iter().find(fits) {
        return Ok(Arc::clone(consumer));
    }
    let keys = Keys::new(core, spec);
    let shared = &core.consumers.shared;
    let (sequence, dead_letter_log) =
        (Arc::clone(&shared.sequence), Arc::clone(&shared.dead_letter_log));
    let consumer = Arc::new(Consumer::new(keys, sequence, dead_letter_log, spec));
    consumers.push(Arc::clone(&consumer));
    drop(running);
    core.runtime.spawn(claimer::run(Arc::clone(core), Arc::clone(&consumer)));
    if shared.is_new(core.dialer.node()) {
        core.runtime.spawn(tell_policy(Arc::clone(core)));
    }
    Ok(consumer)
}

/// The consumer that holds the item of a receipt; if it has ended, one that can settle it.
///
/// # Errors
/// `Closed` if it has ended with its bus.
pub(super) fn holder(
    core: &Arc<Core>,
    spec: &QueueSpec,
    receipt: &Receipt,
    purpose: &Purpose<'_>,
) -> Result<Arc<Consumer>> {
    running_holder(core, spec, receipt).map_or_else(|| consumer(core, spec, purpose), Ok)
}

/// The consumer that holds the item of a receipt, if it has not ended.
pub(super) fn running_holder(
    core: &Core,
    spec: &QueueSpec,
    receipt: &Receipt,
) -> Option<Arc<Consumer>> {
    let HeldList { epoch, .. } = HeldList::of(receipt);
    let running = core.consumers.lock();
    let found = match running.get(&spec.name)?.as_slice() {
        [only] if only.is_open() => Some(only),
        several => several.iter().find(|consumer| consumer.owns(epoch)),
    };
    found.cloned()
}

/// Looks once how the server makes room when its memory is full, and says what that does to queues.
async fn tell_policy(core: Arc<Core>) {
    let purpose = Purpose::idempotent("look at", "maxmemory-policy");
    let command = Command::new("INFO").arg("memory");
    // Forbidden, it stays unknown: this is a courtesy.
    let Ok(reply) = core.commands.run(purpose, &command).await else { return };
    let text = reply.bytes().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let policy = text.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    let policy = policy.unwrap_or_default().trim();
    if policy.starts_with("allkeys") {
        tracing::warn!(
            policy,
            "a full server may delete whole queues; set maxmemory-policy to noeviction"
        );
    } else if policy.starts_with("volatile") {
        tracing::warn!(
            policy,
            "a full server may delete replies that wait for their callers and the ids of puts, no \
             queues and no leases; maxmemory-policy noeviction deletes nothing"
        );
    }
}
