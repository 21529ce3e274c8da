//! The names of a queue's keys, and of the epochs under which items are held.
//!
//! The one invariant: the waiting list is the original's list, untouched, and everything else lies
//! under `__pymq:{list}:`, in the list's cluster slot, where no pattern of a user reaches. A list
//! whose own name has braces would lie in another slot: on a cluster, where no program of the original
//! looks for it, such a one lies beside the others.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::Core;
use super::super::cluster::slot_of;
use crate::transport::{PutOptions, QueueSpec, Receipt};

/// A period in which this process holds items on one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Epoch(u32);

impl Epoch {
    /// The epoch of that number among those of this process; later ones compare greater.
    pub(super) fn new(sequence: u32) -> Self {
        Self(sequence)
    }

    /// The list of what it has handed out.
    pub(super) fn shown(self) -> HeldList {
        HeldList { epoch: self, ahead: false }
    }

    /// The list of what it has fetched ahead and shown to nobody.
    pub(super) fn ahead(self) -> HeldList {
        HeldList { epoch: self, ahead: true }
    }

    /// Its lists, the second if it fetches ahead.
    pub(super) fn lists(self, ahead: bool) -> impl Iterator<Item = HeldList> {
        std::iter::once(self.shown()).chain(ahead.then_some(self.ahead()))
    }
}

/// One of the two lists of an epoch; receipts bear its number.
///
/// Items of a dead consumer go back counted from the list of those shown, and as they were from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HeldList {
    pub(super) epoch: Epoch,
    pub(super) ahead: bool,
}

impl HeldList {
    /// The list in which an item was when it was claimed.
    pub(super) fn of(receipt: &Receipt) -> Self {
        // Only what `number` made comes back here, or a receipt of another transport, which fits none.
        let epoch = Epoch(u32::try_from(receipt.number >> 1).unwrap_or(u32::MAX));
        Self { epoch, ahead: receipt.number & 1 == 1 }
    }

    pub(super) fn number(self) -> u64 {
        (u64::from(self.epoch.0) << 1) | u64::from(self.ahead)
    }

    /// The other list of the same epoch.
    pub(super) fn twin(self) -> Self {
        Self { ahead: !self.ahead, ..self }
    }
}

/// The options that decide the fate of a consumer's items. They are written in the names of its epochs, so
/// another process that gives the items back does what their consumer would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// After how many deliveries an item is given up; 0 is never.
    pub(super) max_deliveries: u32,
    /// The number of dead letters that are kept; 0 is all.
    pub(super) max_dead_letters: usize,
    /// Items have priorities.
    pub(super) priorities: bool,
}

impl From<&QueueSpec> for Policy {
    fn from(spec: &QueueSpec) -> Self {
        let QueueSpec { max_deliveries, max_dead_letters, priorities, .. } = *spec;
        Self { max_deliveries, max_dead_letters, priorities }
    }
}

/// Defaults are left out.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.max_deliveries)?;
        if self.max_dead_letters > 0 {
            write!(f, ".{}", self.max_dead_letters)?;
        }
        if self.priorities { f.write_str("p") } else { Ok(()) }
    }
}

/// The keys of one queue, as seen by handles of one process with one policy.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// The queue, which is what the original calls its list.
    pub(super) name: String,
    /// Items that wait.
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
    /// Connections that have waited long for an item of late.
    pub(super) waits: String,
    /// The channel on which waiting peers are told that something changed; nothing depends on it.
    pub(super) hint: String,
    /// The beginning of the name of an epoch's list.
    pub(super) helds: String,
    /// The beginning of the names of the lists of urgent items.
    urgents: String,
    identity: String,
    policy: Policy,
}

impl Keys {
    pub(super) fn new(core: &Core, spec: &QueueSpec) -> Self {
        let keys = Self::named(&spec.name, core.identity.clone(), spec.into());
        match core.dialer.nodes() {
            Some(_) if strays(&spec.name) => Self { list: side_key(&spec.name, "list"), ..keys },
            _ => keys,
        }
    }

