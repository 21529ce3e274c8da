//! Values as bytes: serde on one side, the wire's JSON on the other.
//!
//! What is written is plain JSON that every peer reads; tags for Python classes are taken off what
//! is read, since here the receiver's type decides. It knows no envelopes: those are
//! [`wire`](crate::wire)'s.

mod exact;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::draft;
use crate::error::{Error, ErrorKind, Result};
use crate::json;
use crate::name;
use crate::wire::{LARGEST_MESSAGE, Metadata, tags};

/// A value as it travels in an event or a queue item.
///
/// # Errors
/// `Encode` for what JSON cannot hold (a map with keys that are neither text nor number) and for
/// more than 16 MiB.
pub(crate) fn encode<T: Serialize + ?Sized>(object: &str, value: &T) -> Result<Bytes> {
    let text = encode_plain(object, value)?;
    if &text[..] == b"null" {
        return Ok(Bytes::from_static(tags::NOTHING.as_bytes()));
    }
    Ok(tags::escaped(&text).map_or(text, Bytes::from))
}

/// A value as it travels inside an envelope, where nothing is tagged.
pub(crate) fn encode_plain<T: Serialize + ?Sized>(object: &str, value: &T) -> Result<Bytes> {
    let refused = |why: String| Error::new(ErrorKind::Encode, "encode", object, why);
    let text = draft::written(128, |text| exact::write(value, text)).map_err(|error| {
        refused("the value cannot be written as JSON".to_owned()).with_source(error)
    })?;
    if text.len() > LARGEST_MESSAGE {
        let size = text.len();
        return Err(refused(format!("{size} bytes; at most 16 MiB travel in one message")));
    }
    Ok(text)
}

/// The value in an event or a queue item, whatever peer wrote it.
///
/// # Errors
/// `Decode` for malformed JSON, for more than 16 MiB or 200 levels, and for a value that `T` does
/// not accept; the message says where.
pub(crate) fn decode<T: DeserializeOwned>(object: &str, text: &[u8]) -> Result<T> {
    if text.len() > LARGEST_MESSAGE {
        return Err(Error::decode(object, "larger than 16 MiB"));
    }
    if let Some(value) = read_at_once(text) {
        return Ok(value);
    }
    let document =
        json::document(text).map_err(|malformed| Error::decode(object, malformed.message()))?;
    match document.first() {
        Some(b'{') => match tags::untagged(document) {
            Some(value) => decode_plain(object, &value),
            None => decode_plain(object, document),
        },
        _ => decode_plain(object, document),
    }
}

/// The same, and what its sender said beside it.
pub(crate) fn decode_message<T: DeserializeOwned>(
    object: &str,
    message: &Bytes,
) -> Result<(T, Metadata)> {
    if !Metadata::may_be_in(message) {
        return Ok((decode(object, message)?, Metadata::default()));
    }
    let (metadata, value) = Metadata::detach(message.clone());
    Ok((decode(object, &value)?, metadata.unwrap_or_default()))
}

/// The value in a span of an envelope.
pub(crate) fn decode_plain<T: DeserializeOwned>(object: &str, text: &[u8]) -> Result<T> {
    let refused = match read_checked(text) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    // Python's NaN and Infinity are no JSON, but JSON5; the slow path is only for them.
    if has_non_number(text)
        && let Ok(text) = std::str::from_utf8(text)
        && let Ok(value) = json5::from_str(text)
    {
        return Ok(value);
    }
    let why = format!("not a {}", short_type_name::<T>());
    // The reader quotes what it does not like, however long that is.
    let refused = name::shortened_to(400, &refused.to_string());
    Err(Error::decode(object, format!("{why}: {refused}")))
}

/// Reads a message without tags in one pass; `None` where there is more to look at.
///
/// serde_json checks the grammar as `json` does; what it would let pass beyond that is ruled out
/// before by counting bytes.
fn read_at_once<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(text).ok()?;
    if tags::may_be_in(text.as_bytes()) || !json::is_within_limits(text.as_bytes()) {
        return None;
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.disable_recursion_limit();
    let value = T::deserialize(&mut reader).ok()?;
    reader.end().ok().map(|()| value)
}

/// Reads checked text: `json` has counted how deep it is, so that serde_json's lower limit of 127
/// levels would only refuse what every other peer reads.
fn read_checked<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    reader.disable_recursion_limit();
    let value = T::deserialize(&mut reader)?;
    reader.end().map(|()| value)
}

fn has_non_number(text: &[u8]) -> bool {
    text.windows(3).any(|word| word == b"NaN" || word == b"Inf")
}

