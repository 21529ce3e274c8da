//! What one bus refuses to send, and how long it waits for answers.
//!
//! The one invariant: a message that no peer would read is an error of its sender, never of its
//! readers. So it is the finished bytes that are checked, envelope included, against what readers
//! check; what may be read is a constant of the wire.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::name;
use crate::wire::LARGEST_MESSAGE;

/// The limits of one bus, see [`BusBuilder`](crate::BusBuilder).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of an event, an item, a call's arguments or its result.
    pub(crate) largest_message: usize,
    /// How long a call may take that says nothing else; `None` is without a limit.
    pub(crate) call_timeout: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { largest_message: LARGEST_MESSAGE, call_timeout: None }
    }
}

/// What an envelope may grow by when it is sent again.
const ROOM_TO_REPEAT: usize = 64;

impl Limits {
    /// Why no peer would read this message; `None` if it may be sent.
    pub(crate) fn refusal(self, message: &[u8]) -> Option<String> {
        self.too_large(message.len()).or_else(|| too_deep(message))
    }

    /// The same for arguments or a result of so many bytes, and the envelope that holds them.
    pub(crate) fn refusal_in(self, value: usize, envelope: &[u8]) -> Option<String> {
        let whole = envelope.len() + ROOM_TO_REPEAT;
        let wire = Self { largest_message: LARGEST_MESSAGE, ..self };
        self.too_large(value).or_else(|| wire.too_large(whole)).or_else(|| too_deep(envelope))
    }

    /// # Errors
    /// `Encode` for a message that no peer would read.
    pub(crate) fn check(self, operation: &'static str, object: &str, message: &[u8]) -> Result<()> {
        match self.refusal(message) {
            None => Ok(()),
            Some(why) => {
                Err(Error::new(ErrorKind::Encode, operation, name::shortened(object), why))
            }
        }
    }

    fn too_large(self, bytes: usize) -> Option<String> {
        if bytes <= self.largest_message {
            return None;
        }
        let largest = match self.largest_message {
            LARGEST_MESSAGE => "16 MiB".to_owned(),
            bytes => format!("{bytes} bytes"),
        };
        Some(format!("{bytes} bytes; at most {largest} travel in one message"))
    }
}

fn too_deep(message: &[u8]) -> Option<String> {
    let deepest = json::DEEPEST;
    json::is_too_deep(message)
        .then(|| format!("nested deeper than {deepest} levels, more than any peer reads"))
}
