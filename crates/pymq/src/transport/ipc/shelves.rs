//! The queues, for all processes: what waits, what is due later, what is leased, what is dead, and who
//! waits for it.
//!
//! The invariant: what a queue counts is what its lists hold, and a queue that holds nothing and at
//! which nobody waits may be forgotten. Its [`items`] and [`waits`] are rooms of their own.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use super::heap::{At, Heap};
use super::items::{self, NUMBER, SINCE, UNTIL};
use super::layout::{CLEAR_AT, PEERS, QUEUES};
use super::list::List;
use super::names::{self, Kind};
use super::peers::{self, Step};
use super::treap::Treap;
use super::waits::{self, TICKET, WaitRecord, Want};
use super::{dead_letters, put_ids};
use crate::error::Result;
use crate::transport::{
    Claimed, Letters, PutOptions, QueueSpec, QueueStats, Shelf, Wait, refusals,
};

/// How many queues there may be before the unused ones are looked for.
const CLEARING: u64 = 64;

/// The words of a queue behind its name.
const SHUT: u64 = 48;
const LEASED: u64 = 56;
/// How many places in lines there are, called ones too.
pub(super) const WAITERS: u64 = 64;
const LINES: u64 = 72;
const LATER: u64 = LINES + 10 * List::SIZE;
const DEAD: u64 = LATER + Treap::SIZE;
const GETTERS: u64 = DEAD + List::SIZE;
const PUTTERS: u64 = GETTERS + Treap::SIZE;
/// Leases that outlive their holders, because they were extended.
const ORPHANS: u64 = PUTTERS + Treap::SIZE;
const SEEN: u64 = ORPHANS + Treap::SIZE;
const SIZE: u64 = SEEN + Treap::SIZE;

/// What became of a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Push {
    Done,
    /// It was done before, under the same id.
    Already,
    /// There is no space; this place in the line is ours.
    Wait(WaitRecord),
}

/// What became of a claim.
#[derive(Debug)]
pub(super) enum Claim {
    /// Items, each with its place.
    Taken(Vec<(At, Claimed)>),
    Empty,
    /// There are none; this place in the line is ours, and the next item is due then.
    Wait(WaitRecord, Option<u64>),
}

pub(super) const fn line(queue: At, priority: u64) -> List {
    List::new(queue + LINES + priority * List::SIZE, 0)
}

pub(super) const fn dead(queue: At) -> List {
    List::new(queue + DEAD, 0)
}

pub(super) const fn later(queue: At) -> Treap {
    Treap::new(queue + LATER, 0, UNTIL, NUMBER)
}

pub(super) const fn orphans(queue: At) -> Treap {
    Treap::new(queue + ORPHANS, 0, UNTIL, NUMBER)
}

pub(super) const fn getters(queue: At) -> Treap {
    Treap::new(queue + GETTERS, 0, TICKET, TICKET)
}

pub(super) const fn putters(queue: At) -> Treap {
    Treap::new(queue + PUTTERS, 0, TICKET, TICKET)
}

pub(super) const fn seen(queue: At) -> Treap {
    Treap::new(queue + SEEN, put_ids::LINKS, put_ids::FORGOTTEN, put_ids::FORGOTTEN)
}

/// The queue of that name; 0 where there is none.
pub(super) fn named(heap: &Heap<'_>, name: &str) -> At {
    names::find(heap, Kind::Queue, name.as_bytes())
}

/// The queue of that name, made where there is none.
pub(super) fn queue(step: &mut Step<'_>, spec: &QueueSpec) -> Result<At> {
    let known = named(step, &spec.name);
    if known != 0 {
        return Ok(known);
    }
    if QUEUES.len(step) >= step.get(CLEAR_AT).max(CLEARING) {
        clear(step)?;
    }
    let queue = names::add(step, Kind::Queue, spec.name.as_bytes(), SIZE)?;
    QUEUES.push_back(step, queue)?;
    Ok(queue)
}

