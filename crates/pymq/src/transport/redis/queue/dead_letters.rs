//! The dead letters of a queue: looked at, moved to a queue, thrown away.
//!
//! The one invariant: what is named is moved or thrown away once, if it is there still; what is moved
//! is in one of the two lists at any moment. Long lists are worked off in portions, since a script keeps
//! everybody else waiting.

use bytes::Bytes;

use super::super::Core;
use super::super::purpose::Purpose;
use super::super::resp::{Command, Reply};
use super::keys::Keys;
use super::push::push;
use super::shelves::{purge, tail};
use super::{letter_format, scripts};
use crate::error::Result;
use crate::transport::{DeadLetter, Letters, PutOptions, QueueSpec, Receipt, Shelf};

/// The most letters that one run of a script moves when the oldest are asked for.
const OLDEST: usize = 1000;
/// The most such runs for one request: a server may say for ever that it moved some.
const PORTIONS: usize = 10_000;
/// The most named letters, and the most bytes of them, in one portion: the server may have to search for
/// each.
const NAMED: (usize, usize) = (100, 1 << 20);
/// No list is so long, and scripts can count so far.
const FARTHEST: u64 = 1 << 40;

/// Up to `limit` letters after the `skip` oldest.
pub(super) async fn look(
    core: &Core,
    spec: &QueueSpec,
    skip: usize,
    limit: usize,
) -> Result<Vec<DeadLetter>> {
    let purpose = Purpose::idempotent("look", &spec.name);
    core.check(&purpose)?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let keys = Keys::new(core, spec);
    let letters = tail(core, purpose, &keys.dead, skip, limit).await?;
    let read = |(place, stored)| letter_format::read(stored, skip + place);
    Ok(letters.into_iter().enumerate().map(read).collect())
}

/// Moves letters to the tail of a queue, oldest first.
pub(super) async fn redrive(
    core: &Core,
    spec: &QueueSpec,
    which: Letters,
    to: &QueueSpec,
) -> Result<usize> {
    let purpose = Purpose::change("redrive", &spec.name);
    core.check(&purpose)?;
    let mut moved = 0;
    match which {
        Letters::Oldest(limit) => {
            for _ in 0..PORTIONS {
                let portion = (limit - moved).min(OLDEST);
                let count = move_some(core, purpose, spec, to, portion, &[]).await?.min(portion);
                moved += count;
                if count < OLDEST {
                    break;
                }
            }
        }
        Letters::These(receipts) => {
            for portion in portions(receipts) {
                let named = named(&portion, moved);
                moved += move_some(core, purpose, spec, to, 0, &named).await?.min(portion.len());
            }
        }
    }
    Ok(moved)
}

/// Moves letters to a queue that lies in another slot of a cluster, where no step of a server reaches both:
/// they are put there first, and thrown away then. Whoever dies between the two leaves them in both.
pub(super) async fn carry(
    from: (&Core, &QueueSpec),
    which: Letters,
    to: (&Core, &QueueSpec),
) -> Result<usize> {
    let purpose = Purpose::change("redrive", &from.1.name);
    from.0.check(&purpose)?;
    let mut moved = 0;
    match which {
        Letters::Oldest(limit) => {
            for _ in 0..PORTIONS {
                let portion = (limit - moved).min(OLDEST);
                let letters = look(from.0, from.1, 0, portion).await?;
                let last = letters.len() < OLDEST;
                moved += carry_some(from, letters, to).await?;
                if last {
                    break;
                }
            }
        }
        Letters::These(receipts) => {
            for portion in portions(receipts) {
                let letters = still_there(from, portion).await?;
                moved += carry_some(from, letters, to).await?;
            }
        }
    }
    Ok(moved)
}

async fn carry_some(
    (core, spec): (&Core, &QueueSpec),
    letters: Vec<DeadLetter>,
    (there, to): (&Core, &QueueSpec),
) -> Result<usize> {
    // There is always space for what had a place before.
    let mut to = to.clone();
    to.maxsize = 0;
    let priority = |letter: &DeadLetter| letter_format::priority(&letter.receipt.stored);
    for alike in letters.chunk_by(|one, next| priority(one) == priority(next)) {
        let options = PutOptions::new().priority(alike.first().map_or(0, priority));
        let items = alike.iter().map(|letter| letter.payload.clone()).collect();
        push(there, &to, items, options).await?;
    }
    let count = letters.len();
    let gone = letters.into_iter().map(|letter| letter.receipt).collect();
    discard(core, spec, Letters::These(gone)).await?;
    Ok(count)
}

