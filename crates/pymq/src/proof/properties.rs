//! Properties of what any peer may send, and of what ours send, tried on a few thousand examples.

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

use super::{arguments, envelopes, globs, values};
use crate::name::{self, Id, Namespace};
use crate::wire::{
    Arguments, Control, Metadata, Outcome, Request, RequestExtension, Response, ResponseExtension,
    ResponseKind, Siblings, ToProvider, tags,
};
use crate::{codec, json};

/// As many examples as a test may take time for, after those that failed once and were saved; Miri
/// is a thousand times slower and reads no files.
pub(crate) fn examples(count: u32) -> ProptestConfig {
    let chosen = ProptestConfig { cases: count, ..ProptestConfig::default() };
    match cfg!(miri) {
        true => ProptestConfig { cases: count.div_ceil(64), failure_persistence: None, ..chosen },
        false => chosen,
    }
}

/// Any value of JSON; keys of ours among the keys.
fn value() -> impl Strategy<Value = Value> {
    let ours = proptest::sample::select(tags::KEYS.to_vec()).prop_map(str::to_owned);
    let text = prop_oneof![".{0,8}", ours, "_|__|\\\\u005f_type"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has finite numbers", |number| number.is_finite())
            .prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(text.clone(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Text made of the pieces that JSON is made of, some of them Python's alone, some nobody's.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    const PIECES: [&[u8]; 40] = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\"",
        b"\\",
        b" ",
        b"\n",
        b"-",
        b"+",
        b".",
        b"0",
        b"1",
        b"9",
        b"e",
        b"E",
        b"u",
        b"/",
        b"null",
        b"true",
        b"false",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"\\ud800",
        b"\\udc00",
        b"\\u0041",
        b"\"a\"",
        tags::TYPE_MEMBER.as_bytes().split_at(1).1,
        tags::OBJECT_MEMBER.as_bytes().split_at(1).1,
        b"\"\\u005f_list\"",
        b"99999999999999999999",
        b"0.1",
        b"\x00",
        b"\xff",
        b"\xc3\xa4",
        b"\xef\xbb\xbf",
    ];
    vec(proptest::sample::select(&PIECES[..]), 0..16).prop_map(|pieces| pieces.concat())
}

fn id() -> impl Strategy<Value = Id> {
    any::<u128>().prop_map(|bits| Id::parse(&format!("{bits:032x}")).expect("32 digits"))
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let parts = (value(), ".{0,20}", proptest::option::of(value()), any::<bool>());
    parts.prop_map(|(value, type_name, types, failed)| Outcome {
        value: Bytes::from(value.to_string()),
        type_name,
        types: types.map(|types| Bytes::from(types.to_string())),
        failed,
        ..Outcome::result(Bytes::new(), String::new())
    })
}

prop_compose! {
    fn request()(
        function in ".{0,20}", reply_list in ".{0,20}", positional in vec(value(), 0..4),
        keywords in btree_map(".{0,8}", value(), 0..4), tree in proptest::option::of(value()),
        ours in proptest::option::of((id(), id(), proptest::option::of(any::<u64>()))),
    ) -> Request<'static> {
        Request {
            metadata: Metadata::default().header("who", function.chars().take(9).collect::<String>()),
            function: function.into(),
            reply_list: reply_list.into(),
            arguments: Arguments {
                positional: Bytes::from(Value::from(positional).to_string()),
                keywords: Bytes::from(json!(keywords).to_string()),
                types: tree.map(|tree| Bytes::from(format!(r#"{{"0": {tree}}}"#))),
            },
            ours: ours.map(|(call, inbox, left)| {
                let silent = left.map(|left| Duration::from_millis(left / 2));
                RequestExtension { call, inbox, left: left.map(Duration::from_millis), silent }
            }),
        }
    }
}

proptest! {
    #![proptest_config(examples(512))]

    #[test]
    fn any_value_is_read_as_it_was_written(value in value()) {
        let sent = codec::encode("test", &value).expect("JSON holds it");
        prop_assert_eq!(codec::decode::<Value>("test", &sent).expect("our own"), value.clone());
        let plain = value.to_string();
        prop_assert!(values::check(plain.as_bytes()).is_some(), "{}", plain);
    }

    #[test]
    fn any_float_is_read_as_it_was_written(number: f64) {
        let sent = codec::encode("test", &number).expect("a number");
        let read: f64 = codec::decode("test", &sent).expect("our own");
        prop_assert!(read.to_bits() == number.to_bits() || read.is_nan() && number.is_nan());
    }

    #[test]
    fn any_text_is_read_alike_by_spans_and_by_serde(text in soup()) {
        values::check(&text);
    }

    #[test]
    fn spans_put_together_are_the_document(value in value()) {
        let text = value.to_string();
        let document = json::document(text.as_bytes()).expect("serde_json writes JSON");
        if let Some(elements) = json::elements(document) {
            let whole = [b"[", &elements.join(&b","[..])[..], b"]"].concat();
            prop_assert_eq!(whole, document);
        }
        if let Some(members) = json::members(document) {
            let object = value.as_object().expect("both see an object");
            for (key, span) in members {
                let read: Value = serde_json::from_slice(span).expect("a span is a value");
                prop_assert_eq!(&object[&*key], &read);
            }
        }
    }

    #[test]
    fn any_text_is_refused_or_survives_as_an_envelope(text in soup()) {
        envelopes::check(&text);
        let head = format!("{{\"{}\": [", tags::OBJECT);
        for tag in [tags::REQUEST_TYPE, tags::RESPONSE_TYPE] {
            let tail = format!("], \"{}\": \"{tag}\"}}", tags::TYPE);
            envelopes::check(&[head.as_bytes(), &text, tail.as_bytes()].concat());
        }
    }

    #[test]
    fn any_request_survives_the_wire(request in request()) {
        let encoded = request.encode().expect("little metadata");
        let read = ToProvider::decode(&encoded).expect("our own request");
        prop_assert_eq!(read, ToProvider::Request(request));
    }

    #[test]
    fn any_response_survives_the_wire(
        function in ".{0,20}", outcome in outcome(),
        ours in proptest::option::of((id(), id(), 0..4_usize, proptest::option::of((id(), 2..100_usize)))),
    ) {
        const KINDS: [ResponseKind; 4] =
            [ResponseKind::Result, ResponseKind::Ack, ResponseKind::Beat, ResponseKind::Here];
        let ours = ours.map(|(call, provider, kind, siblings)| {
            let siblings = siblings.map(|(id, count)| Siblings { id, count });
            ResponseExtension { call, provider, kind: KINDS[kind], siblings }
        });
        let response = Response { function: function.into(), outcome, ours };
        let encoded = response.encode();
        prop_assert_eq!(Response::decode(&encoded).expect("our own"), response);
    }

    #[test]
    fn any_control_message_survives_the_wire(call in id(), inbox in id()) {
        for control in [Control::Who { call, inbox }, Control::Cancel { call }] {
            let encoded = control.encode();
            let read = ToProvider::decode(&encoded).expect("our own message");
            prop_assert_eq!(read, ToProvider::Control(control));
        }
    }

    #[test]
    fn arguments_bind_by_place_or_by_name_alike(values in vec(value(), 3), by_place in 0..=3_usize) {
        let (placed, named) = values.split_at(by_place);
        let named: serde_json::Map<_, _> =
            ["a", "b", "c"][by_place..].iter().map(|name| (*name).to_owned()).zip(named.to_vec())
                .collect();
        let bound = arguments::bind(
            Value::from(placed).to_string().as_bytes(),
            Value::from(named).to_string().as_bytes(),
        );
        let all = arguments::bind(Value::from(values).to_string().as_bytes(), b"{}");
        prop_assert!(matches!(all, arguments::Bound::To(_)), "{:?}", all);
        prop_assert_eq!(bound, all);
    }

    #[test]
    fn globs_match_as_the_rules_are_told(
        pattern in r"[ab\-\*\?\[\]\^\\]{0,10}", text in r"[ab\-\]\\]{0,8}",
    ) {
        let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(name::matches(pattern, text), globs::tried(pattern, text));
    }

    #[test]
    fn a_literal_prefix_is_common_to_all_matches(
        pattern in r"[ab\*\?\[\]\\]{0,6}", text in "[ab]{0,6}",
    ) {
        if name::matches(pattern.as_bytes(), text.as_bytes()) {
            prop_assert!(text.starts_with(name::literal_prefix(&pattern)));
        }
    }

    #[test]
    fn a_namespace_gives_back_what_it_was_given(
        namespace in any::<String>(), other in any::<String>(), name in any::<String>(),
        pattern in r"[ab\*\?]{0,4}",
    ) {
        let space = Namespace::new(&namespace);
        let whole = space.whole(&name);
        prop_assert_eq!(space.strip(&whole), Some(&*name));
        let matched = name::matches(space.whole_pattern(&pattern).as_bytes(), whole.as_bytes());
        prop_assert_eq!(matched, name::matches(pattern.as_bytes(), name.as_bytes()));
        if !other.starts_with(&format!("{namespace}:")) && other != namespace
            && !namespace.starts_with(&format!("{other}:"))
        {
            prop_assert_eq!(Namespace::new(&other).strip(&whole), None);
        }
    }

    #[test]
    fn a_reply_list_is_a_uuid_or_refused(name in "(__rpc_)?[0-9a-fA-F{}:_-]{30,40}") {
        if let Ok(address) = Namespace::default().reply_list(&name) {
            prop_assert_eq!(address.name(), format!("__eventbus:global:{name}"));
            prop_assert!(name["__rpc_".len()..].bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()));
        }
    }
}
