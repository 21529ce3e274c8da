//! The queues, for all processes: items that wait, are due later, leased or dead, and the lines of
//! those who wait.
//!
//! The invariant: an item is in one list at any time: a line, those due later, its holder's leases,
//! or the dead letters. Lines of waiting connections are hints: whose turn comes is called and tries
//! again, so that one who is killed on the way takes nothing along. Who is called and does not come
//! is made up for: every connection looks after its own at each tick.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::heap::{At, Heap, List};
use super::layout::{CLEAR_AT, PEERS, QUEUES};
use super::names::{self, Kind};
use super::peers::{self, Death, Step};
use crate::error::Result;
use crate::transport::{
    Claimed, DeadLetter, Due, Failure, Letters, PutOptions, QueueSpec, QueueStats, Reason, Receipt,
    SettleOptions, Settlement, Shelf, Wait, refusals,
};

/// How many queues there may be before the unused ones are looked for.
const CLEARING: u64 = 64;

/// The words of a queue behind its name.
const SHUT: u64 = 48;
const LEASED: u64 = 56;
/// How many places in lines there are, called ones too.
const WAITERS: u64 = 64;
const LINES: u64 = 72;
const LATER: u64 = LINES + 10 * List::SIZE;
const DEAD: u64 = LATER + List::SIZE;
const GETTERS: u64 = DEAD + List::SIZE;
const PUTTERS: u64 = GETTERS + List::SIZE;
/// Leases that outlive their holders, because they were extended.
const ORPHANS: u64 = PUTTERS + List::SIZE;
const SEEN: u64 = ORPHANS + List::SIZE;
const SIZE: u64 = SEEN + List::SIZE;

/// The words of an item.
const PAYLOAD: u64 = 16;
/// Deliveries in the lower half; above them the priority, and whether the last of these deliveries
/// is one that was fetched ahead and shown to nobody yet.
const COUNTS: u64 = 24;
const UNSHOWN: u64 = 1 << 40;
/// Since when it could be taken; of a dead letter, when it died.
const SINCE: u64 = 32;
/// When it is due; of a leased one, until when the lease lasts whoever dies; of a dead letter, why.
const UNTIL: u64 = 40;
const NUMBER: u64 = 48;
const OWNER: u64 = 56;
pub(super) const OWNERS_LINKS: u64 = 64;
const QUEUE: u64 = 80;
/// What decides its fate: its holder's most deliveries, and most dead letters above.
const FATE: u64 = 88;
/// How long it is leased to a connection that does not run.
const LEASE: u64 = 96;
const ITEM_SIZE: u64 = 104;

/// The words of a place in a line. The lower bits of the queue tell what it waits for.
const TICKET: u64 = 32;
const WAITER: u64 = 40;
const WAITS_AT: u64 = 48;
const PLACE_SIZE: u64 = 56;
const FOR_SPACE: u64 = 1;
const IN_LINE: u64 = 2;

/// The words of the id of a put, behind its name.
const FORGOTTEN: u64 = 48;
const SEEN_SIZE: u64 = 56;

const LOWER: u64 = u32::MAX as u64;

/// What became of a push.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Push {
    Done,
    /// It was done before, under the same id.
    Already,
    /// There is no space; this place in the line is ours.
    Wait(Place),
}

/// What became of a claim.
#[derive(Debug)]
pub(super) enum Claim {
    /// Items, each with its place.
    Taken(Vec<(At, Claimed)>),
    Empty,
    /// There are none; this place in the line is ours, and the next item is due then.
    Wait(Place, Option<u64>),
}

/// A place in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: At,
    pub(super) ticket: u64,
    pub(super) queue: At,
}

const fn line(queue: At, priority: u64) -> List {
    List::new(queue + LINES + priority * List::SIZE, 0)
}

const fn list(queue: At, which: u64) -> List {
    List::new(queue + which, 0)
}

