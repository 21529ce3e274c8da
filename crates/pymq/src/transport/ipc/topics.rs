//! Who has subscribed to what, for all processes, and the way of an event to their post.
//!
//! The invariant: what [`find`] says holds as long as the bus's generation is the same. It changes
//! with every subscription that begins or ends, so a publisher that knows the way of a topic need
//! not look again, and one that knows that nobody has subscribed need not even take the lock.

use std::collections::BTreeSet;

use super::heap::{At, Heap};
use super::layout::{PATTERNS, PEERS};
use super::list::List;
use super::names::{self, Kind};
use super::peers::{self, Step};
use crate::error::Result;
use crate::name::matches;
use crate::transport::Filter;

/// The words of a subscription. A seat has its number of lost letters at the same place.
pub(super) const NUMBER: u64 = 16;
const PEER: u64 = 24;
pub(super) const MISSED: u64 = 32;
const FILTERS: u64 = 40;
const SIZE: u64 = 48;

/// The words of one filter of a subscription, which is in the list of its topic or of all patterns.
const SUBSCRIPTION: u64 = 16;
const INDEX: u64 = 24;
const SIBLING: u64 = 32;
const TOPIC: u64 = 40;
const PATTERN: u64 = 48;
const FILTER_SIZE: u64 = 56;

/// A topic's record: its name, and its filters.
const TOPIC_SIZE: u64 = names::OWN + List::SIZE;

const fn subscribers(topic: At) -> List {
    List::new(topic + names::OWN, 0)
}

/// Where an event goes: a subscription, and by which of its filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    subscription: At,
    filter: u64,
}

/// Begins a subscription; says its number and its place.
pub(super) fn subscribe(step: &mut Step<'_>, peer: At, filters: &[Filter]) -> Result<(u64, At)> {
    let number = step.number()?;
    let subscription = step.alloc(SIZE)?;
    step.init(subscription + NUMBER, number);
    step.init(subscription + PEER, peer);
    step.init(subscription + MISSED, 0);
    step.init(subscription + FILTERS, 0);
    peers::subscriptions(peer).push_back(step, subscription)?;
    for (index, filter) in filters.iter().enumerate() {
        // The same filter twice is the same filter, as in Redis.
        if !filters[..index].contains(filter) {
            enter(step, subscription, index as u64, filter)?;
        }
    }
    step.routes_changed = true;
    Ok((number, subscription))
}

fn enter(step: &mut Step<'_>, subscription: At, index: u64, filter: &Filter) -> Result<()> {
    let entry = step.alloc(FILTER_SIZE)?;
    let (list, topic, pattern) = match filter {
        Filter::Topic(name) => {
            let topic = match names::find(step, Kind::Topic, name.as_bytes()) {
                0 => names::add(step, Kind::Topic, name.as_bytes(), TOPIC_SIZE)?,
                known => known,
            };
            (subscribers(topic), topic, 0)
        }
        Filter::Pattern(pattern) => (PATTERNS, 0, step.put_bytes(&[pattern.as_bytes()])?),
    };
    step.init(entry + SUBSCRIPTION, subscription);
    step.init(entry + INDEX, index);
    let sibling = step.follow(subscription + FILTERS);
    step.init(entry + SIBLING, sibling);
    step.init(entry + TOPIC, topic);
    step.init(entry + PATTERN, pattern);
    step.set(subscription + FILTERS, entry)?;
    list.push_back(step, entry)
}

/// Ends a subscription; its post must have been taken.
pub(super) fn end(step: &mut Step<'_>, subscription: At) -> Result<()> {
    while end_filter(step, subscription)? {}
    let peer = step.follow(subscription + PEER);
    peers::subscriptions(peer).remove(step, subscription)?;
    step.free(subscription)?;
    step.routes_changed = true;
    Ok(())
}

