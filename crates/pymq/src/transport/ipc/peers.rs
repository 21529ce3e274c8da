//! The connections of a bus as it knows them: a slot, a post box, and what hangs on their lives.
//!
//! The invariant: whatever exists for the sake of one connection (leases, subscriptions, seats,
//! places in lines, post) is in a list of its record, so that its death ends all of it in one step,
//! whoever notices. Post is bounded: the oldest events and letters give way, and are counted where
//! they were meant to go.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::heap::{At, Heap};
use super::layout::{PEERS, SEATED, SLOTS, beacon, beat, bell, process};
use super::list::List;
use super::mapping::Memory;
use super::system::{awake, now};
use super::{addresses, items, topics, waits, watches};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Failure;

/// How much post one connection may have, in bytes and in pieces.
const MOST_BYTES: u64 = 32 << 20;
const MOST_PIECES: u64 = 65_536;
/// What a piece weighs beside its bytes.
const PIECE: u64 = 64;

/// For how long a connection that runs is silent at most, in nanoseconds; no lease is shorter.
const SILENT: u64 = 500_000_000;

/// The words of a connection's record.
const SLOT: u64 = 24;
const POST: u64 = 32;
const POST_BYTES: u64 = 56;
const LEASES: u64 = 64;
const SUBSCRIPTIONS: u64 = 88;
const WAITS: u64 = 112;
const SEATS: u64 = 136;
/// How often leases were taken back from it because it did not run.
pub(super) const LAPSED: u64 = 160;
/// Who watches over it, and over whom it watches.
const WATCHED: u64 = 168;
const WATCHES: u64 = 192;
const SIZE: u64 = 216;

/// The words of a piece of post.
const KIND: u64 = 16;
const NUMBER: u64 = 24;
const RECORD: u64 = 32;
const BYTES: u64 = 40;
pub(super) const PIECE_SIZE: u64 = 48;
const _: () = assert!(PIECE_SIZE <= watches::SIZE, "a watch becomes a piece of post");

/// Kinds of post; an event's also tells by which filter it came, above these bits.
const EVENT: u64 = 1;
const LETTER: u64 = 2;
const TURN: u64 = 3;
const END: u64 = 0;
const KIND_BITS: u64 = 2;

/// A step, and what is to be done when it is over and the lock is free.
pub(super) struct Step<'a> {
    heap: Heap<'a>,
    pub(super) now: u64,
    /// The slots of those who have got post.
    pub(super) called: Vec<u64>,
    /// The slots of those who were found dead.
    pub(super) dead: Vec<u64>,
    /// Items that became dead letters.
    pub(super) deaths: Vec<Death>,
    /// Somebody has subscribed or unsubscribed.
    pub(super) routes_changed: bool,
}

/// An item that became a dead letter.
pub(super) struct Death {
    pub(super) queue: Arc<str>,
    pub(super) deliveries: u32,
    pub(super) failure: Failure,
    /// How many older ones made room for it.
    pub(super) dropped: usize,
}

/// A piece of post as its reader gets it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Post {
    /// An event for a subscription of that number, by that filter of it.
    Event { subscription: u64, filter: usize, body: At },
    /// A letter for the seat of that number.
    Letter { seat: u64, body: At },
    /// The turn of a place in a line has come.
    Turn { ticket: u64 },
    /// Somebody else sits in the seat of that number now.
    Unseated { seat: u64 },
    /// So many events or letters for this number were lost.
    Lost { number: u64, missed: u64 },
}

impl<'a> Step<'a> {
    pub(super) fn new(memory: &'a Memory) -> Self {
        Self {
            heap: Heap::new(memory),
            now: now(),
            called: Vec::new(),
            dead: Vec::new(),
            deaths: Vec::new(),
            routes_changed: false,
        }
    }

    /// Whether a connection lives; one that does not is noted, to be buried after this step.
    pub(super) fn lives(&mut self, peer: At) -> bool {
        let slot = slot(self, peer);
        let lives = !self.dead.contains(&slot) && self.memory().is_held(beacon(slot));
        if !lives && !self.dead.contains(&slot) {
            self.dead.push(slot);
        }
        lives
    }
}

impl<'a> Deref for Step<'a> {
    type Target = Heap<'a>;

    fn deref(&self) -> &Heap<'a> {
        &self.heap
    }
}

impl DerefMut for Step<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.heap
    }
}

