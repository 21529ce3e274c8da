//! A request: the original's, with an element of ours behind it.
//!
//! The fifth element names the call and its caller's inbox, which peers of the original ignore: they
//! answer on the list in the second. The tree of types, which the original does not send, stands in
//! front of all.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

use super::parts::{
    Envelope, Extension, container, field, finish, milliseconds, put_id, put_key, put_moved_types,
    put_string,
};
use super::tags::{META, OBJECT, REQUEST_TYPE, TYPES};
use super::{Arguments, Metadata};
use crate::draft;
use crate::error::{Error, Result};
use crate::name::Id;

/// A request to run a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request<'a> {
    pub function: Cow<'a, str>,
    /// The list on which a caller of the original waits: `__rpc_<uuid>`.
    pub reply_list: Cow<'a, str>,
    pub arguments: Arguments,
    /// Headers and more, for whoever looks; peers of the original do not.
    pub metadata: Metadata,
    /// What only peers of ours send.
    pub ours: Option<RequestExtension>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestExtension {
    pub call: Id,
    pub inbox: Id,
    /// How long the caller still waits; a length, so that clocks need not agree.
    pub left: Option<Duration>,
    /// For a request that is repeated: how long ago its caller last heard of the call, or asked for
    /// the first time.
    pub silent: Option<Duration>,
}

impl<'a> Request<'a> {
    /// The same, for longer than the message that it was read from, or the stub that made it.
    pub(crate) fn into_owned(self) -> Request<'static> {
        let function = Cow::Owned(self.function.into_owned());
        let reply_list = Cow::Owned(self.reply_list.into_owned());
        Request { function, reply_list, ..self }
    }

    /// The same once more, from a caller that has heard nothing of the call for so long.
    pub(crate) fn repeated(&self, silent: Duration) -> Self {
        let ours = self.ours.map(|ours| RequestExtension { silent: Some(silent), ..ours });
        Self { ours, ..self.clone() }
    }

    /// # Errors
    /// `Encode` for too much metadata; what the rest may be, its sender's limits say.
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let Arguments { positional, keywords, .. } = &self.arguments;
        draft::written(256 + positional.len() + keywords.len(), |text| self.write(text))
    }

    fn write(&self, text: &mut Vec<u8>) -> Result<()> {
        let Arguments { positional, keywords, types } = &self.arguments;
        text.push(b'{');
        if !self.metadata.is_empty() {
            put_key(text, META);
            text.extend_from_slice(self.metadata.text()?.as_bytes());
            text.extend_from_slice(b", ");
        }
        if let Some(types) = types {
            // The arguments' tree has them as children 0 and 1; in the tuple they are 2 and 3.
            put_key(text, TYPES);
            put_moved_types(text, types, &[("0", "2"), ("1", "3")]);
            text.extend_from_slice(b", ");
        }
        put_key(text, OBJECT);
        text.push(b'[');
        put_string(text, &self.function);
        text.extend_from_slice(b", ");
        put_string(text, &self.reply_list);
        text.extend_from_slice(b", ");
        text.extend_from_slice(positional);
        text.extend_from_slice(b", ");
        text.extend_from_slice(keywords);
        if let Some(RequestExtension { call, inbox, left, silent }) = &self.ours {
            put_id(text, br#", {"id": ""#, *call);
            put_id(text, br#"", "inbox": ""#, *inbox);
            text.push(b'"');
            for (key, length) in [("left", left), ("silent", silent)] {
                if let Some(length) = length {
                    let member = format!(r#", "{key}": {}"#, length.as_millis());
                    text.extend_from_slice(member.as_bytes());
                }
            }
            text.push(b'}');
        }
        finish(text, REQUEST_TYPE);
        Ok(())
    }

    /// # Errors
    /// `Decode` for anything but a request of the original's shape.
    pub(super) fn decode(text: &Bytes, message: &Envelope<'a>) -> Result<Self> {
        let tuple = message.tuple(REQUEST_TYPE)?;
        let [function, reply_list, positional, keywords, ..] = *tuple else {
            return Err(Error::decode("request", "expected four elements"));
        };
        let types = message.get(TYPES).and_then(|types| {
            let mut moved = Vec::new();
            put_moved_types(&mut moved, types, &[("2", "0"), ("3", "1")]);
            (moved != b"{}").then(|| Bytes::from(moved))
        });
        let positional = container(positional, b"[]", "the arguments")?;
        let keywords = container(keywords, b"{}", "the keyword arguments")?;
        // What is a small part of its message is copied, and does not keep the rest.
        let is_small = positional.len() + keywords.len() < text.len() / 2;
        let part = |raw: &[u8]| match raw {
            b"[]" => Bytes::from_static(b"[]"),
            b"{}" => Bytes::from_static(b"{}"),
            raw if is_small => Bytes::copy_from_slice(raw),
            raw => text.slice_ref(raw),
        };
        Ok(Self {
            function: field(function, "request", "the function's name")?,
            reply_list: field(reply_list, "request", "the reply channel")?,
            arguments: Arguments { positional: part(positional), keywords: part(keywords), types },
            metadata: message.get(META).and_then(Metadata::read).unwrap_or_default(),
            ours: message.extension().map(RequestExtension::decode).transpose()?,
        })
    }
}

impl RequestExtension {
    /// A malformed one is an error, since answering its sender as if he were a caller of the
    /// original would leave him waiting.
    fn decode(extension: Extension<'_, '_>) -> Result<Self> {
        match (extension.id("id"), extension.id("inbox")) {
            (Some(call), Some(inbox)) => {
                let length = |key| extension.get(key).and_then(milliseconds);
                let (left, silent) = (length("left"), length("silent"));
                Ok(Self { call, inbox, left, silent })
            }
            _ => Err(Error::decode("request", "the fifth element names no call and inbox")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ToProvider;
    use super::*;

    fn request() -> Request<'static> {
        Request {
            function: "add \"é\"".into(),
            reply_list: "__rpc_6f1c8a34-6f5c-4a43-8f6c-0d0f1e2a3b4c".into(),
            arguments: Arguments {
                positional: Bytes::from_static(b"[1, NaN, [2]]"),
                keywords: Bytes::from_static(br#"{"b": "\ud800"}"#),
                types: Some(Bytes::from_static(br#"{"0": {"2": "tuple"}}"#)),
            },
            metadata: Metadata::default().passed("trace", "7f"),
            ours: Some(RequestExtension {
                call: Id::random(),
                inbox: Id::random(),
                left: Some(Duration::from_millis(1500)),
                silent: Some(Duration::from_millis(1000)),
            }),
        }
    }

    #[test]
    fn a_request_survives_the_wire() {
        let request = request();
        let encoded = request.encode().expect("little metadata");
        let decoded = ToProvider::decode(&encoded).expect("our own request");
        assert_eq!(decoded, ToProvider::Request(request));
    }

    #[test]
    fn the_originals_request_is_read() {
        let text = Bytes::from_static(
            br#"{"__obj": ["add", "__rpc_x", [1, 2], {}], "__type": "pymq.core.RpcRequest"}"#,
        );
        let ToProvider::Request(request) = ToProvider::decode(&text).expect("a request") else {
            panic!("not a request");
        };
        assert_eq!(request.function, "add");
        assert_eq!(request.arguments, Arguments::positional(Bytes::from_static(b"[1, 2]")));
        assert_eq!(request.ours, None);
    }
}
