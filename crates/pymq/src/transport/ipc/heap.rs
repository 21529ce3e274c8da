//! Memory that several processes change in steps, each done whole or not at all.
//!
//! The invariant: whoever holds the lock of the bus may be killed after any store, and
//! [`recover`](Heap::recover) brings back the state before the step. Each word is written down in a
//! log before it is changed ([`set`](Heap::set)), and one store that empties the log commits the
//! step. Only what nothing committed points at is written without ([`init`](Heap::init)); for that
//! reason what a step frees is free from its end on only.
//!
//! What it reads may have been damaged. A place that is [`followed`](Heap::follow) is one in the arena,
//! so that what is added to it stays small; lists and blocks are looked at before they are changed; and
//! a step reads a bounded number of words, so that a cycle in a damaged file cannot hold it for ever.
//! What makes no sense ends the step with an error.
//!
//! It knows blocks and bytes, and nothing of queues or topics. It is plain code over
//! [`Memory`]; the lock is its caller's.

use std::cell::Cell;

use super::layout::{
    ARENA, BLOCK_COUNTS, BLOCKS, FRESH, LOG, LOG_END, NUMBER, PROVIDED, ROOT, ROOT_END,
};
use super::mapping::Memory;
use crate::error::{Error, ErrorKind, Result};

/// A place in the file, in bytes from its start; 0 is none.
pub(super) type At = u64;

/// The smallest block: 64 bytes.
const SMALLEST: u64 = 6;
/// The largest block: 64 KiB. What is longer lies in several.
const LARGEST: u64 = 16;
/// Free blocks of the largest size that have no memory are in a list of their own.
const COLD: u64 = 17;
/// How many of the largest size keep theirs: 16 MiB.
const KEPT_WARM: u64 = if cfg!(test) { 4 } else { 256 };
/// How many lose it at a time.
const COOLED: u64 = if cfg!(test) { 4 } else { 256 };
/// A page, which the system does not divide.
const PAGE: u64 = 4096;
/// How much of the log is kept when it is empty.
const KEPT_LOG: u64 = 8 << 20;
/// How many free blocks of a size are kept as they are before neighbours are joined, so that a queue
/// that is filled and emptied does not split and join all the time.
const KEPT_APART: u64 = 64;
/// How much more of the file is asked for when it is used up.
const STEP: u64 = 1 << 18;
const LARGEST_STEP: u64 = 16 << 20;
/// How many words joining a block to its neighbour changes at most, and linking a free one.
const JOINING: u64 = 3;
const LINKING: u64 = 6;
/// How many changes make a step of many parts long enough.
const LONG: u64 = 1 << 18;
/// For how many changes there is to be room before another part of it is begun.
const PART: u64 = 1 << 12;
/// How many words a step looks at, whatever the file's size, and for each 64 bytes of its arena.
const LOOKS: u64 = 1 << 26;
const LOOKS_AT_EACH: u64 = 64;
/// A block begins with its tag: its size, and whether it is free.
const TAG: u64 = 8;
const FREE: u64 = 1;

/// The places in a chunk of bytes: what follows it, and, in the first one, the length of all and by
/// how many it is used.
const CHUNK_NEXT: u64 = 0;
const CHUNK_LENGTH: u64 = 8;
const CHUNK_USERS: u64 = 16;
const CHUNK_BYTES: u64 = 24;
const CHUNK_MOST: usize = (1 << LARGEST) - (TAG + CHUNK_BYTES) as usize;

/// One step on the memory of a bus, in the hands of whoever holds its lock.
pub(super) struct Heap<'a> {
    memory: &'a Memory,
    /// How many words may still be looked at.
    looks: Cell<u64>,
    /// What the step frees, once it is committed.
    doomed: Vec<At>,
    /// How many words that changes at most; the log has room for them.
    owed: u64,
    /// Free blocks whose memory goes back to the system then.
    cooled: Vec<At>,
}

