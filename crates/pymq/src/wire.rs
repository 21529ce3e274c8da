//! The envelopes: what requests, replies and our own control messages look like as bytes.
//!
//! Only this file and those below it name the wire's fields; the codec of the Python edge takes the
//! keys of values from `tags`. Requests and replies are the original's (`pymq` 0.2.2 to 0.7.0 on PyPI),
//! whose peers ignore the fifth element and every top-level key they do not know; control messages travel
//! on channels of ours only. Values inside are spans of JSON that this module never looks into.

use bytes::Bytes;
use serde_json::Value;

use crate::error::RemoteError;
pub(crate) use control::{Control, ToProvider};
pub use metadata::{LARGEST_METADATA, Metadata};
pub use passing::{Passing, Plain};
pub(crate) use request::{Request, RequestExtension};
pub(crate) use response::{Response, ResponseExtension, ResponseKind, Said, Siblings};

mod control;
mod metadata;
mod parts;
mod passing;
mod request;
mod response;
/// For the codec of the Python edge, which writes and reads the same keys.
#[doc(hidden)]
pub mod tags;

/// The largest message that is taken from the wire or put on it: 16 MiB.
pub const LARGEST_MESSAGE: usize = 16 << 20;

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

    /// A JSON array of positional arguments.
    pub fn positional(positional: Bytes) -> Self {
        Self { positional, keywords: Bytes::from_static(b"{}"), types: None }
    }
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
