//! Text and numbers as JSON, byte for byte what Python's own `json` takes them for.
//!
//! Everything here appends to a buffer and cannot fail. It knows no Python objects.

use std::io::Write as _;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Writes `text` in quotes.
#[inline(always)]
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    if needs_escape(bytes) {
        escaped(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

/// It may say yes where there is nothing to escape (a borrow runs into the next byte), never no where
/// there is; the slow path then writes the same.
#[inline]
fn needs_escape(bytes: &[u8]) -> bool {
    // The last bytes are looked at in words too, some of them twice.
    let found = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) => {
            let (between, _) = bytes[8..].as_chunks::<8>();
            let ends = escapes(u64::from_le_bytes(*first)) | escapes(u64::from_le_bytes(*last));
            between.iter().fold(ends, |found, word| found | escapes(u64::from_le_bytes(*word)))
        }
        _ => escapes(short_word(bytes)),
    };
    found & HIGH != 0
}

/// Where the first byte stands that text in quotes does not hold as it is.
#[inline]
pub(super) fn first_escaped(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = escapes(u64::from_le_bytes(*word)) & HIGH;
        if found != 0 {
            // A borrow runs upwards, so the lowest is always right.
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| matches!(byte, 0x00..=0x1f | b'"' | b'\\'))?;
    Some(words.len() * 8 + at)
}

/// Less than eight bytes as a word, filled up with some of them or with spaces.
#[inline]
fn short_word(bytes: &[u8]) -> u64 {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u64::from(first) << 32 | u64::from(last);
    }
    bytes.iter().fold(ONES * u64::from(b' '), |word, byte| word << 8 | u64::from(*byte))
}

/// Has the highest bit of each byte set that is escaped.
#[inline]
fn escapes(word: u64) -> u64 {
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (control | quote | backslash) & !word
}

#[cold]
fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x00..=0x1f => {
                write!(out, "\\u{byte:04x}").expect("writing to a Vec does not fail");
            }
            _ => out.push(*byte),
        }
    }
}

/// Of an `i64`.
const MOST_DIGITS: usize = 20;

/// Writes an integer.
#[inline]
pub(super) fn integer(out: &mut Vec<u8>, number: i64) {
    if let digit @ 0..=9 = number {
        return out.push(b'0' + u8::try_from(digit).expect("it is below ten"));
    }
    let mut digits = [0_u8; MOST_DIGITS];
    let mut at = MOST_DIGITS;
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a remainder of ten is one digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a float as `float.__repr__` does, and `NaN` and `Infinity` as Python's `json` does.
pub(super) fn float(out: &mut Vec<u8>, number: f64) {
    if number.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if number.is_infinite() {
        let text: &[u8] = if number > 0.0 { b"Infinity" } else { b"-Infinity" };
        return out.extend_from_slice(text);
    }
    if (1e-4..1e15).contains(&number.abs()) {
        // Where both write no exponent, both write the same.
        return out.extend_from_slice(zmij::Buffer::new().format_finite(number).as_bytes());
    }
    let mut buffer = [0_u8; 32];
    let (digits, exponent) = shortest(number.abs(), &mut buffer);
    if number.is_sign_negative() {
        out.push(b'-');
    }
    match exponent {
        -4..=-1 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
            out.extend_from_slice(digits);
        }
        0..=15 => {
            let whole = exponent.unsigned_abs() as usize + 1;
            if digits.len() <= whole {
                out.extend_from_slice(digits);
                out.extend(std::iter::repeat_n(b'0', whole - digits.len()));
                out.extend_from_slice(b".0");
            } else {
                out.extend_from_slice(&digits[..whole]);
                out.push(b'.');
                out.extend_from_slice(&digits[whole..]);
            }
        }
        _ => {
            out.push(digits[0]);
            if digits.len() > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            write!(out, "e{exponent:+03}").expect("writing to a Vec does not fail");
        }
    }
}

/// The shortest digits that read back as `number`, and the exponent of the first of them.
fn shortest(number: f64, buffer: &mut [u8; 32]) -> (&[u8], i32) {
    let mut rest = &mut buffer[..];
    write!(rest, "{number:e}").expect("17 digits and an exponent fit into 32 bytes");
    let written = 32 - rest.len();
    let mark = buffer[..written]
        .iter()
        .position(|byte| *byte == b'e')
        .expect("the exponent form has an e");
    let exponent = std::str::from_utf8(&buffer[mark + 1..written])
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("the exponent is a small integer");
    if mark > 1 {
        // "1.25" to "125": the point stands second.
        buffer.copy_within(2..mark, 1);
        (&buffer[..mark - 1], exponent)
    } else {
        (&buffer[..mark], exponent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn floats_look_as_python_writes_them() {
        for (number, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (123_456.789, "123456.789"),
            (1e15, "1000000000000000.0"),
            (999_999_999_999_999.9, "999999999999999.9"),
            (-100.0, "-100.0"),
            (0.000_123, "0.000123"),
            (1e16, "1e+16"),
            (1.5e300, "1.5e+300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(written(|out| float(out, number)), text);
        }
    }

    #[test]
    fn integers_reach_both_ends() {
        for number in [0, 7, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(written(|out| integer(out, number)), number.to_string());
        }
    }

    #[test]
    fn strings_are_escaped_wherever_the_odd_byte_stands() {
        for at in 0..20 {
            for odd in ['"', '\\', '\n', '\u{1}', '\u{1f}'] {
                let mut text = "x".repeat(20);
                text.insert(at, odd);
                let json = written(|out| string(out, &text));
                let read: String = read_back(&json);
                assert_eq!(read, text);
            }
        }
        assert_eq!(written(|out| string(out, "Grüße 🎉 \u{7f}")), "\"Grüße 🎉 \u{7f}\"");
    }

    fn read_back(json: &str) -> String {
        match jiter::JsonValue::parse(json.as_bytes(), false) {
            Ok(jiter::JsonValue::Str(text)) => text.into_owned(),
            other => panic!("not a string: {other:?}"),
        }
    }
}