impl<'a> Heap<'a> {
    /// A step that has not begun.
    pub(super) fn new(memory: &'a Memory) -> Self {
        // Not by the file's length as this process knows it, which others make longer.
        let arena = memory.load(PROVIDED).saturating_sub(ARENA);
        let looks = LOOKS.saturating_add((arena / 64).saturating_mul(LOOKS_AT_EACH));
        let looks = Cell::new(looks);
        Self { memory, looks, doomed: Vec::new(), owed: 0, cooled: Vec::new() }
    }

    pub(super) fn memory(&self) -> &'a Memory {
        self.memory
    }

    pub(super) fn get(&self, at: At) -> u64 {
        match self.looks.get().checked_sub(1) {
            Some(left) => self.looks.set(left),
            None => drop(self.damaged()),
        }
        self.memory.load(at)
    }

    /// The place that stands at a place: one in the arena, or none.
    pub(super) fn follow(&self, at: At) -> At {
        self.in_arena(self.get(at))
    }

    /// A place that was read, if it can be one in the arena; else none.
    pub(super) fn in_arena(&self, place: At) -> At {
        if place == 0 || place >= ARENA && self.memory.holds(place) {
            return place;
        }
        drop(self.damaged());
        0
    }

    /// The error of what makes no sense, which from now on every use of this memory is.
    #[cold]
    pub(super) fn damaged(&self) -> Error {
        self.memory.damaged()
    }

    /// How many records of 64 bytes there can be at most.
    pub(super) fn most_records(&self) -> u64 {
        let (fresh, provided) = (self.get(FRESH), self.get(PROVIDED));
        if fresh < ARENA || fresh > provided {
            drop(self.damaged());
        }
        (provided - provided.min(ARENA)) / (1 << SMALLEST)
    }

    /// Changes a word; what it was is written down first.
    pub(super) fn set(&mut self, at: At, value: u64) -> Result<()> {
        if !is_changed_in_steps(at) {
            return Err(self.damaged());
        }
        let entries = self.make_room(1)?;
        let entry = LOG + 8 + 16 * entries;
        self.memory.store(entry, at);
        self.memory.store(entry + 8, self.memory.load(at));
        self.memory.store(LOG, entries + 1);
        self.memory.store(at, value);
        Ok(())
    }

    /// Fills a word of a block that this step has made.
    pub(super) fn init(&mut self, at: At, value: u64) {
        self.memory.store(at, value);
    }

    pub(super) fn add(&mut self, at: At, more: u64) -> Result<()> {
        match self.get(at).checked_add(more) {
            Some(sum) => self.set(at, sum),
            None => Err(self.damaged()),
        }
    }

    pub(super) fn subtract(&mut self, at: At, less: u64) -> Result<()> {
        match self.get(at).checked_sub(less) {
            Some(left) => self.set(at, left),
            None => Err(self.damaged()),
        }
    }

    /// A number that is larger than every earlier one of this bus.
    pub(super) fn number(&mut self) -> Result<u64> {
        self.add(NUMBER, 1)?;
        Ok(self.get(NUMBER))
    }

    /// Ends the step; from the last store on it is done.
    pub(super) fn commit(&mut self) -> Result<()> {
        while let Some(at) = self.doomed.pop() {
            self.give_back(at)?;
        }
        self.memory.check()?;
        self.memory.store(LOG, 0);
        for block in self.cooled.drain(..) {
            // Its links are in the first page. Nobody can have taken it: we have the lock.
            self.memory.release(block + PAGE, block + (1 << LARGEST));
        }
        self.memory.shorten_log(KEPT_LOG);
        Ok(())
    }

    /// Gives memory back to the system of which much is free; says whether there is more.
    pub(super) fn cool(&mut self) -> Result<bool> {
        let warm = self.get(BLOCK_COUNTS + 8 * LARGEST);
        for _ in 0..warm.saturating_sub(KEPT_WARM).min(COOLED) {
            let block = self.follow(BLOCKS + 8 * LARGEST);
            self.unlink(block, LARGEST)?;
            self.link(block, COLD)?;
            self.cooled.push(block);
        }
        Ok(warm > KEPT_WARM + COOLED)
    }

    /// Undoes a step that was not committed, one's own or that of a process that died in it.
    ///
    /// Going backwards, so that a word that was changed twice ends as it was. Whoever is killed in
    /// here leaves the log as it is, and doing it all again has the same end.
    pub(super) fn recover(&mut self) {
        self.doomed.clear();
        self.owed = 0;
        self.cooled.clear();
        let most = (self.memory.log_end().saturating_sub(LOG + 8)) / 16;
        for number in (0..self.memory.load(LOG).min(most)).rev() {
            let entry = LOG + 8 + 16 * number;
            let at = self.memory.load(entry);
            if !is_changed_in_steps(at) {
                drop(self.damaged());
            }
            self.memory.store(at, self.memory.load(entry + 8));
        }
        self.memory.store(LOG, 0);
    }

    /// A block for that many bytes, with anything in it.
    pub(super) fn alloc(&mut self, bytes: u64) -> Result<At> {
        let wanted = (bytes + TAG).next_power_of_two().trailing_zeros().into();
        let wanted = SMALLEST.max(wanted);
        let Some(found) = (wanted..=LARGEST).find(|size| self.get(BLOCKS + 8 * size) != 0) else {
            let block = self.fresh()?;
            return self.split(block, LARGEST, wanted);
        };
        let block = self.follow(BLOCKS + 8 * found);
        self.unlink(block, found)?;
        self.split(block, found, wanted)
    }

    /// A largest block that has no memory yet, or not any more.
    fn fresh(&mut self) -> Result<At> {
        let cold = self.follow(BLOCKS + 8 * COLD);
        if cold != 0 {
            self.memory.provide(cold, cold + (1 << LARGEST))?;
            self.unlink(cold, COLD)?;
            return Ok(cold);
        }
        let (block, provided) = (self.get(FRESH), self.get(PROVIDED));
        let whole = |at: At| at >= ARENA && (at - ARENA).is_multiple_of(1 << LARGEST);
        let is_there = provided == ARENA || self.memory.holds(provided.saturating_sub(8));
        if !whole(block) || !whole(provided) || block > provided || !is_there {
            return Err(self.damaged());
        }
        let end = block + (1 << LARGEST);
        if end > provided {
            let step = ((provided - ARENA) / 8).clamp(STEP, LARGEST_STEP) >> LARGEST << LARGEST;
            let more = if self.memory.provide(provided, provided + step).is_ok() {
                step
            } else {
                self.memory.provide(provided, end)?;
                1 << LARGEST
            };
            self.set(PROVIDED, provided + more)?;
        }
        self.set(FRESH, end)?;
        self.init(block, LARGEST << 1);
        Ok(block)
    }

    /// Cuts a block that is in no list down to the wanted size.
    fn split(&mut self, block: At, mut size: u64, wanted: u64) -> Result<At> {
        while size > wanted {
            size -= 1;
            self.link(block + (1 << size), size)?;
        }
        self.set(block, wanted << 1)?;
        // They led through the list of free blocks; whoever gets the block writes over them.
        self.set(block + 8, 0)?;
        self.set(block + 16, 0)?;
        Ok(block + TAG)
    }

    /// Frees a block at the end of the step, for which the log has room from now on: so a step whose
    /// work is done cannot fail for want of space.
    pub(super) fn free(&mut self, at: At) -> Result<()> {
        self.owed += freeing(self.size_of(at)?);
        self.doomed.push(at);
        self.make_room(0).map(drop)
    }

    /// Whether a step of many parts may do one more of them: its log is not long yet, and has room. Whoever
    /// ends it there goes on with another one: so nothing is too much for the place where the file lies,
    /// and what frees space there needs none.
    pub(super) fn has_room(&self) -> bool {
        self.memory.load(LOG).saturating_add(self.owed) < LONG && self.has_space()
    }

    /// Whether its log has room for another part, however long it is.
    pub(super) fn has_space(&self) -> bool {
        self.make_room(PART).is_ok()
    }

    /// A block as of [`alloc`](Self::alloc), for what can do without; `None` where there is no space.
    pub(super) fn alloc_if_room(&mut self, bytes: u64) -> Result<Option<At>> {
        if self.has_space() { if_room(self.alloc(bytes)) } else { Ok(None) }
    }

    /// Bytes as of [`put_bytes`](Self::put_bytes), for what can do without them; `None` where there is no
    /// space. Those that take more than one block are an error then.
    pub(super) fn put_bytes_if_room(&mut self, parts: &[&[u8]]) -> Result<Option<At>> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        match self.has_space() {
            true if length <= CHUNK_MOST => if_room(self.put_bytes(parts)),
            true => self.put_bytes(parts).map(Some),
            false => Ok(None),
        }
    }

    /// Sees to it that the log has room for so many more entries, beside those for what is freed;
    /// says how many it has.
    fn make_room(&self, more: u64) -> Result<u64> {
        let entries = self.memory.load(LOG);
        let all = entries.saturating_add(self.owed).saturating_add(more);
        let end = all.saturating_mul(16).saturating_add(LOG + 8);
        if end > self.memory.log_end() {
            if entries > (LOG_END - LOG) / 16 {
                return Err(self.damaged());
            }
            self.memory.provide_log(end.saturating_add(STEP).min(LOG_END))?;
        }
        Ok(entries)
    }

    /// The size of a block that is used.
    fn size_of(&self, at: At) -> Result<u64> {
        let block = at.saturating_sub(TAG);
        let tag = self.get(block);
        let size = tag >> 1;
        if tag & FREE != 0 || !(SMALLEST..=LARGEST).contains(&size) || !lies_well(block, size) {
            return Err(self.damaged());
        }
        Ok(size)
    }

    fn give_back(&mut self, at: At) -> Result<()> {
        let (mut block, mut size) = (at.saturating_sub(TAG), self.size_of(at)?);
        self.owed = self.owed.saturating_sub(freeing(size));
        while size < LARGEST && self.get(BLOCK_COUNTS + 8 * size) >= KEPT_APART {
            let neighbour = ARENA + ((block - ARENA) ^ (1 << size));
            if self.get(neighbour) != (size << 1 | FREE) {
                break;
            }
            self.unlink(neighbour, size)?;
            block = block.min(neighbour);
            size += 1;
        }
        self.link(block, size)
    }

    fn link(&mut self, block: At, size: u64) -> Result<()> {
        let head = BLOCKS + 8 * size;
        let first = self.follow(head);
        self.set(block, size.min(LARGEST) << 1 | FREE)?;
        self.set(block + 8, 0)?;
        self.set(block + 16, first)?;
        if first != 0 {
            self.set(first + 8, block)?;
        }
        self.set(head, block)?;
        self.add(BLOCK_COUNTS + 8 * size, 1)
    }

    fn unlink(&mut self, block: At, size: u64) -> Result<()> {
        let free = size.min(LARGEST) << 1 | FREE;
        if !lies_well(block, size.min(LARGEST)) || self.get(block) != free {
            return Err(self.damaged());
        }
        let (before, after) = (self.follow(block + 8), self.follow(block + 16));
        let leads_here = if before == 0 { BLOCKS + 8 * size } else { before + 16 };
        if self.get(leads_here) != block || after != 0 && self.get(after + 8) != block {
            return Err(self.damaged());
        }
        self.set(leads_here, after)?;
        if after != 0 {
            self.set(after + 8, before)?;
        }
        self.subtract(BLOCK_COUNTS + 8 * size, 1)
    }

    /// Bytes, as the parts make them together; used by one.
    pub(super) fn put_bytes(&mut self, parts: &[&[u8]]) -> Result<At> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let (mut first, mut last) = (0, 0);
        let (mut left, mut room, mut to) = (length, 0, 0);
        for part in parts {
            let mut rest = *part;
            while first == 0 || !rest.is_empty() {
                if room == 0 {
                    room = left.min(CHUNK_MOST);
                    left -= room;
                    let chunk = self.alloc(CHUNK_BYTES + room as u64)?;
                    self.init(chunk + CHUNK_NEXT, 0);
                    if last != 0 {
                        self.init(last + CHUNK_NEXT, chunk);
                    }
                    first = if first == 0 { chunk } else { first };
                    (last, to) = (chunk, chunk + CHUNK_BYTES);
                }
                let (here, later) = rest.split_at(rest.len().min(room));
                self.memory.write(to, here);
                (rest, room, to) = (later, room - here.len(), to + here.len() as u64);
            }
        }
        self.init(first + CHUNK_LENGTH, length as u64);
        self.init(first + CHUNK_USERS, 1);
        Ok(first)
    }

    /// One more uses these bytes.
    pub(super) fn share(&mut self, bytes: At) -> Result<()> {
        self.add(bytes + CHUNK_USERS, 1)
    }

    /// One less uses these bytes; the last one frees them.
    pub(super) fn drop_bytes(&mut self, bytes: At) -> Result<()> {
        let users = self.get(bytes + CHUNK_USERS);
        if bytes == 0 || users == 0 {
            return Err(self.damaged());
        }
        if users > 1 {
            return self.set(bytes + CHUNK_USERS, users - 1);
        }
        let (mut chunk, mut left) = (bytes, self.length(bytes) / CHUNK_MOST as u64 + 1);
        while chunk != 0 {
            left = left.checked_sub(1).ok_or_else(|| self.damaged())?;
            self.free(chunk)?;
            chunk = self.follow(chunk + CHUNK_NEXT);
        }
        Ok(())
    }

    pub(super) fn length(&self, bytes: At) -> u64 {
        self.get(bytes + CHUNK_LENGTH)
    }

    pub(super) fn bytes(&self, bytes: At) -> Vec<u8> {
        let length = self.length(bytes);
        if length >= self.get(PROVIDED) {
            drop(self.damaged());
            return Vec::new();
        }
        let length = length as usize;
        // At once only what is surely there: a length that was damaged must not take all memory.
        let mut read = Vec::with_capacity(length.min(CHUNK_MOST));
        let mut chunk = bytes;
        while read.len() < length {
            if chunk == 0 {
                drop(self.damaged());
                return Vec::new();
            }
            let (begin, here) = (read.len(), (length - read.len()).min(CHUNK_MOST));
            read.resize(begin + here, 0);
            self.memory.read(chunk + CHUNK_BYTES, &mut read[begin..]);
            chunk = self.follow(chunk + CHUNK_NEXT);
        }
        read
    }

    pub(super) fn same_bytes(&self, bytes: At, others: &[u8]) -> bool {
        self.length(bytes) == others.len() as u64 && self.bytes(bytes) == others
    }
}

/// A block, or none where there was no space: then nothing was changed.
fn if_room(made: Result<At>) -> Result<Option<At>> {
    match made {
        Err(error) if error.kind() == ErrorKind::Server => Ok(None),
        made => made.map(Some),
    }
}

/// How many words freeing a block of that size changes, at most.
const fn freeing(size: u64) -> u64 {
    (LARGEST - size) * JOINING + LINKING
}

/// Whether a block of that size can begin there.
fn lies_well(block: At, size: u64) -> bool {
    block >= ARENA && (block - ARENA).is_multiple_of(1 << size)
}

/// Whether steps change what lies there: not locks, bells, and the log itself.
fn is_changed_in_steps(at: At) -> bool {
    at >= ARENA || (ROOT..ROOT_END).contains(&at)
}
