//! Where what lies in the file of a bus.
//!
//! The file has holes: only what is used of the log and of the arena takes memory. Everything is in
//! words of eight bytes, in the machine's order; another layout has another [`VERSION`].

use super::addresses;
use super::heap::At;
use super::list::List;
use super::treap::Treap;

/// What a file of ours begins with: `PyMQ ipc`.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"PyMQ ipc");
/// Raised with every change to what is said here or in any record.
pub(super) const VERSION: u64 = 6;

/// Words of the header, which no step of the heap changes.
pub(super) const MAGIC_AT: At = 0;
pub(super) const VERSION_AT: At = 8;
/// A number by chance, by which a file is told from another one that was written over it.
pub(super) const IDENTITY_AT: At = 16;
/// During which run of the system the locks and clocks were last right.
pub(super) const BOOT_AT: At = 24;
/// The lock of the bus.
pub(super) const LOCK: At = 64;
/// Changes after each step that changes who subscribes; goes on when a step is undone.
pub(super) const GENERATION: At = 128;
/// The process that took the lock last, for people.
pub(super) const HOLDER: At = 136;

/// Up to where the log has memory.
pub(super) const LOG_PROVIDED: At = 144;
/// Changes when somebody joins or leaves, so that everybody finds out whom to watch over.
pub(super) const MEMBERS: At = 152;
/// In which space all who use this file number their threads; 0 where there are several.
pub(super) const NUMBERING: At = 160;

/// A connection's place: its life sign, and the bell by which it is woken.
pub(super) const SLOTS: u64 = 1024;
const SLOT: At = 4096;
const SLOT_SIZE: u64 = 128;

/// The lock that a connection holds as long as it lives.
pub(super) const fn beacon(slot: u64) -> At {
    SLOT + slot * SLOT_SIZE
}

/// A number that grows when the connection is called, and tells whether it sleeps; four bytes, since
/// the system waits for four.
pub(super) const fn bell(slot: u64) -> At {
    SLOT + slot * SLOT_SIZE + 64
}

/// The process of a connection, for people.
pub(super) const fn process(slot: u64) -> At {
    SLOT + slot * SLOT_SIZE + 72
}

/// When a connection was last seen to run, by a clock that stands while the machine sleeps.
pub(super) const fn beat(slot: u64) -> At {
    SLOT + slot * SLOT_SIZE + 80
}

/// The same for the runtime of a connection, which is woken by a pipe.
pub(super) const fn doorbell(slot: u64) -> At {
    SLOT + slot * SLOT_SIZE + 88
}

/// Whether the runtime of a connection takes its post; else its thread does.
pub(super) const fn attended(slot: u64) -> At {
    SLOT + slot * SLOT_SIZE + 96
}

/// From here on words change in steps only.
pub(super) const ROOT: At = SLOT + SLOTS * SLOT_SIZE;
/// The largest number given out.
pub(super) const NUMBER: At = ROOT;
/// Up to where the arena was ever used, and up to where the file has it.
pub(super) const FRESH: At = ROOT + 8;
pub(super) const PROVIDED: At = ROOT + 16;
/// How many queues there may be before unused ones are looked for.
pub(super) const CLEAR_AT: At = ROOT + 24;
/// Free blocks by size, and, last, the largest ones that have no memory: the first one, and how many.
pub(super) const BLOCKS: At = ROOT + 32;
pub(super) const BLOCK_COUNTS: At = BLOCKS + 8 * 18;
const LISTS: At = BLOCK_COUNTS + 8 * 18;
pub(super) const PEERS: List = List::new(LISTS, 0);
pub(super) const PATTERNS: List = List::new(LISTS + List::SIZE, 0);
pub(super) const QUEUES: List = List::new(LISTS + 2 * List::SIZE, 32);
/// Kept letters, the first to expire first.
pub(super) const KEPT: Treap =
    Treap::new(LISTS + 3 * List::SIZE, addresses::KEPT_LINKS, addresses::UNTIL, addresses::UNTIL);
/// The record of the connection in each slot.
pub(super) const SEATED: At = LISTS + 3 * List::SIZE + Treap::SIZE;
/// What has a name, by the hash of it.
pub(super) const NAMES: At = SEATED + 8 * SLOTS;
pub(super) const BUCKETS: u64 = 16_384;
pub(super) const ROOT_END: At = NAMES + 8 * BUCKETS;

/// How many words of the log are used, then pairs of a place and what was there.
pub(super) const LOG: At = 1 << 20;
pub(super) const LOG_END: At = LOG + (512 << 20);
/// Blocks. Behind the log, so that either can grow.
pub(super) const ARENA: At = LOG_END;

const _: () = assert!(ROOT_END <= LOG && ARENA.is_multiple_of(1 << 16));