/// Forgets queues that are as if they had never been used; says whether there may be more of them.
pub(super) fn clear(step: &mut Step<'_>) -> Result<bool> {
    let queues: Vec<At> = QUEUES.records(step).collect();
    for queue in queues {
        if put_ids::forget(step, queue)? {
            return Ok(true);
        }
        let used = [SHUT, LEASED, WAITERS].iter().any(|word| step.get(queue + word) != 0)
            || held(step, queue) > 0
            || dead(queue).len(step) > 0
            || seen(queue).len(step) > 0;
        if !used {
            QUEUES.remove(step, queue)?;
            names::remove(step, queue)?;
            // Only now, so that there are fewer however little room there is.
            if !step.has_room() {
                return Ok(true);
            }
        }
    }
    let left = QUEUES.len(step);
    step.set(CLEAR_AT, left.saturating_mul(2))?;
    Ok(false)
}

/// The names of the queues that hold anything, or at which somebody waits.
pub(super) fn in_use(heap: &Heap<'_>) -> Vec<String> {
    let used = |queue: &At| {
        [SHUT, LEASED, WAITERS].iter().any(|word| heap.get(queue + word) != 0)
            || held(heap, *queue) > 0
            || dead(*queue).len(heap) > 0
    };
    let queues = QUEUES.records(heap).filter(used);
    queues.filter_map(|queue| String::from_utf8(names::name(heap, queue)).ok()).collect()
}

/// How many items of a queue a connection holds.
pub(super) fn held_by(heap: &Heap<'_>, peer: At, queue: At) -> usize {
    let leases = peers::leases(peer).records(heap);
    leases.filter(|item| items::queue_of(heap, *item) == queue).count()
}

pub(super) fn waiting(heap: &Heap<'_>, queue: At) -> u64 {
    (0..10).fold(0, |sum, priority| line(queue, priority).len(heap).saturating_add(sum))
}

/// How many a bound counts: those that wait, now and for later.
fn held(heap: &Heap<'_>, queue: At) -> u64 {
    waiting(heap, queue).saturating_add(later(queue).len(heap))
}

pub(super) fn is_shut(heap: &Heap<'_>, queue: At) -> bool {
    heap.get(queue + SHUT) != 0
}

pub(super) fn count_leased(step: &mut Step<'_>, queue: At, more: u64) -> Result<()> {
    step.add(queue + LEASED, more)
}

pub(super) fn discount_leased(step: &mut Step<'_>, queue: At) -> Result<()> {
    step.subtract(queue + LEASED, 1)
}

/// How many items a queue has, whoever holds them, and how many dead letters.
pub(super) fn content(heap: &Heap<'_>, queue: At) -> (u64, u64) {
    (held(heap, queue).saturating_add(heap.get(queue + LEASED)), dead(queue).len(heap))
}

/// Puts items, or takes a place in the line of those who wait for space. `place` is the one that is
/// held already.
pub(super) fn push(
    step: &mut Step<'_>,
    peer: At,
    spec: &QueueSpec,
    items: &[Bytes],
    options: &PutOptions,
    place: Option<WaitRecord>,
) -> Result<Push> {
    if spec.maxsize > 0 && items.len() > spec.maxsize {
        return Err(refusals::too_many(&spec.name, items.len(), spec.maxsize));
    }
    let queue = queue(step, spec)?;
    if step.get(queue + SHUT) != 0 {
        return Err(refusals::shut_down("push", &spec.name));
    }
    ripen(step, queue)?;
    put_ids::forget(step, queue)?;
    let id = options.id.as_ref().map(|put| (put_ids::key(queue, &put.id), put.window));
    if let Some((key, _)) = &id
        && put_ids::knows(step, queue, key)?
    {
        waits::leave_line(step, place)?;
        return Ok(Push::Already);
    }
    let fits = spec.maxsize == 0
        || held(step, queue).saturating_add(items.len() as u64) <= spec.maxsize as u64;
    // Who can wait does so behind those who wait already; who cannot takes what there is.
    let first = place.is_some() || options.wait == Wait::No || putters(queue).len(step) == 0;
    if fits && first {
        if let Some((key, window)) = id {
            put_ids::remember(step, queue, &key, window)?;
        }
        items::append(step, queue, items, options)?;
        waits::leave_line(step, place)?;
        waits::offer_space(step, queue)?;
        return Ok(Push::Done);
    }
    if options.wait == Wait::No {
        return Err(refusals::full(&spec.name, spec.maxsize));
    }
    Ok(Push::Wait(waits::line_up(step, peer, queue, Want::Space, place)?))
}

