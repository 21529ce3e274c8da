//! What one bus refuses to send.
//!
//! The one invariant: a message that is too large is an error of its sender, never of its readers.
//! What may be read is a constant of the wire.

use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::wire::LARGEST_MESSAGE;

/// The limits of one bus, see [`BusBuilder`](crate::BusBuilder).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of an event, an item or a call's arguments.
    pub(crate) largest_message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { largest_message: LARGEST_MESSAGE }
    }
}

impl Limits {
    /// The largest message, in words.
    pub(crate) fn largest(self) -> String {
        match self.largest_message {
            LARGEST_MESSAGE => "16 MiB".to_owned(),
            bytes => format!("{bytes} bytes"),
        }
    }

    /// # Errors
    /// `Encode` for a message of more bytes than may be sent.
    pub(crate) fn check(self, operation: &'static str, object: &str, bytes: usize) -> Result<()> {
        if bytes <= self.largest_message {
            return Ok(());
        }
        let why = format!("{bytes} bytes; at most {} travel in one message", self.largest());
        Err(Error::new(ErrorKind::Encode, operation, name::shortened(object), why))
    }
}
