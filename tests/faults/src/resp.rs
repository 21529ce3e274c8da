//! Where frames of the Redis protocol end and what they are called.
//!
//! The one invariant: a frame is told from its bytes alone, RESP2 or RESP3, however they were cut
//! into packets. Values are not decoded.

/// The length of the first frame; `None` until it is whole.
pub(crate) fn frame(bytes: &[u8]) -> Option<usize> {
    let line = line(bytes)?;
    let (kind, rest) = (bytes[0], std::str::from_utf8(&bytes[1..line]).ok()?);
    let end = line + 2;
    let count = || rest.parse::<i64>().ok().and_then(|count| usize::try_from(count).ok());
    match kind {
        b'$' | b'=' | b'!' => match count() {
            Some(length) => (bytes.len() >= end + length + 2).then_some(end + length + 2),
            None => Some(end),
        },
        b'*' | b'~' | b'>' => frames(bytes, end, count().unwrap_or(0)),
        b'%' => frames(bytes, end, 2 * count().unwrap_or(0)),
        b'|' => frames(bytes, end, 2 * count().unwrap_or(0) + 1),
        _ => Some(end),
    }
}

/// The first word of a frame that is a list, in capitals: the name of a command or of a push.
pub(crate) fn name(frame: &[u8]) -> Option<String> {
    if !matches!(frame.first(), Some(b'*' | b'>')) {
        return None;
    }
    let start = line(frame)? + 2;
    let word = &frame[start..];
    if word.first() != Some(&b'$') {
        return None;
    }
    let begin = line(word)? + 2;
    let length = std::str::from_utf8(&word[1..begin - 2]).ok()?.parse::<usize>().ok()?;
    Some(String::from_utf8_lossy(word.get(begin..begin + length)?).to_uppercase())
}

/// Whether what follows is not answered any more, for a frame that says so.
pub(crate) fn silence(frame: &[u8]) -> Option<bool> {
    let words = "*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$";
    Some(frame.strip_prefix(words.as_bytes())?.starts_with(b"3"))
}

/// Whether a frame is a push, i.e. answers no command.
pub(crate) fn is_push(frame: &[u8]) -> bool {
    const PUSHES: [&str; 8] = [
        "MESSAGE",
        "PMESSAGE",
        "SUBSCRIBE",
        "PSUBSCRIBE",
        "UNSUBSCRIBE",
        "PUNSUBSCRIBE",
        "SMESSAGE",
        "INVALIDATE",
    ];
    match frame.first() {
        Some(b'>') => true,
        Some(b'*') => name(frame).is_some_and(|name| PUSHES.contains(&name.as_str())),
        _ => false,
    }
}

fn line(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n")
}

fn frames(bytes: &[u8], mut end: usize, count: usize) -> Option<usize> {
    for _ in 0..count {
        end += frame(bytes.get(end..)?)?;
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_ends_where_its_last_part_does_and_not_before() {
        for whole in [
            "+OK\r\n",
            ":12\r\n",
            "$-1\r\n",
            "$3\r\na\r\n\r\n",
            "*2\r\n$1\r\nx\r\n*1\r\n:1\r\n",
            "%1\r\n+k\r\n#t\r\n",
            ">2\r\n$7\r\nmessage\r\n_\r\n",
            "*-1\r\n",
        ] {
            for cut in 0..whole.len() {
                assert_eq!(frame(&whole.as_bytes()[..cut]), None, "{whole:?} up to {cut}");
            }
            let twice = whole.repeat(2);
            assert_eq!(frame(twice.as_bytes()), Some(whole.len()), "{whole:?}");
        }
    }

    #[test]
    fn commands_and_pushes_are_told_by_their_first_word() {
        assert_eq!(name(b"*2\r\n$5\r\nlpush\r\n$1\r\nq\r\n").as_deref(), Some("LPUSH"));
        assert_eq!(name(b"+OK\r\n"), None);
        assert!(is_push(b"*3\r\n$7\r\nmessage\r\n$1\r\nt\r\n$1\r\nx\r\n"));
        assert!(!is_push(b"*1\r\n$1\r\nx\r\n"));
    }
}
