//! What a message says about itself beside its value: headers, an identity, when it was sent.
//!
//! It travels in one more top-level key, written first, which decoders of the original pass over:
//! `tests/interop/test_metadata.py` has 0.2.2 and 0.7.0 read every sample with it and without. Only where
//! they do not find an object's class, and make a dict of all its keys, this one is among them. A
//! message without metadata is not one byte longer than before; what the headers mean is their sender's
//! and reader's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::LARGEST_MESSAGE;
use super::parts::{put_key, put_string};
use super::tags::{self, META, OBJECT, TYPE};
use crate::error::{Error, ErrorKind, Result};
use crate::json;

/// The most that metadata may take of a message, in bytes as written: 8 KiB.
pub const LARGEST_METADATA: usize = 8 << 10;

const HEADERS: &str = "headers";
const PASSED: &str = "passed";
const ID: &str = "id";
const SENT: &str = "sent";

/// What an event, an item or a call says about itself; empty until something is set.
///
/// Headers are text by name. Those that are [`passed`](Self::passed) on go into every call that a
/// function makes while it answers one, and from there into the calls that those make; in Python also
/// into those that a subscriber makes.
///
/// ```
/// use pymq::wire::Metadata;
///
/// let metadata = Metadata::default().header("tenant", "north").passed("trace", "7f3a").id("order-17");
/// assert_eq!(metadata.get("trace"), Some("7f3a"));
/// assert_eq!(metadata.headers().count(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata(Option<Arc<Fields>>);

/// What is set; most messages have none of it, and carry nothing around.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fields {
    headers: BTreeMap<String, String>,
    passed: BTreeMap<String, String>,
    id: Option<String>,
    sent: Option<u64>,
}

impl Metadata {
    /// The same with a header for the reader of this message alone.
    #[must_use]
    pub fn header(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.with(|fields| {
            fields.passed.remove(&name);
            fields.headers.insert(name, value);
        })
    }

    /// The same with a header that nested calls carry on.
    #[must_use]
    pub fn passed(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        self.with(|fields| {
            fields.headers.remove(&name);
            fields.passed.insert(name, value);
        })
    }

    /// The same with an identity of the message.
    #[must_use]
    pub fn id(self, id: impl Into<String>) -> Self {
        self.with(|fields| fields.id = Some(id.into()))
    }

    /// The same with the time of sending, to the millisecond.
    #[must_use]
    pub fn sent_at(self, time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.with(|fields| fields.sent = u64::try_from(since.as_millis()).ok())
    }

    /// A header's value, whether it is passed on or not.
    pub fn get(&self, name: &str) -> Option<&str> {
        let fields = self.0.as_deref()?;
        fields.passed.get(name).or_else(|| fields.headers.get(name)).map(String::as_str)
    }

