//! Addressed messages: to the one who sits at an address, or kept there until somebody does.
//!
//! The invariant: a record is here as long as somebody sits at its address or letters are kept for
//! it. A new reader takes the seat over from the old one, and is given what was kept, in as many steps as
//! that takes; what comes meanwhile is kept behind it. What nobody fetches goes when its time is over, which
//! whoever keeps or fetches something sees to.

use super::heap::At;
use super::layout::KEPT;
use super::list::List;
use super::names::{self, Kind};
use super::peers::{self, Step};
use crate::error::Result;
use crate::name::{Address, Form};

/// The words of an address behind its name: who reads, as what, and what was lost.
const LOST: u64 = super::topics::MISSED;
const READER: u64 = 40;
pub(super) const NUMBER: u64 = 48;
pub(super) const SEAT_LINKS: u64 = 56;
const LETTERS: u64 = 72;
const SIZE: u64 = 96;

/// The words of a letter that is kept: in the list of its address, and among all by when they expire.
pub(super) const KEPT_LINKS: u64 = 16;
pub(super) const UNTIL: u64 = 32;
const BODY: u64 = 40;
const SEAT: u64 = 48;
const LETTER_SIZE: u64 = 56;

const _: () = assert!(LOST == names::OWN);
const _: () = assert!(LETTER_SIZE >= peers::PIECE_SIZE, "a letter becomes a piece of post");

const fn letters(seat: At) -> List {
    List::new(seat + LETTERS, 0)
}

fn kind(address: &Address) -> Kind {
    match address.form() {
        Form::Inbox => Kind::Inbox,
        Form::List => Kind::List,
    }
}

fn seat(step: &mut Step<'_>, address: &Address) -> Result<At> {
    match names::find(step, kind(address), address.name().as_bytes()) {
        0 => names::add(step, kind(address), address.name().as_bytes(), SIZE),
        known => Ok(known),
    }
}

/// Seats a reader, to be given [what was kept](give_kept); says the number under which its letters come.
pub(super) fn sit_down(step: &mut Step<'_>, peer: At, address: &Address) -> Result<u64> {
    expire(step)?;
    let seat = seat(step, address)?;
    let before = step.follow(seat + READER);
    if before != 0 {
        peers::seats(before).remove(step, seat)?;
        let number = step.get(seat + NUMBER);
        peers::unseat(step, before, seat, number)?;
    }
    let number = step.number()?;
    step.set(seat + READER, peer)?;
    step.set(seat + NUMBER, number)?;
    step.set(seat + LOST, 0)?;
    peers::seats(peer).push_back(step, seat)?;
    Ok(number)
}

/// Sends the reader of that number what was kept for it, as it lies there, so that no space is needed for
/// that; says whether there is more.
pub(super) fn give_kept(step: &mut Step<'_>, address: &Address, number: u64) -> Result<bool> {
    let seat = names::find(step, kind(address), address.name().as_bytes());
    if seat == 0 || step.get(seat + NUMBER) != number {
        return Ok(false);
    }
    let reader = step.follow(seat + READER);
    while reader != 0
        && let letter @ 1.. = letters(seat).first(step)
    {
        if step.get(letter + UNTIL) > step.now {
            letters(seat).remove(step, letter)?;
            KEPT.remove(step, letter)?;
            let body = step.follow(letter + BODY);
            peers::send_kept(step, reader, seat, letter, body)?;
        } else {
            forget(step, letter)?;
        }
        if !step.has_room() {
            return Ok(letters(seat).len(step) > 0);
        }
    }
    Ok(false)
}

/// Gives a seat up, if it is still the one of that number.
pub(super) fn leave(step: &mut Step<'_>, address: &Address, number: u64) -> Result<()> {
    let seat = names::find(step, kind(address), address.name().as_bytes());
    if seat != 0 && step.get(seat + NUMBER) == number && step.follow(seat + READER) != 0 {
        stand_up(step, seat)?;
    }
    Ok(())
}

/// Gives a seat up; the reader's post must have been taken, or go with the reader.
pub(super) fn stand_up(step: &mut Step<'_>, seat: At) -> Result<()> {
    let reader = step.follow(seat + READER);
    peers::seats(reader).remove(step, seat)?;
    step.set(seat + READER, 0)?;
    clear(step, seat)
}

fn clear(step: &mut Step<'_>, seat: At) -> Result<()> {
    if step.follow(seat + READER) == 0 && letters(seat).len(step) == 0 {
        names::remove(step, seat)?;
    }
    Ok(())
}

/// Sends to whoever sits there and lives, or keeps the letter until then; says whether one did. Behind what
/// that reader is still to be given it is kept too.
pub(super) fn send(
    step: &mut Step<'_>,
    address: &Address,
    payload: &[u8],
    keep: u64,
) -> Result<bool> {
    let seat = seat(step, address)?;
    let reader = step.follow(seat + READER);
    let body = step.put_bytes(&[payload])?;
    let is_read = reader != 0 && step.lives(reader);
    if is_read && letters(seat).len(step) == 0 {
        peers::send_letter(step, reader, seat, body)?;
        step.drop_bytes(body)?;
        return Ok(true);
    }
    let until = step.now.saturating_add(keep);
    let letter = step.alloc(LETTER_SIZE)?;
    step.init(letter + UNTIL, until);
    step.init(letter + BODY, body);
    step.init(letter + SEAT, seat);
    letters(seat).push_back(step, letter)?;
    KEPT.insert(step, letter)?;
    expire(step)?;
    Ok(is_read)
}

/// Throws away what has been kept for its time; says whether there is more of it.
pub(super) fn expire(step: &mut Step<'_>) -> Result<bool> {
    while let letter @ 1.. = KEPT.first(step)
        && step.get(letter + UNTIL) <= step.now
    {
        let seat = step.follow(letter + SEAT);
        forget(step, letter)?;
        clear(step, seat)?;
        if !step.has_room() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn forget(step: &mut Step<'_>, letter: At) -> Result<()> {
    letters(step.follow(letter + SEAT)).remove(step, letter)?;
    KEPT.remove(step, letter)?;
    let body = step.follow(letter + BODY);
    step.drop_bytes(body)?;
    step.free(letter)?;
    Ok(())
}
