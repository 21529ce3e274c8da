//! Spans of JSON as Python writes and reads it: where a value ends, what an array or object holds.
//!
//! The bytes themselves are never changed, so integers of any size, `-0`, `NaN`, lone surrogates
//! and the order of keys pass through this crate exactly. It checks what Python's `json` checks
//! (and the limits below), and builds no values: [`codec`](crate::codec) does that.

use std::borrow::Cow;

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
    if let Err(error) = std::str::from_utf8(text) {
        return Err(Malformed { why: "invalid UTF-8", at: error.valid_up_to() });
    }
    let mut scanner = Scanner { text, at: 0 };
    let value = scanner.value(0)?;
    scanner.space();
    match scanner.peek() {
        None => Ok(value),
        Some(_) => Err(scanner.malformed("more than one value")),
    }
}

/// Whether arrays and objects nest deeper than any peer reads; the grammar is not looked at.
pub(crate) fn is_too_deep(text: &[u8]) -> bool {
    // Nearly every message opens fewer containers altogether than may nest, and bytes are counted
    // much faster than strings are passed over.
    let opened = text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    opened > DEEPEST && nests_too_deep(text)
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

/// The elements of a checked array; `None` when it is none.
pub(crate) fn elements(array: &[u8]) -> Option<Vec<&[u8]>> {
    let mut scanner = Scanner { text: array, at: 0 };
    let mut elements = Vec::new();
    scanner.container(b'[', b']', |scanner| {
        elements.push(scanner.value(0)?);
        Ok(())
    })?;
    Some(elements)
}

/// The members of a checked object, in order; `None` when it is none.
pub(crate) fn members(object: &[u8]) -> Option<Vec<(Cow<'_, str>, &[u8])>> {
    let mut scanner = Scanner { text: object, at: 0 };
    let mut members = Vec::new();
    scanner.container(b'{', b'}', |scanner| {
        let key = scanner.key()?;
        members.push((unquoted(key), scanner.value(0)?));
        Ok(())
    })?;
    Some(members)
}

/// The text of a checked string; `None` for another value.
pub(crate) fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    (value.first() == Some(&b'"')).then(|| unquoted(value))
}

/// Takes the quotes and escapes off; a lone surrogate, which Rust cannot hold, becomes U+FFFD.
fn unquoted(quoted: &[u8]) -> Cow<'_, str> {
    let inner = &quoted[1..quoted.len() - 1];
    if !inner.contains(&b'\\') {
        return String::from_utf8_lossy(inner);
    }
    match serde_json::from_slice::<String>(quoted) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Owned(char::REPLACEMENT_CHARACTER.to_string()),
    }
}

/// How many bytes mean nothing of their own inside a string, counted in whole words of eight as long
/// as those go: most of what is scanned is the inside of strings.
fn plain(text: &[u8]) -> usize {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH << 7;
    /// The high bit of the first byte that is less than `least` (at most 128), and of some behind it.
    const fn less(word: u64, least: u64) -> u64 {
        word.wrapping_sub(EACH * least) & !word & HIGH
    }
    let mut at = 0;
    while let Some(eight) = text[at..].first_chunk() {
        let word = u64::from_le_bytes(*eight);
        let quote = less(word ^ (EACH * u64::from(b'"')), 1);
        let backslash = less(word ^ (EACH * u64::from(b'\\')), 1);
        let special = less(word, 0x20) | quote | backslash;
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
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
    fn value(&mut self, depth: usize) -> Checked<&'a [u8]> {
        self.space();
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.quoted()?,
            Some(b'{' | b'[') if depth == DEEPEST => {
                return Err(self.malformed("nested deeper than 200"));
            }
            Some(b'{') => self.pairs(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        }
        Ok(&self.text[start..self.at])
    }

    fn list(&mut self, depth: usize) -> Checked<()> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.ends(b']')? {
                return Ok(());
            }
        }
    }

    fn pairs(&mut self, depth: usize) -> Checked<()> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.key()?;
            self.value(depth + 1)?;
            if self.ends(b'}')? {
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

    /// Passes over a key and its colon; gives the quoted key.
    fn key(&mut self) -> Checked<&'a [u8]> {
        self.space();
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.malformed("expected a key in double quotes"));
        }
        self.quoted()?;
        let key = &self.text[start..self.at];
        self.space();
        self.expect(b':', "expected a colon behind the key")?;
        Ok(key)
    }

    fn quoted(&mut self) -> Checked<()> {
        self.at += 1;
        loop {
            self.at += plain(&self.text[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1f) => return Err(self.malformed("control character in a string")),
                Some(_) => self.at += 1,
                None => return Err(self.malformed("unterminated string")),
            }
        }
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Checked<()> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.text.get(self.at + 1..self.at + 5);
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
        let rest = &self.text[self.at..];
        match WORDS.iter().find(|word| rest.starts_with(word)) {
            Some(word) => {
                self.at += word.len();
                Ok(())
            }
            None => Err(self.malformed("expected a value")),
        }
    }

    /// Runs `each` on every element of a checked container.
    fn container(
        &mut self,
        open: u8,
        close: u8,
        mut each: impl FnMut(&mut Self) -> Checked<()>,
    ) -> Option<()> {
        self.space();
        self.expect(open, "").ok()?;
        self.space();
        if self.peek() == Some(close) {
            return Some(());
        }
        loop {
            each(self).ok()?;
            if self.ends(close).ok()? {
                return Some(());
            }
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
    fn what_a_sender_may_nest_is_what_a_reader_takes() {
        let deep = |levels: usize| ["[".repeat(levels), "]".repeat(levels)].concat();
        let wide = format!("[{}0]", "[],".repeat(1000));
        let text = format!(r#"["{}\"{}"]"#, "[".repeat(300), "{".repeat(300));
        for text in [deep(200), deep(201), deep(250), wide, text, "[".repeat(201)] {
            let refused = document(text.as_bytes())
                .is_err_and(|malformed| malformed.message().contains("deeper"));
            assert_eq!(is_too_deep(text.as_bytes()), refused, "{}", &text[..20]);
        }
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
