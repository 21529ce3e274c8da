//! All queues of a broker, under one lock, and what is left to do when it is free.
//!
//! The invariant: bells are rung, payloads dropped and dead letters told when the lock is free, since
//! these may run code of their owners'.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::ConnectionId;
use super::queue::Queue;
use crate::error::Result;
use crate::name::matches;
use crate::sync::{Mutex, PoisonError};
use crate::transport::Failure;
use crate::transport::dead_letter_log::DeadLetterLog;

/// How many queues there may be before the unused ones are looked for.
const CLEARING: usize = 64;

/// Wakes one who waits, or tells it that its turn will never come.
pub(super) type Bell = oneshot::Sender<Result<Signal>>;

/// What the bell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// What it waited for is there.
    Come,
    /// What it waits to put is there already.
    Already,
    /// It is first in line, and is to wake when the next item is due.
    KeepTime,
}

/// A place in a line; smaller is earlier.
pub(super) type Ticket = u64;

/// All queues of a broker.
#[derive(Default)]
pub(super) struct Store {
    state: Mutex<Shelves>,
    dead_letter_log: Arc<DeadLetterLog>,
}

impl Store {
    /// Does `work` under the lock, and afterwards what must not be done under it.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Shelves, &mut Aftermath) -> T) -> T {
        let mut after = Aftermath::default();
        // A panic cannot leave the state half-changed (no user code runs under the lock), so a
        // poisoned lock is as good as any.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state, &mut after);
        drop(state);
        for (bell, result) in after.bells {
            // Whoever gave up meanwhile has given its place back, with what was dealt to it.
            let _ = bell.send(result);
        }
        for Death { queue, deliveries, failure, dropped } in after.deaths {
            self.dead_letter_log.tell(&queue, deliveries, &failure, dropped);
        }
        result
    }

    /// How many queues a connection takes items from.
    pub(super) fn taken_from_by(&self, connection: ConnectionId) -> usize {
        self.with(|state, _| {
            state.queues.values().filter(|queue| queue.is_taken_from_by(connection)).count()
        })
    }

    /// The queues that are in use and that a pattern matches.
    pub(super) fn names(&self, pattern: &str) -> Vec<String> {
        self.with(|state, _| {
            let queues = state.queues.iter_mut();
            let used = queues.filter_map(|(name, queue)| (!queue.is_unused()).then_some(name));
            let names = used.map(|name| String::from(&**name));
            names.filter(|name| matches(pattern.as_bytes(), name.as_bytes())).collect()
        })
    }

    /// Ends what a connection waits for, and gives back what it holds.
    pub(super) fn leave(&self, connection: ConnectionId) {
        self.with(|state, after| {
            for queue in state.queues.values_mut() {
                queue.leave(connection, after);
            }
        });
    }
}

/// What is left to do when the lock is free.
#[derive(Default)]
pub(super) struct Aftermath {
    pub(super) bells: Vec<(Bell, Result<Signal>)>,
    pub(super) discarded: Vec<Bytes>,
    pub(super) deaths: Vec<Death>,
}

/// An item that became a dead letter.
pub(super) struct Death {
    pub(super) queue: Arc<str>,
    pub(super) deliveries: u32,
    pub(super) failure: Failure,
    /// How many older ones made room for it.
    pub(super) dropped: usize,
}

#[derive(Default)]
pub(super) struct Shelves {
    queues: HashMap<Box<str>, Queue>,
    clear_at: usize,
}

impl Shelves {
    pub(super) fn existing(&mut self, name: &str) -> Option<&mut Queue> {
        self.queues.get_mut(name)
    }

    pub(super) fn queue(&mut self, name: &str) -> &mut Queue {
        if !self.queues.contains_key(name) {
            if self.queues.len() >= self.clear_at.max(CLEARING) {
                self.queues.retain(|_, queue| !queue.is_unused());
                self.clear_at = self.queues.len() * 2;
            }
            self.queues.insert(name.into(), Queue::new(name));
        }
        self.queues.get_mut(name).expect("the queue was made above")
    }
}

/// A number that is larger than every earlier one of this process, so that an old receipt cannot
/// settle a new lease.
pub(super) fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Takes those out that `which` tells, the newest first.
pub(super) fn take_of<T>(all: &mut BTreeMap<u64, T>, which: impl Fn(&T) -> bool) -> Vec<T> {
    let keys: Vec<u64> =
        all.iter().rev().filter(|(_, value)| which(value)).map(|(key, _)| *key).collect();
    keys.iter().filter_map(|key| all.remove(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{PutOptions, QueueSpec};

    #[test]
    fn unused_queues_are_forgotten_and_used_ones_are_not() {
        let mut state = Shelves::default();
        let mut after = Aftermath::default();
        state.queue("shut").shut_down(&mut after);
        for number in 0..10_000 {
            state.queue(&number.to_string());
        }
        assert!(state.queues.len() <= CLEARING);
        assert!(
            state
                .queue("shut")
                .push(&QueueSpec::new("shut"), Vec::new(), PutOptions::new(), &mut after)
                .is_err()
        );
    }
}
