//! The envelopes: what requests, replies and our own control messages look like as bytes.
//!
//! Of this crate, only this file and those below it know the names of the wire's fields; the Python
//! edge has a codec for Python's values, which knows those of values. Requests and replies are the
//! original's (`pymq` 0.2.2 to 0.7.0 on PyPI), whose peers ignore the fifth element and every
//! top-level key they do not know; control messages travel on channels of ours only. Values inside
//! are spans of JSON that this module never looks into.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::error::{Error, RemoteError, Result};
use crate::json;
use crate::name::Id;
pub use metadata::{LARGEST_METADATA, Metadata};
use parts::{
    Members, child, container, end_of, field, finish, milliseconds, put_id, put_key,
    put_moved_types, put_string,
};
pub use passing::Passing;
pub use plain::Plain;
use tags::{META, OBJECT, TYPES};

mod metadata;
mod parts;
mod passing;
mod plain;
pub(crate) mod tags;

/// The largest message that is taken from the wire or put on it: 16 MiB.
pub const LARGEST_MESSAGE: usize = 16 << 20;

const REQUEST_TYPE: &str = "pymq.core.RpcRequest";
const RESPONSE_TYPE: &str = "pymq.core.RpcResponse";

/// The arguments of a call, as spans of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// A JSON array.
    pub positional: Bytes,
    /// A JSON object.
    pub keywords: Bytes,
    /// The tree of types that the shapes have lost: a node whose children `"0"` and `"1"` are
    /// those of the two above.
    pub types: Option<Bytes>,
}

impl Arguments {
    /// No arguments at all.
    pub fn none() -> Self {
        Self::positional(Bytes::from_static(b"[]"))
    }

    /// How much memory they keep.
    pub(crate) fn weight(&self) -> usize {
        let types = self.types.as_ref().map_or(0, Bytes::len);
        self.positional.len() + self.keywords.len() + types
    }

    /// The same without the message that they were a small part of.
    fn out_of(mut self, message: &Bytes) -> Self {
        if self.weight() < message.len() / 2 {
            self.positional = Bytes::copy_from_slice(&self.positional);
            self.keywords = Bytes::copy_from_slice(&self.keywords);
        }
        self
    }

    /// A JSON array of positional arguments.
    pub fn positional(positional: Bytes) -> Self {
        Self { positional, keywords: Bytes::from_static(b"{}"), types: None }
    }
}

/// A request to run a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub function: String,
    /// The list on which a caller of the original waits: `__rpc_<uuid>`.
    pub reply_list: String,
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

/// What a provider says of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub function: String,
    pub outcome: Outcome,
    pub ours: Option<ResponseExtension>,
}

/// How a call ended: a span of JSON with its type, or an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The result, or the array of the error's arguments.
    pub value: Bytes,
    /// The name of the result's type, or of the error's.
    pub type_name: String,
    /// The types that the value's shape has lost.
    pub types: Option<Bytes>,
    /// Whether the function failed.
    pub failed: bool,
    /// For a failure: where it happened, in its own side's words; only peers of ours send it.
    pub traceback: Option<String>,
    /// For a failure: the error's fields as JSON, for callers that know its type.
    pub fields: Option<Bytes>,
}

/// The most of a traceback that travels, in bytes; its end says most.
const LONGEST_TRACEBACK: usize = 8 << 10;

impl Outcome {
    /// A result.
    pub fn result(value: Bytes, type_name: String) -> Self {
        Self { value, type_name, types: None, failed: false, traceback: None, fields: None }
    }

    /// No outcome at all, for what is said of a call before it ends.
    pub(crate) fn nothing() -> Self {
        Self::result(Bytes::from_static(b"null"), "NoneType".to_owned())
    }

    /// What a provider that is there says of itself: how many calls it has open.
    pub(crate) fn here(open_calls: usize) -> Self {
        Self::result(Bytes::from(open_calls.to_string()), "int".to_owned())
    }

    /// What [`here`](Self::here) says; `None` where a provider says nothing of that.
    pub(crate) fn open_calls(&self) -> Option<usize> {
        std::str::from_utf8(&self.value).ok()?.parse().ok()
    }

