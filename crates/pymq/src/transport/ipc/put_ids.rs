//! The ids of puts that a queue has seen, each for its time.

use std::time::Duration;

use super::heap::At;
use super::items::nanoseconds;
use super::names::{self, Kind};
use super::peers::Step;
use super::shelves::seen;
use crate::error::Result;

/// The words of an id, behind its name: its links, and until when it is known.
pub(super) const LINKS: u64 = names::OWN;
pub(super) const FORGOTTEN: u64 = 48;
const SIZE: u64 = 56;

/// Under what the id of a put is known.
pub(super) fn key(queue: At, id: &str) -> Vec<u8> {
    [&queue.to_le_bytes()[..], id.as_bytes()].concat()
}

pub(super) fn remember(step: &mut Step<'_>, queue: At, key: &[u8], window: Duration) -> Result<()> {
    let record = names::add(step, Kind::Put, key, SIZE)?;
    let end = step.now.saturating_add(nanoseconds(window));
    step.init(record + FORGOTTEN, end);
    seen(queue).insert(step, record)
}

/// Forgets the ids whose time is over.
pub(super) fn forget(step: &mut Step<'_>, queue: At) -> Result<()> {
    while let record @ 1.. = seen(queue).first(step)
        && step.get(record + FORGOTTEN) <= step.now
    {
        seen(queue).remove(step, record)?;
        names::remove(step, record)?;
    }
    Ok(())
}