/// Those of a queue's letters that nobody has moved or thrown away yet.
async fn still_there(
    (core, spec): (&Core, &QueueSpec),
    letters: Vec<Receipt>,
) -> Result<Vec<DeadLetter>> {
    let (keys, purpose) = (Keys::new(core, spec), Purpose::idempotent("redrive", &spec.name));
    let find = |letter: &Receipt| Command::new("LPOS").arg(&keys.dead).arg(&letter.stored);
    let replies = core.commands.pipeline(purpose, &letters.iter().map(find).collect()).await?;
    let mut there = Vec::with_capacity(letters.len());
    for (letter, reply) in letters.into_iter().zip(replies) {
        if purpose.check(Some(reply))?.number().is_some() {
            let place = usize::try_from(letter.number).unwrap_or(usize::MAX);
            there.push(letter_format::read(letter.stored, place));
        }
    }
    Ok(there)
}

/// Moves so many, or those that are named.
async fn move_some(
    core: &Core,
    purpose: Purpose<'_>,
    spec: &QueueSpec,
    to: &QueueSpec,
    most: usize,
    named: &[Bytes],
) -> Result<usize> {
    let (keys, to) = (Keys::new(core, spec), Keys::new(core, to));
    let names = [keys.dead.as_str(), &to.list, &keys.spare];
    let most = most.to_string();
    let words = [to.urgents().as_bytes(), most.as_bytes()];
    let arguments: Vec<&[u8]> = words.into_iter().chain(named.iter().map(|word| &**word)).collect();
    let reply = core.commands.script(purpose, &scripts::REDRIVE, &names, &arguments).await?;
    Ok(reply.count())
}

/// Throws letters away.
pub(super) async fn discard(core: &Core, spec: &QueueSpec, which: Letters) -> Result<usize> {
    let purpose = Purpose::change("discard", &spec.name);
    core.check(&purpose)?;
    let keys = Keys::new(core, spec);
    match which {
        Letters::Oldest(usize::MAX) => purge(core, spec, Shelf::Dead).await,
        Letters::Oldest(0) => Ok(0),
        Letters::Oldest(count) => {
            let last = i64::try_from(count).map_or(i64::MIN, |count| -count - 1);
            let cut = Command::new("LTRIM").arg(&keys.dead).arg("0").number(last);
            let commands = vec![Command::new("LLEN").arg(&keys.dead), cut];
            let replies = core.commands.transaction(purpose, commands).await?;
            Ok(replies.first().map_or(0, Reply::count).min(count))
        }
        Letters::These(receipts) => {
            let mut gone = 0;
            for portion in portions(receipts) {
                let named = named(&portion, gone);
                let arguments: Vec<&[u8]> = named.iter().map(|word| &**word).collect();
                let names = [keys.dead.as_str(), &keys.spare];
                let reply =
                    core.commands.script(purpose, &scripts::DISCARD, &names, &arguments).await?;
                gone += reply.count().min(portion.len());
            }
            Ok(gone)
        }
    }
}

/// Letters as the scripts take them: the bytes of each, and its place now that so many before it are gone.
fn named(letters: &[Receipt], gone: usize) -> Vec<Bytes> {
    let gone = u64::try_from(gone).unwrap_or(u64::MAX);
    let words = |letter: &Receipt| {
        let place = letter.number.saturating_sub(gone).min(FARTHEST);
        [letter.stored.clone(), Bytes::from(place.to_string())]
    };
    letters.iter().flat_map(words).collect()
}

/// Named letters, oldest first, in portions.
fn portions(mut receipts: Vec<Receipt>) -> Vec<Vec<Receipt>> {
    receipts.sort_by_key(|receipt| receipt.number);
    let mut portions: Vec<Vec<Receipt>> = Vec::new();
    let (most, mut room) = NAMED;
    for receipt in receipts {
        let size = receipt.stored.len();
        match portions.last_mut() {
            Some(portion) if portion.len() < most && size <= room => {
                room -= size;
                portion.push(receipt);
            }
            _ => {
                room = NAMED.1.saturating_sub(size);
                portions.push(vec![receipt]);
            }
        }
    }
    portions
}