    fn named(list: &str, identity: String, policy: Policy) -> Self {
        Self {
            name: list.to_owned(),
            list: list.to_owned(),
            epochs: side_key(list, "epochs"),
            later: side_key(list, "later"),
            dead: side_key(list, "dead"),
            shut: side_key(list, "shutdown"),
            spare: side_key(list, "spare"),
            waits: side_key(list, "waits"),
            hint: side_key(list, "hint"),
            helds: side_key(list, "held:"),
            urgents: side_key(list, "urgent:"),
            identity,
            policy,
        }
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    /// The beginning of the names of the lists of urgent items; empty for handles without priorities.
    pub(super) fn urgents(&self) -> &str {
        if self.policy.priorities { &self.urgents } else { "" }
    }

    /// The same, where it is for each epoch to say whether its items have priorities.
    pub(super) fn every_urgents(&self) -> &str {
        &self.urgents
    }

    /// The lists of urgent items, the most urgent first; none for handles without priorities.
    pub(super) fn urgent(&self) -> impl Iterator<Item = String> {
        let most = if self.policy.priorities { PutOptions::MOST_URGENT } else { 0 };
        (1..=most).rev().map(|priority| format!("{}{priority}", self.urgents))
    }

    /// The key that remembers that a put of that id was done.
    pub(super) fn id(&self, id: &str) -> String {
        side_key(&self.name, &format!("id:{id}"))
    }

    /// Our name in the names of epochs, and among the connections that wait.
    pub(super) fn identity(&self) -> &str {
        &self.identity
    }

    /// A name for something that is done once, unique over all queues.
    pub(super) fn token(&self) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("{}-{}", self.identity, NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The name of a list of this process's epoch: who, which, a `+` if it is what was fetched ahead
    /// (by which it comes first where names are in order), and after the dot its policy.
    pub(super) fn name(&self, place: HeldList) -> String {
        let Self { identity, policy, .. } = self;
        format!("{identity}-{}{}.{policy}", place.epoch.0, ahead(place))
    }

    /// The key of such a list.
    pub(super) fn held(&self, place: HeldList) -> String {
        let Self { helds, identity, policy, .. } = self;
        format!("{helds}{identity}-{}{}.{policy}", place.epoch.0, ahead(place))
    }
}

fn ahead(place: HeldList) -> &'static str {
    if place.ahead { "+" } else { "" }
}

/// Whether the other keys of a queue lie in another slot than its name would.
fn strays(name: &str) -> bool {
    name.contains('}') && slot_of(name) != slot_of(&side_key(name, ""))
}

/// A key in the slot in which a queue lies on a cluster.
pub(crate) fn key_in_slot(name: &str) -> Cow<'_, str> {
    if strays(name) { side_key(name, "").into() } else { name.into() }
}

/// A key beside a list, in its slot.
pub(crate) fn side_key(list: &str, what: &str) -> String {
    format!("__pymq:{{{list}}}:{what}")
}

/// The list that a key lies beside, and what the key is there; none for one that only remembers an id.
///
/// What looks like the end of the list's name may stand within it.
pub(crate) fn of_side_key(key: &str) -> Option<(&str, &str)> {
    let key = key.strip_prefix("__pymq:{")?;
    let splits = key.match_indices("}:").map(|(at, _)| (&key[..at], &key[at + 2..]));
    let mut splits = splits.filter(|(_, what)| what.starts_with("id:") || is_part(what));
    splits.next().filter(|(_, what)| !what.starts_with("id:"))
}

/// Whether a queue has a key of that end.
fn is_part(what: &str) -> bool {
    let alone = ["list", "epochs", "later", "dead", "shutdown", "spare", "waits", "hint"];
    let several = ["held:", "urgent:"].iter().any(|begin| what.starts_with(begin));
    alone.contains(&what) || several && !what.contains("}:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_an_epoch_is_named_by_who_which_and_its_policy_and_later_ones_are_greater() {
        let mut spec = QueueSpec::new("q");
        spec.max_deliveries = u32::MAX;
        let keys = Keys::named("q", "me".to_owned(), Policy::from(&spec));
        let (first, second) = (Epoch::new(1), Epoch::new(2));
        assert_eq!(keys.name(first.shown()), "me-1.4294967295");
        spec.max_dead_letters = 100;
        let bounded = Keys::named("q", "me".to_owned(), Policy::from(&spec));
        assert_eq!(bounded.name(first.ahead()), "me-1+.4294967295.100");
        spec.priorities = true;
        let urgent = Keys::named("q", "me".to_owned(), Policy::from(&spec));
        assert_eq!(urgent.name(first.shown()), "me-1.4294967295.100p");
        assert_eq!(urgent.urgent().next().as_deref(), Some("__pymq:{q}:urgent:9"));
        assert_eq!((bounded.urgent().count(), bounded.urgents()), (0, ""));
        assert_eq!(keys.held(second.ahead()), "__pymq:{q}:held:me-2+.4294967295");
        assert!(first < second);
    }

    #[test]
    fn a_queue_lies_in_one_slot_whatever_its_name() {
        for name in ["q", "a{b", "a}b", "a{b}c", "a{}b", "{a}{b}"] {
            let place = slot_of(&key_in_slot(name));
            assert_eq!(place, slot_of(&side_key(name, "dead")), "{name}");
        }
        assert_eq!(key_in_slot("a{b"), "a{b");
        assert_eq!(key_in_slot("a{b}c"), "__pymq:{a{b}c}:");
    }

    #[test]
    fn a_key_tells_beside_which_list_it_lies_whatever_the_names() {
        for list in ["q", "__eventbus:global:a", "a}:b", "{a}", "a}:dead", "a}:held:b", "}:", "a}"]
        {
            for what in ["list", "dead", "held:me-1+.5.0", "urgent:9", "hint"] {
                let key = side_key(list, what);
                assert_eq!(of_side_key(&key), Some((list, what)), "{key}");
            }
        }
        for key in [
            "__pymq:{q}:id:order-17",
            "__pymq:{q}:id:a}:dead",
            "__pymq:{q}:other",
            "__pymq:global:marker:f",
        ] {
            assert_eq!(of_side_key(key), None, "{key}");
        }
    }

    #[test]
    fn a_receipt_tells_in_which_list_its_item_was() {
        for place in Epoch::new(u32::MAX).lists(true).chain(Epoch::new(0).lists(true)) {
            let receipt = Receipt { stored: bytes::Bytes::new(), number: place.number() };
            assert_eq!(HeldList::of(&receipt), place);
            assert_eq!(place.twin().twin(), place);
        }
    }
}
