//! The providers of one function on one bus, which a broker that counts connections counts as one.
//!
//! Each says in its answers how many they are, so that who asks everyone knows how many answers are due.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::name::Id;
use crate::wire::Siblings as Told;

/// One of them, as long as this is.
#[derive(Debug)]
pub(super) struct Sibling(Arc<Siblings>);

#[derive(Debug)]
struct Siblings {
    id: Id,
    count: AtomicUsize,
}

impl Sibling {
    /// The first one.
    pub(super) fn first() -> Self {
        Self(Arc::new(Siblings { id: Id::random(), count: AtomicUsize::new(1) }))
    }

    /// One more.
    pub(super) fn another(&self) -> Self {
        self.0.count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }

    /// What is to be told of them; nothing of one that is alone.
    pub(super) fn told(&self) -> Option<Told> {
        let count = self.0.count.load(Ordering::Relaxed);
        (count > 1).then_some(Told { id: self.0.id, count })
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many providers were called: as many as were counted, and as those that were counted as one say that
/// they are.
#[derive(Debug, Default)]
pub(super) struct Census {
    counted: usize,
    siblings: BTreeMap<Id, usize>,
}

impl Census {
    pub(super) fn new(counted: usize) -> Self {
        Self { counted, siblings: BTreeMap::new() }
    }

    /// Notes what one of several says first: those who come later were not called.
    pub(super) fn note(&mut self, told: Told) {
        self.siblings.entry(told.id).or_insert(told.count.max(1));
    }

    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    pub(super) fn all(&self) -> usize {
        self.counted + self.siblings.values().map(|count| count - 1).sum::<usize>()
    }

    /// How many those are that were counted as one.
    pub(super) fn of(&self, siblings: Id) -> usize {
        self.siblings.get(&siblings).copied().unwrap_or(1)
    }
}
