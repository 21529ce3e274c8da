//! JSON as Python writes it, where serde_json would lose a value: `NaN` and the infinities.
//!
//! serde_json writes them as `null`. [`Exact`] stands in front of its serializer, lets everything
//! through as it is and only tells it, by way of [`Floats`], which number a placeholder stands for.

use std::cell::Cell;
use std::io;

use serde::ser::{self, Serialize, Serializer};
use serde_json::ser::{CompactFormatter, Formatter};

/// Appends a value; non-finite floats as Python's `json` writes them.
pub(super) fn write<T: Serialize + ?Sized>(
    value: &T,
    text: &mut Vec<u8>,
) -> serde_json::Result<()> {
    let awaited = Cell::new(None);
    let floats = Floats(&awaited);
    let mut serializer = serde_json::Serializer::with_formatter(Text(text), floats);
    value.serialize(Exact { inner: &mut serializer, awaited: &awaited })
}

/// Where it is written to.
struct Text<'a>(&'a mut Vec<u8>);

impl Text<'_> {
    /// In portions: much at once the C library copies by an instruction that takes twenty times as long
    /// on some processors (AMD's Zen 3) where both places begin nearly alike within their pages.
    #[cold]
    fn append_much(&mut self, bytes: &[u8]) {
        self.0.reserve(bytes.len());
        bytes.chunks(PORTION).for_each(|portion| self.0.extend_from_slice(portion));
    }
}

const PORTION: usize = 2048;

impl io::Write for Text<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match bytes.len() <= PORTION {
            true => self.0.extend_from_slice(bytes),
            false => self.append_much(bytes),
        }
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).map(drop)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The word that the next number stands for, if it stands for one.
type Awaited = Cell<Option<&'static str>>;

/// A formatter that writes an awaited word in place of the next number.
struct Floats<'a>(&'a Awaited);

impl Formatter for Floats<'_> {
    fn write_f64<W: io::Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        match self.0.take() {
            Some(word) => writer.write_all(word.as_bytes()),
            None => CompactFormatter.write_f64(writer, value),
        }
    }
}

/// A serializer, or a part of one, that passes everything on and watches floats.
struct Exact<'a, S> {
    inner: S,
    awaited: &'a Awaited,
}

/// A value within a value.
struct Watched<'a, T: ?Sized> {
    value: &'a T,
    awaited: &'a Awaited,
}

impl<T: Serialize + ?Sized> Serialize for Watched<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Exact { inner: serializer, awaited: self.awaited })
    }
}

macro_rules! pass_on {
    ($($method:ident($($name:ident: $kind:ty),*);)*) => {
        $(fn $method(self $(, $name: $kind)*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($name),*)
        })*
    };
}

macro_rules! open {
    ($($method:ident -> $part:ident($($name:ident: $kind:ty),*);)*) => {
        $(fn $method(self $(, $name: $kind)*) -> Result<Self::$part, S::Error> {
            Ok(Exact { inner: self.inner.$method($($name),*)?, awaited: self.awaited })
        })*
    };
}

impl<'a, S: Serializer> Serializer for Exact<'a, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Exact<'a, S::SerializeSeq>;
    type SerializeTuple = Exact<'a, S::SerializeTuple>;
    type SerializeTupleStruct = Exact<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Exact<'a, S::SerializeTupleVariant>;
    type SerializeMap = Exact<'a, S::SerializeMap>;
    type SerializeStruct = Exact<'a, S::SerializeStruct>;
    type SerializeStructVariant = Exact<'a, S::SerializeStructVariant>;

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if value.is_finite() {
            return self.inner.serialize_f64(value);
        }
        self.awaited.set(Some(match value {
            _ if value.is_nan() => "NaN",
            _ if value > 0.0 => "Infinity",
            _ => "-Infinity",
        }));
        self.inner.serialize_f64(0.0)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        match value.is_finite() {
            true => self.inner.serialize_f32(value),
            false => self.serialize_f64(f64::from(value)),
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(&Watched { value, awaited: self.awaited })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.inner.serialize_newtype_struct(name, &Watched { value, awaited: self.awaited })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Watched { value, awaited: self.awaited };
        self.inner.serialize_newtype_variant(name, index, variant, &value)
    }

    pass_on! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_bytes(value: &[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(name: &'static str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    open! {
        serialize_seq -> SerializeSeq(length: Option<usize>);
        serialize_tuple -> SerializeTuple(length: usize);
        serialize_tuple_struct -> SerializeTupleStruct(name: &'static str, length: usize);
        serialize_tuple_variant -> SerializeTupleVariant(
            name: &'static str, index: u32, variant: &'static str, length: usize
        );
        serialize_map -> SerializeMap(length: Option<usize>);
        serialize_struct -> SerializeStruct(name: &'static str, length: usize);
        serialize_struct_variant -> SerializeStructVariant(
            name: &'static str, index: u32, variant: &'static str, length: usize
        );
    }
}

macro_rules! part {
    ($($part:ident { $($method:ident($($name:ident: $kind:ty),*);)* })*) => {
        $(impl<S: ser::$part> ser::$part for Exact<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            $(fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: $kind,)*
                value: &T,
            ) -> Result<(), S::Error> {
                let value = Watched { value, awaited: self.awaited };
                self.inner.$method($($name,)* &value)
            })*

            fn end(self) -> Result<S::Ok, S::Error> {
                self.inner.end()
            }
        })*
    };
}

part! {
    SerializeSeq { serialize_element(); }
    SerializeTuple { serialize_element(); }
    SerializeTupleStruct { serialize_field(); }
    SerializeTupleVariant { serialize_field(); }
    SerializeMap { serialize_key(); serialize_value(); }
    SerializeStruct { serialize_field(key: &'static str); }
    SerializeStructVariant { serialize_field(key: &'static str); }
}