    /// What is answered instead of an outcome that no peer could read: always short. `failure` is
    /// the type of the error that could not be sent; `None` for a result.
    pub(crate) fn unsendable(failure: Option<&str>, why: &str) -> Self {
        match failure {
            Some(name) => {
                let why = format!("the error cannot be sent: {why}");
                Self::failure(&crate::name::shortened(name), &why)
            }
            None => Self::failure("TypeError", &format!("the result cannot be sent: {why}")),
        }
    }

    /// A failure with one message.
    pub fn failure(type_name: &str, message: &str) -> Self {
        let value = Bytes::from(Value::from(vec![message]).to_string());
        Self { failed: true, ..Self::result(value, type_name.to_owned()) }
    }

    /// The failure as an error, from `provider` where it is known.
    pub fn remote_error(&self, provider: Option<String>) -> RemoteError {
        let arguments = match self.value.first() {
            Some(b'[') => self.value.clone(),
            // No peer sends another shape, but anybody could.
            _ => Bytes::from([b"[", &self.value[..], b"]"].concat()),
        };
        let (traceback, fields) = (self.traceback.clone(), self.fields.clone());
        RemoteError { type_name: self.type_name.clone(), arguments, provider, traceback, fields }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseExtension {
    pub call: Id,
    pub provider: Id,
    pub kind: ResponseKind,
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

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(kind, _)| *kind == self).map_or("result", |(_, word)| word)
    }

    fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(kind, _)| *kind)
    }
}

/// A message between peers of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Asks all providers of a function to say that they are there.
    Who { call: Id, inbox: Id },
    /// The caller does not wait any more.
    Cancel { call: Id },
}

/// What may arrive at a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToProvider {
    Request(Request),
    Control(Control),
}

impl Request {
    /// The same once more, from a caller that has heard nothing of the call for so long.
    pub(crate) fn repeated(&self, silent: Duration) -> Self {
        let ours = self.ours.map(|ours| RequestExtension { silent: Some(silent), ..ours });
        Self { ours, ..self.clone() }
    }

