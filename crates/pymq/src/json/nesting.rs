//! Whether a text keeps to the limits, seen without reading it: bytes are counted.

use super::{DEEPEST, MOST_DIGITS};

/// Whether arrays and objects nest deeper than any peer reads; the grammar is not looked at.
pub(crate) fn is_too_deep(text: &[u8]) -> bool {
    // What closes as many containers as it opens has two bytes for each level; one that does not is
    // refused by every peer for that. Nearly every longer message opens fewer containers altogether than
    // may nest, and bytes are counted much faster than strings are passed over.
    text.len() > 2 * DEEPEST && opened(text) > DEEPEST && nests_too_deep(text)
}

/// Whether a text that follows the grammar is surely one that [`document`] accepts: it opens too few
/// containers to nest too deep, and has too few digits for an integer that is too long.
pub(crate) fn is_within_limits(text: &[u8]) -> bool {
    opened(text) <= DEEPEST && count(text, |byte| byte.is_ascii_digit()) <= MOST_DIGITS
}

fn opened(text: &[u8]) -> usize {
    count(text, |byte| byte | 0x20 == b'{')
}

/// How many bytes are of a kind; in portions whose sums fit into a byte, so that the machine counts
/// many of them at once.
fn count(text: &[u8], is_one: impl Fn(u8) -> bool) -> usize {
    let portions = text.chunks(255);
    let in_one = |portion: &[u8]| portion.iter().map(|byte| u8::from(is_one(*byte))).sum::<u8>();
    portions.map(|portion| usize::from(in_one(portion))).sum()
}

fn nests_too_deep(text: &[u8]) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(byte) = text.get(at) {
        match byte {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at += string_length(&text[at + 1..]) + 1,
            _ => {}
        }
        if depth > DEEPEST {
            return true;
        }
        at += 1;
    }
    false
}

/// How many bytes a string has before its closing quote, escapes as they are written.
fn string_length(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        match text.get(at) {
            Some(b'\\') => at += 2,
            Some(b'"') | None => return at,
            Some(_) => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::document;
    use super::*;

    #[test]
    fn what_a_sender_may_nest_is_what_a_reader_takes() {
        let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        let wide = format!("[{}0]", "[],".repeat(1000));
        let text = format!(r#"["{}\"{}"]"#, "[".repeat(300), "{".repeat(300));
        for text in [deep(200), deep(201), deep(250), wide, text, "[".repeat(401)] {
            let refused = document(text.as_bytes())
                .is_err_and(|malformed| malformed.message().contains("deeper"));
            assert_eq!(is_too_deep(text.as_bytes()), refused, "{}", &text[..20]);
        }
    }
}
