//! The items of a queue that nobody holds: those that wait, and those that are due later.
//!
//! The invariant: what waits is taken highest priority first, and first in first out within one;
//! what is due later joins the line in the order of its time. When to look for what is due is the
//! queue's to know.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// Longer than any program runs, and a moment that every clock can hold.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// An item that nobody holds, or that is leased.
pub(super) struct Item {
    pub(super) payload: Bytes,
    /// How often it was handed out so far.
    pub(super) deliveries: u32,
    pub(super) priority: u8,
    /// Since when it could be taken.
    pub(super) since: Instant,
}

#[derive(Default)]
pub(super) struct Unleased {
    /// Of priority 0, as nearly all are.
    plain: VecDeque<Item>,
    /// The others by priority; none of these is empty.
    urgent: BTreeMap<u8, VecDeque<Item>>,
    /// By when they are due, and by number within one moment.
    delayed: BTreeMap<(Instant, u64), Item>,
}

impl Unleased {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.plain.len() + self.urgent.values().map(VecDeque::len).sum::<usize>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.urgent.is_empty()
    }

    /// How many are due later.
    pub(super) fn delayed(&self) -> usize {
        self.delayed.len()
    }

    pub(super) fn push_back(&mut self, item: Item) {
        self.of(item.priority).push_back(item);
    }

    pub(super) fn push_front(&mut self, item: Item) {
        self.of(item.priority).push_front(item);
    }

    fn of(&mut self, priority: u8) -> &mut VecDeque<Item> {
        match priority {
            0 => &mut self.plain,
            _ => self.urgent.entry(priority).or_default(),
        }
    }

    /// Takes up to `count` that wait.
    pub(super) fn take(&mut self, count: usize) -> Vec<Item> {
        let mut taken = Vec::new();
        while let Some(mut highest) = self.urgent.last_entry() {
            let line = highest.get_mut();
            taken.extend(line.drain(..line.len().min(count - taken.len())));
            if !line.is_empty() {
                return taken;
            }
            highest.remove();
        }
        taken.extend(self.plain.drain(..self.plain.len().min(count - taken.len())));
        taken
    }

    /// Keeps an item until `delay` has passed; `number` says which of one moment came first.
    pub(super) fn delay(&mut self, item: Item, delay: Duration, number: u64) {
        let due = Instant::now() + delay.min(FOR_EVER);
        self.delayed.insert((due, number), item);
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// Lines up those that are due by now.
    pub(super) fn ripen(&mut self) {
        if self.delayed.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(first) = self.delayed.first_entry()
            && first.key().0 <= now
        {
            let ((since, _), item) = first.remove_entry();
            self.push_back(Item { since, ..item });
        }
    }

    /// Since when the one that has waited longest does.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let heads = self.urgent.values().chain([&self.plain]).filter_map(VecDeque::front);
        heads.map(|item| item.since).min()
    }

    /// What waits, in the order in which it would be taken.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Bytes> {
        let lines = self.urgent.values().rev().chain([&self.plain]);
        lines.flatten().map(|item| &item.payload)
    }

    /// What is due later, in that order.
    pub(super) fn later(&self) -> impl Iterator<Item = &Bytes> {
        self.delayed.values().map(|item| &item.payload)
    }

    /// Takes everything out that waits.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Bytes> {
        let urgent = std::mem::take(&mut self.urgent).into_values().flatten();
        urgent.chain(std::mem::take(&mut self.plain)).map(|item| item.payload)
    }

    /// Takes everything out that is due later.
    pub(super) fn drain_delayed(&mut self) -> impl Iterator<Item = Bytes> {
        std::mem::take(&mut self.delayed).into_values().map(|item| item.payload)
    }
}
