//! Dicts whose keys are not all text.
//!
//! Keys that have a text of their own stay keys of a JSON object, as Python's `json` writes them,
//! and the tag lists their types: `dict:int`, or `dict:int,str` key by key. Other keys, and texts
//! that coincide, make the dict an array of pairs: `dict:*`. A subclass stands in place of `dict`.

use std::collections::HashSet;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyString};

use super::encode::Encoder;
use super::encoding::{Shape, Tag};
use super::fault::{Fault, Result, Step};
use super::flood::{self, MOST_OF_ONE_HASH};
use super::node::{Branch, ChildKey, LONGEST_TAG};
use super::walk::Entries;

/// Behind the class in a tag: the dict is written as pairs.
pub(super) const PAIRS: &str = "*";

/// A key as text, in JSON, and its type's tag.
struct TextKey {
    json: Vec<u8>,
    tag: String,
}

/// Writes a dict that has a key which is no plain string; its level has been entered.
pub(super) fn dict<'py>(
    encoder: &mut Encoder<'_, 'py>,
    dict: &Bound<'py, PyDict>,
    own: Option<&[u8]>,
) -> Result<bool> {
    let class = match own {
        None => "dict".to_owned(),
        // A tag is a dotted name: nothing in it is escaped.
        Some(json) => String::from_utf8_lossy(&json[1..json.len() - 1]).into_owned(),
    };
    if dict.len() > MOST_OF_ONE_HASH {
        let keys: Vec<_> = dict.keys().iter().collect();
        flood::check_elements(&keys)?;
    }
    match text_keys(encoder, dict)? {
        Some(keys) => object(encoder, dict, &keys, &class),
        None => pairs(encoder, dict, &class),
    }
}

fn text_keys<'py>(
    encoder: &mut Encoder<'_, 'py>,
    dict: &Bound<'py, PyDict>,
) -> Result<Option<Vec<TextKey>>> {
    let mut keys = Vec::with_capacity(dict.len());
    let mut seen = HashSet::new();
    let mut entries = Entries::new(dict);
    while let Some((key, _)) = entries.next()? {
        match text_key(encoder, &key)? {
            Some(key) if seen.insert(key.json.clone()) => keys.push(key),
            _ => return Ok(None),
        }
    }
    Ok(Some(keys))
}

fn text_key<'py>(
    encoder: &mut Encoder<'_, 'py>,
    key: &Bound<'py, PyAny>,
) -> Result<Option<TextKey>> {
    let start = encoder.out.len();
    let tag = if key.is_exact_instance_of::<PyString>() {
        "str".to_owned()
    } else if key.is_none() {
        "NoneType".to_owned()
    } else if key.is_exact_instance_of::<PyBool>() {
        "bool".to_owned()
    } else if key.is_exact_instance_of::<PyInt>() {
        "int".to_owned()
    } else if key.is_exact_instance_of::<PyFloat>() {
        "float".to_owned()
    } else {
        return encoded_key(encoder, key);
    };
    encoder.primitive(key)?;
    Ok(Some(TextKey { json: quoted(encoder.out.split_off(start)), tag }))
}

fn encoded_key<'py>(
    encoder: &mut Encoder<'_, 'py>,
    key: &Bound<'py, PyAny>,
) -> Result<Option<TextKey>> {
    let encoding = encoder.encoding(key)?;
    let has_text = match &encoding.shape {
        Shape::Text | Shape::Integer | Shape::Float | Shape::Made(_) => true,
        Shape::Member => {
            key.getattr(intern!(encoder.py, "_value_"))?.is_exact_instance_of::<PyString>()
        }
        _ => false,
    };
    if !has_text {
        return Ok(None);
    }
    let (start, types) = (encoder.out.len(), encoder.types.len());
    encoder.shaped(key, encoding, None)?;
    encoder.types.truncate(types);
    let json = quoted(encoder.out.split_off(start));
    let tag = encoding.tag.as_ref().unwrap_or(&encoding.root).name.clone();
    Ok(Some(TextKey { json, tag }))
}

fn quoted(mut json: Vec<u8>) -> Vec<u8> {
    if json.first() != Some(&b'"') {
        json.insert(0, b'"');
        json.push(b'"');
    }
    json
}

