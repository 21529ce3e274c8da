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

/// Whether a put of that id was done, and not too long ago.
pub(super) fn knows(step: &mut Step<'_>, queue: At, key: &[u8]) -> Result<bool> {
    let record = names::find(step, Kind::Put, key);
    if record != 0 && step.get(record + FORGOTTEN) <= step.now {
        drop_id(step, queue, record)?;
        return Ok(false);
    }
    Ok(record != 0)
}

/// Forgets ids whose time is over; says whether there are more of them.
pub(super) fn forget(step: &mut Step<'_>, queue: At) -> Result<bool> {
    while let record @ 1.. = seen(queue).first(step)
        && step.get(record + FORGOTTEN) <= step.now
    {
        drop_id(step, queue, record)?;
        if !step.has_room() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn drop_id(step: &mut Step<'_>, queue: At, record: At) -> Result<()> {
    seen(queue).remove(step, record)?;
    names::remove(step, record)
}
