//! What a server answers, and why there may be no answer.

use std::fmt;

use bytes::Bytes;

use crate::transport::redis::refusal::Refusal;

/// What a server answers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Nothing,
    Number(i64),
    /// A string of any kind, and a number that is no integer, in its own digits.
    Bytes(Bytes),
    /// An array, a set, or a map's keys and values in turn.
    List(Vec<Reply>),
    /// The command failed; the connection is well.
    Refused(Refusal),
}

impl Reply {
    /// The number, where there is one.
    pub(crate) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// How many, as far as it says so: a count is never below zero, whatever a server answers.
    pub(crate) fn count(&self) -> usize {
        self.number().and_then(|number| usize::try_from(number).ok()).unwrap_or_default()
    }

    /// The bytes, where there are any.
    pub(crate) fn bytes(self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// What in it was refused because another server takes the writes by now.
    pub(crate) fn elsewhere(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal).filter(|refusal| refusal.is_elsewhere()),
            Self::List(items) => items.iter().find_map(Self::elsewhere),
            _ => None,
        }
    }

    /// The items of a list; anything else has none.
    pub(crate) fn items(self) -> Vec<Reply> {
        match self {
            Self::List(items) => items,
            _ => Vec::new(),
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// The connection is gone; what was sent may have been done.
    Lost(String),
    /// The server refused.
    Refused(Refusal),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(why) => f.write_str(why),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}
