//! Patterns: the matcher against one that is written down as the rules are told.

/// Whether `text` matches `pattern`, found by trying everything.
pub fn tried(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], text) => text.is_empty(),
        ([b'*', rest @ ..], text) => (0..=text.len()).any(|end| tried(rest, &text[end..])),
        (_, []) => false,
        ([b'?', rest @ ..], [_, behind @ ..]) => tried(rest, behind),
        ([b'[', set @ ..], [byte, behind @ ..]) => {
            let (found, rest) = in_set(set, *byte);
            found && tried(rest, behind)
        }
        ([b'\\', escaped, rest @ ..], [byte, behind @ ..]) => {
            escaped == byte && tried(rest, behind)
        }
        ([literal, rest @ ..], [byte, behind @ ..]) => literal == byte && tried(rest, behind),
    }
}

/// Whether a byte is in the set behind a `[`, and what comes behind the set.
fn in_set(set: &[u8], byte: u8) -> (bool, &[u8]) {
    let (negated, mut rest) = match set {
        [b'^', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let mut members = Vec::new();
    loop {
        rest = match rest {
            [b'\\', escaped, behind @ ..] => {
                members.push(*escaped..=*escaped);
                behind
            }
            [b']', behind @ ..] => {
                rest = behind;
                break;
            }
            [one, b'-', other, behind @ ..] => {
                members.push(*one.min(other)..=*one.max(other));
                behind
            }
            [member, behind @ ..] => {
                members.push(*member..=*member);
                behind
            }
            [] => break,
        }
    }
    (members.iter().any(|range| range.contains(&byte)) != negated, rest)
}
