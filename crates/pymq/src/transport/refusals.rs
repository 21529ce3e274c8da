//! In which words every transport refuses what a queue cannot do.

use crate::error::{Error, ErrorKind};
use crate::name::shortened;

/// The queue was full for as long as the push might wait.
pub(super) fn full(queue: &str, maxsize: usize) -> Error {
    let why = format!("maxsize is {maxsize}; get items first");
    Error::new(ErrorKind::Full, "push", shortened(queue), why)
}

/// More items in one step than there will ever be space for.
pub(super) fn too_many(queue: &str, count: usize, maxsize: usize) -> Error {
    let why = format!("{count} items at once never fit: maxsize is {maxsize}; put fewer");
    Error::new(ErrorKind::Config, "push", shortened(queue), why)
}

/// The queue takes nothing more, or has nothing more to give.
pub(super) fn shut_down(operation: &'static str, queue: &str) -> Error {
    let why = "it was shut down for everyone; purge it to use it again";
    Error::new(ErrorKind::ShutDown, operation, shortened(queue), why)
}

/// The connection was closed while somebody waited on it.
pub(super) fn closed(operation: &'static str, queue: &str) -> Error {
    Error::closed(operation, shortened(queue))
}

/// Somebody settles or extends what he does not hold any more.
pub(super) fn lease_lost(operation: &'static str, queue: &str) -> Error {
    let why = "the lease had ended: the item was settled, or is somebody else's now; where it ran \
               out, a longer lease helps";
    Error::new(ErrorKind::LeaseLost, operation, shortened(queue), why)
}