/// Takes items on lease, or a place in the line of those who wait for some.
pub(super) fn claim(
    step: &mut Step<'_>,
    peer: At,
    spec: &QueueSpec,
    limit: usize,
    wait: bool,
    place: Option<WaitRecord>,
) -> Result<Claim> {
    let queue = if wait { queue(step, spec)? } else { named(step, &spec.name) };
    if queue == 0 {
        return Ok(if limit == 0 { Claim::Taken(Vec::new()) } else { Claim::Empty });
    }
    ripen(step, queue)?;
    if limit == 0 || waiting(step, queue) > 0 {
        let taken = take(step, peer, queue, spec, limit)?;
        waits::leave_line(step, place)?;
        waits::offer_space(step, queue)?;
        // Who was called may have come too late, where others wait still; and who kept the time hands
        // that on.
        let due = place.is_some() && next_due(step, queue).is_some();
        let more = waiting(step, queue) > 0 || due;
        waits::offer_items(step, queue, u64::from(more))?;
        return Ok(Claim::Taken(taken));
    }
    if step.get(queue + SHUT) != 0 && later(queue).len(step) == 0 {
        return Err(refusals::shut_down("claim", &spec.name));
    }
    if !wait {
        if let Some(place) = place {
            waits::stop_waiting(step, place.at)?;
        }
        return Ok(Claim::Empty);
    }
    let place = waits::line_up(step, peer, queue, Want::Items, place)?;
    Ok(Claim::Wait(place, next_due(step, queue)))
}

fn take(
    step: &mut Step<'_>,
    peer: At,
    queue: At,
    spec: &QueueSpec,
    limit: usize,
) -> Result<Vec<(At, Claimed)>> {
    let mut taken = Vec::new();
    'taking: for priority in (0..10).rev() {
        while taken.len() < limit.max(spec.prefetch) {
            let item = line(queue, priority).first(step);
            if item == 0 {
                break;
            }
            line(queue, priority).remove(step, item)?;
            let shown = taken.len() < limit;
            taken.push((item, items::lease(step, peer, item, spec, shown)?));
            if !step.has_space() {
                break 'taking;
            }
        }
    }
    count_leased(step, queue, taken.len() as u64)?;
    Ok(taken)
}

/// Lines up what is due, and what was held by the dead for long enough; says whether there is more of it.
pub(super) fn ripen(step: &mut Step<'_>, queue: At) -> Result<bool> {
    let (mut count, mut more) = (0, false);
    let later = later(queue);
    while let item @ 1.. = later.first(step)
        && step.get(item + UNTIL) <= step.now
        && !more
    {
        later.remove(step, item)?;
        items::line_up(step, queue, item)?;
        (count, more) = (count + 1, !step.has_room());
    }
    let orphans = orphans(queue);
    while let item @ 1.. = orphans.first(step)
        && step.get(item + UNTIL) <= step.now
        && !more
    {
        orphans.remove(step, item)?;
        discount_leased(step, queue)?;
        items::give_up(step, queue, item)?;
        more = !step.has_room();
    }
    if count > 0 {
        waits::offer_items(step, queue, count)?;
    }
    Ok(more)
}

/// When something of the queue is due next.
pub(super) fn next_due(heap: &Heap<'_>, queue: At) -> Option<u64> {
    let firsts = [later(queue), orphans(queue)].map(|order| order.first(heap));
    firsts.into_iter().filter(|first| *first != 0).map(|first| heap.get(first + UNTIL)).min()
}

