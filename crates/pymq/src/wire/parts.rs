//! What envelopes are read from and written of: members, tuples, keys, identities.
//!
//! It knows no envelope by name, and copies no value: those are spans of the message.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::LARGEST_MESSAGE;
use super::tags::{OBJECT, TYPE};
use crate::error::{Error, Result};
use crate::json::{self, Outline, Span};
use crate::name::Id;

/// A message, checked and looked through once.
pub(super) struct Envelope<'a> {
    what: &'static str,
    outline: Outline<'a>,
}

impl<'a> Envelope<'a> {
    /// Checks size and grammar, before anything is taken out.
    pub(super) fn of(text: &'a Bytes, what: &'static str) -> Result<Self> {
        if text.len() > LARGEST_MESSAGE {
            return Err(Error::decode(what, "larger than 16 MiB"));
        }
        let outline = json::outline(text, OBJECT)
            .map_err(|malformed| Error::decode(what, malformed.message()))?
            .ok_or_else(|| Error::decode(what, "expected an object"))?;
        Ok(Self { what, outline })
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.outline.get(key).map(Span::bytes)
    }

    pub(super) fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.outline.get(key).and_then(Span::string)
    }

    /// The first elements of a tuple with that tag.
    pub(super) fn tuple(&self, tag: &'static str) -> Result<&[Span<'a>]> {
        let tuple = self.outline.elements().ok_or_else(|| {
            Error::decode(self.what, format!("expected an array under \"{OBJECT}\""))
        })?;
        match self.text(TYPE) {
            Some(found) if found == tag => Ok(tuple),
            _ => Err(Error::decode(self.what, format!("expected \"{TYPE}\": \"{tag}\""))),
        }
    }

    /// What only peers of ours say, in the fifth element.
    pub(super) fn extension(&self) -> Option<Extension<'_, 'a>> {
        self.outline.has_extension().then_some(Extension(&self.outline))
    }
}

/// The members of the fifth element.
#[derive(Clone, Copy)]
pub(super) struct Extension<'e, 'a>(&'e Outline<'a>);

impl<'a> Extension<'_, 'a> {
    pub(super) fn get(self, key: &str) -> Option<&'a [u8]> {
        self.0.get_in_extension(key).map(Span::bytes)
    }

    pub(super) fn text(self, key: &str) -> Option<Cow<'a, str>> {
        self.0.get_in_extension(key).and_then(Span::string)
    }

    pub(super) fn id(self, key: &str) -> Option<Id> {
        Id::parse(&self.text(key)?)
    }
}

pub(super) fn field<'a>(value: Span<'a>, what: &'static str, name: &str) -> Result<Cow<'a, str>> {
    value.string().ok_or_else(|| Error::decode(what, format!("{name} is not a string")))
}

/// An array or object of the tuple; the original writes `null` for one that is missing.
pub(super) fn container<'a>(value: Span<'a>, empty: &'static [u8], name: &str) -> Result<&'a [u8]> {
    match value.bytes() {
        raw if raw.first() == empty.first() => Ok(raw),
        b"null" => Ok(empty),
        _ => Err(Error::decode("request", format!("{name} have the wrong shape"))),
    }
}

pub(super) fn milliseconds(raw: &[u8]) -> Option<Duration> {
    let number: u64 = std::str::from_utf8(raw).ok()?.parse().ok()?;
    Some(Duration::from_millis(number))
}

/// The child `key` of a node of types, an object whose entry `*` stands for all children without
/// one of their own (the Python codec documents the tree; envelopes only move its branches).
pub(super) fn child(node: &[u8], key: &str) -> Option<Vec<u8>> {
    let children = json::members(node)?;
    let named = |wanted: &str| children.iter().find(|(name, _)| name == wanted);
    named(key).or_else(|| named("*")).map(|(_, raw)| raw.to_vec())
}

/// Writes a node whose children are some of `types`', under other keys.
pub(super) fn put_moved_types(text: &mut Vec<u8>, types: &[u8], moves: &[(&str, &'static str)]) {
    text.push(b'{');
    let mut first = true;
    for (from, to) in moves {
        if let Some(node) = child(types, from) {
            if !std::mem::take(&mut first) {
                text.extend_from_slice(b", ");
            }
            put_key(text, to);
            text.extend_from_slice(&node);
        }
    }
    text.push(b'}');
}

/// The last bytes of a text, from the beginning of a character on.
pub(super) fn end_of(text: &str, most: usize) -> &str {
    let start = text.ceil_char_boundary(text.len().saturating_sub(most));
    &text[start..]
}

pub(super) fn put_id(text: &mut Vec<u8>, before: &[u8], id: Id) {
    text.extend_from_slice(before);
    text.extend_from_slice(id.text(&mut [0; 32]).as_bytes());
}

/// A key of the wire's own: nothing in it is escaped.
pub(super) fn put_key(text: &mut Vec<u8>, key: &'static str) {
    put_word(text, key);
    text.extend_from_slice(b": ");
}

fn put_word(text: &mut Vec<u8>, word: &'static str) {
    text.push(b'"');
    text.extend_from_slice(word.as_bytes());
    text.push(b'"');
}

pub(super) fn put_string(text: &mut Vec<u8>, string: &str) {
    if json::is_plain(string) {
        text.push(b'"');
        text.extend_from_slice(string.as_bytes());
        text.push(b'"');
    } else {
        serde_json::to_writer(text, string).expect("a string is written to memory");
    }
}

/// Closes the tuple and the object around it.
pub(super) fn finish(text: &mut Vec<u8>, tag: &'static str) {
    text.extend_from_slice(b"], ");
    put_key(text, TYPE);
    put_word(text, tag);
    text.push(b'}');
}
