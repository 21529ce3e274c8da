//! The names of a queue's keys, and of the epochs under which items are held.
//!
//! The one invariant: the waiting list is the original's list, untouched, and everything else lies
//! under `__pymq:{list}:`, in the list's cluster slot, where no pattern of a user reaches. A list
//! whose own name has braces would lie in another slot; only a cluster would notice.

use std::sync::atomic::{AtomicU64, Ordering};

use super::super::Core;
use crate::transport::Receipt;

/// A period in which this process holds items on one lease; receipts bear its number.
///
/// The number has the policy of the items in it, and so has its name: whoever gives them back for a
/// consumer that died does what that consumer would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Epoch(u64);

impl Epoch {
    /// The epoch of that place among those of this process; later ones compare greater.
    pub(super) fn new(sequence: u32, max_deliveries: u32) -> Self {
        Self((u64::from(sequence) << 32) | u64::from(max_deliveries))
    }

    /// The epoch in which an item was handed out.
    pub(super) fn of(receipt: &Receipt) -> Self {
        Self(receipt.number)
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    fn sequence(self) -> u64 {
        self.0 >> 32
    }

    /// After how many deliveries its items are given up; 0 is never.
    pub(super) fn max_deliveries(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }
}

/// The keys of one queue, as seen by one process.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Items that wait: the original's list.
    pub(super) list: String,
    /// The registry: every epoch that holds something, by the end of its lease.
    pub(super) epochs: String,
    /// Items that are due later, by their time.
    pub(super) later: String,
    /// Dead letters.
    pub(super) dead: String,
    /// There while the queue is shut down.
    pub(super) shut: String,
    /// Never there: what scripts begin with touches it.
    pub(super) spare: String,
    /// The channel on which waiting peers are told that something changed; nothing depends on it.
    pub(super) hint: String,
    /// What the list of an epoch's items begins with.
    pub(super) helds: String,
    identity: String,
}

impl Keys {
    pub(super) fn new(core: &Core, list: &str) -> Self {
        Self::named(list, core.identity.clone())
    }

    fn named(list: &str, identity: String) -> Self {
        Self {
            list: list.to_owned(),
            epochs: side_key(list, "epochs"),
            later: side_key(list, "later"),
            dead: side_key(list, "dead"),
            shut: side_key(list, "shutdown"),
            spare: side_key(list, "spare"),
            hint: side_key(list, "hint"),
            helds: side_key(list, "held:"),
            identity,
        }
    }

    /// Where it is remembered that a put of that id was done.
    pub(super) fn id(&self, id: &str) -> String {
        side_key(&self.list, &format!("id:{id}"))
    }

    /// What names something that is done once, in every queue.
    pub(super) fn token(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("{}-{}", self.identity, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The name of this process's epoch: who, which, and after the dot its policy.
    pub(super) fn epoch(&self, epoch: Epoch) -> String {
        format!("{}-{}.{}", self.identity, epoch.sequence(), epoch.max_deliveries())
    }

    /// The items that an epoch holds.
    pub(super) fn held(&self, epoch: Epoch) -> String {
        let Self { helds, identity, .. } = self;
        format!("{helds}{identity}-{}.{}", epoch.sequence(), epoch.max_deliveries())
    }
}

/// A key beside a list, in its slot.
pub(in super::super) fn side_key(list: &str, what: &str) -> String {
    format!("__pymq:{{{list}}}:{what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_named_by_who_which_and_its_policy_and_later_ones_are_greater() {
        let keys = Keys::named("q", "me".to_owned());
        let (first, second) = (Epoch::new(1, u32::MAX), Epoch::new(2, 0));
        assert_eq!(keys.epoch(first), "me-1.4294967295");
        assert_eq!(keys.held(second), "__pymq:{q}:held:me-2.0");
        assert!(first < second);
    }
}
