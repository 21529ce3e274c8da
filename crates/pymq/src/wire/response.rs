//! A response: what a provider says of a call, its outcome or a sign of life.
//!
//! The original's has four elements: function, value, type and whether it failed. Ours has a fifth,
//! which names the call and the provider, and says of which kind the response is: to peers of the
//! original only results are sent, which they read without it.

use std::borrow::Cow;
use std::convert::Infallible;

use bytes::Bytes;

use super::Outcome;
use super::parts::{
    Envelope, Extension, child, end_of, field, finish, put_id, put_key, put_string,
};
use super::tags::{OBJECT, RESPONSE_TYPE, TYPES};
use crate::draft;
use crate::error::{Error, Result};
use crate::name::Id;

/// The most of a traceback that travels, in bytes; its end says most.
const LONGEST_TRACEBACK: usize = 8 << 10;

/// How many providers of one function one bus is believed to have.
const MOST_SIBLINGS: usize = 1 << 16;

/// What a provider says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response<'a> {
    pub function: Cow<'a, str>,
    pub outcome: Outcome,
    pub ours: Option<ResponseExtension>,
}

/// What a provider of ours says of a call, without the name of the function: who asked knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub outcome: Outcome,
    pub ours: ResponseExtension,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseExtension {
    pub call: Id,
    pub provider: Id,
    pub kind: ResponseKind,
    /// Those on its bus, where the broker counts them as one and there are several.
    pub siblings: Option<Siblings>,
}

/// The providers of one function on one bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Siblings {
    /// What they have in common, and no others.
    pub id: Id,
    /// How many they are.
    pub count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseKind {
    /// The call ended; the outcome is the response's.
    Result,
    /// The request has arrived.
    Ack,
    /// The function is still running.
    Beat,
    /// The call was not begun, and is not: too many wait here.
    Busy,
    /// The call was not begun, and is not: this provider has ended.
    Left,
    /// The call was begun, and will not end: this provider is closed.
    Lost,
    /// This provider is there: the answer to [`Control::Who`].
    Here,
}

impl ResponseKind {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Result, "result"),
        (Self::Ack, "ack"),
        (Self::Beat, "beat"),
        (Self::Busy, "busy"),
        (Self::Left, "left"),
        (Self::Lost, "lost"),
        (Self::Here, "here"),
    ];

    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("result", |(_, word)| word)
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

impl<'a> Response<'a> {
    pub(crate) fn encode(&self) -> Bytes {
        let Ok(text) = draft::written(256 + self.outcome.value.len(), |text| {
            self.write(text);
            Ok::<_, Infallible>(())
        });
        text
    }

    fn write(&self, text: &mut Vec<u8>) {
        let Outcome { value, type_name, types, failed, traceback, fields } = &self.outcome;
        text.push(b'{');
        if let Some(types) = types {
            put_key(text, TYPES);
            text.extend_from_slice(br#"{"1": "#);
            text.extend_from_slice(types);
            text.extend_from_slice(b"}, ");
        }
        put_key(text, OBJECT);
        text.push(b'[');
        put_string(text, &self.function);
        text.extend_from_slice(b", ");
        text.extend_from_slice(value);
        text.extend_from_slice(b", ");
        put_string(text, type_name);
        text.extend_from_slice(if *failed { b", true" } else { b", false" });
        if let Some(ResponseExtension { call, provider, kind, siblings }) = &self.ours {
            put_id(text, br#", {"id": ""#, *call);
            put_id(text, br#"", "provider": ""#, *provider);
            text.extend_from_slice(br#"", "kind": ""#);
            text.extend_from_slice(kind.word().as_bytes());
            text.push(b'"');
            if let Some(Siblings { id, count }) = siblings {
                put_id(text, br#", "siblings": ""#, *id);
                text.extend_from_slice(format!(r#"", "count": {count}"#).as_bytes());
            }
            if let Some(traceback) = traceback {
                text.extend_from_slice(b", ");
                put_key(text, "traceback");
                put_string(text, end_of(traceback, LONGEST_TRACEBACK));
            }
            if let Some(fields) = fields {
                text.extend_from_slice(b", ");
                put_key(text, "fields");
                text.extend_from_slice(fields);
            }
            text.push(b'}');
        }
        finish(text, RESPONSE_TYPE);
    }

    /// What is heard of a provider of ours; `None` from one of the original.
    pub(crate) fn said(self) -> Option<Said> {
        self.ours.map(|ours| Said { outcome: self.outcome, ours })
    }

    /// # Errors
    /// `Decode` for anything but a response of the original's shape.
    pub(crate) fn decode(text: &'a Bytes) -> Result<Self> {
        let message = Envelope::of(text, "response")?;
        let [function, value, type_name, failed, ..] = *message.tuple(RESPONSE_TYPE)? else {
            return Err(Error::decode("response", "expected four elements"));
        };
        let extension = message.extension();
        Ok(Self {
            function: field(function, "response", "the function's name")?,
            outcome: Outcome {
                value: text.slice_ref(value.bytes()),
                type_name: field(type_name, "response", "the result's type")?.into_owned(),
                types: message.get(TYPES).and_then(|types| child(types, "1")).map(Bytes::from),
                failed: failed.bytes() == b"true",
                traceback: extension
                    .and_then(|extension| extension.text("traceback"))
                    .map(|traceback| end_of(&traceback, LONGEST_TRACEBACK).to_owned()),
                fields: extension
                    .and_then(|extension| extension.get("fields"))
                    .map(|fields| text.slice_ref(fields)),
            },
            ours: extension.and_then(ResponseExtension::decode),
        })
    }
}

impl ResponseExtension {
    fn decode(extension: Extension<'_, '_>) -> Option<Self> {
        Some(Self {
            call: extension.id("id")?,
            provider: extension.id("provider")?,
            kind: ResponseKind::of(&extension.text("kind")?)?,
            siblings: Siblings::decode(extension),
        })
    }
}

impl Siblings {
    fn decode(extension: Extension<'_, '_>) -> Option<Self> {
        let id = extension.id("siblings")?;
        let count = std::str::from_utf8(extension.get("count")?).ok()?.parse().ok()?;
        // So many as no bus has are nobody's to wait for.
        (count <= MOST_SIBLINGS).then_some(Self { id, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_survives_the_wire() {
        let response = Response {
            function: "f".into(),
            outcome: Outcome {
                types: Some(Bytes::from_static(br#"{"0": "tuple"}"#)),
                traceback: Some("line 1\n\"é\"".into()),
                fields: Some(Bytes::from_static(br#"{"Late": {"by": 3}}"#)),
                ..Outcome::result(Bytes::from_static(b"[[1], 2]"), "list".into())
            },
            ours: Some(ResponseExtension {
                call: Id::random(),
                provider: Id::random(),
                kind: ResponseKind::Beat,
                siblings: Some(Siblings { id: Id::random(), count: 12 }),
            }),
        };
        let encoded = response.encode();
        assert_eq!(Response::decode(&encoded).expect("our own response"), response);
    }
}
