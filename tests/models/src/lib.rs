//! The library's own files for what threads share, over primitives that choose who goes next.
//!
//! `mailbox`, `pending` and `sync` are compiled here a second time, as they are, with `sync` switched to
//! those primitives; the other small modules stand where the library's are. Each model in [`mailboxes`] and [`calls`] is one
//! history of a few threads, which `tests/orders.rs` runs in thousands of orders.

pub mod calls;
pub mod mailboxes;

#[path = "../../../crates/pymq/src/transport/mailbox/mod.rs"]
pub mod mailbox;

#[path = "../../../crates/pymq/src/rpc/pending.rs"]
mod pending;

#[path = "../../../crates/pymq/src/sync.rs"]
mod sync;

mod name {
    pub(crate) use pymq::name::Id;
}

mod transport {
    pub(crate) use crate::mailbox::{Arrival, Limit, Receiver, Sender, Weigh, mailbox};
}

/// As much of an answer as its way to its call needs.
mod wire {
    use pymq::name::Id;
    use pymq::wire::Outcome;

    #[derive(Debug)]
    pub(crate) struct Response {
        pub(crate) outcome: Outcome,
        pub(crate) ours: Option<Ours>,
    }

    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Ours {
        pub(crate) call: Id,
    }
}