/// The connection in a slot; 0 where there is none.
pub(super) fn in_slot(heap: &Heap<'_>, slot: u64) -> At {
    if slot < SLOTS { heap.follow(SEATED + 8 * slot) } else { 0 }
}

/// Seats a new connection in a free slot.
pub(super) fn join(step: &mut Step<'_>, slot: u64) -> Result<At> {
    let peer = step.alloc(SIZE)?;
    for word in 0..SIZE / 8 {
        step.init(peer + 8 * word, 0);
    }
    step.init(peer + SLOT, slot);
    PEERS.push_back(step, peer)?;
    step.set(SEATED + 8 * slot, peer)?;
    let own = u64::from(std::process::id());
    step.memory().store(process(slot), own);
    step.memory().store(beat(slot), awake());
    Ok(peer)
}

/// Ends some of what hangs on the life of a connection; says whether there is more. So the death of one
/// with very much is no single step.
pub(super) fn unburden(step: &mut Step<'_>, slot: u64) -> Result<bool> {
    let peer = in_slot(step, slot);
    while peer != 0 && end_one(step, peer)? {
        if !step.has_room() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Ends one of the things that hang on the life of a connection; says whether there was any.
fn end_one(step: &mut Step<'_>, peer: At) -> Result<bool> {
    // First, so that nothing below is dealt to it.
    if let first @ 1.. = waits(peer).first(step) {
        waits::stop_waiting(step, first)?;
        return Ok(true);
    }
    // The newest first, so that the oldest comes to lie at the head.
    if let last @ 1.. = leases(peer).last(step) {
        items::abandon(step, last)?;
        return Ok(true);
    }
    if watches::end_one(step, peer)? {
        return Ok(true);
    }
    // Before what it names.
    if let first @ 1.. = post(peer).first(step) {
        discard(step, peer, first)?;
        return Ok(true);
    }
    if let first @ 1.. = subscriptions(peer).first(step) {
        // Filter by filter, since there may be very many.
        if !topics::end_filter(step, first)? {
            topics::end(step, first)?;
        }
        return Ok(true);
    }
    let first = seats(peer).first(step);
    if first != 0 {
        addresses::stand_up(step, first)?;
    }
    Ok(first != 0)
}

/// Ends everything that hangs on the life of a connection: what it held goes back, and what it took
/// part in goes on without it.
pub(super) fn leave(step: &mut Step<'_>, slot: u64) -> Result<()> {
    let peer = in_slot(step, slot);
    if peer == 0 {
        return Ok(());
    }
    while end_one(step, peer)? {}
    PEERS.remove(step, peer)?;
    step.set(SEATED + 8 * slot, 0)?;
    step.free(peer)?;
    Ok(())
}

/// Takes back what a connection holds that has not run for the length of its leases: it may be stopped,
/// and is told when it goes on.
pub(super) fn look_whether_it_runs(step: &mut Step<'_>, slot: u64) -> Result<()> {
    let silent = awake().saturating_sub(step.memory().load(beat(slot)));
    if silent < SILENT {
        return Ok(());
    }
    let peer = in_slot(step, slot);
    let held: Vec<At> = leases(peer).records(step).collect();
    // The newest first, so that the oldest comes to lie at the head.
    for item in held.into_iter().rev() {
        if items::take_back(step, item, silent)? {
            step.add(peer + LAPSED, 1)?;
        }
        if !step.has_room() {
            break;
        }
    }
    Ok(())
}

/// The slot of a connection.
pub(super) fn slot(heap: &Heap<'_>, peer: At) -> u64 {
    let slot = heap.get(peer + SLOT);
    if slot < SLOTS {
        return slot;
    }
    drop(heap.damaged());
    0
}

/// All connections that are there, living or not noticed to be dead.
pub(super) fn slots(heap: &Heap<'_>) -> Vec<u64> {
    PEERS.records(heap).map(|peer| slot(heap, peer)).collect()
}

/// The slot of the one before a connection in the ring of all, in which they stand as they have joined:
/// the last one's for the first, and the first one's where none is named.
pub(super) fn in_ring(heap: &Heap<'_>, peer: At) -> u64 {
    let before = match peer {
        0 => PEERS.first(heap),
        peer => PEERS.previous(heap, peer),
    };
    slot(heap, if before == 0 { PEERS.last(heap) } else { before })
}

/// The slots of those who have post.
pub(super) fn with_post(heap: &Heap<'_>) -> Vec<u64> {
    let peers = PEERS.records(heap).filter(|peer| has_post(heap, *peer));
    peers.map(|peer| slot(heap, peer)).collect()
}

pub(super) const fn leases(peer: At) -> List {
    List::new(peer + LEASES, items::OWNERS_LINKS)
}

pub(super) const fn subscriptions(peer: At) -> List {
    List::new(peer + SUBSCRIPTIONS, 0)
}

pub(super) const fn waits(peer: At) -> List {
    List::new(peer + WAITS, 16)
}

pub(super) const fn seats(peer: At) -> List {
    List::new(peer + SEATS, addresses::SEAT_LINKS)
}

pub(super) const fn watched(peer: At) -> List {
    List::new(peer + WATCHED, 0)
}

pub(super) const fn watches(peer: At) -> List {
    List::new(peer + WATCHES, watches::KEEPERS_LINKS)
}

const fn post(peer: At) -> List {
    List::new(peer + POST, 0)
}

/// Leaves an event with a connection that lives; the bytes are used once more.
pub(super) fn send_event(
    step: &mut Step<'_>,
    peer: At,
    subscription: At,
    filter: u64,
    body: At,
) -> Result<()> {
    let number = step.get(subscription + topics::NUMBER);
    leave_post(step, peer, EVENT | filter << KIND_BITS, number, subscription, body)
}

/// Leaves a letter with the reader of a seat.
pub(super) fn send_letter(step: &mut Step<'_>, peer: At, seat: At, body: At) -> Result<()> {
    let number = step.get(seat + addresses::NUMBER);
    leave_post(step, peer, LETTER, number, seat, body)
}

/// Leaves a letter that was kept with the reader of a seat; in the block of the letter, which is in no list
/// any more, and with its share in the bytes.
pub(super) fn send_kept(
    step: &mut Step<'_>,
    peer: At,
    seat: At,
    letter: At,
    body: At,
) -> Result<()> {
    let number = step.get(seat + addresses::NUMBER);
    for (word, value) in [(KIND, LETTER), (NUMBER, number), (RECORD, seat), (BYTES, body)] {
        step.set(letter + word, value)?;
    }
    weigh(step, peer, body)?;
    hang(step, peer, letter)
}

/// Tells a connection that one of those whom it watches over has ended; in the block of the watch, which is
/// in no list any more: so the dead are buried where there is no space for another one.
pub(super) fn call_in(step: &mut Step<'_>, peer: At, watch: At, ticket: u64) -> Result<()> {
    for (word, value) in [(KIND, TURN), (NUMBER, ticket), (RECORD, 0), (BYTES, 0)] {
        step.set(watch + word, value)?;
    }
    hang(step, peer, watch)
}

/// Tells a connection that the turn of one of its places has come; says whether there was space for that.
pub(super) fn call_if_room(step: &mut Step<'_>, peer: At, ticket: u64) -> Result<bool> {
    let Some(piece) = step.alloc_if_room(PIECE_SIZE)? else { return Ok(false) };
    fill_piece(step, peer, piece, [TURN, ticket, 0, 0])?;
    Ok(true)
}

/// Tells a connection that it has lost a seat, and throws away what lies there for it.
pub(super) fn unseat(step: &mut Step<'_>, peer: At, seat: At, number: u64) -> Result<()> {
    let pieces: Vec<At> = post(peer).records(step).collect();
    for piece in pieces {
        if step.follow(piece + RECORD) == seat {
            discard(step, peer, piece)?;
        }
    }
    leave_post(step, peer, END, number, 0, 0)
}

fn leave_post(
    step: &mut Step<'_>,
    peer: At,
    kind: u64,
    number: u64,
    record: At,
    body: At,
) -> Result<()> {
    let piece = step.alloc(PIECE_SIZE)?;
    fill_piece(step, peer, piece, [kind, number, record, body])
}

fn fill_piece(
    step: &mut Step<'_>,
    peer: At,
    piece: At,
    [kind, number, record, body]: [u64; 4],
) -> Result<()> {
    step.init(piece + KIND, kind);
    step.init(piece + NUMBER, number);
    step.init(piece + RECORD, record);
    step.init(piece + BYTES, body);
    if body != 0 {
        step.share(body)?;
        weigh(step, peer, body)?;
    }
    hang(step, peer, piece)
}

/// Adds the bytes of a piece to what a connection has in its post.
fn weigh(step: &mut Step<'_>, peer: At, body: At) -> Result<()> {
    let weight = step.length(body).saturating_add(PIECE);
    step.add(peer + POST_BYTES, weight)
}

/// Puts a piece that is filled into the post of a connection.
fn hang(step: &mut Step<'_>, peer: At, piece: At) -> Result<()> {
    post(peer).push_back(step, piece)?;
    shorten(step, peer, piece)?;
    let slot = slot(step, peer);
    if !step.called.contains(&slot) {
        step.called.push(slot);
    }
    Ok(())
}

/// Discards the oldest events and letters while there is too much, but for the newest piece. Of each
/// subscription or seat the first that is lost stays, without its bytes: there its reader is told how many
/// were, be they the last that ever came for it.
fn shorten(step: &mut Step<'_>, peer: At, newest: At) -> Result<()> {
    let mut oldest = post(peer).first(step);
    while oldest != newest
        && (step.get(peer + POST_BYTES) > MOST_BYTES || post(peer).len(step) > MOST_PIECES)
    {
        let (next, record) = (post(peer).next(step, oldest), step.follow(oldest + RECORD));
        let body = step.follow(oldest + BYTES);
        if record != 0 && body != 0 {
            let missed = step.get(record + topics::MISSED);
            step.add(record + topics::MISSED, 1)?;
            if missed == 0 {
                lighten(step, peer, body)?;
                step.set(oldest + BYTES, 0)?;
            } else {
                discard(step, peer, oldest)?;
            }
        }
        oldest = next;
    }
    Ok(())
}

fn discard(step: &mut Step<'_>, peer: At, piece: At) -> Result<()> {
    post(peer).remove(step, piece)?;
    let body = step.follow(piece + BYTES);
    if body != 0 {
        lighten(step, peer, body)?;
    }
    step.free(piece)
}

/// Takes the bytes of a piece away.
fn lighten(step: &mut Step<'_>, peer: At, body: At) -> Result<()> {
    let weight = step.length(body).saturating_add(PIECE);
    step.subtract(peer + POST_BYTES, weight)?;
    step.drop_bytes(body)
}

/// Whether a connection has post.
pub(super) fn has_post(heap: &Heap<'_>, peer: At) -> bool {
    pieces(heap, peer) > 0
}

/// How many pieces of post a connection has.
pub(super) fn pieces(heap: &Heap<'_>, peer: At) -> u64 {
    post(peer).len(heap)
}

/// Takes post out, oldest first, until about so many bytes are together or the step has no more room.
/// `read` sees each before the step is over, since its bytes may be gone then.
pub(super) fn take_post(
    step: &mut Step<'_>,
    peer: At,
    most: u64,
    mut read: impl FnMut(&Heap<'_>, Post),
) -> Result<()> {
    let mut taken = 0;
    while taken < most {
        let piece = post(peer).first(step);
        if piece == 0 {
            break;
        }
        let (kind, number) = (step.get(piece + KIND), step.get(piece + NUMBER));
        let (record, body) = (step.follow(piece + RECORD), step.follow(piece + BYTES));
        if record != 0 {
            let missed = step.get(record + topics::MISSED);
            if missed > 0 {
                step.set(record + topics::MISSED, 0)?;
                read(step, Post::Lost { number, missed });
            }
        }
        let filter = usize::try_from(kind >> KIND_BITS).unwrap_or(usize::MAX);
        match kind & ((1 << KIND_BITS) - 1) {
            // A loss, and no more.
            EVENT | LETTER if body == 0 => {}
            EVENT => read(step, Post::Event { subscription: number, filter, body }),
            LETTER => read(step, Post::Letter { seat: number, body }),
            END => read(step, Post::Unseated { seat: number }),
            _ => read(step, Post::Turn { ticket: number }),
        }
        let length = if body == 0 { 0 } else { step.length(body) };
        taken = length.saturating_add(PIECE).saturating_add(taken);
        discard(step, peer, piece)?;
        if !step.has_room() {
            break;
        }
    }
    Ok(())
}

/// Wakes the threads of those who got post.
pub(super) fn ring(memory: &Memory, called: &[u64]) {
    called.iter().for_each(|slot| memory.ring(bell(*slot)));
}

pub(super) fn full() -> Error {
    let why = format!("{SLOTS} connections are there already; close some");
    Error::new(ErrorKind::Server, "connect", "ipc://", why).that_passes()
}