/// Ends one filter of a subscription; says whether there was any.
pub(super) fn end_filter(step: &mut Step<'_>, subscription: At) -> Result<bool> {
    let entry = step.follow(subscription + FILTERS);
    if entry == 0 {
        return Ok(false);
    }
    let (next, topic) = (step.follow(entry + SIBLING), step.follow(entry + TOPIC));
    step.set(subscription + FILTERS, next)?;
    if topic == 0 {
        PATTERNS.remove(step, entry)?;
        let pattern = step.follow(entry + PATTERN);
        step.drop_bytes(pattern)?;
    } else {
        subscribers(topic).remove(step, entry)?;
        if subscribers(topic).len(step) == 0 {
            names::remove(step, topic)?;
        }
    }
    step.free(entry)?;
    step.routes_changed = true;
    Ok(true)
}

/// All subscribers of a topic, by its name or by patterns.
pub(super) fn find(heap: &Heap<'_>, topic: &str) -> Vec<Target> {
    let target = |entry| Target {
        subscription: heap.follow(entry + SUBSCRIPTION),
        filter: heap.get(entry + INDEX),
    };
    let record = names::find(heap, Kind::Topic, topic.as_bytes());
    let mut targets = Vec::new();
    if record != 0 {
        targets.extend(subscribers(record).records(heap).map(target));
    }
    for entry in PATTERNS.records(heap) {
        if matches(&heap.bytes(heap.follow(entry + PATTERN)), topic.as_bytes()) {
            targets.push(target(entry));
        }
    }
    targets
}

/// The names of all topics that anybody has subscribed to by name, sorted.
pub(super) fn subscribed_topics(heap: &Heap<'_>) -> Vec<String> {
    let mut names = BTreeSet::new();
    for peer in PEERS.records(heap) {
        for subscription in peers::subscriptions(peer).records(heap) {
            let mut entry = heap.follow(subscription + FILTERS);
            while entry != 0 {
                let topic = heap.follow(entry + TOPIC);
                if topic != 0 {
                    names.extend(String::from_utf8(names::name(heap, topic)));
                }
                entry = heap.follow(entry + SIBLING);
            }
        }
    }
    names.into_iter().collect()
}

/// The connections that have subscribed to a topic by its name, each as often as it has.
pub(super) fn subscribers_of(heap: &Heap<'_>, topic: &str) -> Vec<At> {
    let record = names::find(heap, Kind::Topic, topic.as_bytes());
    if record == 0 {
        return Vec::new();
    }
    let peer = |entry| heap.follow(heap.follow(entry + SUBSCRIPTION) + PEER);
    subscribers(record).records(heap).map(peer).collect()
}

/// How many living ones have subscribed to a topic by its name.
pub(super) fn count(step: &mut Step<'_>, topic: &str) -> usize {
    subscribers_of(step, topic).into_iter().filter(|peer| step.lives(*peer)).count()
}

/// Leaves an event with all targets that live; says with how many.
pub(super) fn deliver(
    step: &mut Step<'_>,
    targets: &[Target],
    topic: &str,
    payload: &[u8],
) -> Result<usize> {
    let mut received = 0;
    let mut body = 0;
    // Several subscriptions of one connection mostly come in a row.
    let mut last = (0, false);
    for Target { subscription, filter } in targets {
        let peer = step.follow(subscription + PEER);
        if last.0 != peer {
            last = (peer, step.lives(peer));
        }
        if last.1 {
            if body == 0 {
                body = event(step, topic, payload)?;
            }
            peers::send_event(step, peer, *subscription, *filter, body)?;
            received += 1;
        }
    }
    if body != 0 {
        step.drop_bytes(body)?;
    }
    Ok(received)
}

/// An event as it lies in the file: how long its topic is, the topic, the payload.
fn event(step: &mut Step<'_>, topic: &str, payload: &[u8]) -> Result<At> {
    let length = u32::try_from(topic.len()).unwrap_or(u32::MAX).to_le_bytes();
    step.put_bytes(&[&length, topic.as_bytes(), payload])
}

/// The length of an event's topic and where its payload begins; `None` for bytes that are no event.
pub(super) fn parts(event: &[u8]) -> Option<(&str, usize)> {
    let (length, rest) = event.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let topic = std::str::from_utf8(rest.get(..length)?).ok()?;
    Some((topic, 4 + length))
}
