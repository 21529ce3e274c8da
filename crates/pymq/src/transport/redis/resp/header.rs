//! The lines that everything in the protocol begins with: kinds, lengths, numbers.

/// The longest line: a number, or words such as an error's.
pub(super) const LONGEST_LINE: usize = 64 << 10;

/// A server that does not speak the protocol, or says too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) String);

/// What was understood; `None` is that there is more to come.
pub(super) type Decoded<T> = Result<Option<T>, Malformed>;

/// The length of a string whose header is one of up to six digits, and where the string begins;
/// `None` for any other header.
pub(super) fn short_header(buffer: &[u8], at: usize) -> Option<(usize, usize)> {
    let rest = buffer.get(at..)?;
    let digits = rest.strip_prefix(b"$")?;
    let end = digits.iter().take(7).position(|byte| !byte.is_ascii_digit())?;
    if end == 0 || digits.get(end..end + 2) != Some(b"\r\n") {
        return None;
    }
    let number = |number, digit: &u8| number * 10 + usize::from(digit - b'0');
    Some((digits[..end].iter().fold(0, number), at + 1 + end + 2))
}

/// The line that begins at `from`, without its end, and where the next thing begins.
pub(super) fn line(buffer: &[u8], from: usize) -> Decoded<(&[u8], usize)> {
    let rest = &buffer[from..];
    match rest.iter().take(LONGEST_LINE).position(|&byte| byte == b'\r') {
        Some(end) if rest.len() > end + 1 => {
            if rest[end + 1] == b'\n' {
                Ok(Some((&rest[..end], from + end + 2)))
            } else {
                Err(Malformed(format!("a line with a lone return: {}", shown(&rest[..end]))))
            }
        }
        None if rest.len() >= LONGEST_LINE => {
            Err(Malformed(format!("a line without an end: {}", shown(rest))))
        }
        _ => Ok(None),
    }
}

pub(super) fn end_of_string(buffer: &[u8], at: usize) -> Result<(), Malformed> {
    match &buffer[at..at + 2] {
        b"\r\n" => Ok(()),
        _ => Err(Malformed("a string that is longer than its length".into())),
    }
}

/// A length; `None` is the null of the older protocol, "-1".
pub(super) fn length(digits: &[u8]) -> Decoded<usize> {
    match number(digits)? {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(Malformed(format!("a length of {length}"))),
        },
    }
}

pub(super) fn pairs(digits: &[u8]) -> Result<usize, Malformed> {
    Ok(length(digits)?.unwrap_or_default().saturating_mul(2))
}

pub(super) fn number(digits: &[u8]) -> Result<i64, Malformed> {
    // Counts of receivers and lengths, nearly always; the rest has a sign, or is for the library.
    if (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) {
        return Ok(digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')));
    }
    let text = std::str::from_utf8(digits).ok();
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Malformed(format!("{} where a number should be", shown(digits))))
}

/// The beginning of something that should not be there.
pub(super) fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(40)]))
}