    /// All headers; those that are passed on come last.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.0.as_deref().into_iter();
        let headers = fields.flat_map(|fields| fields.headers.iter().chain(&fields.passed));
        headers.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The headers that nested calls carry on.
    pub fn passed_on(&self) -> impl Iterator<Item = (&str, &str)> {
        let passed = self.0.as_deref().into_iter().flat_map(|fields| &fields.passed);
        passed.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The identity, where the sender gave one.
    pub fn identity(&self) -> Option<&str> {
        self.0.as_deref()?.id.as_deref()
    }

    /// When it was sent, by the sender's clock, where the sender says so.
    pub fn sent(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.0.as_deref()?.sent?))
    }

    /// Whether nothing is set; then nothing travels.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The same with the time of sending, unless it has one or nothing is set.
    pub(crate) fn stamped(self) -> Self {
        match self.0.as_deref() {
            Some(Fields { sent: None, .. }) => self.sent_at(SystemTime::now()),
            _ => self,
        }
    }

    /// This, with what `outer` passes on and this does not set itself.
    pub(crate) fn within(self, outer: &Self) -> Self {
        let passed = outer.0.as_deref().into_iter().flat_map(|fields| &fields.passed);
        passed.fold(self, |this, (name, value)| match this.get(name) {
            Some(_) => this,
            None => this.passed(name, value),
        })
    }

    fn with(mut self, set: impl FnOnce(&mut Fields)) -> Self {
        set(Arc::make_mut(self.0.get_or_insert_default()));
        self
    }

    /// A message with this in it: `payload`, an encoded value, as every peer still reads it.
    ///
    /// # Errors
    /// `Encode` for more than 8 KiB.
    pub fn attach(&self, payload: Bytes) -> Result<Bytes> {
        if self.is_empty() {
            return Ok(payload);
        }
        let metadata = self.text()?;
        let mut text = Vec::with_capacity(metadata.len() + payload.len() + 64);
        text.push(b'{');
        put_key(&mut text, META);
        text.extend_from_slice(metadata.as_bytes());
        text.extend_from_slice(b", ");
        match is_tagged(&payload) {
            // The members of an object that has its tag: one more in front of them.
            true => text.extend_from_slice(payload.trim_ascii_start().get(1..).unwrap_or_default()),
            false => {
                put_key(&mut text, OBJECT);
                text.extend_from_slice(&payload);
                text.extend_from_slice(b", ");
                put_key(&mut text, TYPE);
                put_string(&mut text, tags::type_name(&payload));
                text.push(b'}');
            }
        }
        Ok(Bytes::from(text))
    }

    /// A message with this in it, if every peer can read that: `None` for more than 8 KiB of metadata,
    /// and where the message would be too large or nest too deep.
    pub fn attach_if_readable(&self, payload: &Bytes) -> Option<Bytes> {
        let message = self.attach(payload.clone()).ok()?;
        let readable = message.len() <= LARGEST_MESSAGE && !json::is_too_deep(&message);
        readable.then_some(message)
    }

    /// The metadata of a message, where there is some, and the message without it.
    ///
    /// A user's own map with such a key is left as it is: only what [`attach`](Self::attach) writes,
    /// with the key in front and a tag behind it, is taken apart.
    pub fn detach(message: Bytes) -> (Option<Self>, Bytes) {
        if !Self::may_be_in(&message) {
            return (None, message);
        }
        match split(&message) {
            Some((metadata, rest)) => (Some(metadata), rest),
            None => (None, message),
        }
    }

    /// Whether it is worth to look for metadata in a message; for nearly every one its first bytes say
    /// no.
    pub fn may_be_in(message: &[u8]) -> bool {
        message.starts_with(tags::META_FIRST.as_bytes())
    }

    /// Whether it is small enough to travel.
    pub(crate) fn fits(&self) -> bool {
        self.is_empty() || self.text().is_ok()
    }

    /// As it is written.
    ///
    /// # Errors
    /// `Encode` for more than 8 KiB.
    pub(super) fn text(&self) -> Result<String> {
        let nothing = Fields::default();
        let fields = self.0.as_deref().unwrap_or(&nothing);
        let texts = |texts: &BTreeMap<String, String>| -> Value {
            texts.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect()
        };
        let mut members = Map::new();
        for (key, headers) in [(HEADERS, &fields.headers), (PASSED, &fields.passed)] {
            if !headers.is_empty() {
                members.insert(key.to_owned(), texts(headers));
            }
        }
        members.extend(fields.id.iter().map(|id| (ID.to_owned(), Value::from(id.as_str()))));
        members.extend(fields.sent.map(|sent| (SENT.to_owned(), Value::from(sent))));
        let text = Value::Object(members).to_string();
        if text.len() > LARGEST_METADATA {
            let why = format!("metadata of {} bytes; at most 8 KiB travel", text.len());
            return Err(Error::new(ErrorKind::Encode, "encode", "metadata", why));
        }
        Ok(text)
    }

    /// What [`text`](Self::text) wrote; `None` for anything else.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        if text.len() > LARGEST_METADATA {
            return None;
        }
        let Value::Object(members) = serde_json::from_slice(text).ok()? else { return None };
        let mut fields = Fields::default();
        for (key, value) in members {
            match (key.as_str(), value) {
                (HEADERS, Value::Object(headers)) => fields.headers = all_texts(headers)?,
                (PASSED, Value::Object(headers)) => fields.passed = all_texts(headers)?,
                (ID, Value::String(id)) => fields.id = Some(id),
                (SENT, Value::Number(sent)) => fields.sent = Some(sent.as_u64()?),
                // What a later release writes here is none of ours, and no reason to lose the rest.
                _ => {}
            }
        }
        let is_set = fields != Fields::default();
        Some(Self(is_set.then(|| Arc::new(fields))))
    }
}

