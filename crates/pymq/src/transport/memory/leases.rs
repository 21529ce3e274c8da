//! The items of a queue that somebody holds.
//!
//! The invariant: a lease has a number that no other ever had, so that an old receipt settles nothing.
//! What becomes of an item whose lease ends is the queue's to decide, by the options of the consumer
//! that took it, which are noted here.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ConnectionId;
use super::store::{next_number, take_of};
use super::unleased::Item;
use crate::transport::{Claimed, QueueSpec, Receipt};

/// One item in somebody's hands.
pub(super) struct Lease {
    pub(super) item: Item,
    pub(super) terms: Terms,
    owner: ConnectionId,
    /// Fetched ahead, and handed to nobody yet.
    pub(super) unshown: bool,
}

/// What its consumer's options say of an item's further fate.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// After how many deliveries it is given up; 0 for never.
    pub(super) max_deliveries: u32,
    /// How many dead letters are kept; 0 for all.
    pub(super) max_dead_letters: usize,
}

impl From<&QueueSpec> for Terms {
    fn from(spec: &QueueSpec) -> Self {
        Self { max_deliveries: spec.max_deliveries, max_dead_letters: spec.max_dead_letters }
    }
}

/// All leases of a queue, by number.
#[derive(Default)]
pub(super) struct Leases(BTreeMap<u64, Lease>);

impl Leases {
    /// Leases an item; an `unshown` one is not handed out yet.
    pub(super) fn begin(
        &mut self,
        mut item: Item,
        owner: ConnectionId,
        terms: Terms,
        unshown: bool,
    ) -> Claimed {
        item.deliveries += 1;
        let number = next_number();
        let claimed = Claimed {
            payload: item.payload.clone(),
            deliveries: item.deliveries,
            receipt: Receipt { stored: Bytes::new(), number },
        };
        self.0.insert(number, Lease { item, terms, owner, unshown });
        claimed
    }

    /// Ends a lease, if it has not ended.
    pub(super) fn end(&mut self, number: u64) -> Option<Lease> {
        self.0.remove(&number)
    }

    /// Ends all leases of a connection; the newest first.
    pub(super) fn end_of(&mut self, connection: ConnectionId) -> Vec<Lease> {
        take_of(&mut self.0, |lease| lease.owner == connection)
    }

    /// Notes that an item that was fetched ahead is handed out.
    pub(super) fn show(&mut self, number: u64) {
        if let Some(lease) = self.0.get_mut(&number) {
            lease.unshown = false;
        }
    }

    pub(super) fn holds(&self, number: u64) -> bool {
        self.0.contains_key(&number)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Who holds something; somebody who holds several comes several times.
    pub(super) fn owners(&self) -> impl Iterator<Item = ConnectionId> {
        self.0.values().map(|lease| lease.owner)
    }
}
