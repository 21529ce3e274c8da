//! The top-level keys that tell decoders what a value is.
//!
//! They mean something at the top level of an event, an item or an envelope and nowhere else; a
//! user's own map that holds one of them is wrapped, so that every decoder, the original's too,
//! gives it back as it was. Each is written here and nowhere else in Rust: codecs take it from here.

use crate::json;

/// The keys as literals, of which whole texts are made when this is compiled.
macro_rules! key {
    (type) => {
        "__type"
    };
    (types) => {
        "__types"
    };
    (object) => {
        "__obj"
    };
    (list) => {
        "__list"
    };
    (meta) => {
        "__meta"
    };
}

/// The key of a tag: the name of the value's type.
pub const TYPE: &str = key!(type);
/// The key of the types that the value's shape has lost, as a tree.
pub const TYPES: &str = key!(types);
/// The key of a value that stands inside its tag.
pub const OBJECT: &str = key!(object);
/// The key of a list inside its tag, which names the type of the elements.
pub const LIST: &str = key!(list);
/// Every key that a tagged value may have at its top level beside fields of its own.
pub const KEYS: [&str; 4] = [TYPE, TYPES, OBJECT, LIST];

/// [`TYPE`] in compact JSON, behind another member; without its first byte, in front of all.
pub const TYPE_MEMBER: &str = concat!(",\"", key!(type), "\":");
/// [`TYPES`], so too.
pub const TYPES_MEMBER: &str = concat!(",\"", key!(types), "\":");
/// [`OBJECT`], so too.
pub const OBJECT_MEMBER: &str = concat!(",\"", key!(object), "\":");
/// [`LIST`], so too.
pub const LIST_MEMBER: &str = concat!(",\"", key!(list), "\":");

/// Metadata; taken off before a value is decoded, see [`Metadata`](super::Metadata).
pub(super) const META: &str = key!(meta);
/// How a message with metadata begins.
pub(super) const META_FIRST: &str = concat!("{\"", key!(meta), "\"");

/// The tag of a request's tuple.
pub(crate) const REQUEST_TYPE: &str = "pymq.core.RpcRequest";
/// The tag of a response's tuple.
pub(crate) const RESPONSE_TYPE: &str = "pymq.core.RpcResponse";

/// Nothing, as the original writes it.
pub(crate) const NOTHING: &str =
    concat!("{\"", key!(object), "\": null, \"", key!(type), "\": \"NoneType\"}");

/// What stands before and behind a map of a user's own that holds a key of these.
const BEFORE_DICT: &str = concat!("{\"", key!(object), "\": ");
const BEHIND_DICT: &str = concat!(", \"", key!(type), "\": \"dict\"}");

/// The wrapping that a value written as `text` needs; `None` if it can travel as it is.
pub(crate) fn escaped(text: &[u8]) -> Option<Vec<u8>> {
    let forged = text.first() == Some(&b'{') && !markers(text)?.is_empty();
    forged.then(|| [BEFORE_DICT.as_bytes(), text, BEHIND_DICT.as_bytes()].concat())
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
    // A key may be spelled with escapes, and then it begins with one of an ASCII character. All places are
    // looked at, since the machine looks at many at once where it need not stop at the first that is found.
    let is_marked = |one, two, three| {
        (one == b'"') & (two == b'_') & (three == b'_')
            | (one == b'\\') & (two == b'u') & (three == b'0')
    };
    let (Some(second), Some(third)) = (text.get(1..), text.get(2..)) else { return false };
    let places = text.iter().zip(second).zip(third);
    let found = |found, ((one, two), three): ((&u8, &u8), &u8)| {
        found | u8::from(is_marked(*one, *two, *three))
    };
    places.fold(0, found) != 0
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
