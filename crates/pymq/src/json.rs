//! Spans of JSON as Python writes and reads it: where a value ends, what an array or object holds.
//!
//! The bytes themselves are never changed, so integers of any size, `-0`, `NaN`, lone surrogates
//! and the order of keys pass through this crate exactly. It checks what Python's `json` checks
//! (and the limits below), and builds no values: [`codec`](crate::codec) does that.

use std::borrow::Cow;

pub(crate) use nesting::{is_too_deep, is_within_limits};
pub(crate) use outline::{Outline, outline};

mod nesting;
mod outline;

/// How deep arrays and objects may nest.
pub(crate) const DEEPEST: usize = 200;
/// How many digits an integer may have; CPython's own default limit (`sys.int_info`).
pub(crate) const MOST_DIGITS: usize = 4300;

/// Why bytes are not JSON: a reason and the offset of the offending byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    why: &'static str,
    at: usize,
}

impl Malformed {
    pub(crate) fn message(self) -> String {
        format!("{} at byte {}", self.why, self.at)
    }
}

type Checked<T> = Result<T, Malformed>;

/// Checks that `text` is one JSON value and nothing else; gives it back without the space around.
pub(crate) fn document(text: &[u8]) -> Checked<&[u8]> {
    let mut scanner = Scanner::of(text)?;
    let value = scanner.value(0)?;
    scanner.end()?;
    Ok(value.bytes())
}

/// Keys and values.
pub(crate) type Members<'a> = Vec<(Cow<'a, str>, &'a [u8])>;

/// The elements of a checked array; `None` when it is none.
pub(crate) fn elements(array: &[u8]) -> Option<Vec<&[u8]>> {
    let mut scanner = Scanner::of(array).ok()?;
    let mut elements = Vec::new();
    scanner.opens(b'[').then_some(())?;
    let found = scanner.each(b']', |scanner| {
        elements.push(scanner.value(0)?.bytes());
        Ok(())
    });
    found.ok().map(|()| elements)
}

/// The members of a checked object, in order; `None` when it is none.
pub(crate) fn members(object: &[u8]) -> Option<Members<'_>> {
    let mut scanner = Scanner::of(object).ok()?;
    let mut members = Vec::new();
    scanner.opens(b'{').then_some(())?;
    let found = scanner.each(b'}', |scanner| {
        let (key, value) = scanner.member(1)?;
        members.push((key, value.bytes()));
        Ok(())
    });
    found.ok().map(|()| members)
}

/// The text of a checked string; `None` for another value.
pub(crate) fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    Scanner::of(value).ok()?.value(0).ok()?.string()
}

/// A value that was passed over, and so checked: nobody needs to scan it again for what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span<'a> {
    text: &'a str,
    /// Of a string: whether its text is other than what stands between its quotes.
    has_escapes: bool,
}

impl<'a> Span<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The text of a string; `None` for another value.
    pub(crate) fn string(self) -> Option<Cow<'a, str>> {
        self.text.starts_with('"').then(|| self.unquoted())
    }

    /// Takes the quotes and escapes off; a lone surrogate, which Rust cannot hold, becomes U+FFFD.
    fn unquoted(self) -> Cow<'a, str> {
        if !self.has_escapes {
            return Cow::Borrowed(&self.text[1..self.text.len() - 1]);
        }
        match serde_json::from_str::<String>(self.text) {
            Ok(text) => Cow::Owned(text),
            Err(_) => Cow::Owned(char::REPLACEMENT_CHARACTER.to_string()),
        }
    }
}

/// Whether a string stands in quotes as it is.
pub(crate) fn is_plain(text: &str) -> bool {
    plain(text.as_bytes()) == text.len()
}

/// How many bytes mean nothing of their own inside a string. They are looked at in words of eight, since
/// most of what is scanned is the inside of strings.
fn plain(text: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH << 7;
    /// Up to the first byte that means something; 8 where none does.
    const fn before(eight: [u8; 8]) -> usize {
        let word = u64::from_le_bytes(eight);
        // Of ASCII bytes, to take away what is more sets the high bit: of the first one, and of some
        // behind it that mean nothing.
        let quote = (word ^ (EACH * b'"' as u64)).wrapping_sub(EACH);
        let backslash = (word ^ (EACH * b'\\' as u64)).wrapping_sub(EACH);
        let control = word.wrapping_sub(EACH * 0x20);
        let special = (quote | backslash | control) & !word & HIGH;
        special.trailing_zeros() as usize / 8
    }
    let (words, rest) = text.as_chunks();
    for (number, eight) in words.iter().enumerate() {
        let plain = before(*eight);
        if plain < 8 {
            return 8 * number + plain;
        }
    }
    if rest.is_empty() {
        return text.len();
    }
    // What is left is the end of a word that was looked at in part already, or less than one.
    match text.last_chunk() {
        Some(eight) => text.len() - 8 + before(*eight),
        None => rest.iter().position(is_special).unwrap_or(rest.len()),
    }
}

