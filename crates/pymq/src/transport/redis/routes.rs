//! The routing table: who subscribes to which name, here.
//!
//! The one invariant: a message is sent to mailboxes outside the table's lock, so that a reader that
//! wakes up cannot stand in the way of the next message. What the server has subscribed is not
//! known here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::resp::Push;
use crate::transport::{Message, Sender};

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Topic(Arc<str>),
    Pattern(Arc<str>),
}

/// Where messages go.
#[derive(Clone)]
pub(super) enum Target {
    /// A subscription.
    Events(Sender<Message>),
    /// An inbox; what was kept for it is read when the server listens again.
    Inbox(Sender<Bytes>),
    /// Somebody to wake, whatever the message says.
    Hint(Arc<Notify>),
}

impl Target {
    fn send(&self, topic: &Arc<str>, payload: Bytes, pattern: Option<&Arc<str>>) {
        match self {
            Self::Events(mailbox) => {
                let (topic, pattern) = (Arc::clone(topic), pattern.cloned());
                mailbox.send(Message { topic, payload, pattern });
            }
            Self::Inbox(mailbox) => mailbox.send(payload),
            Self::Hint(notify) => notify.notify_one(),
        }
    }

    pub(super) fn gap(&self) {
        match self {
            Self::Events(mailbox) => mailbox.gap(),
            Self::Inbox(mailbox) => mailbox.gap(),
            Self::Hint(notify) => notify.notify_one(),
        }
    }

    pub(super) fn refused(&self, why: &str) {
        match self {
            Self::Events(mailbox) => mailbox.refused(why),
            Self::Inbox(mailbox) => mailbox.refused(why),
            Self::Hint(notify) => notify.notify_one(),
        }
    }

    pub(super) fn close(&self) {
        match self {
            Self::Events(mailbox) => mailbox.close(),
            Self::Inbox(mailbox) => mailbox.close(),
            Self::Hint(notify) => notify.notify_one(),
        }
    }
}

/// One subscriber of a name.
pub(super) struct Route {
    pub(super) id: u64,
    pub(super) target: Target,
    /// Whether it was ever confirmed: only who subscribed can have missed something.
    pub(super) live: bool,
}

/// A name's subscribers.
pub(super) struct Entry {
    pub(super) routes: Vec<Route>,
    /// What the socket's task sends to; replaced, not changed, while it may be sending.
    targets: Arc<Vec<Target>>,
    /// The last topic that a pattern caught, to be used again.
    topic: Option<Arc<str>>,
    /// Whether the server would not have it back after a reconnect.
    refused: bool,
}

impl Entry {
    fn refresh(&mut self) {
        self.targets = Arc::new(self.routes.iter().map(|route| route.target.clone()).collect());
    }
}

/// All names.
#[derive(Default)]
pub(super) struct Table {
    pub(super) topics: HashMap<Arc<str>, Entry>,
    pub(super) patterns: HashMap<Arc<str>, Entry>,
    /// The topic of the last message with its subscribers: a flood is on one, and so are calls.
    recent: Option<Found>,
}

/// A topic, and what is to be sent to.
type Found = (Arc<str>, Arc<Vec<Target>>);

impl Table {
    /// The subscribers of a topic.
    fn find(&mut self, topic: &[u8]) -> Option<Found> {
        if self.recent.as_ref().is_none_or(|(recent, _)| recent.as_bytes() != topic) {
            // A name that is not UTF-8 cannot have been subscribed to.
            let (topic, entry) = self.topics.get_key_value(std::str::from_utf8(topic).ok()?)?;
            self.recent = Some((Arc::clone(topic), Arc::clone(&entry.targets)));
        }
        self.recent.clone()
    }

    fn entries(&mut self, name: &Name) -> (&mut HashMap<Arc<str>, Entry>, Arc<str>) {
        match name {
            Name::Topic(topic) => (&mut self.topics, Arc::clone(topic)),
            Name::Pattern(pattern) => (&mut self.patterns, Arc::clone(pattern)),
        }
    }

