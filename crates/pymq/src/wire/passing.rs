//! What passes on a bus, for whoever looks on without knowing its types.

use bytes::Bytes;

use super::{Arguments, Control, Outcome, Request, Response, ResponseKind, ToProvider, tags};
use crate::error::{Error, Result};
use crate::json;
use crate::name::Id;

/// What somebody sent to somebody.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Passing {
    /// An event.
    Event {
        /// Its topic, without the namespace.
        topic: String,
        /// Its bytes, metadata and all.
        payload: Bytes,
    },
    /// A request to run a function.
    Request {
        /// The function.
        function: String,
        /// What names the call; a caller of the original gives it no name.
        call: Option<Id>,
        /// With what.
        arguments: Arguments,
    },
    /// How a call ended.
    Answer {
        /// The function.
        function: String,
        /// What names the call.
        call: Option<Id>,
        /// Who answers.
        provider: Option<Id>,
        /// The result or the failure.
        outcome: Outcome,
    },
    /// What is said of a call before it ends, of who is there, and anything else.
    Talk {
        /// The whole name of the topic.
        topic: String,
        /// What is said, in a word: `who`, `here`, `ack`, `beat`, `cancel`, `busy`, `left`, `lost`;
        /// `other` where it is none of these.
        word: &'static str,
        /// What names the call.
        call: Option<Id>,
    },
}

impl Passing {
    /// `topic` is the user's, where the message went to one.
    pub(crate) fn read(topic: Option<&str>, whole: &str, payload: &Bytes) -> Self {
        match (topic, ToProvider::decode(payload)) {
            (_, Ok(ToProvider::Request(Request { function, arguments, ours, .. }))) => {
                Self::Request {
                    function: function.into_owned(),
                    call: ours.map(|ours| ours.call),
                    arguments,
                }
            }
            (Some(topic), _) => Self::Event { topic: topic.to_owned(), payload: payload.clone() },
            (None, Ok(ToProvider::Control(Control::Who { call, .. }))) => {
                Self::Talk { topic: whole.to_owned(), word: "who", call: Some(call) }
            }
            (None, Ok(ToProvider::Control(Control::Cancel { call }))) => {
                Self::Talk { topic: whole.to_owned(), word: "cancel", call: Some(call) }
            }
            (None, Err(_)) => Self::read_answer(whole, payload),
        }
    }

    fn read_answer(whole: &str, payload: &Bytes) -> Self {
        match Response::decode(payload) {
            Ok(Response { function, outcome, ours }) => match ours {
                Some(ours) if ours.kind != ResponseKind::Result => Self::Talk {
                    topic: whole.to_owned(),
                    word: ours.kind.word(),
                    call: Some(ours.call),
                },
                ours => Self::Answer {
                    function: function.into_owned(),
                    call: ours.map(|ours| ours.call),
                    provider: ours.map(|ours| ours.provider),
                    outcome,
                },
            },
            Err(_) => Self::Talk { topic: whole.to_owned(), word: "other", call: None },
        }
    }
}

/// The value of an event or an item as plain JSON, and the type that its sender named.
///
/// ```
/// use pymq::wire::Plain;
///
/// let event = r#"{"id": 7, "__type": "shop.OrderPlaced"}"#.into();
/// let plain = Plain::of(&event)?;
/// assert_eq!(&plain.value[..], br#"{"id":7}"#);
/// assert_eq!(plain.type_name.as_deref(), Some("shop.OrderPlaced"));
/// # Ok::<_, pymq::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plain {
    /// The value as JSON, with what Python writes beyond it: `NaN`, `Infinity`.
    pub value: Bytes,
    /// The type that its sender named; plain JSON has none.
    pub type_name: Option<String>,
}

impl Plain {
    /// Reads a message whose metadata were taken off
    /// ([`Metadata::detach`](super::Metadata::detach)).
    ///
    /// # Errors
    /// `Decode` for what is no JSON.
    pub fn of(message: &Bytes) -> Result<Self> {
        let document = json::document(message)
            .map_err(|malformed| Error::decode("message", malformed.message()))?;
        let value = match tags::untagged(document) {
            Some(value) => Bytes::from(value),
            None => message.slice_ref(document),
        };
        Ok(Self { value, type_name: tags::named_type(document) })
    }
}
