//! The top level of a message: which of the original's shapes a value takes there.
//!
//! Tags are written here and read in `decode`, `top_level` and `stream`. The types are written first and
//! only if there are some.

use pymq::wire::tags::{self, LIST_MEMBER, OBJECT_MEMBER, TYPE_MEMBER, TYPES_MEMBER};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::core::CodecCore;
use super::encode::Encoder;
use super::encoding::{Encoding, Shape};
use super::exact::exact;
use super::fault::{Fault, Result};

/// Around the value that an encoder holds.
enum Around {
    /// The value alone.
    Nothing,
    /// `{"__obj": value, "__type": tag}`
    Object(&'static [u8]),
    /// `{"__list": value, "__type": tag}`
    List(&'static [u8]),
    /// `{…fields, "__type": tag}`
    Fields(&'static [u8]),
}

/// Encodes an event or a queue item.
pub(super) fn encode<'py>(
    codec: &CodecCore,
    value: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyBytes>> {
    let mut encoder = Encoder::new(codec, value.py(), 0);
    let around = write(&mut encoder, value).map_err(|fault| encoder.explain(fault))?;
    finish(&encoder, &around)
}

fn write<'py>(encoder: &mut Encoder<'_, 'py>, value: &Bound<'py, PyAny>) -> Result<Around> {
    if encoder.primitive(value)? {
        return Ok(if value.is_none() { Around::Object(b"\"NoneType\"") } else { Around::Nothing });
    }
    if let Some(dict) = exact::<PyDict>(value) {
        let has_node = encoder.dict(dict, None)?;
        let wrapped = has_node || holds_reserved(dict)?;
        return Ok(if wrapped { Around::Object(b"\"dict\"") } else { Around::Nothing });
    }
    if let Some(list) = exact::<PyList>(value) {
        return write_list(encoder, list);
    }
    if let Some(tuple) = exact::<PyTuple>(value) {
        encoder.tuple(tuple, None)?;
        return Ok(Around::Object(b"\"tuple\""));
    }
    let encoding = encoder.encoding(value)?;
    write_encoded(encoder, value, encoding)
}

fn write_encoded<'py>(
    encoder: &mut Encoder<'_, 'py>,
    value: &Bound<'py, PyAny>,
    encoding: &'static Encoding,
) -> Result<Around> {
    let root = encoding.root.json.as_slice();
    // The tree's root speaks only where `__type` is but what comes nearest.
    let own = encoding.tag.as_ref().filter(|tag| tag.name != encoding.root.name);
    let own = own.map(|tag| tag.json.as_slice());
    let start = encoder.out.len();
    encoder.shaped(value, encoding, own)?;
    Ok(match encoding.shape {
        Shape::Object(_) if encoder.clashes => Around::Object(root),
        Shape::Object(_) if encoding.tag.is_some() => Around::Fields(root),
        // A class without a name to look up is sent as its attributes.
        Shape::Object(_) if encoder.types.is_empty() => Around::Nothing,
        Shape::Name(_) => Around::Nothing,
        // An enum's value is a string or an array here: old decoders must not compute with it.
        Shape::Member if encoder.out[start] != b'"' => {
            encoder.out.insert(start, b'[');
            encoder.out.push(b']');
            Around::Object(root)
        }
        _ => Around::Object(root),
    })
}

/// A list of one class goes under `__list`; lists of plain values, lists, dicts and of several
/// classes go as they are, which all old decoders read.
fn write_list<'py>(encoder: &mut Encoder<'_, 'py>, list: &Bound<'py, PyList>) -> Result<Around> {
    let has_node = encoder.list(list, None)?;
    let plain = if has_node { Around::Object(b"\"list\"") } else { Around::Nothing };
    let Some(root) = common_root(encoder, list)? else { return Ok(plain) };
    let said_by_root = [b"{\"*\":".as_slice(), root, b"}"].concat();
    if encoder.types == said_by_root {
        encoder.types.clear();
    }
    Ok(Around::List(root))
}

