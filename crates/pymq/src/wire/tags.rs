//! The top-level keys that tell decoders what a value is.
//!
//! They mean something at the top level of an event, an item or an envelope and nowhere else; a
//! user's own map that holds one of them is wrapped, so that every decoder, the original's too,
//! gives it back as it was.

use crate::json;

pub(super) const TYPE: &str = "__type";
pub(super) const TYPES: &str = "__types";
pub(super) const OBJECT: &str = "__obj";
/// Metadata; taken off before a value is decoded, see [`Metadata`](super::Metadata).
pub(super) const META: &str = "__meta";
const LIST: &str = "__list";

/// Nothing, as the original writes it.
pub(crate) const NOTHING: &[u8] = br#"{"__obj": null, "__type": "NoneType"}"#;

/// The wrapping that a value written as `text` needs; `None` if it can travel as it is.
pub(crate) fn escaped(text: &[u8]) -> Option<Vec<u8>> {
    let forged = text.first() == Some(&b'{') && !markers(text)?.is_empty();
    forged.then(|| [br#"{"__obj": "#, text, br#", "__type": "dict"}"#].concat())
}

/// The value inside its tags; `None` when there are none.
pub(crate) fn untagged(document: &[u8]) -> Option<Vec<u8>> {
    let members = markers(document).filter(|members| !members.is_empty())?;
    let get = |wanted: &str| members.iter().find(|(key, _)| key == wanted).map(|(_, raw)| *raw);
    if let Some(value) = get(OBJECT) {
        return Some(value.to_vec());
    }
    // No peer writes the other two without a tag: alone they are a user's own keys.
    get(TYPE)?;
    if let Some(value) = get(LIST) {
        return Some(value.to_vec());
    }
    let mut bare = vec![b'{'];
    for (key, raw) in json::members(document)?.iter().filter(|(key, _)| !is_marker(key)) {
        if bare.len() > 1 {
            bare.push(b',');
        }
        super::parts::put_string(&mut bare, key);
        bare.push(b':');
        bare.extend_from_slice(raw);
    }
    bare.push(b'}');
    Some(bare)
}

/// The type that the sender of a document named.
pub(super) fn named_type(document: &[u8]) -> Option<String> {
    let members = markers(document)?;
    let (_, name) = members.iter().find(|(key, _)| key == TYPE)?;
    json::string(name).map(std::borrow::Cow::into_owned)
}

fn is_marker(key: &str) -> bool {
    matches!(key, TYPE | TYPES | OBJECT | LIST)
}

/// The tagging members of an object; `None` when a look at the bytes rules them out.
fn markers(object: &[u8]) -> Option<Vec<(std::borrow::Cow<'_, str>, &[u8])>> {
    let members = may_be_in(object).then(|| json::members(object)).flatten()?;
    Some(members.into_iter().filter(|(key, _)| is_marker(key)).collect())
}

/// Whether a look at the bytes does not rule out that a value has tags.
pub(crate) fn may_be_in(text: &[u8]) -> bool {
    // A key may be spelled with escapes, and then it begins with one of an ASCII character. Most
    // values have neither underscores nor escapes, and one byte is found much faster than three.
    (text.contains(&b'_') || text.contains(&b'\\'))
        && text.windows(3).any(|window| window == b"\"__" || window == b"\\u0")
}

/// The original's name for the type of a JSON value, by its first byte.
///
/// Old callers resolve it, so only names of Python's own types are safe to send.
pub(crate) fn type_name(text: &[u8]) -> &'static str {
    match text.first() {
        Some(b'{') => "dict",
        Some(b'[') => "list",
        Some(b'"') => "str",
        Some(b't' | b'f') => "bool",
        Some(b'n') | None => "NoneType",
        Some(_) if text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E' | b'N' | b'I')) => {
            "float"
        }
        Some(_) => "int",
    }
}
