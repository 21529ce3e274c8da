//! What has a name on a bus: topics, queues, addresses, and ids of puts.
//!
//! The invariant: a record that is found by its name begins with the four words of [`Named`]. Names
//! are any bytes; what they mean is their owners'.

use super::heap::{At, Heap};
use super::layout::{BUCKETS, NAMES};
use crate::error::Result;

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Topic = 1,
    Queue = 2,
    Inbox = 3,
    List = 4,
    Put = 5,
}

const NEXT: u64 = 0;
const HASH: u64 = 8;
const NAME: u64 = 16;
const KIND: u64 = 24;
/// Where a record's own words begin.
pub(super) const OWN: u64 = 32;

/// How many names one bucket has at most; more of them are a chain that has no end.
const LONGEST: usize = 1 << 20;

/// The record of that kind and name; 0 where there is none.
pub(super) fn find(heap: &Heap<'_>, kind: Kind, name: &[u8]) -> At {
    let hash = hash(kind, name);
    let mut record = heap.follow(bucket(hash));
    for _ in 0..LONGEST {
        if record == 0 {
            return 0;
        }
        let same = heap.get(record + HASH) == hash && heap.get(record + KIND) == kind as u64;
        if same && heap.same_bytes(heap.follow(record + NAME), name) {
            return record;
        }
        record = heap.follow(record + NEXT);
    }
    drop(heap.damaged());
    0
}

/// A new record of `bytes`, its own words all 0.
pub(super) fn add(heap: &mut Heap<'_>, kind: Kind, name: &[u8], bytes: u64) -> Result<At> {
    let record = heap.alloc(bytes)?;
    let stored = heap.put_bytes(&[name])?;
    let hash = hash(kind, name);
    heap.init(record + NEXT, heap.get(bucket(hash)));
    heap.init(record + HASH, hash);
    heap.init(record + NAME, stored);
    heap.init(record + KIND, kind as u64);
    for word in OWN / 8..bytes / 8 {
        heap.init(record + 8 * word, 0);
    }
    heap.set(bucket(hash), record)?;
    Ok(record)
}

/// Takes a record out and frees it and its name.
pub(super) fn remove(heap: &mut Heap<'_>, record: At) -> Result<()> {
    let mut link = bucket(heap.get(record + HASH));
    for _ in 0..LONGEST {
        let there = heap.follow(link);
        if there == record || there == 0 {
            break;
        }
        link = there + NEXT;
    }
    if record == 0 || heap.get(link) != record {
        return Err(heap.damaged());
    }
    heap.set(link, heap.get(record + NEXT))?;
    heap.drop_bytes(heap.follow(record + NAME))?;
    heap.free(record)?;
    Ok(())
}

pub(super) fn name(heap: &Heap<'_>, record: At) -> Vec<u8> {
    heap.bytes(heap.follow(record + NAME))
}

fn bucket(hash: u64) -> At {
    NAMES + 8 * (hash % BUCKETS)
}

/// FNV-1a: short, and the same in every version that shares a layout.
fn hash(kind: Kind, name: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let begin = 0xcbf2_9ce4_8422_2325 ^ kind as u64;
    let mixed = name.iter().fold(begin, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME));
    mixed ^ (mixed >> 29)
}
