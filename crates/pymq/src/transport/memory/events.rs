//! Who has subscribed to what, and the way of each topic to its subscribers' mailboxes.
//!
//! The way of a topic is worked out once and holds until a subscription begins or ends, so that a
//! publish is one look-up and one push per subscriber, however many topics and patterns there are.
//! Nothing is pushed, and nobody woken, while the lock is held.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::{Broker, ConnectionId, Memory};
use crate::error::Result;
use crate::name::{literal_prefix, matches};
use crate::transport::{
    Answer, Ends, Events, Filter, Guard, Message, Sender, Subscription, answer, mailbox, posted,
};

/// How many ways are kept; when there are more, all are forgotten and found again.
const KEPT_ROUTES: usize = 32_768;
/// The longest name whose way is kept, in bytes: with the bound above, 32 MiB of names.
const KEPT_NAME: usize = 1024;

impl Events for Memory {
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>> {
        answer(
            self.check_open("publish", topic)
                .map(|()| Some(self.broker.events.route(topic).deliver(payload))),
        )
    }

    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        posted(self.publish(topic, payload))
    }

    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription> {
        answer(self.subscribe_now(filters))
    }

    fn count<'a>(&'a self, topics: &'a [String]) -> Answer<'a, Vec<usize>> {
        answer(
            self.check_open("count", first(topics))
                .map(|()| self.broker.events.read().count(topics)),
        )
    }

    fn publish_counted<'a>(
        &'a self,
        topics: &'a [String],
        payload: Bytes,
    ) -> Answer<'a, Vec<usize>> {
        answer(self.check_open("publish", first(topics)).map(|()| {
            let mut state = self.broker.events.write();
            let counts = state.count(topics);
            let route = topics.first().map(|topic| state.route(topic));
            drop(state);
            if let Some(route) = route {
                route.deliver(payload);
            }
            counts
        }))
    }

    /// All are in one process, and end together unless they say so.
    fn ends<'a>(&'a self, topic: &'a str) -> Answer<'a, Option<Ends>> {
        answer(self.check_open("watch", topic).map(|()| None))
    }
}

fn first(topics: &[String]) -> &str {
    topics.first().map_or("", String::as_str)
}

impl Memory {
    fn subscribe_now(&self, filters: &[Filter]) -> Result<Subscription> {
        let (sender, messages) = mailbox(self.mailbox);
        let mut state = self.broker.events.write();
        self.check_open("subscribe", filters.first().map_or("", Filter::name))?;
        let key = state.subscribe(self.id, filters, sender);
        drop(state);
        let guard = Subscribed { broker: Arc::downgrade(&self.broker), key };
        Ok(Subscription::new(messages, Box::new(guard)))
    }
}

impl Filter {
    fn name(&self) -> &str {
        match self {
            Self::Topic(name) | Self::Pattern(name) => name,
        }
    }
}

/// Ends a subscription when it is dropped.
struct Subscribed {
    broker: Weak<Broker>,
    key: Key,
}

impl Guard for Subscribed {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        drop(self);
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Drop for Subscribed {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.upgrade() {
            broker.events.write().unsubscribe(self.key);
        }
    }
}

/// All subscriptions of a broker.
#[derive(Default)]
pub(super) struct Subscribers(RwLock<Subscriptions>);

impl Subscribers {
    /// Ends all subscriptions of a connection; their readers still get what is in their mailboxes.
    pub(super) fn leave(&self, connection: ConnectionId) {
        let mut state = self.write();
        let keys: Vec<Key> = state
            .subscriptions
            .range((connection, 0)..=(connection, u64::MAX))
            .map(|(key, _)| *key)
            .collect();
        let ended: Vec<_> = keys.into_iter().filter_map(|key| state.unsubscribe(key)).collect();
        drop(state);
        ended.iter().for_each(Sender::close);
    }

    /// How many messages a connection has not read, and how many it was too slow for.
    pub(super) fn of(&self, connection: ConnectionId) -> (usize, u64) {
        let state = self.read();
        let own = state.subscriptions.range((connection, 0)..=(connection, u64::MAX));
        own.map(|(_, record)| record.sender.load())
            .fold((0, 0), |sum, load| (sum.0 + load.0, sum.1 + load.1))
    }

    /// Topics with subscribers by exact name, and how many.
    pub(super) fn topics(&self, pattern: &str) -> Vec<(String, usize)> {
        let state = self.read();
        let fits = |topic: &&Arc<str>| matches(pattern.as_bytes(), topic.as_bytes());
        let found = state.topics.keys().filter(fits);
        found.map(|topic| (topic.to_string(), state.topics[topic].len())).collect()
    }