/// What a queue has; says, too, whether something of it is still to be lined up before that is right.
pub(super) fn stats(step: &mut Step<'_>, queue: At) -> Result<(QueueStats, bool)> {
    let more = ripen(step, queue)?;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let leased = count(step.get(queue + LEASED));
    let given_up = count(dead(queue).len(step));
    let mut stats = QueueStats::new(count(waiting(step, queue)), leased, given_up);
    stats.delayed = count(later(queue).len(step));
    let heads = (0..10).map(|priority| line(queue, priority).first(step)).filter(|at| *at != 0);
    let oldest = heads.map(|item| step.get(item + SINCE)).min();
    stats.oldest = oldest.map(|since| Duration::from_nanos(step.now.saturating_sub(since)));
    let takes = |peer: &At| takes_from(step, *peer, queue);
    stats.consumers = Some(PEERS.records(step).filter(takes).count());
    Ok((stats, more))
}

/// Whether a connection waits for items of a queue, or holds some.
fn takes_from(heap: &Heap<'_>, peer: At, queue: At) -> bool {
    waits::waited_at(heap, peer).any(|other| other == queue)
        || peers::leases(peer).records(heap).any(|item| items::queue_of(heap, item) == queue)
}

/// How many queues a connection waits at for items, or holds some of.
pub(super) fn taken_from_by(heap: &Heap<'_>, peer: At) -> usize {
    let held = peers::leases(peer).records(heap).map(|item| items::queue_of(heap, item));
    held.chain(waits::waited_at(heap, peer)).collect::<HashSet<At>>().len()
}

pub(super) fn peek(
    step: &mut Step<'_>,
    queue: At,
    from: Shelf,
    limit: usize,
) -> Result<Vec<Bytes>> {
    ripen(step, queue)?;
    let heap: &Heap<'_> = &*step;
    let payload = |item| items::payload(heap, item);
    Ok(match from {
        Shelf::Waiting => {
            let lines = (0..10).rev().flat_map(|priority| line(queue, priority).records(heap));
            lines.take(limit).map(payload).collect()
        }
        Shelf::Delayed => later(queue).records(heap).take(limit).map(payload).collect(),
        Shelf::Dead => dead(queue).records(heap).take(limit).map(payload).collect(),
    })
}

/// Deletes what is on a shelf; says how many there were, and whether there are more.
pub(super) fn purge(step: &mut Step<'_>, queue: At, shelf: Shelf) -> Result<(usize, bool)> {
    let mut more = ripen(step, queue)?;
    if shelf == Shelf::Dead {
        return dead_letters::discard(step, queue, &Letters::Oldest(usize::MAX));
    }
    let mut purged = 0;
    if shelf == Shelf::Waiting {
        for priority in 0..10 {
            if !more {
                more = empty(step, &mut purged, |step| line(queue, priority).pop(step))?;
            }
        }
        step.set(queue + SHUT, 0)?;
    }
    if !more {
        more = empty(step, &mut purged, |step| later(queue).pop(step))?;
    }
    waits::offer_space(step, queue)?;
    Ok((purged, more))
}

/// Deletes what `take` gives, and counts it; says whether there may be more.
fn empty(
    step: &mut Step<'_>,
    count: &mut usize,
    take: impl Fn(&mut Step<'_>) -> Result<At>,
) -> Result<bool> {
    while let item @ 1.. = take(step)? {
        items::discard(step, item)?;
        *count += 1;
        if !step.has_room() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Shuts a queue down, and calls all who wait, so that they hear of it.
pub(super) fn shut_down(step: &mut Step<'_>, spec: &QueueSpec) -> Result<()> {
    let queue = queue(step, spec)?;
    step.set(queue + SHUT, 1)?;
    for waiting in [getters(queue), putters(queue)] {
        while waits::call_first(step, waiting)? {}
    }
    Ok(())
}