const fn seen(queue: At) -> List {
    List::new(queue + SEEN, 32)
}

/// The queue of that name; 0 where there is none.
pub(super) fn named(heap: &Heap<'_>, name: &str) -> At {
    names::find(heap, Kind::Queue, name.as_bytes())
}

fn queue(step: &mut Step<'_>, spec: &QueueSpec) -> Result<At> {
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

/// Forgets the queues that are as if they had never been used.
pub(super) fn clear(step: &mut Step<'_>) -> Result<()> {
    let queues: Vec<At> = QUEUES.records(step).collect();
    for queue in queues {
        forget_ids(step, queue)?;
        let used = [SHUT, LEASED, WAITERS].iter().any(|word| step.get(queue + word) != 0)
            || held(step, queue) > 0
            || list(queue, DEAD).len(step) > 0
            || seen(queue).len(step) > 0;
        if !used {
            QUEUES.remove(step, queue)?;
            names::remove(step, queue)?;
        }
    }
    let left = QUEUES.len(step);
    step.set(CLEAR_AT, 2 * left)
}

/// The names of the queues that hold anything, or at which somebody waits.
pub(super) fn in_use(heap: &Heap<'_>) -> Vec<String> {
    let used = |queue: &At| {
        [SHUT, LEASED, WAITERS].iter().any(|word| heap.get(queue + word) != 0)
            || held(heap, *queue) > 0
            || list(*queue, DEAD).len(heap) > 0
    };
    let queues = QUEUES.records(heap).filter(used);
    queues.filter_map(|queue| String::from_utf8(names::name(heap, queue)).ok()).collect()
}

/// How many items of a queue a connection holds.
pub(super) fn held_by(heap: &Heap<'_>, peer: At, queue: At) -> usize {
    let leases = peers::leases(peer).records(heap);
    leases.filter(|item| queue_of(heap, *item) == queue).count()
}

fn waiting(heap: &Heap<'_>, queue: At) -> u64 {
    (0..10).map(|priority| line(queue, priority).len(heap)).sum()
}

/// How many a bound counts: those that wait, now and for later.
fn held(heap: &Heap<'_>, queue: At) -> u64 {
    waiting(heap, queue) + list(queue, LATER).len(heap)
}

/// Puts items, or takes a place in the line of those who wait for space. `place` is the one that is
/// held already.
pub(super) fn push(
    step: &mut Step<'_>,
    peer: At,
    spec: &QueueSpec,
    items: &[Bytes],
    options: &PutOptions,
    place: Option<Place>,
) -> Result<Push> {
    if spec.maxsize > 0 && items.len() > spec.maxsize {
        return Err(refusals::too_many(&spec.name, items.len(), spec.maxsize));
    }
    let queue = queue(step, spec)?;
    if step.get(queue + SHUT) != 0 {
        return Err(refusals::shut_down("push", &spec.name));
    }
    ripen(step, queue)?;
    forget_ids(step, queue)?;
    let id = options.id.as_ref().map(|put| (id_key(queue, &put.id), put.window));
    if let Some((key, _)) = &id
        && names::find(step, Kind::Put, key) != 0
    {
        leave_line(step, place)?;
        return Ok(Push::Already);
    }
    let fits = spec.maxsize == 0 || held(step, queue) + items.len() as u64 <= spec.maxsize as u64;
    // Who can wait does so behind those who wait already; who cannot takes what there is.
    let first = place.is_some() || options.wait == Wait::No || list(queue, PUTTERS).len(step) == 0;
    if fits && first {
        if let Some((key, window)) = id {
            remember(step, queue, &key, window)?;
        }
        append(step, queue, items, options)?;
        leave_line(step, place)?;
        offer_space(step, queue)?;
        return Ok(Push::Done);
    }
    if options.wait == Wait::No {
        return Err(refusals::full(&spec.name, spec.maxsize));
    }
    Ok(Push::Wait(line_up(step, peer, queue, FOR_SPACE, place)?))
}

fn append(step: &mut Step<'_>, queue: At, items: &[Bytes], options: &PutOptions) -> Result<()> {
    let delay = if options.due == Due::Now { Duration::ZERO } else { options.due.delay() };
    let due = step.now.saturating_add(nanoseconds(delay));
    let now = step.now;
    for payload in items {
        let item = step.alloc(ITEM_SIZE)?;
        let payload = step.put_bytes(&[payload])?;
        step.init(item + PAYLOAD, payload);
        step.init(item + COUNTS, u64::from(options.priority) << 32);
        step.init(item + SINCE, now);
        step.init(item + UNTIL, due);
        step.init(item + NUMBER, 0);
        step.init(item + OWNER, 0);
        step.init(item + QUEUE, queue);
        if delay.is_zero() {
            line(queue, u64::from(options.priority)).push_back(step, item)?;
        } else {
            list(queue, LATER).insert_by(step, item, UNTIL)?;
        }
    }
    // For those that are due later somebody is to keep the time.
    let called = if delay.is_zero() { items.len() } else { 1 };
    offer_items(step, queue, called as u64)
}

/// Takes items on lease, or a place in the line of those who wait for some.
pub(super) fn claim(
    step: &mut Step<'_>,
    peer: At,
    spec: &QueueSpec,
    limit: usize,
    wait: bool,
    place: Option<Place>,
) -> Result<Claim> {
    let queue = if wait { queue(step, spec)? } else { named(step, &spec.name) };
    if queue == 0 {
        return Ok(if limit == 0 { Claim::Taken(Vec::new()) } else { Claim::Empty });
    }
    ripen(step, queue)?;
    if limit == 0 || waiting(step, queue) > 0 {
        let taken = take(step, peer, queue, spec, limit)?;
        leave_line(step, place)?;
        offer_space(step, queue)?;
        // Who was called may have come too late, where others wait still; and who kept the time hands
        // that on.
        let due = place.is_some() && next_due(step, queue).is_some();
        let more = waiting(step, queue) > 0 || due;
        offer_items(step, queue, u64::from(more))?;
        return Ok(Claim::Taken(taken));
    }
    if step.get(queue + SHUT) != 0 && list(queue, LATER).len(step) == 0 {
        return Err(refusals::shut_down("claim", &spec.name));
    }
    if !wait {
        if let Some(place) = place {
            stop_waiting(step, place.at)?;
        }
        return Ok(Claim::Empty);
    }
    let place = line_up(step, peer, queue, 0, place)?;
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
    for priority in (0..10).rev() {
        while taken.len() < limit.max(spec.prefetch) {
            let item = line(queue, priority).first(step);
            if item == 0 {
                break;
            }
            line(queue, priority).remove(step, item)?;
            let shown = taken.len() < limit;
            taken.push((item, lease(step, peer, item, spec, shown)?));
        }
    }
    step.add(queue + LEASED, taken.len() as u64)?;
    Ok(taken)
}

fn lease(
    step: &mut Step<'_>,
    peer: At,
    item: At,
    spec: &QueueSpec,
    shown: bool,
) -> Result<Claimed> {
    let number = step.number()?;
    step.add(item + COUNTS, if shown { 1 } else { 1 + UNSHOWN })?;
    step.set(item + UNTIL, 0)?;
    step.set(item + NUMBER, number)?;
    step.set(item + OWNER, peer)?;
    let most_letters = u32::try_from(spec.max_dead_letters).unwrap_or(u32::MAX);
    step.set(item + LEASE, nanoseconds(spec.lease))?;
    step.set(item + FATE, u64::from(most_letters) << 32 | u64::from(spec.max_deliveries))?;
    peers::leases(peer).push_back(step, item)?;
    Ok(Claimed {
        payload: step.bytes(step.get(item + PAYLOAD)).into(),
        deliveries: deliveries(step, item),
        receipt: Receipt { stored: Bytes::new(), number },
    })
}

fn deliveries(heap: &Heap<'_>, item: At) -> u32 {
    (heap.get(item + COUNTS) & LOWER) as u32
}

/// Notes that an item that was fetched ahead is handed out.
pub(super) fn show(step: &mut Step<'_>, item: At) -> Result<()> {
    let counts = step.get(item + COUNTS);
    step.set(item + COUNTS, counts & !UNSHOWN)
}

/// Ends a lease that this connection holds.
pub(super) fn settle(
    step: &mut Step<'_>,
    item: At,
    how: Settlement,
    options: &SettleOptions,
) -> Result<()> {
    let queue = take_from_owner(step, item)?;
    show(step, item)?;
    match how {
        Settlement::Ack => discard_item(step, item),
        Settlement::Requeue => fail(step, queue, item, options),
        Settlement::Return => untake(step, queue, item),
        Settlement::Reject => bury(step, queue, item, options, Reason::Rejected),
    }
}

/// Ends a lease whose holder is gone; one that was extended lasts for its time.
pub(super) fn abandon(step: &mut Step<'_>, item: At) -> Result<()> {
    let queue = take_from_owner(step, item)?;
    if step.get(item + UNTIL) > step.now {
        step.add(queue + LEASED, 1)?;
        list(queue, ORPHANS).insert_by(step, item, UNTIL)?;
        // Somebody is to keep the time.
        return offer_items(step, queue, 1);
    }
    give_up(step, queue, item)
}

/// What becomes of an item whose holder died, or stood still for too long.
fn give_up(step: &mut Step<'_>, queue: At, item: At) -> Result<()> {
    if step.get(item + COUNTS) & UNSHOWN == 0 {
        return fail(step, queue, item, &SettleOptions::default());
    }
    show(step, item)?;
    untake(step, queue, item)
}

/// Puts an item back that was handed to nobody, as if it had never been taken.
fn untake(step: &mut Step<'_>, queue: At, item: At) -> Result<()> {
    step.subtract(item + COUNTS, 1)?;
    put_back(step, queue, item)
}

/// Takes an item from a holder that has not run for so long, if that is longer than its lease.
pub(super) fn take_back(step: &mut Step<'_>, item: At, silent: u64) -> Result<bool> {
    if silent < step.get(item + LEASE) || step.get(item + UNTIL) > step.now {
        return Ok(false);
    }
    let queue = take_from_owner(step, item)?;
    give_up(step, queue, item)?;
    Ok(true)
}

/// What a connection holds: the number of each lease, and where the item lies.
pub(super) fn leases_of(heap: &Heap<'_>, peer: At) -> HashMap<u64, At> {
    let numbered = |item| (heap.get(item + NUMBER), item);
    peers::leases(peer).records(heap).map(numbered).collect()
}

fn take_from_owner(step: &mut Step<'_>, item: At) -> Result<At> {
    let (owner, queue) = (step.get(item + OWNER), step.get(item + QUEUE));
    peers::leases(owner).remove(step, item)?;
    step.set(item + OWNER, 0)?;
    step.subtract(queue + LEASED, 1)?;
    Ok(queue)
}

/// Puts an item back that was tried in vain, or gives it up.
fn fail(step: &mut Step<'_>, queue: At, item: At, options: &SettleOptions) -> Result<()> {
    let most = step.get(item + FATE) & LOWER;
    if most > 0 && u64::from(deliveries(step, item)) >= most {
        return bury(step, queue, item, options, Reason::TooManyDeliveries);
    }
    if options.delay.is_zero() {
        return put_back(step, queue, item);
    }
    let due = step.now.saturating_add(nanoseconds(options.delay));
    step.set(item + UNTIL, due)?;
    list(queue, LATER).insert_by(step, item, UNTIL)?;
    offer_items(step, queue, 1)
}

fn put_back(step: &mut Step<'_>, queue: At, item: At) -> Result<()> {
    let priority = step.get(item + COUNTS) >> 32;
    line(queue, priority.min(9)).push_front(step, item)?;
    offer_items(step, queue, 1)
}

fn bury(
    step: &mut Step<'_>,
    queue: At,
    item: At,
    options: &SettleOptions,
    reason: Reason,
) -> Result<()> {
    let failure = options.failure.as_deref().cloned().unwrap_or_else(|| Failure::new(reason));
    let number = step.number()?;
    let written = write_failure(step, &failure)?;
    step.set(item + NUMBER, number)?;
    step.set(item + SINCE, wall_clock())?;
    step.set(item + UNTIL, written)?;
    let dead = list(queue, DEAD);
    dead.push_back(step, item)?;
    let (most, mut dropped) = (step.get(item + FATE) >> 32, 0);
    while most > 0 && most != LOWER && dead.len(step) > most {
        let oldest = dead.first(step);
        dead.remove(step, oldest)?;
        discard_letter(step, oldest)?;
        dropped += 1;
    }
    let (name, deliveries) = (names::name(step, queue), deliveries(step, item));
    let queue = String::from_utf8_lossy(&name).as_ref().into();
    step.deaths.push(Death { queue, deliveries, failure, dropped });
    Ok(())
}

fn queue_of(heap: &Heap<'_>, item: At) -> At {
    heap.get(item + QUEUE)
}

fn discard_item(step: &mut Step<'_>, item: At) -> Result<()> {
    let payload = step.get(item + PAYLOAD);
    step.drop_bytes(payload)?;
    step.free(item)?;
    Ok(())
}

fn discard_letter(step: &mut Step<'_>, item: At) -> Result<()> {
    let written = step.get(item + UNTIL);
    step.drop_bytes(written)?;
    discard_item(step, item)
}

/// Makes sure that a lease lasts until then, whatever becomes of its holder.
pub(super) fn extend(step: &mut Step<'_>, item: At, duration: Duration) -> Result<()> {
    let until = step.now.saturating_add(nanoseconds(duration));
    let before = step.get(item + UNTIL);
    step.set(item + UNTIL, before.max(until))
}

/// Lines up what is due, and what was held by the dead for long enough.
pub(super) fn ripen(step: &mut Step<'_>, queue: At) -> Result<u64> {
    let mut count = 0;
    let later = list(queue, LATER);
    while let item @ 1.. = later.first(step)
        && step.get(item + UNTIL) <= step.now
    {
        later.remove(step, item)?;
        let due = step.get(item + UNTIL);
        step.set(item + SINCE, due)?;
        let priority = step.get(item + COUNTS) >> 32;
        line(queue, priority.min(9)).push_back(step, item)?;
        count += 1;
    }
    let orphans = list(queue, ORPHANS);
    while let item @ 1.. = orphans.first(step)
        && step.get(item + UNTIL) <= step.now
    {
        orphans.remove(step, item)?;
        step.subtract(queue + LEASED, 1)?;
        give_up(step, queue, item)?;
    }
    if count > 0 {
        offer_items(step, queue, count)?;
    }
    Ok(count)
}

/// When something of the queue is due next.
pub(super) fn next_due(heap: &Heap<'_>, queue: At) -> Option<u64> {
    let firsts = [LATER, ORPHANS].map(|which| list(queue, which).first(heap));
    firsts.into_iter().filter(|first| *first != 0).map(|first| heap.get(first + UNTIL)).min()
}

/// Calls those first in line, for so many items.
fn offer_items(step: &mut Step<'_>, queue: At, count: u64) -> Result<()> {
    for _ in 0..count {
        if !call_first(step, list(queue, GETTERS))? {
            break;
        }
    }
    Ok(())
}

/// Calls the first in the line of those who wait for space; when it has what it wants, it calls the
/// next.
fn offer_space(step: &mut Step<'_>, queue: At) -> Result<()> {
    call_first(step, list(queue, PUTTERS)).map(|_| ())
}

fn call_first(step: &mut Step<'_>, waiting: List) -> Result<bool> {
    loop {
        let place = waiting.first(step);
        if place == 0 {
            return Ok(false);
        }
        let waiter = step.get(place + WAITER);
        let lives = step.lives(waiter);
        call_place(step, place)?;
        if lives {
            return Ok(true);
        }
    }
}

/// Calls a place that is in its line, which it leaves.
fn call_place(step: &mut Step<'_>, place: At) -> Result<()> {
    let (queue, flags) = waits_at(step, place);
    let which = if flags & FOR_SPACE == 0 { GETTERS } else { PUTTERS };
    list(queue, which).remove(step, place)?;
    step.set(place + WAITS_AT, queue | flags & !IN_LINE)?;
    let (peer, ticket) = (step.get(place + WAITER), step.get(place + TICKET));
    peers::call(step, peer, ticket)
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
    ripen(step, queue)?;
    let over = step.get(queue + SHUT) != 0;
    Ok(if over { (u64::MAX, u64::MAX) } else { (waiting(step, queue), 1) })
}

fn waits_at(heap: &Heap<'_>, place: At) -> (At, u64) {
    let word = heap.get(place + WAITS_AT);
    (word & !7, word & 7)
}

/// Takes a place at the end of a line, or goes back to where the ticket says.
fn line_up(
    step: &mut Step<'_>,
    peer: At,
    queue: At,
    what: u64,
    place: Option<Place>,
) -> Result<Place> {
    let place = match place {
        Some(place) => {
            if waits_at(step, place.at).1 & IN_LINE != 0 {
                return Ok(place);
            }
            place
        }
        None => {
            let ticket = step.number()?;
            let at = step.alloc(PLACE_SIZE)?;
            step.init(at + TICKET, ticket);
            step.init(at + WAITER, peer);
            step.init(at + WAITS_AT, 0);
            peers::waits(peer).push_back(step, at)?;
            step.add(queue + WAITERS, 1)?;
            Place { at, ticket, queue }
        }
    };
    step.set(place.at + WAITS_AT, queue | what | IN_LINE)?;
    let waiting = list(queue, if what == 0 { GETTERS } else { PUTTERS });
    waiting.insert_by(step, place.at, TICKET)?;
    Ok(place)
}

fn leave_line(step: &mut Step<'_>, place: Option<Place>) -> Result<()> {
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
    let due = next_due(step, queue).is_some();
    if flags & IN_LINE == 0 && waiting(step, queue) > 0 || due {
        return offer_items(step, queue, 1);
    }
    Ok(())
}

fn remove_place(step: &mut Step<'_>, place: At) -> Result<(At, u64)> {
    let (queue, flags) = waits_at(step, place);
    if flags & IN_LINE != 0 {
        let which = if flags & FOR_SPACE == 0 { GETTERS } else { PUTTERS };
        list(queue, which).remove(step, place)?;
    }
    let peer = step.get(place + WAITER);
    peers::waits(peer).remove(step, place)?;
    step.subtract(queue + WAITERS, 1)?;
    step.free(place)?;
    Ok((queue, flags))
}

pub(super) fn stats(step: &mut Step<'_>, queue: At) -> Result<QueueStats> {
    ripen(step, queue)?;
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let leased = count(step.get(queue + LEASED));
    let dead = count(list(queue, DEAD).len(step));
    let mut stats = QueueStats::new(count(waiting(step, queue)), leased, dead);
    stats.delayed = count(list(queue, LATER).len(step));
    let heads = (0..10).map(|priority| line(queue, priority).first(step)).filter(|at| *at != 0);
    let oldest = heads.map(|item| step.get(item + SINCE)).min();
    stats.oldest = oldest.map(|since| Duration::from_nanos(step.now.saturating_sub(since)));
    let takes = |peer: &At| takes_from(step, *peer, queue);
    stats.consumers = Some(PEERS.records(step).filter(takes).count());
    Ok(stats)
}

/// Whether a connection waits for items of a queue, or holds some.
fn takes_from(heap: &Heap<'_>, peer: At, queue: At) -> bool {
    peers::waits(peer).records(heap).any(|place| waits_at(heap, place) == (queue, IN_LINE))
        || peers::leases(peer).records(heap).any(|item| queue_of(heap, item) == queue)
}

/// How many queues a connection waits at for items, or holds some of.
pub(super) fn taken_from_by(heap: &Heap<'_>, peer: At) -> usize {
    QUEUES.records(heap).filter(|queue| takes_from(heap, peer, *queue)).count()
}

pub(super) fn peek(
    step: &mut Step<'_>,
    queue: At,
    from: Shelf,
    limit: usize,
) -> Result<Vec<Bytes>> {
    ripen(step, queue)?;
    let lists: Vec<List> = match from {
        Shelf::Waiting => (0..10).rev().map(|priority| line(queue, priority)).collect(),
        Shelf::Delayed => vec![list(queue, LATER)],
        Shelf::Dead => vec![list(queue, DEAD)],
    };
    let items = lists.iter().flat_map(|list| list.records(step)).take(limit);
    Ok(items.map(|item| step.bytes(step.get(item + PAYLOAD)).into()).collect())
}

/// How many items are moved or deleted in one step; who wants more goes on with another.
pub(super) const AT_ONCE: usize = 10_000;

/// Deletes what is on a shelf, [`AT_ONCE`] items at most; says how many.
pub(super) fn purge(step: &mut Step<'_>, queue: At, shelf: Shelf) -> Result<usize> {
    ripen(step, queue)?;
    let mut purged = 0;
    if shelf == Shelf::Dead {
        return discard(step, queue, &Letters::Oldest(AT_ONCE));
    }
    if shelf == Shelf::Waiting {
        for priority in 0..10 {
            purged += empty(step, line(queue, priority), AT_ONCE - purged)?;
        }
        step.set(queue + SHUT, 0)?;
    }
    purged += empty(step, list(queue, LATER), AT_ONCE - purged)?;
    offer_space(step, queue)?;
    Ok(purged)
}

fn empty(step: &mut Step<'_>, list: List, most: usize) -> Result<usize> {
    let mut count = 0;
    while count < most
        && let item @ 1.. = list.first(step)
    {
        list.remove(step, item)?;
        discard_item(step, item)?;
        count += 1;
    }
    Ok(count)
}

pub(super) fn letters(heap: &Heap<'_>, queue: At, skip: usize, limit: usize) -> Vec<DeadLetter> {
    list(queue, DEAD).records(heap).skip(skip).take(limit).map(|item| shown(heap, item)).collect()
}

fn shown(heap: &Heap<'_>, item: At) -> DeadLetter {
    let receipt = Receipt { stored: Bytes::new(), number: heap.get(item + NUMBER) };
    let mut letter = DeadLetter::new(heap.bytes(heap.get(item + PAYLOAD)).into(), receipt);
    letter.failure = read_failure(&heap.bytes(heap.get(item + UNTIL)));
    letter.deliveries = Some(deliveries(heap, item));
    let died = Duration::from_nanos(heap.get(item + SINCE));
    letter.died = SystemTime::UNIX_EPOCH.checked_add(died);
    letter
}

/// The chosen dead letters, oldest first.
fn chosen(heap: &Heap<'_>, queue: At, which: &Letters) -> Vec<At> {
    let dead = list(queue, DEAD).records(heap);
    match which {
        Letters::Oldest(count) => dead.take(*count).collect(),
        Letters::These(receipts) => {
            let numbers: HashSet<u64> = receipts.iter().map(|receipt| receipt.number).collect();
            // No further than to the last of them.
            let named = dead.filter(|item| numbers.contains(&heap.get(item + NUMBER)));
            named.take(numbers.len()).collect()
        }
    }
}

pub(super) fn discard(step: &mut Step<'_>, queue: At, which: &Letters) -> Result<usize> {
    let chosen = chosen(step, queue, which);
    for item in &chosen {
        list(queue, DEAD).remove(step, *item)?;
        discard_letter(step, *item)?;
    }
    Ok(chosen.len())
}

/// Moves dead letters to the tail of a queue, as items that nobody has tried.
pub(super) fn redrive(
    step: &mut Step<'_>,
    from: At,
    which: &Letters,
    spec: &QueueSpec,
) -> Result<usize> {
    let to = queue(step, spec)?;
    let chosen = chosen(step, from, which);
    for item in &chosen {
        list(from, DEAD).remove(step, *item)?;
        let (written, now) = (step.get(item + UNTIL), step.now);
        step.drop_bytes(written)?;
        let priority = if spec.priorities { step.get(item + COUNTS) >> 32 } else { 0 };
        step.set(item + COUNTS, priority << 32)?;
        step.set(item + SINCE, now)?;
        step.set(item + UNTIL, 0)?;
        step.set(item + QUEUE, to)?;
        line(to, priority.min(9)).push_back(step, *item)?;
    }
    offer_items(step, to, chosen.len() as u64)?;
    Ok(chosen.len())
}

/// Shuts a queue down, and calls all who wait, so that they hear of it.
pub(super) fn shut_down(step: &mut Step<'_>, spec: &QueueSpec) -> Result<()> {
    let queue = queue(step, spec)?;
    step.set(queue + SHUT, 1)?;
    for which in [GETTERS, PUTTERS] {
        while call_first(step, list(queue, which))? {}
    }
    Ok(())
}

fn id_key(queue: At, id: &str) -> Vec<u8> {
    [&queue.to_le_bytes()[..], id.as_bytes()].concat()
}

fn remember(step: &mut Step<'_>, queue: At, key: &[u8], window: Duration) -> Result<()> {
    let record = names::add(step, Kind::Put, key, SEEN_SIZE)?;
    let end = step.now.saturating_add(nanoseconds(window));
    step.init(record + FORGOTTEN, end);
    seen(queue).insert_by(step, record, FORGOTTEN)
}

fn forget_ids(step: &mut Step<'_>, queue: At) -> Result<()> {
    while let record @ 1.. = seen(queue).first(step)
        && step.get(record + FORGOTTEN) <= step.now
    {
        seen(queue).remove(step, record)?;
        names::remove(step, record)?;
    }
    Ok(())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    nanoseconds(since)
}

/// A failure as bytes: its reason's place among all, then each text with its length.
fn write_failure(step: &mut Step<'_>, failure: &Failure) -> Result<At> {
    let reason = Reason::ALL.iter().position(|reason| *reason == failure.reason).unwrap_or(0);
    let texts = [&failure.error, &failure.words, &failure.origin];
    let lengths = texts.map(|text| (text.len() as u64).to_le_bytes());
    let parts: Vec<&[u8]> = (lengths.iter().zip(texts))
        .flat_map(|(length, text)| [&length[..], text.as_bytes()])
        .collect();
    let reason = [reason as u8];
    step.put_bytes(&[&[&reason[..]], &parts[..]].concat())
}

fn read_failure(bytes: &[u8]) -> Failure {
    let Some((reason, mut rest)) = bytes.split_first() else { return Failure::default() };
    let reason = Reason::ALL.get(usize::from(*reason)).copied().unwrap_or_default();
    let mut failure = Failure::new(reason);
    for text in [&mut failure.error, &mut failure.words, &mut failure.origin] {
        let Some((length, behind)) = rest.split_first_chunk::<8>() else { break };
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let Some((own, behind)) = behind.split_at_checked(length) else { break };
        (*text, rest) = (String::from_utf8_lossy(own).into_owned(), behind);
    }
    failure
}
