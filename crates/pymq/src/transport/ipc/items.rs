//! The items of queues: their words, and the moves between waiting, leased, due later, and dead.
//!
//! The invariant: an item is in one list or order at any time: a line, those due later, its holder's
//! leases, those that outlive their holders, or the dead letters.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

use super::heap::{At, Heap};
use super::peers::{self, Step};
use super::{dead_letters, shelves, waits};
use crate::error::Result;
use crate::transport::{
    Claimed, Due, PutOptions, QueueSpec, Reason, Receipt, SettleOptions, Settlement,
};

/// The words of an item.
const PAYLOAD: u64 = 16;
/// Deliveries in the lower half; above them the priority, and whether the last of these deliveries
/// is one that was fetched ahead and shown to nobody yet.
pub(super) const COUNTS: u64 = 24;
const UNSHOWN: u64 = 1 << 40;
/// Since when it could be taken; of a dead letter, when it died.
pub(super) const SINCE: u64 = 32;
/// When it is due; of a leased one, until when the lease lasts whoever dies; of a dead letter, why.
pub(super) const UNTIL: u64 = 40;
/// Of its lease, of it as a dead letter, or among those that are due at the same time.
pub(super) const NUMBER: u64 = 48;
const OWNER: u64 = 56;
pub(super) const OWNERS_LINKS: u64 = 64;
pub(super) const QUEUE: u64 = 80;
/// What decides its fate: its holder's most deliveries, and most dead letters above.
const FATE: u64 = 88;
/// How long it is leased to a connection that does not run.
const LEASE: u64 = 96;
const SIZE: u64 = 104;

const LOWER: u64 = u32::MAX as u64;

/// Puts new items in line, or among those that are due later.
pub(super) fn append(
    step: &mut Step<'_>,
    queue: At,
    items: &[Bytes],
    options: &PutOptions,
) -> Result<()> {
    let delay = if options.due == Due::Now { Duration::ZERO } else { options.due.delay() };
    let due = step.now.saturating_add(nanoseconds(delay));
    let now = step.now;
    for payload in items {
        let item = step.alloc(SIZE)?;
        let payload = step.put_bytes(&[payload])?;
        step.init(item + PAYLOAD, payload);
        step.init(item + COUNTS, u64::from(options.priority) << 32);
        step.init(item + SINCE, now);
        step.init(item + UNTIL, due);
        step.init(item + NUMBER, 0);
        step.init(item + OWNER, 0);
        step.init(item + QUEUE, queue);
        if delay.is_zero() {
            shelves::line(queue, u64::from(options.priority)).push_back(step, item)?;
        } else {
            put_off(step, queue, item, due)?;
        }
    }
    // For those that are due later somebody is to keep the time.
    let called = if delay.is_zero() { items.len() } else { 1 };
    waits::offer_items(step, queue, called as u64)
}

/// Puts an item that is in no list among those that are due later, behind those due at the same time.
fn put_off(step: &mut Step<'_>, queue: At, item: At, due: u64) -> Result<()> {
    let number = step.number()?;
    step.set(item + UNTIL, due)?;
    step.set(item + NUMBER, number)?;
    shelves::later(queue).insert(step, item)
}

/// Lines up an item that is in no list and due by now, by its priority.
pub(super) fn line_up(step: &mut Step<'_>, queue: At, item: At) -> Result<()> {
    let (due, priority) = (step.get(item + UNTIL), priority(step, item));
    step.set(item + SINCE, due)?;
    shelves::line(queue, priority).push_back(step, item)
}

fn priority(heap: &Heap<'_>, item: At) -> u64 {
    (heap.get(item + COUNTS) >> 32).min(9)
}

/// Leases an item that is in no list.
pub(super) fn lease(
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
        payload: payload(step, item),
        deliveries: deliveries(step, item),
        receipt: Receipt { stored: Bytes::new(), number },
    })
}