    fn route(&self, topic: &str) -> Route {
        if let Some(route) = self.read().kept_route(topic) {
            return route;
        }
        self.write().route(topic)
    }

    /// A panic cannot leave the state half-changed (no user code runs under the lock), so a
    /// poisoned lock is as good as any.
    fn read(&self) -> RwLockReadGuard<'_, Subscriptions> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Subscriptions> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription: whose it is, and its number, larger than that of every earlier one.
type Key = (ConnectionId, u64);

/// The mailboxes behind one filter, by subscription number.
type Mailboxes = Vec<(u64, Sender<Message>)>;

#[derive(Default)]
struct Subscriptions {
    topics: HashMap<Arc<str>, Mailboxes>,
    patterns: Patterns,
    subscriptions: BTreeMap<Key, Record>,
    last: u64,
    /// Changes with every subscription that begins or ends; older routes do not hold any more.
    generation: u64,
    routes: HashMap<Arc<str>, (u64, Targets)>,
}

struct Record {
    topics: Box<[Arc<str>]>,
    patterns: Box<[Arc<str>]>,
    sender: Sender<Message>,
}

/// The way of a topic to its subscribers.
struct Route {
    topic: Arc<str>,
    targets: Targets,
}

/// Mostly there is one subscriber, which then lies in the table of routes itself: one memory access
/// less, and with many topics it is those that cost.
#[derive(Clone)]
enum Targets {
    One(Target),
    Several(Arc<[Target]>),
}

#[derive(Clone)]
struct Target {
    sender: Sender<Message>,
    pattern: Option<Arc<str>>,
}

impl Route {
    /// Leaves the payload with every subscriber; says with how many.
    fn deliver(self, payload: Bytes) -> usize {
        let Self { topic, targets } = self;
        match targets {
            Targets::One(Target { sender, pattern }) => {
                sender.send(Message { topic, payload, pattern });
                1
            }
            Targets::Several(targets) => {
                for Target { sender, pattern } in &*targets {
                    let (topic, pattern) = (Arc::clone(&topic), pattern.clone());
                    sender.send(Message { topic, payload: payload.clone(), pattern });
                }
                targets.len()
            }
        }
    }
}

impl Subscriptions {
    fn subscribe(
        &mut self,
        connection: ConnectionId,
        filters: &[Filter],
        sender: Sender<Message>,
    ) -> Key {
        self.last += 1;
        self.generation += 1;
        let (mut topics, mut patterns) = (Vec::new(), Vec::new());
        for filter in filters {
            let (mailboxes, name, names) = match filter {
                Filter::Topic(topic) => {
                    let entry = self.topics.entry(Arc::from(topic.as_str()));
                    let name = Arc::clone(entry.key());
                    (entry.or_default(), name, &mut topics)
                }
                Filter::Pattern(pattern) => {
                    let (mailboxes, name) = self.patterns.entry(pattern);
                    (mailboxes, name, &mut patterns)
                }
            };
            // The same filter twice is the same filter, as in Redis.
            if mailboxes.last().is_none_or(|(number, _)| *number != self.last) {
                mailboxes.push((self.last, sender.clone()));
                names.push(name);
            }
        }
        let key = (connection, self.last);
        let record = Record { topics: topics.into(), patterns: patterns.into(), sender };
        self.subscriptions.insert(key, record);
        key
    }

    /// Forgets a subscription; `None` where it had been ended before.
    fn unsubscribe(&mut self, key: Key) -> Option<Sender<Message>> {
        let record = self.subscriptions.remove(&key)?;
        self.generation += 1;
        for topic in &record.topics {
            if self.topics.get_mut(topic).is_some_and(|mailboxes| remove(mailboxes, key.1)) {
                self.topics.remove(topic);
            }
        }
        for pattern in &record.patterns {
            self.patterns.remove(pattern, key.1);
        }
        Some(record.sender)
    }

    fn count(&self, topics: &[String]) -> Vec<usize> {
        topics.iter().map(|topic| self.topics.get(topic.as_str()).map_or(0, Vec::len)).collect()
    }

    fn kept_route(&self, topic: &str) -> Option<Route> {
        let (topic, (generation, targets)) = self.routes.get_key_value(topic)?;
        (*generation == self.generation)
            .then(|| Route { topic: Arc::clone(topic), targets: targets.clone() })
    }