/// A type's name without the paths of its parts.
pub(crate) fn short_type_name<T: ?Sized>() -> &'static str {
    let name = std::any::type_name::<T>();
    if name.contains('<') { name } else { name.rsplit("::").next().unwrap_or(name) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Reading {
        sensor: String,
        value: f64,
    }

    fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
        decode("test", text.as_bytes())
    }

    #[test]
    fn a_struct_survives_and_is_plain_json() {
        let reading = Reading { sensor: "t".into(), value: 1.5 };
        let text = encode("test", &reading).expect("plain data");
        assert_eq!(&text[..], br#"{"sensor":"t","value":1.5}"#);
        assert_eq!(decode::<Reading>("test", &text).expect("our own"), reading);
    }

    #[test]
    fn tags_of_python_are_taken_off() {
        let tagged = r#"{"sensor": "t", "value": 1.5, "__type": "app.Reading"}"#;
        assert_eq!(read::<Reading>(tagged).expect("tagged").sensor, "t");
        assert_eq!(read::<Value>(tagged).expect("tagged"), json!({"sensor": "t", "value": 1.5}));
        let tuple = r#"{"__types": "x", "__obj": [1, 2], "__type": "tuple"}"#;
        assert_eq!(read::<(i32, i32)>(tuple).expect("a tuple"), (1, 2));
        assert_eq!(read::<Vec<i32>>(r#"{"__list": [3], "__type": "int"}"#).expect("a list"), [3]);
        assert_eq!(
            read::<Option<i32>>(r#"{"__obj": null, "__type": "NoneType"}"#).ok(),
            Some(None)
        );
    }

    #[test]
    fn honest_maps_with_marker_keys_survive() {
        let map: BTreeMap<_, _> = [("__type", 1), ("a", 2)].into();
        let text = encode("test", &map).expect("a map");
        assert_eq!(&text[..], br#"{"__obj": {"__type":1,"a":2}, "__type": "dict"}"#);
        assert_eq!(decode::<Value>("test", &text).expect("our own"), json!({"__type": 1, "a": 2}));
    }

    #[test]
    fn keys_that_no_peer_writes_without_a_tag_are_a_users_own() {
        for honest in [json!({"__list": [1]}), json!({"__types": {}, "x": 1})] {
            assert_eq!(read::<Value>(&honest.to_string()).expect("a map"), honest);
        }
    }

    #[test]
    fn what_other_peers_may_nest_is_read() {
        let deep = |levels| ["[".repeat(levels), "]".repeat(levels)].concat();
        let read_back = read::<Value>(&deep(200)).expect("200 levels are allowed");
        assert_eq!(read_back.to_string(), deep(200));
        let error = read::<Value>(&deep(201)).expect_err("201 are not");
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(error.message().contains("nested deeper than 200"), "{error}");
    }

    #[test]
    fn what_is_read_at_once_is_what_is_read_step_by_step() {
        #[derive(Debug, Deserialize, PartialEq)]
        struct Nothing {}
        let nested = |levels| ["[".repeat(levels), "]".repeat(levels)].concat();
        let digits = |count| "7".repeat(count);
        let values = [
            "1".to_owned(),
            " [1, 2.5e3, null] ".to_owned(),
            nested(199),
            nested(200),
            nested(201),
            digits(4300),
            digits(4301),
            format!("{}.5", digits(4400)),
            "NaN".to_owned(),
            "-Infinity".to_owned(),
            "01".to_owned(),
            "1.".to_owned(),
            "1 2".to_owned(),
            "\"\\ud800\"".to_owned(),
            "\"\\x\"".to_owned(),
            "\"\u{1}\"".to_owned(),
            "\u{feff}1".to_owned(),
            "{\"__type\": 1}".to_owned(),
            "{\"\\u005f_type\": 1}".to_owned(),
        ];
        let objects = values.iter().map(|value| format!("{{\"unknown\": {value}}}"));
        for text in values.iter().cloned().chain(objects) {
            let document = json::document(text.as_bytes()).ok();
            let checked = document.filter(|document| !tags::may_be_in(document));
            let at_once = read_at_once::<Value>(text.as_bytes());
            assert!(
                at_once.is_none() || at_once == checked.and_then(|text| read_checked(text).ok())
            );
            let at_once = read_at_once::<Nothing>(text.as_bytes());
            assert!(
                at_once.is_none() || at_once == checked.and_then(|text| read_checked(text).ok())
            );
        }
        assert_eq!(read_at_once::<Nothing>(b"{\"unknown\": \"\xff\"}"), None);
    }

    #[test]
    fn nothing_is_tagged_as_the_original_tags_it() {
        assert_eq!(
            &encode("t", &()).expect("unit")[..],
            br#"{"__obj": null, "__type": "NoneType"}"#
        );
        assert!(read::<()>(r#"{"__obj": null, "__type": "NoneType"}"#).is_ok());
    }

    #[test]
    fn nan_and_infinity_are_written_as_python_writes_them() {
        let values = (f64::NAN, [f64::INFINITY], Some(f32::NEG_INFINITY), 1.5, 0.1f32, None::<f64>);
        let text = encode("test", &values).expect("floats");
        assert_eq!(&text[..], b"[NaN,[Infinity],-Infinity,1.5,0.1,null]");
        let map: BTreeMap<_, _> = [("NaN", f64::NAN)].into();
        assert_eq!(&encode("test", &map).expect("a map")[..], br#"{"NaN":NaN}"#);
    }

    #[test]
    fn nan_and_infinity_are_read_into_floats() {
        let reading: Reading = read(r#"{"sensor": "NaN", "value": NaN}"#).expect("Python's NaN");
        assert!(reading.value.is_nan() && reading.sensor == "NaN");
        assert_eq!(read::<Vec<f64>>("[-Infinity]").expect("Python's"), [f64::NEG_INFINITY]);
    }

    #[test]
    fn a_value_of_another_type_is_an_error_that_says_so() {
        let error = read::<Reading>(r#"{"sensor": 3}"#).expect_err("a number is no string");
        assert_eq!(error.kind(), ErrorKind::Decode);
        assert!(error.message().contains("Reading"), "{error}");
    }

    #[test]
    fn an_error_quotes_no_more_than_a_line_or_two() {
        let long = format!(r#"{{"sensor": "a", "value": "{}"}}"#, "x".repeat(1 << 20));
        let error = read::<Reading>(&long).expect_err("a text is no number");
        assert!(error.to_string().len() < 500, "{} bytes", error.to_string().len());
    }

    #[test]
    fn results_are_named_as_python_names_them() {
        for (text, name) in [
            ("null", "NoneType"),
            ("true", "bool"),
            ("-1", "int"),
            ("1.0", "float"),
            ("1e3", "float"),
            ("\"x\"", "str"),
            ("[1]", "list"),
            ("{}", "dict"),
        ] {
            assert_eq!(tags::type_name(text.as_bytes()), name);
        }
    }
}