    /// Adds a route; says whether the server has still to be asked for the name.
    pub(super) fn add(&mut self, name: &Name, id: u64, target: &Target) -> bool {
        self.recent = None;
        let (entries, key) = self.entries(name);
        let mut new = false;
        let entry = entries.entry(key).or_insert_with(|| {
            new = true;
            let targets = Arc::default();
            Entry { routes: Vec::new(), targets, topic: None, refused: false }
        });
        if entry.routes.iter().all(|route| route.id != id) {
            entry.routes.push(Route { id, target: target.clone(), live: false });
            Arc::make_mut(&mut entry.targets).push(target.clone());
        }
        new || entry.refused
    }

    /// Notes whether the server refuses a name.
    pub(super) fn set_refused(&mut self, name: &Name, refused: bool) {
        let (entries, key) = self.entries(name);
        if let Some(entry) = entries.get_mut(&key) {
            entry.refused = refused;
        }
    }

    /// Whether nobody but this route subscribes to a name.
    pub(super) fn is_only(&mut self, name: &Name, id: u64) -> bool {
        let (entries, key) = self.entries(name);
        entries.get(&key).is_some_and(|entry| matches!(&*entry.routes, [only] if only.id == id))
    }

    /// Removes a route, and the name if it is of no use any more.
    pub(super) fn remove(&mut self, name: &Name, id: u64) {
        self.recent = None;
        let (entries, key) = self.entries(name);
        let Some(entry) = entries.get_mut(&key) else { return };
        entry.routes.retain(|route| route.id != id);
        entry.refresh();
        if entry.routes.is_empty() {
            entries.remove(&key);
        }
    }

    pub(super) fn set_live(&mut self, names: &[Name], id: u64) {
        for name in names {
            let (entries, key) = self.entries(name);
            let routes = entries.get_mut(&key).map(|entry| &mut entry.routes);
            for route in routes.into_iter().flatten().filter(|route| route.id == id) {
                route.live = true;
            }
        }
    }

    /// Whether nobody subscribes to anything.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.patterns.is_empty()
    }

    /// What each subscribed to, in the order in which they came.
    pub(super) fn groups(&self) -> Vec<(u64, Vec<Name>)> {
        let topics = self.topics.iter().map(|(topic, entry)| (Name::Topic(topic.clone()), entry));
        let globs = self.patterns.iter().map(|(glob, entry)| (Name::Pattern(glob.clone()), entry));
        let mut groups: BTreeMap<u64, Vec<Name>> = BTreeMap::new();
        for (name, entry) in topics.chain(globs) {
            for route in &entry.routes {
                groups.entry(route.id).or_default().push(name.clone());
            }
        }
        groups.into_iter().collect()
    }

    pub(super) fn routes(&mut self) -> impl Iterator<Item = &mut Route> {
        let entries = self.topics.values_mut().chain(self.patterns.values_mut());
        entries.flat_map(|entry| &mut entry.routes)
    }
}

/// A panic cannot leave the table half-changed, so a poisoned lock is as good as any.
pub(super) fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Routes one push; runs in the socket's task.
pub(super) fn deliver(table: &Mutex<Table>, push: Push) {
    match push {
        Push::Message { topic, payload } => {
            let found = lock(table).find(&topic);
            if let Some((topic, targets)) = found {
                send(&targets, &topic, payload, None);
            }
        }
        Push::PatternMessage { pattern, topic, payload } => {
            let Ok(pattern) = std::str::from_utf8(&pattern) else { return };
            let topic = String::from_utf8_lossy(&topic);
            let found = {
                let mut table = lock(table);
                let key = table.patterns.get_key_value(pattern).map(|(key, _)| Arc::clone(key));
                key.zip(table.patterns.get_mut(pattern)).map(|(pattern, entry)| {
                    let known = entry.topic.take().filter(|known| **known == *topic);
                    let topic = known.unwrap_or_else(|| Arc::from(&*topic));
                    entry.topic = Some(Arc::clone(&topic));
                    (pattern, topic, Arc::clone(&entry.targets))
                })
            };
            if let Some((pattern, topic, targets)) = found {
                send(&targets, &topic, payload, Some(&pattern));
            }
        }
        Push::Confirmed | Push::Left | Push::Other => {}
    }
}

fn send(targets: &[Target], topic: &Arc<str>, payload: Bytes, pattern: Option<&Arc<str>>) {
    let Some((last, others)) = targets.split_last() else { return };
    for target in others {
        target.send(topic, payload.clone(), pattern);
    }
    // Nearly always it is the only one, and what nobody shares needs no count of its holders.
    last.send(topic, payload, pattern);
}
