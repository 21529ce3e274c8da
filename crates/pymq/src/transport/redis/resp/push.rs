//! What a server sends unasked.

use bytes::Bytes;

use super::reply::Reply;

/// What a server sends unasked.
#[derive(Debug, PartialEq)]
pub(crate) enum Push {
    /// An event on a topic that is subscribed to.
    Message { topic: Bytes, payload: Bytes },
    /// An event that a pattern caught.
    PatternMessage { pattern: Bytes, topic: Bytes, payload: Bytes },
    /// One name of a command that changes what is subscribed to was dealt with.
    Confirmed,
    /// The server ended a subscription to a channel of a slot, which it does not have any more.
    Left,
    /// Something that nobody here has asked for.
    Other,
}

impl Push {
    pub(super) fn of(parts: Vec<Reply>) -> Self {
        let mut parts = parts.into_iter().map(Reply::bytes);
        let kind = parts.next().flatten().unwrap_or_default();
        let mut part = || parts.next().flatten().unwrap_or_default();
        match &*kind {
            b"message" => {
                let topic = part();
                Self::Message { topic, payload: part() }
            }
            b"pmessage" => {
                let (pattern, topic) = (part(), part());
                Self::PatternMessage { pattern, topic, payload: part() }
            }
            b"subscribe" | b"unsubscribe" | b"psubscribe" | b"punsubscribe" | b"ssubscribe" => {
                Self::Confirmed
            }
            b"sunsubscribe" => Self::Left,
            _ => Self::Other,
        }
    }
}
