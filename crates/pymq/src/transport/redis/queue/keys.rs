//! The names of a queue's keys.
//!
//! The one invariant: the waiting list is the original's list, untouched, and everything else lies
//! under `__pymq:{list}:`, in the list's cluster slot, where no pattern of a user reaches. A list
//! whose own name has braces would lie in another slot; only a cluster would notice.

use super::super::Core;

/// The keys of one queue, as seen by one process.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Items that wait: the original's list.
    pub(super) list: String,
    /// The registry of epochs.
    pub(super) epochs: String,
    /// Dead letters.
    pub(super) dead: String,
    /// There while the queue is shut down.
    pub(super) shut: String,
    /// The channel on which waiting peers are told that something changed; nothing depends on it.
    pub(super) hint: String,
    /// What the lease of an epoch begins with.
    pub(super) leases: String,
    /// What the list of an epoch's items begins with.
    pub(super) helds: String,
    identity: String,
}

impl Keys {
    pub(super) fn new(core: &Core, list: &str) -> Self {
        let key = |what: &str| format!("__pymq:{{{list}}}:{what}");
        Self {
            list: list.to_owned(),
            epochs: key("epochs"),
            dead: key("dead"),
            shut: key("shutdown"),
            hint: key("hint"),
            leases: key("lease:"),
            helds: key("held:"),
            identity: core.identity.clone(),
        }
    }

    /// The name of this process's epoch of that number.
    pub(super) fn epoch(&self, number: u64) -> String {
        format!("{}-{number}", self.identity)
    }

    /// The lease of an epoch.
    pub(super) fn lease(&self, number: u64) -> String {
        format!("{}{}-{number}", self.leases, self.identity)
    }

    /// The items that an epoch holds.
    pub(super) fn held(&self, number: u64) -> String {
        format!("{}{}-{number}", self.helds, self.identity)
    }
}