fn all_texts(headers: Map<String, Value>) -> Option<BTreeMap<String, String>> {
    let text = |(name, value)| match value {
        Value::String(value) => Some((name, value)),
        _ => None,
    };
    headers.into_iter().map(text).collect()
}

fn is_tagged(payload: &[u8]) -> bool {
    let members = payload.trim_ascii_start();
    members.first() == Some(&b'{')
        && json::members(members).is_some_and(|members| members.iter().any(|(key, _)| key == TYPE))
}

/// The metadata in front of a tagged object, and the object without it.
fn split(message: &Bytes) -> Option<(Metadata, Bytes)> {
    let members = json::members(json::document(message).ok()?)?;
    let ((first, metadata), others) = members.split_first()?;
    if first != META || !others.iter().any(|(key, _)| key == TYPE) {
        return None;
    }
    let end = metadata.as_ptr_range().end as usize - message.as_ptr() as usize;
    let comma = message[end..].iter().position(|byte| *byte == b',')?;
    let rest = message[end + comma + 1..].trim_ascii_start();
    Some((Metadata::read(metadata)?, Bytes::from([b"{", rest].concat())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Metadata {
        let sent = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        Metadata::default().header("a", "b \"é\"").passed("trace", "7").id("x").sent_at(sent)
    }

    #[test]
    fn every_shape_of_message_carries_metadata_and_gives_it_back() {
        for (payload, without) in [
            ("1", r#"{"__obj": 1, "__type": "int"}"#),
            ("1.5", r#"{"__obj": 1.5, "__type": "float"}"#),
            (r#""text""#, r#"{"__obj": "text", "__type": "str"}"#),
            ("true", r#"{"__obj": true, "__type": "bool"}"#),
            ("[1, [2]]", r#"{"__obj": [1, [2]], "__type": "list"}"#),
            (r#"{"a": 1}"#, r#"{"__obj": {"a": 1}, "__type": "dict"}"#),
            (
                r#"{"__obj": null, "__type": "NoneType"}"#,
                r#"{"__obj": null, "__type": "NoneType"}"#,
            ),
            (r#"{"n": 1, "__type": "app.E"}"#, r#"{"n": 1, "__type": "app.E"}"#),
        ] {
            let message = full().attach(Bytes::from(payload)).expect("small");
            assert_eq!(Metadata::detach(message), (Some(full()), Bytes::from(without)));
        }
    }

    #[test]
    fn nothing_travels_where_nothing_is_set() {
        let payload = Bytes::from_static(b"[1]");
        assert_eq!(Metadata::default().attach(payload.clone()).expect("as it is"), payload);
    }

    #[test]
    fn a_map_with_such_a_key_that_is_nobodys_metadata_stays_as_it_is() {
        for honest in [
            r#"{"__meta": {"headers": {"a": "b"}}, "x": 1}"#,
            r#"{"__meta": 3, "__type": "app.E"}"#,
            r#"{"__meta": {"headers": {"a": 1}}, "__type": "app.E"}"#,
            r#"{"__meta"#,
        ] {
            let message = Bytes::from(honest);
            assert_eq!(Metadata::detach(message.clone()), (None, message));
        }
    }

    #[test]
    fn metadata_is_bounded_at_its_sender() {
        let error = Metadata::default().header("a", "x".repeat(9000)).attach(Bytes::from("1"));
        assert_eq!(error.expect_err("too large").kind(), ErrorKind::Encode);
    }

    #[test]
    fn only_what_is_passed_on_reaches_nested_calls_and_their_own_words_win() {
        let outer = full();
        let inner = Metadata::default().header("trace", "mine").within(&outer);
        assert_eq!((inner.get("trace"), inner.get("a")), (Some("mine"), None));
        let inner = Metadata::default().within(&outer);
        assert_eq!((inner.get("trace"), inner.get("a")), (Some("7"), None));
        assert_eq!(inner, Metadata::default().passed("trace", "7"));
    }
}
