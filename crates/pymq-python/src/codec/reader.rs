//! JSON from its first byte to its last, one step after the other.
//!
//! Its place is all that it keeps. What is not as messages usually are stops it, so it has no errors of
//! its own. Text with escapes, and numbers that are no short integers, it leaves to jiter.

use std::borrow::Cow;

use jiter::{Jiter, NumberAny, Peek};

use super::scalar;
use super::stream::{Read, Stop};

/// Digits that an `i64` holds whatever they are.
const SHORT: usize = 18;

pub(super) struct Reader<'d> {
    text: &'d str,
    at: usize,
    /// Where jiter puts text together.
    tape: Vec<u8>,
}

impl<'d> Reader<'d> {
    pub(super) fn new(data: &'d [u8]) -> Read<Self> {
        let text = std::str::from_utf8(data).map_err(|_| Stop::Unclear)?;
        Ok(Self { text, at: 0, tape: Vec::new() })
    }

    /// The whole of it.
    pub(super) fn text(&self) -> &'d str {
        self.text
    }

    /// What comes next.
    pub(super) fn rest(&self) -> &'d [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The first byte of what comes next.
    #[inline]
    pub(super) fn peek(&mut self) -> Read<u8> {
        match self.text.as_bytes().get(self.at) {
            Some(byte) if *byte > b' ' => Ok(*byte),
            _ => self.peek_behind_space(),
        }
    }

    #[cold]
    fn peek_behind_space(&mut self) -> Read<u8> {
        let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        self.at += self.rest().iter().take_while(is_space).count();
        self.rest().first().copied().ok_or(Stop::Unclear)
    }

    /// Goes behind these bytes, if they come next.
    #[inline]
    pub(super) fn takes(&mut self, bytes: &[u8]) -> bool {
        let are_next = self.rest().starts_with(bytes);
        if are_next {
            self.at += bytes.len();
        }
        are_next
    }

    /// Goes behind as many bytes, which are known to be there.
    pub(super) fn pass(&mut self, bytes: usize) {
        self.at += bytes;
    }

    /// Goes behind `null` and its like.
    #[inline]
    pub(super) fn word(&mut self, word: &[u8]) -> Read<()> {
        if self.takes(word) { Ok(()) } else { Err(Stop::Unclear) }
    }

    /// Goes into an array or an object, and gives the first byte of what is in it.
    #[inline]
    pub(super) fn enter(&mut self, close: u8) -> Read<Option<u8>> {
        self.at += 1;
        let first = self.peek()?;
        if first == close {
            self.at += 1;
            return Ok(None);
        }
        Ok(Some(first))
    }

    /// Goes on behind an element, and gives the first byte of another. What closes right behind a
    /// comma is neither a value nor a key.
    #[inline]
    pub(super) fn next(&mut self, close: u8) -> Read<Option<u8>> {
        let byte = self.peek()?;
        self.at += 1;
        if byte == b',' {
            return self.peek().map(Some);
        }
        if byte == close { Ok(None) } else { Err(Stop::Unclear) }
    }

    /// Nothing but space comes any more.
    pub(super) fn is_done(&mut self) -> bool {
        self.peek().is_err()
    }

    /// A key and the colon behind it.
    pub(super) fn key(&mut self) -> Read<Cow<'d, str>> {
        if self.peek()? != b'"' {
            return Err(Stop::Unclear);
        }
        let key = self.string()?;
        if self.peek()? != b':' {
            return Err(Stop::Unclear);
        }
        self.at += 1;
        Ok(key)
    }

    /// A text, whose quote comes next.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Read<Cow<'d, str>> {
        let start = self.at + 1;
        let end = start + self.plain(start)?;
        match self.text.as_bytes()[end] {
            b'"' => {
                self.at = end + 1;
                self.text.get(start..end).map(Cow::Borrowed).ok_or(Stop::Unclear)
            }
            _ => self.escaped(),
        }
    }

    #[cold]
    fn escaped(&mut self) -> Read<Cow<'d, str>> {
        let mut jiter = Jiter::with_tape(self.rest(), std::mem::take(&mut self.tape));
        let text = jiter.known_str()?.to_owned();
        self.at += jiter.current_index();
        self.tape = jiter.into_tape();
        Ok(Cow::Owned(text))
    }

    /// How many bytes from there on stand for themselves in a text; another one follows.
    #[inline]
    fn plain(&self, start: usize) -> Read<usize> {
        let bytes = self.text.as_bytes().get(start..).unwrap_or_default();
        scalar::first_escaped(bytes).ok_or(Stop::Unclear)
    }

    /// An integer of a few digits, if that is what comes next.
    #[inline]
    pub(super) fn short_integer(&mut self) -> Option<i64> {
        let rest = self.rest();
        let sign = usize::from(rest.first() == Some(&b'-'));
        let digits = &rest[sign..];
        let (mut number, mut len) = (0_i64, 0);
        while let Some(byte) = digits.get(len)
            && byte.is_ascii_digit()
        {
            // Of too many digits nothing is kept.
            number = number.wrapping_mul(10).wrapping_add(i64::from(byte - b'0'));
            len += 1;
        }
        let is_short = (1..=SHORT).contains(&len) && (len == 1 || digits[0] != b'0');
        if !is_short || matches!(digits.get(len), Some(b'.' | b'e' | b'E')) {
            return None;
        }
        self.at += sign + len;
        Some(if sign == 0 { number } else { -number })
    }

    /// A number of any kind, which begins with this byte.
    pub(super) fn number(&mut self, first: u8) -> Read<NumberAny> {
        let mut jiter = Jiter::new(self.rest()).with_allow_inf_nan();
        let number = jiter.known_number(Peek::new(first))?;
        self.at += jiter.current_index();
        Ok(number)
    }

    /// The bytes of a text or an object, up to where it closes. Whether it is JSON is not looked at.
    pub(super) fn unread(&mut self) -> Read<&'d [u8]> {
        let start = self.at;
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => self.pass_string()?,
                b'{' => (open, self.at) = (open + 1, self.at + 1),
                _ if open == 0 => return Err(Stop::Unclear),
                b'}' => (open, self.at) = (open - 1, self.at + 1),
                _ => self.at += 1,
            }
            if open == 0 {
                return Ok(&self.text.as_bytes()[start..self.at]);
            }
        }
    }

    fn pass_string(&mut self) -> Read<()> {
        self.at += 1;
        loop {
            self.at += self.plain(self.at)?;
            match self.rest()[0] {
                b'"' => self.at += 1,
                b'\\' => {
                    self.at += 2;
                    continue;
                }
                _ => return Err(Stop::Unclear),
            }
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(text: &str) -> Reader<'_> {
        Reader::new(text.as_bytes()).unwrap_or_else(|_| panic!("{text} is UTF-8"))
    }

    #[test]
    fn only_short_integers_are_read_as_such() {
        for (text, number) in [
            ("0", Some(0)),
            ("-0,", Some(0)),
            ("7]", Some(7)),
            ("-123 ", Some(-123)),
            ("999999999999999999}", Some(999_999_999_999_999_999)),
            ("1000000000000000000", None),
            ("01", None),
            ("-01", None),
            ("1.5", None),
            ("0e1", None),
            ("-", None),
            ("", None),
            ("NaN", None),
            ("-Infinity", None),
        ] {
            assert_eq!(reader(text).short_integer(), number, "{text}");
        }
    }

    #[test]
    fn a_text_ends_at_the_quote_that_is_not_escaped() {
        for len in 0..20 {
            let text = "ü".repeat(len);
            for (json, read) in [
                (format!("\"{text}\",1"), Some(text.clone())),
                (format!("\"{text}\""), Some(text.clone())),
                (format!("\"{text}\\\"\\n\""), Some(format!("{text}\"\n"))),
                (format!("\"{text}\n\""), None),
                (format!("\"{text}\\"), None),
                (format!("\"{text}"), None),
            ] {
                assert_eq!(reader(&json).string().ok().map(Cow::into_owned), read, "{json}");
            }
        }
    }

    #[test]
    fn what_is_unread_ends_where_it_closes() {
        for (json, unread) in [
            (r#"{"a":{"b":"}"},"c":"\"}"},1"#, Some(r#"{"a":{"b":"}"},"c":"\"}"}"#)),
            (r#""m.A","#, Some(r#""m.A""#)),
            ("{},", Some("{}")),
            ("1", None),
            ("[{}]", None),
            ("}", None),
            ("{\"a\":1", None),
            ("\"a\\", None),
        ] {
            let bytes = reader(json).unread().ok();
            assert_eq!(bytes, unread.map(str::as_bytes), "{json}");
        }
    }
}
