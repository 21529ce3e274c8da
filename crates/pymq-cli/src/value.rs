//! Values as people and programs read them: one line of JSON, with the type that its sender named.
//!
//! The one invariant: what is shown as JSON is JSON, in one line, with every digit of its numbers;
//! what is none is shown as text that says so. What JSON lacks (`NaN`, infinities) is shown as a
//! string.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pymq::wire::{Metadata, Plain};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::failure::Failure;
use crate::output::is_harmless;

/// A message, taken apart.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    /// The type that its sender named.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_name: Option<String>,
    #[serde(flatten)]
    content: Content,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<f64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Value(Box<RawValue>),
    /// Bytes that are no value, as text, what is no text replaced.
    Undecodable(String),
}

impl Shown {
    pub(crate) fn of(payload: &Bytes) -> Self {
        let (metadata, value) = Metadata::detach(payload.clone());
        let metadata = metadata.unwrap_or_default();
        let (type_name, content) = match Plain::of(&value) {
            Ok(Plain { type_name, value, .. }) => (type_name, Content::of(&value)),
            Err(_) => (None, Content::undecodable(payload)),
        };
        let headers = metadata.headers();
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok();
        Self {
            type_name,
            content,
            headers: headers.map(|(name, value)| (name.into(), value.into())).collect(),
            id: metadata.identity().map(str::to_owned),
            sent: metadata.sent().and_then(since).map(|since| since.as_secs_f64()),
        }
    }

    /// The id that its sender gave it.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// What people read: the type, where there is one, and the value.
    pub(crate) fn line(&self) -> String {
        let mut line = String::new();
        if let Some(name) = &self.type_name {
            line.push_str(&crate::output::printable(name));
            line.push(' ');
        }
        match &self.content {
            Content::Value(value) => line.push_str(value.get()),
            Content::Undecodable(text) => {
                line.push_str("undecodable: ");
                line.push_str(&crate::output::printable(text));
            }
        }
        for (name, value) in &self.headers {
            let header = format!("  {name}={value}");
            line.push_str(&crate::output::printable(&header));
        }
        line
    }
}

impl Content {
    fn of(value: &[u8]) -> Self {
        one_line(value).map_or_else(|| Self::undecodable(value), Self::Value)
    }

    fn undecodable(bytes: &[u8]) -> Self {
        Self::Undecodable(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// A value in one line of strict JSON; `None` for what is no value.
pub(crate) fn one_line(value: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(value).ok()?;
    let mut line = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => {
                let string = &rest[..string_length(rest)];
                line.push_str(&harmless(string));
                string.len()
            }
            ' ' | '\t' | '\n' | '\r' => 1,
            _ => {
                match ["-Infinity", "Infinity", "NaN"].iter().find(|word| rest.starts_with(**word))
                {
                    Some(word) => {
                        line.extend(["\"", word, "\""]);
                        word.len()
                    }
                    None => {
                        line.push(first);
                        first.len_utf8()
                    }
                }
            }
        };
        rest = &rest[length..];
    }
    RawValue::from_string(line).ok()
}

/// How long the string at the beginning of a text is, quotes included.
fn string_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// A JSON string as people write it: what a terminal only shows stands for itself, all else is escaped.
fn harmless(string: &str) -> Cow<'_, str> {
    let string = unescaped(string).unwrap_or(Cow::Borrowed(string));
    if string.chars().all(is_harmless) {
        return string;
    }
    let mut escaped = String::with_capacity(string.len());
    for character in string.chars() {
        match is_harmless(character) {
            true => escaped.push(character),
            false => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    escaped.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(escaped)
}

/// A JSON string without escapes that need not be; `None` for what is no text, as half a surrogate pair.
fn unescaped(string: &str) -> Option<Cow<'_, str>> {
    if !string.contains('\\') {
        return Some(Cow::Borrowed(string));
    }
    let text: String = serde_json::from_str(string).ok()?;
    serde_json::to_string(&text).ok().map(Cow::Owned)
}

/// A value that somebody wrote: JSON as it is, or any text.
///
/// # Errors
/// Usage for what is no JSON; `what` names it.
pub(crate) fn written(text: &str, as_text: bool, what: &str) -> Result<Bytes, Failure> {
    if as_text {
        let quoted =
            serde_json::to_string(text).map_err(|error| Failure::usage(error.to_string()))?;
        return Ok(Bytes::from(quoted));
    }
    match serde_json::from_str::<&RawValue>(text.trim()) {
        Ok(value) => Ok(Bytes::from(value.get().to_owned())),
        Err(error) => {
            let shown: String = text.chars().take(60).collect();
            Err(Failure::usage(format!(
                "{what} is no JSON: {shown:?} ({error}); a text is '\"…\"', or take --text"
            )))
        }
    }
}

/// A keyword argument: its name and what was written behind the equals sign.
pub(crate) fn keyword(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let mut characters = name.chars();
    let first = characters.next()?;
    let named = (first.is_alphabetic() || first == '_')
        && characters.all(|character| character.is_alphanumeric() || character == '_');
    named.then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Option<String> {
        one_line(text.as_bytes()).map(|value| value.get().to_owned())
    }

    #[test]
    fn a_value_is_one_line_with_every_digit() {
        let value = "{ \"a\" : [1,\n 123456789012345678901234567890.10],\t\"b\":\" x\\\" y \"}";
        assert_eq!(
            line(value).as_deref(),
            Some(r#"{"a":[1,123456789012345678901234567890.10],"b":" x\" y "}"#)
        );
    }

    #[test]
    fn what_json_lacks_is_a_string_and_what_is_none_is_nothing() {
        assert_eq!(line("[NaN, -Infinity]").as_deref(), Some(r#"["NaN","-Infinity"]"#));
        for text in ["", "{", "nonsense", "\"open", "\"open\\", "[1 2"] {
            assert_eq!(line(text), None, "{text}");
        }
    }

    #[test]
    fn a_string_cannot_speak_to_the_terminal() {
        assert_eq!(line("\"\u{9b}2J\u{202e}\"").as_deref(), Some("\"\\u009b2J\\u202e\""));
        assert_eq!(line(r#""\u001b[2J\u202E""#).as_deref(), Some(r#""\u001b[2J\u202e""#));
    }

    #[test]
    fn a_string_is_shown_as_people_write_it() {
        assert_eq!(
            line(r#"{"Gr\u00f6\u00dfe":"\/\ud83c\udf75"}"#).as_deref(),
            Some(r#"{"Größe":"/🍵"}"#)
        );
        for escaped in [r#""\"\\\n""#, r#""\ud83c""#, r#""x\udf75\u00e4""#] {
            assert_eq!(line(escaped).as_deref(), Some(escaped));
        }
    }

    #[test]
    fn a_keyword_is_a_name_before_an_equals_sign() {
        assert_eq!(keyword("count=2"), Some(("count", "2")));
        assert_eq!(keyword("a=b=c"), Some(("a", "b=c")));
        for word in ["\"a=b\"", "2", "=2", "[\"x=1\"]", "true", "2a=3"] {
            assert_eq!(keyword(word), None, "{word}");
        }
    }
}