pub(super) fn deliveries(heap: &Heap<'_>, item: At) -> u32 {
    (heap.get(item + COUNTS) & LOWER) as u32
}

pub(super) fn payload(heap: &Heap<'_>, item: At) -> Bytes {
    heap.bytes(heap.follow(item + PAYLOAD)).into()
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
        Settlement::Ack => discard(step, item),
        Settlement::Requeue => fail(step, queue, item, options),
        Settlement::Return => untake(step, queue, item),
        Settlement::Reject => dead_letters::bury(step, queue, item, options, Reason::Rejected),
    }
}

/// Ends a lease whose holder is gone; one that was extended lasts for its time.
pub(super) fn abandon(step: &mut Step<'_>, item: At) -> Result<()> {
    let queue = take_from_owner(step, item)?;
    if step.get(item + UNTIL) > step.now {
        shelves::count_leased(step, queue, 1)?;
        shelves::orphans(queue).insert(step, item)?;
        // Somebody is to keep the time.
        return waits::offer_items(step, queue, 1);
    }
    give_up(step, queue, item)
}

/// What becomes of an item whose holder died, or stood still for too long.
pub(super) fn give_up(step: &mut Step<'_>, queue: At, item: At) -> Result<()> {
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
    let (owner, queue) = (step.follow(item + OWNER), step.follow(item + QUEUE));
    peers::leases(owner).remove(step, item)?;
    step.set(item + OWNER, 0)?;
    shelves::discount_leased(step, queue)?;
    Ok(queue)
}

/// Puts an item back that was tried in vain, or gives it up.
fn fail(step: &mut Step<'_>, queue: At, item: At, options: &SettleOptions) -> Result<()> {
    let most = step.get(item + FATE) & LOWER;
    if most > 0 && u64::from(deliveries(step, item)) >= most {
        return dead_letters::bury(step, queue, item, options, Reason::TooManyDeliveries);
    }
    if options.delay.is_zero() {
        return put_back(step, queue, item);
    }
    let due = step.now.saturating_add(nanoseconds(options.delay));
    put_off(step, queue, item, due)?;
    waits::offer_items(step, queue, 1)
}

fn put_back(step: &mut Step<'_>, queue: At, item: At) -> Result<()> {
    let priority = priority(step, item);
    shelves::line(queue, priority).push_front(step, item)?;
    waits::offer_items(step, queue, 1)
}

/// How many dead letters the holder of an item keeps at most; `None` for any number.
pub(super) fn most_letters(heap: &Heap<'_>, item: At) -> Option<u64> {
    let most = heap.get(item + FATE) >> 32;
    (most > 0 && most != LOWER).then_some(most)
}

/// Makes an item one that nobody has tried, in the line of another queue.
pub(super) fn begin_again(
    step: &mut Step<'_>,
    item: At,
    queue: At,
    priorities: bool,
) -> Result<()> {
    let (now, priority) = (step.now, if priorities { priority(step, item) } else { 0 });
    step.set(item + COUNTS, priority << 32)?;
    step.set(item + SINCE, now)?;
    step.set(item + UNTIL, 0)?;
    step.set(item + QUEUE, queue)?;
    shelves::line(queue, priority).push_back(step, item)
}

pub(super) fn queue_of(heap: &Heap<'_>, item: At) -> At {
    heap.follow(item + QUEUE)
}

pub(super) fn discard(step: &mut Step<'_>, item: At) -> Result<()> {
    let payload = step.follow(item + PAYLOAD);
    step.drop_bytes(payload)?;
    step.free(item)?;
    Ok(())
}

/// Makes sure that a lease lasts until then, whatever becomes of its holder.
pub(super) fn extend(step: &mut Step<'_>, item: At, duration: Duration) -> Result<()> {
    let until = step.now.saturating_add(nanoseconds(duration));
    let before = step.get(item + UNTIL);
    step.set(item + UNTIL, before.max(until))
}

pub(super) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
