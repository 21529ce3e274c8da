//! Control messages: what peers of ours say to providers beside requests.
//!
//! They travel on channels that peers of the original do not hear. A request is told from them by
//! their member `kind`, which no request has.

use bytes::Bytes;

use super::Request;
use super::parts::Envelope;
use crate::error::{Error, Result};
use crate::name::Id;

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
pub(crate) enum ToProvider<'a> {
    Request(Request<'a>),
    Control(Control),
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

impl<'a> ToProvider<'a> {
    /// # Errors
    /// `Decode` for anything but a request of the original's shape or a control message of ours.
    pub(crate) fn decode(text: &'a Bytes) -> Result<Self> {
        let message = Envelope::of(text, "request")?;
        let Some(kind) = message.text("kind") else {
            return Request::decode(text, &message).map(Self::Request);
        };
        let id = |key: &str| {
            message
                .text(key)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_survive_the_wire() {
        let (call, inbox) = (Id::random(), Id::random());
        for control in [Control::Who { call, inbox }, Control::Cancel { call }] {
            let encoded = control.encode();
            let decoded = ToProvider::decode(&encoded).expect("our own message");
            assert_eq!(decoded, ToProvider::Control(control));
        }
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
            let message = Bytes::from(text);
            let error = ToProvider::decode(&message).expect_err(text);
            assert_eq!(error.kind(), crate::ErrorKind::Decode, "{text}");
        }
    }
}
