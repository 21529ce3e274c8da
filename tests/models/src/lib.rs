//! The library's own files for what threads share, over primitives that choose who goes next.
//!
//! `mailbox`, `pending`, the queues in memory, the `bell` of `ipc://`, `sync` and what merges the sources of
//! a Python thread are compiled here a second time, as they are, over those primitives; the other small
//! modules stand where the library's are. Each model in [`mailboxes`], [`calls`], [`queues`], [`intakes`] and
//! [`bells`] is one history of a few threads, which `tests/orders.rs` runs in thousands of orders.

pub mod bells;
pub mod calls;
pub mod intakes;
pub mod mailboxes;
pub mod queues;

#[allow(dead_code, reason = "a test's bus alone asks whether all is read")]
#[path = "../../../crates/pymq/src/transport/mailbox/mod.rs"]
pub mod mailbox;

#[path = "../../../crates/pymq/src/rpc/id_map.rs"]
mod id_map;

#[path = "../../../crates/pymq/src/transport/ipc/bell.rs"]
mod bell;

#[path = "../../../crates/pymq/src/rpc/pending.rs"]
mod pending;

#[path = "../../../crates/pymq/src/sync.rs"]
mod sync;

mod name {
    pub(crate) use pymq::name::{Id, matches};
}

mod error {
    pub(crate) use pymq::Result;
}

mod transport {
    pub(crate) use crate::mailbox::{Arrival, Limit, Receiver, Sender, Weigh, mailbox};
    pub(crate) use pymq::transport::{
        Claimed, DeadLetter, Due, Failure, Letters, PutId, PutOptions, QueueSpec, QueueStats,
        Reason, Receipt, SettleOptions, Settlement, Shelf, Wait,
    };

    pub(crate) mod refusals {
        use pymq::{Error, ErrorKind};

        pub(crate) fn full(queue: &str, _: usize) -> Error {
            Error::new(ErrorKind::Full, "push", queue, "full")
        }

        pub(crate) fn too_many(queue: &str, _: usize, _: usize) -> Error {
            Error::new(ErrorKind::Config, "push", queue, "too many")
        }

        pub(crate) fn shut_down(operation: &'static str, queue: &str) -> Error {
            Error::new(ErrorKind::ShutDown, operation, queue, "shut down")
        }

        pub(crate) fn closed(operation: &'static str, queue: &str) -> Error {
            Error::new(ErrorKind::Closed, operation, queue, "closed")
        }
    }

    pub(crate) mod dead_letter_log {
        use std::sync::Arc;

        use super::Failure;

        #[derive(Default)]
        pub(crate) struct DeadLetterLog;

        impl DeadLetterLog {
            pub(crate) fn tell(self: &Arc<Self>, _: &str, _: u32, _: &Failure, _: usize) {}
        }
    }
}

/// As much of an answer as its way to its call needs.
mod wire {
    use pymq::name::Id;
    use pymq::wire::Outcome;

    #[derive(Debug)]
    pub(crate) struct Said {
        pub(crate) outcome: Outcome,
        pub(crate) ours: Ours,
    }

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Ours {
        pub(crate) call: Id,
    }
}