fn is_special(byte: &u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn of(text: &'a [u8]) -> Checked<Self> {
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Self { text, at: 0 }),
            Err(error) => Err(Malformed { why: "invalid UTF-8", at: error.valid_up_to() }),
        }
    }

    /// Nothing but space may be left.
    fn end(&mut self) -> Checked<()> {
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.malformed("more than one value")),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// What has been passed over since a place.
    fn since(&self, start: usize) -> Span<'a> {
        Span { text: &self.text[start..self.at], has_escapes: false }
    }

    fn malformed(&self, why: &'static str) -> Malformed {
        Malformed { why, at: self.at }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, why: &'static str) -> Checked<()> {
        if self.peek() != Some(byte) {
            return Err(self.malformed(why));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes over one value, space before it included; gives its span. Recursion is bounded by
    /// [`DEEPEST`].
    fn value(&mut self, depth: usize) -> Checked<Span<'a>> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => return self.quoted(),
            Some(b'{' | b'[') if depth == DEEPEST => {
                return Err(self.malformed("nested deeper than 200"));
            }
            Some(b'{') => self.pairs(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        }
        Ok(self.since(start))
    }

    fn list(&mut self, depth: usize) -> Checked<()> {
        self.each(b']', |scanner| scanner.value(depth + 1).map(drop))
    }

    fn pairs(&mut self, depth: usize) -> Checked<()> {
        self.each(b'}', |scanner| {
            scanner.key()?;
            scanner.value(depth + 1).map(drop)
        })
    }

    /// Passes over a member of an object, its value being so deep.
    fn member(&mut self, depth: usize) -> Checked<(Cow<'a, str>, Span<'a>)> {
        Ok((self.key()?.unquoted(), self.value(depth)?))
    }

    /// Whether behind space a container opens here.
    fn opens(&mut self, open: u8) -> bool {
        self.space();
        self.peek() == Some(open)
    }

    /// Passes over the container that opens here; `each` passes over one of its elements.
    fn each(&mut self, close: u8, mut each: impl FnMut(&mut Self) -> Checked<()>) -> Checked<()> {
        self.at += 1;
        self.space();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            each(self)?;
            if self.ends(close)? {
                return Ok(());
            }
        }
    }

    /// Behind an element: whether the container ends here, or goes on behind a comma.
    fn ends(&mut self, close: u8) -> Checked<bool> {
        self.space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.malformed("expected a comma or the end of the array or object")),
        }
    }

    /// Passes over a key and its colon.
    fn key(&mut self) -> Checked<Span<'a>> {
        self.space();
        if self.peek() != Some(b'"') {
            return Err(self.malformed("expected a key in double quotes"));
        }
        let key = self.quoted()?;
        self.space();
        self.expect(b':', "expected a colon behind the key")?;
        Ok(key)
    }

    fn quoted(&mut self) -> Checked<Span<'a>> {
        let start = self.at;
        let inside = &self.text.as_bytes()[start + 1..];
        let length = plain(inside);
        if inside.get(length) == Some(&b'"') {
            self.at = start + length + 2;
            return Ok(self.since(start));
        }
        self.quoted_with_care(start)
    }

    /// The same where there are escapes, or what is no string.
    #[cold]
    fn quoted_with_care(&mut self, start: usize) -> Checked<Span<'a>> {
        let mut has_escapes = false;
        self.at = start + 1;
        loop {
            self.at += plain(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    self.escape()?;
                }
                Some(0..=0x1f) => return Err(self.malformed("control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.malformed("unterminated string")),
            }
        }
        self.at += 1;
        Ok(Span { has_escapes, ..self.since(start) })
    }

    fn escape(&mut self) -> Checked<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(self.malformed("\\u needs four hexadecimal digits"));
                }
                self.at += 5;
            }
            _ => return Err(self.malformed("unknown escape")),
        }
        Ok(())
    }

    fn number(&mut self) -> Checked<()> {
        if self.peek() == Some(b'-') {
            self.at += 1;
            if self.peek() == Some(b'I') {
                return self.word();
            }
        }
        let digits = match self.peek() {
            Some(b'0') => {
                self.at += 1;
                1
            }
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.malformed("expected a digit")),
        };
        let whole = self.fraction()?;
        if whole && digits > MOST_DIGITS {
            return Err(self.malformed("an integer of more than 4300 digits"));
        }
        Ok(())
    }

    /// Passes over a fraction and an exponent; says whether there was neither.
    fn fraction(&mut self) -> Checked<bool> {
        let start = self.at;
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.malformed("expected a digit behind the point"));
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.malformed("expected a digit in the exponent"));
            }
        }
        Ok(self.at == start)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self) -> Checked<()> {
        const WORDS: [&[u8]; 5] = [b"true", b"false", b"null", b"NaN", b"Infinity"];
        let rest = &self.text.as_bytes()[self.at..];
        match WORDS.iter().find(|word| rest.starts_with(word)) {
            Some(word) => {
                self.at += word.len();
                Ok(())
            }
            None => Err(self.malformed("expected a value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_accepts_is_accepted() {
        for text in [
            "null",
            " [1, 2.5e-3, -0] ",
            "NaN",
            "-Infinity",
            "[Infinity]",
            r#""\ud800""#,
            "{}",
            r#"{"a": {"b": [true, false, null]}, "a": 2}"#,
            "123456789012345678901234567890",
            "1e400",
        ] {
            assert_eq!(document(text.as_bytes()), Ok(text.trim().as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_string_is_passed_over_up_to_the_first_byte_that_means_something() {
        for (place, byte) in (0..24).flat_map(|place| (0..=255).map(move |byte| (place, byte))) {
            for around in [b'a', 0x80, 0xff, b'#', b']'] {
                let mut text = [around; 24];
                text[place] = byte;
                let means = matches!(byte, b'"' | b'\\' | 0..=0x1f);
                assert_eq!(plain(&text), if means { place } else { 24 }, "{byte} at {place}");
            }
        }
    }

    #[test]
    fn what_python_refuses_is_refused() {
        for text in [
            "",
            " ",
            "[1,]",
            "[1",
            "{a: 1}",
            r#"{"a" 1}"#,
            "01",
            "1.",
            "-",
            "+1",
            ".5",
            "nul",
            "1 2",
            "\"a\nb\"",
            r#""\x""#,
            r#""\u12g4""#,
            "\"",
            "{\"a\":1,}",
            "\u{feff}1",
            "-NaN",
            "'a'",
        ] {
            assert!(document(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(document(b"\"\xff\"").is_err());
        assert!(document(b"\"\xc0\x80\"").is_err());
    }

    #[test]
    fn depth_and_digits_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(document(nested(DEEPEST).as_bytes()).is_ok());
        assert!(document(nested(DEEPEST + 1).as_bytes()).is_err());
        assert!(document("[".repeat(1_000_000).as_bytes()).is_err());
        assert!(document("9".repeat(MOST_DIGITS).as_bytes()).is_ok());
        assert!(document("9".repeat(MOST_DIGITS + 1).as_bytes()).is_err());
        assert!(document(format!("{}.0", "9".repeat(5000)).as_bytes()).is_ok());
    }

    #[test]
    fn elements_and_members_are_spans_of_the_text() {
        let array = br#" [1, "a,]", {"b": [2]} ]"#;
        let spans = elements(array).expect("an array");
        assert_eq!(spans, [&b"1"[..], br#""a,]""#, br#"{"b": [2]}"#]);
        let object = br#"{"a\u0062": 1, "c": NaN}"#;
        let pairs = members(object).expect("an object");
        assert_eq!(pairs[0], (Cow::Borrowed("ab"), &b"1"[..]));
        assert_eq!(pairs[1], (Cow::Borrowed("c"), &b"NaN"[..]));
        assert_eq!(elements(b"{}"), None);
        assert_eq!(elements(b"[]"), Some(vec![]));
        assert_eq!(members(b"[]"), None);
    }
}
