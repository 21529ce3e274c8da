//! Dead letters: items that were given up, with why.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::heap::{At, Heap};
use super::items::{self, NUMBER, SINCE, UNTIL};
use super::peers::{Death, Step};
use super::{names, shelves, waits};
use crate::error::Result;
use crate::transport::{DeadLetter, Failure, Letters, QueueSpec, Reason, Receipt, SettleOptions};

/// Makes an item that is in no list a dead letter; the oldest ones make room for it.
pub(super) fn bury(
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
    let dead = shelves::dead(queue);
    dead.push_back(step, item)?;
    let (most, mut dropped) = (items::most_letters(step, item), 0);
    // Where that is too many for one step, the next dead letter goes on.
    while most.is_some_and(|most| dead.len(step) > most) && step.has_room() {
        let oldest = dead.first(step);
        dead.remove(step, oldest)?;
        forget(step, oldest)?;
        dropped += 1;
    }
    let (name, deliveries) = (names::name(step, queue), items::deliveries(step, item));
    let queue = String::from_utf8_lossy(&name).as_ref().into();
    step.deaths.push(Death { queue, deliveries, failure, dropped });
    Ok(())
}

fn forget(step: &mut Step<'_>, item: At) -> Result<()> {
    drop_failure(step, item)?;
    items::discard(step, item)
}

pub(super) fn letters(heap: &Heap<'_>, queue: At, skip: usize, limit: usize) -> Vec<DeadLetter> {
    shelves::dead(queue)
        .records(heap)
        .skip(skip)
        .take(limit)
        .map(|item| shown(heap, item))
        .collect()
}

fn shown(heap: &Heap<'_>, item: At) -> DeadLetter {
    let receipt = Receipt { stored: Bytes::new(), number: heap.get(item + NUMBER) };
    let mut letter = DeadLetter::new(items::payload(heap, item), receipt);
    letter.failure = failure(heap, item);
    letter.deliveries = Some(items::deliveries(heap, item));
    let died = Duration::from_nanos(heap.get(item + SINCE));
    letter.died = SystemTime::UNIX_EPOCH.checked_add(died);
    letter
}

/// How many are looked at in one step; who wants more goes on with another.
const AT_ONCE: usize = 10_000;

/// The chosen dead letters, oldest first.
fn chosen(heap: &Heap<'_>, queue: At, which: &Letters) -> Vec<At> {
    let dead = shelves::dead(queue).records(heap);
    match which {
        Letters::Oldest(count) => dead.take(AT_ONCE.min(*count)).collect(),
        Letters::These(receipts) => {
            let numbers: HashSet<u64> = receipts.iter().map(|receipt| receipt.number).collect();
            // No further than to the last of them.
            let named = dead.filter(|item| numbers.contains(&heap.get(item + NUMBER)));
            named.take(numbers.len()).collect()
        }
    }
}

/// Deletes chosen dead letters; says how many, and whether there may be more.
pub(super) fn discard(step: &mut Step<'_>, queue: At, which: &Letters) -> Result<(usize, bool)> {
    each(step, chosen(step, queue, which), |step, item| {
        shelves::dead(queue).remove(step, item)?;
        forget(step, item)
    })
}

/// Does something with each of these, as far as the step has room; says with how many, and whether there
/// may be more.
fn each(
    step: &mut Step<'_>,
    items: Vec<At>,
    work: impl Fn(&mut Step<'_>, At) -> Result<()>,
) -> Result<(usize, bool)> {
    let mut count = 0;
    for item in items {
        work(step, item)?;
        count += 1;
        if !step.has_room() {
            return Ok((count, true));
        }
    }
    Ok((count, count >= AT_ONCE))
}

/// Moves dead letters to the tail of a queue, as items that nobody has tried; says how many, and whether
/// there may be more.
pub(super) fn redrive(
    step: &mut Step<'_>,
    from: At,
    which: &Letters,
    spec: &QueueSpec,
) -> Result<(usize, bool)> {
    let to = shelves::queue(step, spec)?;
    let moved = each(step, chosen(step, from, which), |step, item| {
        shelves::dead(from).remove(step, item)?;
        drop_failure(step, item)?;
        items::begin_again(step, item, to, spec.priorities)
    })?;
    waits::offer_items(step, to, moved.0 as u64)?;
    Ok(moved)
}

fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    items::nanoseconds(since)
}

/// A failure as bytes: its reason's place among all, then each text with its length. Says where they lie;
/// where there is no space for them, the reason alone, as a number that is no place.
fn write_failure(step: &mut Step<'_>, failure: &Failure) -> Result<u64> {
    let reason = Reason::ALL.iter().position(|reason| *reason == failure.reason).unwrap_or(0);
    let texts = [&failure.error, &failure.words, &failure.origin];
    let lengths = texts.map(|text| (text.len() as u64).to_le_bytes());
    let parts: Vec<&[u8]> = (lengths.iter().zip(texts))
        .flat_map(|(length, text)| [&length[..], text.as_bytes()])
        .collect();
    let bytes = [reason as u8];
    let written = step.put_bytes_if_room(&[&[&bytes[..]], &parts[..]].concat())?;
    Ok(written.unwrap_or(reason as u64))
}

/// Where the failure of a dead letter lies; its reason alone where there are no words of it.
fn written(heap: &Heap<'_>, item: At) -> std::result::Result<At, u8> {
    match u8::try_from(heap.get(item + UNTIL)) {
        Ok(reason) => Err(reason),
        Err(_) => Ok(heap.follow(item + UNTIL)),
    }
}

fn drop_failure(step: &mut Step<'_>, item: At) -> Result<()> {
    written(step, item).map_or(Ok(()), |bytes| step.drop_bytes(bytes))
}

fn failure(heap: &Heap<'_>, item: At) -> Failure {
    match written(heap, item) {
        Ok(bytes) => read_failure(&heap.bytes(bytes)),
        Err(reason) => read_failure(&[reason]),
    }
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
