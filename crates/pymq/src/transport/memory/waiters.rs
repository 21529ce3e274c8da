//! Who waits at a queue, for items or for space, and what they find when they come.
//!
//! The lines in which they stand, and whose turn it is, are the queue's.

use bytes::Bytes;
use tokio::time::Instant;

use super::ConnectionId;
use super::store::Bell;
use crate::transport::{Claimed, PutOptions};

/// One who waits for items.
pub(super) struct Getter {
    pub(super) owner: ConnectionId,
    pub(super) limit: usize,
    /// Gone while it is on its way to look when the next item is due.
    pub(super) bell: Option<Bell>,
    /// When it wakes to look; only the first in line does.
    pub(super) wakes: Option<Instant>,
}

/// One who waits for space.
pub(super) struct Putter {
    pub(super) owner: ConnectionId,
    pub(super) maxsize: usize,
    pub(super) parcel: Parcel,
    pub(super) bell: Bell,
}

/// Items on their way into a queue.
pub(super) struct Parcel {
    pub(super) items: Vec<Bytes>,
    pub(super) options: PutOptions,
}

/// What became of a push.
pub(super) enum Push {
    /// The items are in the queue.
    Done,
    /// They were put before.
    Already,
    /// There is no space for them now.
    Wait(Parcel),
}

/// What became of a claim.
pub(super) enum Claim {
    /// Items, on lease.
    Taken(Vec<Claimed>),
    /// There are none now.
    Empty,
}

/// What one finds that comes to keep the time.
pub(super) enum KeepTime {
    /// It is still in the line; the next item is due then.
    Until(Option<Instant>),
    /// Its turn has come.
    Over,
}