fn object<'py>(
    encoder: &mut Encoder<'_, 'py>,
    dict: &Bound<'py, PyDict>,
    keys: &[TextKey],
    class: &str,
) -> Result<bool> {
    let mut branch = Branch::shared(&encoder.types);
    encoder.out.push(b'{');
    let mut entries = Entries::new(dict);
    let mut texts = keys.iter();
    while let (Some((_, value)), Some(key)) = (entries.next()?, texts.next()) {
        if encoder.out.last() != Some(&b'{') {
            encoder.out.push(b',');
        }
        encoder.out.extend_from_slice(&key.json);
        encoder.out.push(b':');
        let text = String::from_utf8_lossy(&key.json[1..key.json.len() - 1]).into_owned();
        // Without escapes the JSON is the name itself.
        let child =
            if text.contains('\\') { ChildKey::Json(&key.json) } else { ChildKey::Name(&text) };
        encoder
            .child(&mut branch, child, &value)
            .map_err(|fault| fault.at(Step::Key(text.clone())))?;
    }
    encoder.out.push(b'}');
    let own = Tag::new(&format!("{class}:{}", key_types(keys)));
    Ok(branch.close(&mut encoder.types, Some(&own.json)))
}

fn key_types(keys: &[TextKey]) -> String {
    let first = keys.first().map_or("str", |key| key.tag.as_str());
    if keys.iter().all(|key| key.tag == first) {
        return first.to_owned();
    }
    let tags: Vec<&str> = keys.iter().map(|key| key.tag.as_str()).collect();
    tags.join(",")
}

fn pairs<'py>(
    encoder: &mut Encoder<'_, 'py>,
    dict: &Bound<'py, PyDict>,
    class: &str,
) -> Result<bool> {
    let mut branch = Branch::shared(&encoder.types);
    encoder.out.push(b'[');
    let mut entries = Entries::new(dict);
    let mut index = 0;
    while let Some((key, value)) = entries.next()? {
        if index > 0 {
            encoder.out.push(b',');
        }
        let at = ChildKey::Index(index);
        let start = encoder.types.len();
        let is_node = pair(encoder, &key, &value).map_err(|fault| fault.at(Step::Index(index)))?;
        branch.end(&mut encoder.types, at, start, is_node);
        index += 1;
    }
    encoder.out.push(b']');
    let own = Tag::new(&format!("{class}:{PAIRS}"));
    Ok(branch.close(&mut encoder.types, Some(&own.json)))
}

fn pair<'py>(
    encoder: &mut Encoder<'_, 'py>,
    key: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> Result<bool> {
    encoder.enter_level()?;
    let mut branch = Branch::named(&encoder.types);
    encoder.out.push(b'[');
    encoder
        .child(&mut branch, ChildKey::Index(0), key)
        .map_err(|fault| fault.at(Step::Index(0)))?;
    encoder.out.push(b',');
    encoder
        .child(&mut branch, ChildKey::Index(1), value)
        .map_err(|fault| fault.at(Step::Index(1)))?;
    encoder.out.push(b']');
    encoder.leave();
    Ok(branch.close(&mut encoder.types, None))
}

/// A key's tag is looked up for each key, so it is not longer than tags are.
fn shortened(tag: &str) -> String {
    tag[..tag.floor_char_boundary(LONGEST_TAG)].to_owned()
}

/// What a tag says about a dict's keys.
#[derive(Debug)]
pub(super) enum KeyTypes {
    Pairs,
    Each(String),
    Listed(Vec<String>),
}

impl KeyTypes {
    /// Parts `class:keys`.
    pub(super) fn split(tag: &str) -> (&str, Option<Self>) {
        match tag.split_once(':') {
            None => (tag, None),
            Some((class, PAIRS)) => (class, Some(Self::Pairs)),
            Some((class, keys)) if keys.contains(',') => {
                (class, Some(Self::Listed(keys.split(',').map(shortened).collect())))
            }
            Some((class, each)) => (class, Some(Self::Each(shortened(each)))),
        }
    }

    pub(super) fn at(&self, index: usize) -> Result<&str> {
        match self {
            Self::Pairs => Ok("str"),
            Self::Each(tag) => Ok(tag),
            Self::Listed(tags) => tags
                .get(index)
                .map(String::as_str)
                .ok_or_else(|| Fault::new("malformed type tree: more keys than key types")),
        }
    }
}
