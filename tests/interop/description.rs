//! The canonical JSON of `description.py`, for values that come and go without a type of their own.
//!
//! [`Described`] is any value: reading one describes what was on the wire, writing one puts the
//! described value there, classes as the plain data they are in Rust. It keeps the order of keys
//! and all digits of a float; integers beyond 64 bits need a typed field, as with any serde type
//! that takes what comes.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};
use serde_json::{Value, json};

/// Integers below this are described by themselves.
const PLAIN_INTEGERS: u128 = 1 << 53;

/// A value by its description.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Described(pub(crate) Value);

/// What can say its own description.
pub(crate) trait Describe {
    fn describe(&self) -> Value;
}

impl Describe for Described {
    fn describe(&self) -> Value {
        self.0.clone()
    }
}

impl Describe for () {
    fn describe(&self) -> Value {
        Value::Null
    }
}

impl Describe for bool {
    fn describe(&self) -> Value {
        json!(self)
    }
}

impl Describe for i128 {
    fn describe(&self) -> Value {
        match i64::try_from(*self) {
            Ok(small) if self.unsigned_abs() < PLAIN_INTEGERS => json!(small),
            _ => json!({"int": self.to_string()}),
        }
    }
}

impl Describe for i64 {
    fn describe(&self) -> Value {
        i128::from(*self).describe()
    }
}

impl Describe for f64 {
    fn describe(&self) -> Value {
        json!({"float": python_float(*self)})
    }
}

impl Describe for String {
    fn describe(&self) -> Value {
        json!(self)
    }
}

impl<T: Describe> Describe for Vec<T> {
    fn describe(&self) -> Value {
        Value::from_iter(self.iter().map(Describe::describe))
    }
}

impl<T: Describe> Describe for Option<T> {
    fn describe(&self) -> Value {
        self.as_ref().map_or(Value::Null, Describe::describe)
    }
}

impl<T: Describe> Describe for BTreeMap<String, T> {
    fn describe(&self) -> Value {
        let items: Vec<Value> =
            self.iter().map(|(key, item)| json!([key, item.describe()])).collect();
        json!({"dict": items})
    }
}

/// A float as Python's `repr` writes it; the digits are the same in both languages.
fn python_float(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        None if number.is_nan() => "nan".to_owned(),
        None => text,
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}

impl<'de> Deserialize<'de> for Described {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Describer).map(Self)
    }
}

struct Describer;

impl<'de> Visitor<'de> for Describer {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.describe())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i128::from(value).describe())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.describe())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(json!(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Described(item)) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut items: Vec<(Value, Value)> = Vec::new();
        while let Some((Described(key), Described(item))) = map.next_entry()? {
            // Of equal keys the last one counts, as in every reader of JSON.
            match items.iter_mut().find(|(known, _)| *known == key) {
                Some((_, earlier)) => *earlier = item,
                None => items.push((key, item)),
            }
        }
        Ok(json!({"dict": items}))
    }
}

impl Serialize for Described {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Object(description) => match description.iter().find(|(key, _)| is_kind(key)) {
                Some((kind, content)) => serialize_kind(kind, content, description, serializer),
                None => Err(S::Error::custom(format!("no description: {}", self.0))),
            },
            Value::Array(items) => serializer.collect_seq(items.iter().cloned().map(Described)),
            plain => plain.serialize(serializer),
        }
    }
}

/// The keys that name a type; those beside them hold the parts of a value.
fn is_kind(key: &str) -> bool {
    !matches!(key, "items" | "args" | "fields" | "name" | "repr")
}

fn serialize_kind<S: Serializer>(
    kind: &str,
    content: &Value,
    description: &serde_json::Map<String, Value>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let wrong = || S::Error::custom(format!("no value of Rust: {kind} {content}"));
    let items = |list: &Value| -> Option<Vec<Described>> {
        Some(list.as_array()?.iter().cloned().map(Described).collect())
    };
    let part = |name: &str| description.get(name).and_then(items);
    match kind {
        "int" => {
            let digits = content.as_str().and_then(|digits| digits.parse().ok());
            serializer.serialize_i128(digits.ok_or_else(wrong)?)
        }
        "float" => {
            let number = content.as_str().and_then(|digits| digits.parse().ok());
            serializer.serialize_f64(number.ok_or_else(wrong)?)
        }
        "dict" => {
            let pairs = content.as_array().ok_or_else(wrong)?;
            let mut map = serializer.serialize_map(Some(pairs.len()))?;
            for pair in pairs {
                map.serialize_entry(&Described(pair[0].clone()), &Described(pair[1].clone()))?;
            }
            map.end()
        }
        "object" => {
            let fields = description.get("fields").and_then(Value::as_object).ok_or_else(wrong)?;
            serializer
                .collect_map(fields.iter().map(|(name, item)| (name, Described(item.clone()))))
        }
        "tuple" | "set" | "frozenset" => serializer.collect_seq(items(content).ok_or_else(wrong)?),
        "named" => serializer.collect_seq(part("items").ok_or_else(wrong)?),
        "exception" => serializer.collect_seq(part("args").ok_or_else(wrong)?),
        _ => Err(wrong()),
    }
}
