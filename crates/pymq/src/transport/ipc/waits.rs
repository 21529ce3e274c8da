//! The lines of those who wait at a queue, for items or for space.
//!
//! The invariant: they are hints. Whose turn comes is called and tries again, so that one who is killed
//! on the way takes nothing along. Who is called and does not come, or for whose call there is no space,
//! is made up for: every connection looks after its own at each tick.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::heap::{At, Heap};
use super::peers::{self, Step};
use super::shelves::{self, WAITERS};
use super::treap::Treap;
use crate::error::Result;

/// The words of a place in a line. The lower bits of the queue tell what it waits for.
pub(super) const TICKET: u64 = 32;
const WAITER: u64 = 40;
const WAITS_AT: u64 = 48;
const SIZE: u64 = 56;
const FOR_SPACE: u64 = 1;
const IN_LINE: u64 = 2;

/// What somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Items = 0,
    Space = 1,
}

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WaitRecord {
    pub(super) at: At,
    pub(super) ticket: u64,
    pub(super) queue: At,
}

fn line(queue: At, flags: u64) -> Treap {
    if flags & FOR_SPACE == 0 { shelves::getters(queue) } else { shelves::putters(queue) }
}

/// Calls those first in line, for so many items.
pub(super) fn offer_items(step: &mut Step<'_>, queue: At, count: u64) -> Result<()> {
    for _ in 0..count {
        if !call_first(step, shelves::getters(queue))? {
            break;
        }
    }
    Ok(())
}

/// Calls the first in the line of those who wait for space; when it has what it wants, it calls the
/// next.
pub(super) fn offer_space(step: &mut Step<'_>, queue: At) -> Result<()> {
    call_first(step, shelves::putters(queue)).map(|_| ())
}

pub(super) fn call_first(step: &mut Step<'_>, waiting: Treap) -> Result<bool> {
    loop {
        let place = waiting.first(step);
        if place == 0 {
            return Ok(false);
        }
        let waiter = step.follow(place + WAITER);
        let lives = step.lives(waiter);
        let called = call_place(step, place)?;
        if lives || !called {
            return Ok(called);
        }
    }
}

/// Calls a place that is in its line, which it leaves; says whether there was space for that.
fn call_place(step: &mut Step<'_>, place: At) -> Result<bool> {
    let (queue, flags) = waits_at(step, place);
    let (peer, ticket) = (step.follow(place + WAITER), step.get(place + TICKET));
    if !peers::call_if_room(step, peer, ticket)? {
        return Ok(false);
    }
    line(queue, flags).remove(step, place)?;
    step.set(place + WAITS_AT, queue | flags & !IN_LINE)?;
    Ok(true)
}

/// Calls places of a connection whose queue has something for them: what makes up for every call that
/// was lost.
pub(super) fn look_after(step: &mut Step<'_>, peer: At) -> Result<()> {
    let places: Vec<At> = peers::waits(peer).records(step).collect();
    let mut looked = HashMap::new();
    for place in places {
        let (queue, flags) = waits_at(step, place);
        if flags & IN_LINE == 0 {
            continue;
        }
        let left = match looked.entry(queue) {
            Entry::Occupied(left) => left.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(on_offer(step, queue)?),
        };
        let left = if flags & FOR_SPACE == 0 { &mut left.0 } else { &mut left.1 };
        // The look at the queue may have called it.
        if *left > 0 && waits_at(step, place).1 & IN_LINE != 0 {
            *left -= 1;
            call_place(step, place)?;
        }
    }
    Ok(())
}

/// How many of those who wait for items, and for space, a queue has something for.
fn on_offer(step: &mut Step<'_>, queue: At) -> Result<(u64, u64)> {
    shelves::ripen(step, queue)?;
    let over = shelves::is_shut(step, queue);
    Ok(if over { (u64::MAX, u64::MAX) } else { (shelves::waiting(step, queue), 1) })
}

fn waits_at(heap: &Heap<'_>, place: At) -> (At, u64) {
    let word = heap.get(place + WAITS_AT);
    (heap.in_arena(word & !7), word & 7)
}

/// Takes a place at the end of a line, or goes back to where the ticket says.
pub(super) fn line_up(
    step: &mut Step<'_>,
    peer: At,
    queue: At,
    want: Want,
    place: Option<WaitRecord>,
) -> Result<WaitRecord> {
    let what = want as u64;
    let place = match place {
        Some(place) => {
            if waits_at(step, place.at).1 & IN_LINE != 0 {
                return Ok(place);
            }
            place
        }
        None => {
            let ticket = step.number()?;
            let at = step.alloc(SIZE)?;
            step.init(at + TICKET, ticket);
            step.init(at + WAITER, peer);
            step.init(at + WAITS_AT, 0);
            peers::waits(peer).push_back(step, at)?;
            step.add(queue + WAITERS, 1)?;
            WaitRecord { at, ticket, queue }
        }
    };
    step.set(place.at + WAITS_AT, queue | what | IN_LINE)?;
    line(queue, what).insert(step, place.at)?;
    Ok(place)
}

pub(super) fn leave_line(step: &mut Step<'_>, place: Option<WaitRecord>) -> Result<()> {
    match place {
        Some(place) => remove_place(step, place.at).map(|_| ()),
        None => Ok(()),
    }
}

/// Gives up a place; a call that it had got goes to the next.
pub(super) fn stop_waiting(step: &mut Step<'_>, place: At) -> Result<()> {
    let (queue, flags) = remove_place(step, place)?;
    if flags & FOR_SPACE != 0 {
        return offer_space(step, queue);
    }
    let due = shelves::next_due(step, queue).is_some();
    if flags & IN_LINE == 0 && shelves::waiting(step, queue) > 0 || due {
        return offer_items(step, queue, 1);
    }
    Ok(())
}

fn remove_place(step: &mut Step<'_>, place: At) -> Result<(At, u64)> {
    let (queue, flags) = waits_at(step, place);
    if flags & IN_LINE != 0 {
        line(queue, flags).remove(step, place)?;
    }
    let peer = step.follow(place + WAITER);
    peers::waits(peer).remove(step, place)?;
    step.subtract(queue + WAITERS, 1)?;
    step.free(place)?;
    Ok((queue, flags))
}

/// The queues for whose items a connection waits in line.
pub(super) fn waited_at(heap: &Heap<'_>, peer: At) -> impl Iterator<Item = At> {
    let places = peers::waits(peer).records(heap).map(|place| waits_at(heap, place));
    places.filter(|(_, flags)| *flags == IN_LINE).map(|(queue, _)| queue)
}
