//! Dead letters as they lie in their list: what is known of an item's end, and the item.
//!
//! The one invariant: what is no letter, because the original or an older version left it there, is an
//! item of whose end nothing is known. `letter.lua` says what a letter looks like.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::item::unmarked;
use crate::name::shortened_to;
use crate::transport::{DeadLetter, Failure, Reason, Receipt};

const MARK: &[u8] = b"\0letter\0";
/// The most bytes that are written of an error's type, of its words and of its place.
const PART: usize = 1000;
/// The number of parts before the item, each ended by a zero.
const PARTS: usize = 4;

/// The number by which letters name a reason.
pub(super) fn number(reason: Reason) -> usize {
    Reason::ALL.iter().position(|other| *other == reason).unwrap_or_default()
}

/// The parts of a letter that tell of a failure, behind its first part.
pub(super) fn words(failure: &Failure) -> String {
    let parts = [&failure.error, &failure.words, &failure.origin];
    parts.map(|part| shortened_to(PART, part).replace('\0', " ")).join("\0")
}

/// The item of what may be a letter.
pub(super) fn item(stored: Bytes) -> Bytes {
    match take_apart(&stored) {
        // It was put into a queue as it was, and died again.
        Some((_, inner)) => item(inner),
        None => stored,
    }
}

/// The priority that the item of a letter had.
pub(super) fn priority(stored: &Bytes) -> u8 {
    let priority =
        take_apart(stored).and_then(|([first, ..], _)| first.split(' ').nth(3)?.parse().ok());
    priority.unwrap_or_default()
}

/// A letter, as it is read from its list at a place.
pub(super) fn read(stored: Bytes, place: usize) -> DeadLetter {
    let (parts, payload) = match take_apart(&stored) {
        Some((parts, inner)) => (Some(parts), item(inner)),
        None => (None, unmarked(&stored, false).0),
    };
    let number = u64::try_from(place).unwrap_or(u64::MAX);
    let mut letter = DeadLetter::new(payload, Receipt { stored: stored.clone(), number });
    let Some([first, error, words, origin]) = parts else { return letter };
    let mut numbers = first.split(' ').map(str::parse::<u64>);
    let mut next = || numbers.next().and_then(Result::ok);
    let reason = next().and_then(|reason| Reason::ALL.get(usize::try_from(reason).ok()?));
    letter.failure = Failure {
        reason: reason.copied().unwrap_or_default(),
        error: error.to_owned(),
        words: words.to_owned(),
        origin: origin.to_owned(),
    };
    letter.died =
        next().and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)));
    letter.deliveries = next().and_then(|count| u32::try_from(count).ok());
    letter
}

/// The parts before the item, and the item.
fn take_apart(stored: &Bytes) -> Option<([&str; PARTS], Bytes)> {
    let mut rest = stored.strip_prefix(MARK)?;
    let mut parts = [""; PARTS];
    for part in &mut parts {
        let end = rest.iter().position(|byte| *byte == 0)?;
        *part = std::str::from_utf8(&rest[..end]).ok()?;
        rest = &rest[end + 1..];
    }
    Some((parts, stored.slice(stored.len() - rest.len()..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_tells_what_was_written_and_anything_else_is_an_item() {
        let failure = Failure::new(Reason::Failed).error("ValueError", "no \0 such \"thing\"\n");
        let words = words(&failure.origin("host:1"));
        let stored = format!("\0letter\0{} 1500 3 0\0{words}\0{{}}", number(Reason::Failed));
        let letter = read(Bytes::from(stored.clone()), 7);
        assert_eq!(priority(&Bytes::from(stored.replace(" 3 0", " 3 9"))), 9);
        assert_eq!((&letter.payload[..], letter.deliveries), (&b"{}"[..], Some(3)));
        assert_eq!(letter.died, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1500)));
        assert_eq!(letter.failure.words, "no   such \"thing\"\n");
        assert_eq!((letter.failure.reason, letter.receipt.number), (Reason::Failed, 7));
        assert_eq!(item(Bytes::from(stored.replace("{}", &stored))), "{}");
        for other in ["", "  {}", "\0letter\0", "\0letter\x001 2\0\0", "letter"] {
            let letter = read(Bytes::from(other), 0);
            assert_eq!(letter.payload, other.trim_start_matches(' '));
            assert_eq!((letter.failure, letter.deliveries), (Failure::default(), None));
        }
    }

    #[test]
    fn every_reason_has_the_number_that_the_scripts_write() {
        assert_eq!(number(Reason::TooManyDeliveries), 1);
        assert_eq!(Reason::ALL.map(number), [0, 1, 2, 3, 4]);
    }
}
