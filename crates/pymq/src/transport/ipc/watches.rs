//! Who wants to hear of the end of whom.
//!
//! The invariant: a watch is listed with the connection that is watched and with the one that watches.
//! Whichever ends first removes it; when the watched one ends, the watcher is called.

use super::heap::At;
use super::list::List;
use super::peers::{self, Step};
use super::topics;
use crate::error::Result;

/// The words of a watch: its links in the list of the one it is kept over, and in its keeper's.
pub(super) const KEEPERS_LINKS: u64 = 16;
const TICKET: u64 = 32;
const KEEPER: u64 = 40;
const OVER: u64 = 48;
pub(super) const SIZE: u64 = 56;

/// Watches, under one number, over every connection that has subscribed to a topic by its name; as often as
/// it does.
pub(super) fn begin(step: &mut Step<'_>, keeper: At, topic: &str, ticket: u64) -> Result<()> {
    for over in topics::subscribers_of(step, topic) {
        let watch = step.alloc(SIZE)?;
        step.init(watch + TICKET, ticket);
        step.init(watch + KEEPER, keeper);
        step.init(watch + OVER, over);
        peers::watched(over).push_back(step, watch)?;
        peers::watches(keeper).push_back(step, watch)?;
    }
    Ok(())
}

/// Ends what a connection watches over under that number.
pub(super) fn end(step: &mut Step<'_>, keeper: At, ticket: u64) -> Result<()> {
    let watches: List = peers::watches(keeper);
    let ended: Vec<At> =
        watches.records(step).filter(|watch| step.get(watch + TICKET) == ticket).collect();
    ended.into_iter().try_for_each(|watch| remove(step, watch))
}

/// Ends one of the watches over a connection, whose keeper is called, or of those that it keeps; says
/// whether there was any.
pub(super) fn end_one(step: &mut Step<'_>, peer: At) -> Result<bool> {
    if let watch @ 1.. = peers::watched(peer).first(step) {
        let (keeper, ticket) = (step.follow(watch + KEEPER), step.get(watch + TICKET));
        unlink(step, watch)?;
        peers::call_in(step, keeper, watch, ticket)?;
        return Ok(true);
    }
    let kept = peers::watches(peer).first(step);
    if kept != 0 {
        remove(step, kept)?;
    }
    Ok(kept != 0)
}

fn remove(step: &mut Step<'_>, watch: At) -> Result<()> {
    unlink(step, watch)?;
    step.free(watch)
}

fn unlink(step: &mut Step<'_>, watch: At) -> Result<()> {
    let (keeper, over) = (step.follow(watch + KEEPER), step.follow(watch + OVER));
    peers::watched(over).remove(step, watch)?;
    peers::watches(keeper).remove(step, watch)
}
