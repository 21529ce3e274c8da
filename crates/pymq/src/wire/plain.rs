//! A message for whoever looks at it without knowing its type.

use bytes::Bytes;

use super::tags;
use crate::error::{Error, Result};
use crate::json;

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