fn common_root<'py>(
    encoder: &mut Encoder<'_, 'py>,
    list: &Bound<'py, PyList>,
) -> Result<Option<&'static [u8]>> {
    if list.is_empty() {
        return Ok(None);
    }
    let first = list.get_item(0)?;
    let class = first.get_type();
    let root = if first.is_exact_instance_of::<PyTuple>() {
        b"\"tuple\""
    } else if is_plain(&first) {
        return Ok(None);
    } else {
        let encoding = encoder.encoding(&first)?;
        match encoding.shape {
            Shape::Object(_) if encoding.tag.is_none() => return Ok(None),
            Shape::Text | Shape::Integer | Shape::Float | Shape::Name(_) => return Ok(None),
            Shape::Dict | Shape::List => return Ok(None),
            _ => encoding.root.json.as_slice(),
        }
    };
    let alike = list.iter().all(|element| element.is_none() || element.get_type().is(&class));
    Ok(alike.then_some(root))
}

fn is_plain(value: &Bound<'_, PyAny>) -> bool {
    value.is_none()
        || value.is_exact_instance_of::<PyString>()
        || value.is_exact_instance_of::<PyList>()
        || value.is_exact_instance_of::<PyDict>()
        || value.is_exact_instance_of::<pyo3::types::PyInt>()
        || value.is_exact_instance_of::<pyo3::types::PyFloat>()
        || value.is_exact_instance_of::<pyo3::types::PyBool>()
}

fn holds_reserved(dict: &Bound<'_, PyDict>) -> Result<bool> {
    let py = dict.py();
    debug_assert_eq!(tags::KEYS.len(), 4);
    Ok(dict.contains(intern!(py, tags::TYPE))?
        || dict.contains(intern!(py, tags::OBJECT))?
        || dict.contains(intern!(py, tags::LIST))?
        || dict.contains(intern!(py, tags::TYPES))?)
}

/// A member as it stands in front of all others.
#[inline]
pub(super) fn first(member: &'static str) -> &'static [u8] {
    &member.as_bytes()[1..]
}

fn finish<'py>(encoder: &Encoder<'_, 'py>, around: &Around) -> Result<Bound<'py, PyBytes>> {
    let limits = &encoder.codec.limits;
    let wrapped = usize::from(matches!(around, Around::Object(_) | Around::List(_)));
    if encoder.deepest() + wrapped > limits.depth {
        return Err(Fault::new(limits.too_deep()));
    }
    let body = encoder.out.as_slice();
    let types = encoder.types.as_slice();
    let (head, body, key, tag): (&[u8], _, &[u8], _) = match around {
        Around::Nothing => (b"", body, b"", &[][..]),
        Around::Object(tag) => (first(OBJECT_MEMBER), body, TYPE_MEMBER.as_bytes(), *tag),
        Around::List(tag) => (first(LIST_MEMBER), body, TYPE_MEMBER.as_bytes(), *tag),
        Around::Fields(tag) => {
            let fields = &body[1..body.len() - 1];
            let only = fields.is_empty();
            let key = if only { first(TYPE_MEMBER) } else { TYPE_MEMBER.as_bytes() };
            (b"", fields, key, *tag)
        }
    };
    let parts: &[&[u8]] = match (around, types.is_empty()) {
        (Around::Nothing, _) => &[body],
        (_, true) => &[b"{", head, body, key, tag, b"}"],
        (_, false) => &[b"{", first(TYPES_MEMBER), types, b",", head, body, key, tag, b"}"],
    };
    let size = parts.iter().map(|part| part.len()).sum();
    limits.check_size(size)?;
    Ok(PyBytes::new_with(encoder.py, size, |buffer| {
        let mut rest = buffer;
        for part in parts {
            let (here, behind) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = behind;
        }
        Ok(())
    })?)
}
