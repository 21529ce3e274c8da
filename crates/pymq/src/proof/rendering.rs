//! Values as lines: what the span reader sees, what serde sees.

use std::fmt::{self, Write as _};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Line;
use crate::json;

/// A value as serde hands it to a type that takes anything, as a [`Line`].
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered(pub Line);

/// Which numbers a reader tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Integers of any size, as in Python.
    Exact,
    /// Integers of 64 bits; larger ones, and a zero with a sign, are floats. None beyond floats, and
    /// none of Python's words.
    Serde,
    /// The same with Python's words, infinities for what is beyond floats, and an integer zero.
    Words,
}

/// The line that serde should make of a checked document; `None` where it should refuse.
pub(super) fn of_serde(document: &[u8]) -> Option<Line> {
    // Where Python's words may be, another parser reads what serde_json refuses.
    let word = document.windows(3).any(|word| word == b"NaN" || word == b"Inf");
    let words = || word.then(|| of_spans(document, Numbers::Words)).flatten();
    of_spans(document, Numbers::Serde).or_else(words)
}

/// The line of a checked document, from its spans; `None` where the reader that tells `numbers`
/// apart cannot hold it.
pub(super) fn of_spans(value: &[u8], numbers: Numbers) -> Option<Line> {
    if let Some(elements) = json::elements(value) {
        let lines = elements.into_iter().map(|element| of_spans(element, numbers));
        return Some(list(&lines.collect::<Option<Vec<_>>>()?));
    }
    if let Some(members) = json::members(value) {
        let mut line = Line::from("{");
        for (key, value) in members {
            write!(line, "{}:{},", text(&key), of_spans(value, numbers)?).ok()?;
        }
        return Some(line + "}");
    }
    if let Some(found) = json::string(value) {
        return (numbers == Numbers::Exact || !is_lone(value)).then(|| text(&found));
    }
    match value {
        b"null" => Some("n".to_owned()),
        b"true" => Some("t".to_owned()),
        b"false" => Some("f".to_owned()),
        b"NaN" | b"Infinity" | b"-Infinity" if numbers == Numbers::Serde => None,
        b"NaN" => Some(float(f64::NAN)),
        b"Infinity" => Some(float(f64::INFINITY)),
        b"-Infinity" => Some(float(f64::NEG_INFINITY)),
        number => number_line(std::str::from_utf8(number).ok()?, numbers),
    }
}

fn number_line(number: &str, numbers: Numbers) -> Option<Line> {
    let whole = !number.contains(['.', 'e', 'E']);
    let narrow = number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    let integer = || Some(format!("i{}", if number == "-0" { "0" } else { number }));
    let read: f64 = number.parse().ok()?;
    match numbers {
        Numbers::Exact if whole => integer(),
        Numbers::Words if whole && narrow => integer(),
        Numbers::Serde if whole && narrow && number != "-0" => integer(),
        Numbers::Serde if !read.is_finite() => None,
        Numbers::Exact | Numbers::Words | Numbers::Serde => Some(float(read)),
    }
}

/// Whether a quoted text has half a surrogate pair.
fn is_lone(quoted: &[u8]) -> bool {
    serde_json::from_slice::<String>(quoted).is_err()
}

fn list(lines: &[Line]) -> Line {
    let mut whole = Line::from("[");
    for line in lines {
        whole.push_str(line);
        whole.push(',');
    }
    whole + "]"
}

fn text(text: &str) -> Line {
    text.bytes().fold(Line::from("s"), |line, byte| line + &format!("{byte:02x}"))
}

fn float(value: f64) -> Line {
    let value = if value.is_nan() { f64::NAN } else { value };
    format!("d{:016x}", value.to_bits())
}

impl<'de> Deserialize<'de> for Rendered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything).map(Self)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E>(self) -> Result<Line, E> {
        Ok("n".to_owned())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Line, E> {
        Ok(if value { "t" } else { "f" }.to_owned())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Line, E> {
        Ok(format!("i{value}"))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Line, E> {
        Ok(format!("i{value}"))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Line, E> {
        Ok(float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Line, E> {
        Ok(text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Line, A::Error> {
        let mut lines = Vec::new();
        while let Some(Rendered(line)) = elements.next_element()? {
            lines.push(line);
        }
        Ok(list(&lines))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Line, A::Error> {
        let mut line = Line::from("{");
        while let Some((key, Rendered(value))) = members.next_entry::<String, _>()? {
            line += &format!("{}:{value},", text(&key));
        }
        Ok(line + "}")
    }
}
