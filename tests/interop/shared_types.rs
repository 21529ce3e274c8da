//! The data of `shared_types.py` as a Rust program writes it: plain serde structs.
//!
//! Fields have the names and kinds they have there; nothing here knows that Python exists, except
//! [`Describe`], which names the class so that descriptions can be compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::description::Describe;

/// A struct that is a class there, described as an object of that class.
macro_rules! class {
    ($name:ident = $class:literal { $($field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub(crate) struct $name {
            $(pub(crate) $field: $kind,)*
        }

        impl Describe for $name {
            fn describe(&self) -> Value {
                let fields: [(&str, Value); _] =
                    [$((stringify!($field), self.$field.describe()),)*];
                let fields: Map<String, Value> =
                    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                json!({"object": $class, "fields": fields})
            }
        }
    };
}

class!(Reading = "shared_types.Reading" { sensor: String, celsius: f64 });
class!(Marker = "shared_types.Marker" { x: i64, y: i64, label: String });
class!(Order = "shared_types.Order" { number: i64, items: Vec<String>, note: String });
class!(Shape = "shared_types.Drawing.Shape" { kind: String, sides: i64 });
class!(Drawing = "shared_types.Drawing" {
    title: String,
    shapes: Vec<Shape>,
    named: BTreeMap<String, Shape>,
});
class!(Folder = "shared_types.Folder" { order: Order, readings: Vec<Reading> });
class!(MyEvent = "shared_types.MyEvent" {});

/// A named tuple there: its items travel as an array.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Point(pub(crate) i64, pub(crate) i64);

impl Describe for Point {
    fn describe(&self) -> Value {
        json!({"named": "shared_types.Point", "items": [self.0, self.1]})
    }
}

/// An exception there: its arguments travel as an array.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OutOfStock(pub(crate) String, pub(crate) i64);

impl Describe for OutOfStock {
    fn describe(&self) -> Value {
        json!({"exception": "shared_types.OutOfStock", "args": [self.0, self.1]})
    }
}
