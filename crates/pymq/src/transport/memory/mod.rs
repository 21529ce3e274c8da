//! The memory transport: a broker inside this process, for tests, examples and single programs.
//!
//! Its invariant: nothing is known here that could not cross a wire, payloads are bytes and a
//! connection reaches another one through the broker only, so that a green test in memory means
//! something elsewhere. It survives nothing and reaches no other process.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{
    Answer, Capabilities, Health, Inspect, Limit, Settings, State, StateSetter, States, Transport,
    answer, states,
};
use crate::error::{Error, Result};
use crate::name::shortened;

mod events;
mod dead_letters;
mod inboxes;
mod inspect;
mod leases;
mod unleased;
mod queues;
mod put_ids;
mod queue;
mod store;
mod waiters;

/// The brokers that have a name, for as long as anybody is connected to them.
///
/// By process: a forked child would find its parent's, with locks that nobody will open again.
static NAMED: Mutex<Option<Named>> = Mutex::new(None);

/// Brokers by process and name.
type Named = HashMap<(u32, String), Weak<Broker>>;

/// One connection to a broker of this process.
///
/// Its operations are done when they return, without waiting, except those that wait for an item
/// or for space. Dropping it closes it.
pub struct Memory {
    broker: Arc<Broker>,
    id: ConnectionId,
    mailbox: Limit,
    closed: AtomicBool,
    state: StateSetter,
}

/// Names a connection to its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct ConnectionId(u64);

#[derive(Default)]
struct Broker {
    connections: AtomicU64,
    events: events::Subscribers,
    inboxes: inboxes::Addresses,
    queues: store::Store,
}

impl Memory {
    /// Connects to a broker of this process: `memory://` is a new one, nobody else's;
    /// `memory://NAME` is shared by all connections of that name and ends with the last of them.
    ///
    /// # Errors
    /// `Config` for another scheme, and for a path or options, which mean nothing here.
    pub fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, Settings::default())
    }

    /// Connects as [`connect`](Self::connect) does, with more to say: how much a mailbox holds.
    ///
    /// # Errors
    /// `Unsupported` for any other setting, and as of [`connect`](Self::connect).
    pub fn connect_with(url: &str, mut settings: Settings) -> Result<Self> {
        let mailbox = settings.mailbox.take().unwrap_or_default();
        // There is nothing to wait for.
        settings.connect_wait = None;
        settings.refuse_rest("memory://")?;
        let name = url.strip_prefix("memory://").ok_or_else(|| {
            // Not quoted: it may be another broker's, with a password.
            Error::config("address", "not a memory address; use memory:// or memory://NAME")
        })?;
        if name.contains(['/', '?', '#']) {
            let why = "a memory address is memory:// or memory://NAME, without path and options";
            return Err(Error::config("memory://", why));
        }
        let broker = if name.is_empty() { Arc::default() } else { named(name) };
        let id = ConnectionId(broker.connections.fetch_add(1, Ordering::Relaxed));
        let (state, _) = states(State::connected());
        Ok(Self { broker, id, mailbox, closed: AtomicBool::new(false), state })
    }

    /// Fails once this connection is closed. [`end`](Self::end) sets the flag before it takes any
    /// of the broker's locks: what is begun under a lock after this check, it finds and ends.
    fn check_open(&self, operation: &'static str, object: &str) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed(operation, shortened(object)));
        }
        Ok(())
    }

    fn end(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.broker.events.leave(self.id);
            self.broker.inboxes.leave(self.id);
            self.broker.queues.leave(self.id);
            self.state.set(State::Closed);
        }
    }
}

fn named(name: &str) -> Arc<Broker> {
    let mut named = NAMED.lock().unwrap_or_else(PoisonError::into_inner);
    let named = named.get_or_insert_default();
    let key = (std::process::id(), name.to_owned());
    if let Some(broker) = named.get(&key).and_then(Weak::upgrade) {
        return broker;
    }
    named.retain(|_, broker| broker.strong_count() > 0);
    let broker = Arc::default();
    named.insert(key, Arc::downgrade(&broker));
    broker
}

impl Transport for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            receiver_count: true,
            put_options: true,
            letters: true,
            ..Capabilities::NONE
        }
    }

    fn states(&self) -> States {
        self.state.subscribe()
    }

    fn health(&self) -> Health {
        let (unread, lost) = self.broker.events.of(self.id);
        let mut health = Health::new(self.state.now());
        (health.unread_events, health.lost_events) = (unread, lost);
        health.consumers = self.broker.queues.taken_from_by(self.id);
        health
    }

    fn ping(&self) -> Answer<'_, ()> {
        answer(self.check_open("ping", "memory://"))
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    fn close(&self) -> Answer<'_, ()> {
        self.end();
        answer(Ok(()))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("id", &self.id).field("closed", &self.closed).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn same(one: &Memory, other: &Memory) -> bool {
        Arc::ptr_eq(&one.broker, &other.broker)
    }

    #[test]
    fn a_name_is_shared_and_no_name_is_private() {
        let connect = |url| Memory::connect(url).expect("a memory address");
        assert!(same(&connect("memory://a shared name"), &connect("memory://a shared name")));
        assert!(!same(&connect("memory://one"), &connect("memory://other")));
        assert!(!same(&connect("memory://"), &connect("memory://")));
    }

    #[test]
    fn a_broker_ends_with_its_last_connection() {
        let first = Memory::connect("memory://ends").expect("a memory address");
        let broker = Arc::downgrade(&first.broker);
        let second = Memory::connect("memory://ends").expect("a memory address");
        drop(first);
        assert!(broker.upgrade().is_some());
        drop(second);
        assert!(broker.upgrade().is_none());
    }

    #[test]
    fn what_means_nothing_in_an_address_is_refused() {
        for url in ["redis://host", "memory:", "memory://a/b", "memory://a?b=c", "memory://#"] {
            let error = Memory::connect(url).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        }
    }
}