    fn route(&mut self, topic: &str) -> Route {
        if let Some(route) = self.kept_route(topic) {
            return route;
        }
        let route = Route { topic: Arc::from(topic), targets: self.find(topic) };
        if topic.len() <= KEPT_NAME {
            if self.routes.len() >= KEPT_ROUTES {
                self.routes.clear();
            }
            let kept = (self.generation, route.targets.clone());
            self.routes.insert(Arc::clone(&route.topic), kept);
        }
        route
    }

    fn find(&self, topic: &str) -> Targets {
        let exact = self.topics.get(topic).into_iter().flatten();
        let mut targets: Vec<Target> =
            exact.map(|(_, sender)| Target { sender: sender.clone(), pattern: None }).collect();
        self.patterns.find(topic, &mut targets);
        if targets.len() > 1 {
            return Targets::Several(targets.into());
        }
        targets.pop().map_or_else(|| Targets::Several(Arc::default()), Targets::One)
    }
}

/// Takes a subscription out of a filter's mailboxes; says whether none are left.
fn remove(mailboxes: &mut Mailboxes, number: u64) -> bool {
    // Numbers only grow, so the list is sorted.
    if let Ok(at) = mailboxes.binary_search_by_key(&number, |(number, _)| *number) {
        mailboxes.remove(at);
    }
    mailboxes.is_empty()
}

/// Patterns by their literal prefix: a topic is looked up once for every length that a prefix has.
#[derive(Default)]
struct Patterns {
    by_prefix: HashMap<Box<str>, BTreeMap<Arc<str>, Mailboxes>>,
    /// How many prefixes have a length.
    lengths: BTreeMap<usize, usize>,
}

impl Patterns {
    fn entry(&mut self, pattern: &str) -> (&mut Mailboxes, Arc<str>) {
        let prefix = literal_prefix(pattern);
        if !self.by_prefix.contains_key(prefix) {
            *self.lengths.entry(prefix.len()).or_default() += 1;
        }
        let entry = self.by_prefix.entry(prefix.into()).or_default().entry(Arc::from(pattern));
        let name = Arc::clone(entry.key());
        (entry.or_default(), name)
    }

    fn remove(&mut self, pattern: &str, number: u64) {
        let prefix = literal_prefix(pattern);
        let Some(patterns) = self.by_prefix.get_mut(prefix) else { return };
        if patterns.get_mut(pattern).is_some_and(|mailboxes| remove(mailboxes, number)) {
            patterns.remove(pattern);
        }
        if !patterns.is_empty() {
            return;
        }
        self.by_prefix.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    fn find(&self, topic: &str, targets: &mut Vec<Target>) {
        let prefixes = self.lengths.keys().filter_map(|length| topic.get(..*length));
        let candidates = prefixes.filter_map(|prefix| self.by_prefix.get(prefix)).flatten();
        for (pattern, mailboxes) in candidates {
            if matches(pattern.as_bytes(), topic.as_bytes()) {
                targets.extend(mailboxes.iter().map(|(_, sender)| Target {
                    sender: sender.clone(),
                    pattern: Some(Arc::clone(pattern)),
                }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(names: &[&str]) -> Vec<Filter> {
        names.iter().map(|name| Filter::Pattern((*name).to_owned())).collect()
    }

    #[test]
    fn an_ended_subscription_leaves_nothing_behind() {
        let memory = Memory::connect("memory://").expect("a memory address");
        let mut wanted = filters(&["a*", "ab?", "b[c]", "b[c]", ""]);
        wanted.push(Filter::Topic("ab".to_owned()));
        let subscription = memory.subscribe_now(&wanted).expect("an open connection");
        memory.broker.events.route("ab");
        drop(subscription);
        let state = memory.broker.events.read();
        assert!(state.topics.is_empty() && state.subscriptions.is_empty());
        assert!(state.patterns.by_prefix.is_empty() && state.patterns.lengths.is_empty());
    }

    #[test]
    fn kept_routes_are_bounded() {
        let memory = Memory::connect("memory://").expect("a memory address");
        for number in 0..=KEPT_ROUTES {
            memory.broker.events.route(&number.to_string());
        }
        memory.broker.events.route(&"x".repeat(KEPT_NAME + 1));
        assert_eq!(memory.broker.events.read().routes.len(), 1);
    }

    #[test]
    fn a_prefix_that_ends_inside_a_character_of_the_topic_is_no_match() {
        let memory = Memory::connect("memory://").expect("a memory address");
        let _subscription = memory.subscribe_now(&filters(&["a*"])).expect("an open connection");
        assert_eq!(memory.broker.events.route("é").deliver(Bytes::new()), 0);
        assert_eq!(memory.broker.events.route("aé").deliver(Bytes::new()), 1);
    }
}