    /// # Errors
    /// `Encode` for too much metadata; what the rest may be, its sender's limits say.
    pub(crate) fn encode(&self) -> Result<Bytes> {
        let Arguments { positional, keywords, types } = &self.arguments;
        let mut text = Vec::with_capacity(256 + positional.len() + keywords.len());
        text.push(b'{');
        if !self.metadata.is_empty() {
            put_key(&mut text, META);
            text.extend_from_slice(self.metadata.text()?.as_bytes());
            text.extend_from_slice(b", ");
        }
        if let Some(types) = types {
            // The arguments' tree has them as children 0 and 1; in the tuple they are 2 and 3.
            put_key(&mut text, TYPES);
            put_moved_types(&mut text, types, &[("0", "2"), ("1", "3")]);
            text.extend_from_slice(b", ");
        }
        put_key(&mut text, OBJECT);
        text.push(b'[');
        put_string(&mut text, &self.function);
        text.extend_from_slice(b", ");
        put_string(&mut text, &self.reply_list);
        text.extend_from_slice(b", ");
        text.extend_from_slice(positional);
        text.extend_from_slice(b", ");
        text.extend_from_slice(keywords);
        if let Some(RequestExtension { call, inbox, left, silent }) = &self.ours {
            put_id(&mut text, br#", {"id": ""#, *call);
            put_id(&mut text, br#"", "inbox": ""#, *inbox);
            text.push(b'"');
            for (key, length) in [("left", left), ("silent", silent)] {
                if let Some(length) = length {
                    let member = format!(r#", "{key}": {}"#, length.as_millis());
                    text.extend_from_slice(member.as_bytes());
                }
            }
            text.push(b'}');
        }
        Ok(finish(text, REQUEST_TYPE))
    }
}

impl Response {
    pub(crate) fn encode(&self) -> Bytes {
        let Outcome { value, type_name, types, failed, traceback, fields } = &self.outcome;
        let mut text = Vec::with_capacity(256 + value.len());
        text.push(b'{');
        if let Some(types) = types {
            put_key(&mut text, TYPES);
            text.extend_from_slice(br#"{"1": "#);
            text.extend_from_slice(types);
            text.extend_from_slice(b"}, ");
        }
        put_key(&mut text, OBJECT);
        text.push(b'[');
        put_string(&mut text, &self.function);
        text.extend_from_slice(b", ");
        text.extend_from_slice(value);
        text.extend_from_slice(b", ");
        put_string(&mut text, type_name);
        text.extend_from_slice(if *failed { b", true" } else { b", false" });
        if let Some(ResponseExtension { call, provider, kind }) = &self.ours {
            put_id(&mut text, br#", {"id": ""#, *call);
            put_id(&mut text, br#"", "provider": ""#, *provider);
            text.extend_from_slice(br#"", "kind": ""#);
            text.extend_from_slice(kind.word().as_bytes());
            text.push(b'"');
            if let Some(traceback) = traceback {
                text.extend_from_slice(b", ");
                put_key(&mut text, "traceback");
                put_string(&mut text, end_of(traceback, LONGEST_TRACEBACK));
            }
            if let Some(fields) = fields {
                text.extend_from_slice(b", ");
                put_key(&mut text, "fields");
                text.extend_from_slice(fields);
            }
            text.push(b'}');
        }
        finish(text, RESPONSE_TYPE)
    }

    /// # Errors
    /// `Decode` for anything but a response of the original's shape.
    pub(crate) fn decode(text: &Bytes) -> Result<Self> {
        let message = Members::of(text, "response")?;
        let tuple = message.tuple(RESPONSE_TYPE)?;
        let [function, value, type_name, failed, rest @ ..] = tuple.as_slice() else {
            return Err(Error::decode("response", "expected four elements"));
        };
        let members = rest.first().and_then(|extension| json::members(extension));
        let extension = |key: &str| {
            let mut members = members.iter().flatten();
            members.find(|(name, _)| name == key).map(|(_, raw)| *raw)
        };
        Ok(Self {
            function: field(function, "response", "the function's name")?,
            outcome: Outcome {
                value: text.slice_ref(value),
                type_name: field(type_name, "response", "the result's type")?,
                types: message.get(TYPES).and_then(|types| child(types, "1")).map(Bytes::from),
                failed: *failed == b"true",
                traceback: extension("traceback")
                    .and_then(json::string)
                    .map(|traceback| end_of(&traceback, LONGEST_TRACEBACK).to_owned()),
                fields: extension("fields").map(|fields| text.slice_ref(fields)),
            },
            ours: rest.first().and_then(|extension| ResponseExtension::decode(extension)),
        })
    }
}

impl ResponseExtension {
    fn decode(text: &[u8]) -> Option<Self> {
        let members = json::members(text)?;
        let get = |key: &str| members.iter().find(|(name, _)| name == key).map(|(_, raw)| *raw);
        Some(Self {
            call: Id::parse(&json::string(get("id")?)?)?,
            provider: Id::parse(&json::string(get("provider")?)?)?,
            kind: ResponseKind::of(&json::string(get("kind")?)?)?,
        })
    }
}

impl RequestExtension {
    /// `Ok(None)` where there is none; a malformed one is an error, since answering its sender as
    /// if he were a caller of the original would leave him waiting.
    fn decode(text: Option<&&[u8]>) -> Result<Option<Self>> {
        let Some(members) = text.and_then(|text| json::members(text)) else { return Ok(None) };
        let get = |key: &str| members.iter().find(|(name, _)| name == key).map(|(_, raw)| *raw);
        let id = |key: &str| get(key).and_then(json::string).and_then(|text| Id::parse(&text));
        match (id("id"), id("inbox")) {
            (Some(call), Some(inbox)) => {
                let length = |key| get(key).and_then(milliseconds);
                let (left, silent) = (length("left"), length("silent"));
                Ok(Some(Self { call, inbox, left, silent }))
            }
            _ => Err(Error::decode("request", "the fifth element names no call and inbox")),
        }
    }
}

impl Control {
    pub(crate) fn encode(self) -> Bytes {
        Bytes::from(match self {
            Self::Who { call, inbox } => {
                format!(r#"{{"kind": "who", "id": "{call}", "inbox": "{inbox}"}}"#)
            }
            Self::Cancel { call } => format!(r#"{{"kind": "cancel", "id": "{call}"}}"#),
        })
    }
}

impl ToProvider {
    /// # Errors
    /// `Decode` for anything but a request of the original's shape or a control message of ours.
    pub(crate) fn decode(text: &Bytes) -> Result<Self> {
        let message = Members::of(text, "request")?;
        let Some(kind) = message.get("kind").and_then(json::string) else {
            return Request::decode(text, &message).map(Self::Request);
        };
        let id = |key: &str| {
            message
                .get(key)
                .and_then(json::string)
                .and_then(|text| Id::parse(&text))
                .ok_or_else(|| Error::decode("control message", "an identity is missing"))
        };
        match &*kind {
            "who" => Ok(Self::Control(Control::Who { call: id("id")?, inbox: id("inbox")? })),
            "cancel" => Ok(Self::Control(Control::Cancel { call: id("id")? })),
            _ => Err(Error::decode("control message", "unknown kind")),
        }
    }
}

impl Request {
    fn decode(text: &Bytes, message: &Members<'_>) -> Result<Self> {
        let tuple = message.tuple(REQUEST_TYPE)?;
        let [function, reply_list, positional, keywords, rest @ ..] = tuple.as_slice() else {
            return Err(Error::decode("request", "expected four elements"));
        };
        let types = message.get(TYPES).and_then(|types| {
            let mut moved = Vec::new();
            put_moved_types(&mut moved, types, &[("2", "0"), ("3", "1")]);
            (moved != b"{}").then(|| Bytes::from(moved))
        });
        Ok(Self {
            function: field(function, "request", "the function's name")?,
            reply_list: field(reply_list, "request", "the reply channel")?,
            arguments: Arguments {
                positional: container(text, positional, b'[', b"[]", "the arguments")?,
                keywords: container(text, keywords, b'{', b"{}", "the keyword arguments")?,
                types,
            }
            .out_of(text),
            metadata: message.get(META).and_then(Metadata::read).unwrap_or_default(),
            ours: RequestExtension::decode(rest.first())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
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
            }),
        };
        assert_eq!(Response::decode(&response.encode()).expect("our own response"), response);
    }

    #[test]
    fn control_messages_survive_the_wire() {
        let (call, inbox) = (Id::random(), Id::random());
        for control in [Control::Who { call, inbox }, Control::Cancel { call }] {
            let decoded = ToProvider::decode(&control.encode()).expect("our own message");
            assert_eq!(decoded, ToProvider::Control(control));
        }
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

    #[test]
    fn malformed_requests_are_refused_with_a_reason() {
        for text in [
            "",
            "null",
            "[]",
            "{}",
            "nonsense",
            r#"{"__obj": 1}"#,
            r#"{"kind": "who"}"#,
            r#"{"kind": "explode", "id": "x"}"#,
            r#"{"__obj": ["f", "r", [], {}], "__type": "subprocess.Popen"}"#,
            r#"{"__obj": ["f", "r", []], "__type": "pymq.core.RpcRequest"}"#,
            r#"{"__obj": ["f", "r", {}, {}], "__type": "pymq.core.RpcRequest"}"#,
            r#"{"__obj": ["f", "r", [], []], "__type": "pymq.core.RpcRequest"}"#,
            r#"{"__obj": [1, "r", [], {}], "__type": "pymq.core.RpcRequest"}"#,
            r#"{"__obj": ["f", "r", [], {}, {"id": 3}], "__type": "pymq.core.RpcRequest"}"#,
        ] {
            let error = ToProvider::decode(&Bytes::from(text)).expect_err(text);
            assert_eq!(error.kind(), crate::ErrorKind::Decode, "{text}");
        }
    }
}
