//! The types tree: what the JSON shape of a value loses, by path.
//!
//! A node is a string (the tag of the value at this place) or an object. In an object, `=` is the
//! place's own tag, `*` the node of every child that has no entry of its own, and any other key is
//! a child's field name, dict key or index. Keys are users' data: one that reads `=` or `*`, or
//! starts with `/`, is written with one more `/` in front, so nobody's data can forge a tag.
//! A node never goes deeper than the value that it describes.

use std::collections::HashMap;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::exact::exact;
use super::fault::{Fault, Result};
use super::keys::KeyTypes;
use super::scalar;

const OWN: &str = "=";
const EACH: &str = "*";
const ESCAPE: u8 = b'/';

fn is_reserved(key: &str) -> bool {
    key == OWN || key == EACH || key.as_bytes().first() == Some(&ESCAPE)
}

// ---- writing

/// How a child is named in its parent's node.
#[derive(Clone, Copy)]
pub(super) enum ChildKey<'a> {
    Index(usize),
    Name(&'a str),
    /// As quoted JSON: a name with lone surrogates, or one that is neither `=` nor `*`.
    Json(&'a [u8]),
}

impl ChildKey<'_> {
    /// Would it be taken for something else in a node, as it stands?
    pub(super) fn is_escaped(self) -> bool {
        match self {
            Self::Index(_) => false,
            Self::Name(name) => is_reserved(name),
            Self::Json(name) => name.starts_with(b"\"/"),
        }
    }
}

/// The node of one container while its children are written to the end of a buffer.
pub(super) struct Branch {
    base: usize,
    sharing: bool,
    open: bool,
    plain: bool,
    each: Option<(usize, usize)>,
    /// The class whose every value has the shared node, if it has nothing to say below it.
    pub(super) leaf_class: Option<usize>,
}

impl Branch {
    /// For an object's fields, each of which has its own entry.
    pub(super) fn named(types: &[u8]) -> Self {
        Self {
            base: types.len(),
            sharing: false,
            open: false,
            plain: false,
            each: None,
            leaf_class: None,
        }
    }

    /// For a collection, where equal nodes of the children are written once.
    pub(super) fn shared(types: &[u8]) -> Self {
        Self { sharing: true, ..Self::named(types) }
    }

    /// A child that needs no node: with a shared one about, it has to say so.
    #[inline]
    pub(super) fn plain(&mut self, types: &mut Vec<u8>, key: ChildKey<'_>) {
        self.plain = true;
        if self.each.is_some() {
            write_key(types, b',', key);
            types.extend_from_slice(b"{}");
        }
    }

    /// Puts a child's node, which was written from `start` on, under its key, if there is one and
    /// it says something new. Says whether it is the shared node now.
    pub(super) fn end(
        &mut self,
        types: &mut Vec<u8>,
        key: ChildKey<'_>,
        start: usize,
        is_node: bool,
    ) -> bool {
        if !is_node {
            self.plain(types, key);
            return false;
        }
        if self.each.is_some_and(|(from, to)| types[from..to] == types[start..]) {
            types.truncate(start);
            return false;
        }
        let shared = self.sharing && !self.open && !self.plain;
        let end = types.len();
        if shared {
            types.extend_from_slice(b"{\"*\":");
        } else {
            write_key(types, if self.open { b',' } else { b'{' }, key);
        }
        // The key belongs in front. Most children have no node, so it is not written beforehand.
        let prefix = types.len() - end;
        types.extend_from_within(start..end);
        types.copy_within(end.., start);
        types.truncate(end + prefix);
        self.open = true;
        if shared {
            self.each = Some((start + prefix, types.len()));
        }
        shared
    }

    /// Is the shared node nothing but this tag?
    pub(super) fn shares(&self, types: &[u8], tag: &[u8]) -> bool {
        self.each.is_some_and(|(from, to)| &types[from..to] == tag)
    }

    /// Puts a tag into the node that was written last, which had none of its own.
    pub(super) fn add_own(types: &mut Vec<u8>, tag: &[u8]) {
        let end = types.pop();
        debug_assert_eq!(end, Some(b'}'), "a node without a tag of its own is an object");
        types.extend_from_slice(b",\"=\":");
        types.extend_from_slice(tag);
        types.push(b'}');
    }

    /// Closes the node; `own` is the container's tag as JSON. Says whether there is a node.
    pub(super) fn close(self, types: &mut Vec<u8>, own: Option<&[u8]>) -> bool {
        match (self.open, own) {
            (false, None) => {
                debug_assert_eq!(types.len(), self.base);
                return false;
            }
            (false, Some(tag)) => types.extend_from_slice(tag),
            (true, None) => types.push(b'}'),
            (true, Some(tag)) => {
                types.push(b'}');
                Self::add_own(types, tag);
            }
        }
        true
    }
}

fn write_key(types: &mut Vec<u8>, separator: u8, key: ChildKey<'_>) {
    types.push(separator);
    match key {
        ChildKey::Index(index) => {
            types.push(b'"');
            scalar::integer(types, i64::try_from(index).expect("a length fits into i64"));
            types.push(b'"');
        }
        ChildKey::Name(name) if key.is_escaped() => {
            scalar::string(types, &format!("/{name}"));
        }
        ChildKey::Name(name) => scalar::string(types, name),
        ChildKey::Json(name) if key.is_escaped() => {
            types.extend_from_slice(b"\"/");
            types.extend_from_slice(&name[1..]);
        }
        ChildKey::Json(name) => types.extend_from_slice(name),
    }
    types.push(b':');
}

// ---- reading

/// A node as read.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) own: Option<Own>,
    each: Option<Box<Node>>,
    children: Vec<(Name, Node)>,
    /// The marks of all children's names.
    marks: u64,
    /// Where a child stands, if there are too many to look through.
    places: Option<HashMap<Name, usize>>,
}

/// Longer than any tag that is known: names have at most 256 characters.
pub(super) const LONGEST_TAG: usize = 1100;

/// As many children are found faster by looking at each.
const FEW: usize = 12;

/// The tag of a place: its class, and what it says about a dict's keys.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) class: String,
    pub(super) keys: Option<KeyTypes>,
}

/// A child's name in UTF-8, in which lone surrogates pass.
type Name = Vec<u8>;

static SILENT: Node = Node { own: None, each: None, children: Vec::new(), marks: 0, places: None };

impl Node {
    /// The node of a place that nothing is said about.
    pub(super) fn silent() -> &'static Self {
        &SILENT
    }

    /// A place of which only the tag is known.
    pub(super) fn tagged(tag: &str) -> Self {
        let (class, keys) = KeyTypes::split(tag);
        // What is longer is no tag of anybody's, and is looked up and told for each value.
        let class = &class[..class.floor_char_boundary(LONGEST_TAG)];
        Self { own: Some(Own { class: class.to_owned(), keys }), ..Self::default() }
    }

    /// A list whose elements are all of one tag.
    pub(super) fn of_each(tag: &str) -> Self {
        Self { each: Some(Box::new(Self::tagged(tag))), ..Self::default() }
    }

    pub(super) fn read(node: &Bound<'_, PyAny>) -> Result<Self> {
        if let Some(tag) = exact::<PyString>(node) {
            return Ok(Self::tagged(&tag.to_string_lossy()));
        }
        let Some(tree) = exact::<PyDict>(node) else {
            return Err(Fault::new("malformed type tree: a node is a string or an object"));
        };
        let mut read = Self::default();
        for (key, value) in tree.iter() {
            let mut name = name_of(key.cast::<PyString>().map_err(PyErr::from)?)?;
            if name == OWN.as_bytes() {
                let tag = value
                    .cast_exact::<PyString>()
                    .map_err(|_| Fault::new("malformed type tree: a tag is a string"))?;
                read.own = Self::tagged(&tag.to_string_lossy()).own;
            } else if name == EACH.as_bytes() {
                read.each = Some(Box::new(Self::read(&value)?));
            } else {
                if name.first() == Some(&ESCAPE) {
                    name.remove(0);
                }
                read.marks |= mark(&name);
                read.children.push((name, Self::read(&value)?));
            }
        }
        if read.children.len() > FEW {
            let names = read.children.iter().map(|(name, _)| name.clone());
            read.places = Some(names.zip(0..).collect());
        }
        Ok(read)
    }

    #[inline]
    pub(super) fn has_no_children(&self) -> bool {
        self.each.is_none() && self.children.is_empty()
    }

    /// No child has an entry of its own.
    pub(super) fn is_shared(&self) -> bool {
        self.children.is_empty()
    }

    pub(super) fn has_each(&self) -> bool {
        self.each.is_some()
    }

    #[inline]
    pub(super) fn index(&self, index: usize) -> &Self {
        if self.children.is_empty() { self.other() } else { self.listed(index) }
    }

    #[cold]
    fn listed(&self, index: usize) -> &Self {
        self.child(index.to_string().as_bytes())
    }

    #[inline]
    pub(super) fn name(&self, name: &[u8]) -> &Self {
        if self.marks & mark(name) == 0 { self.other() } else { self.child(name) }
    }

    /// The node of the children that have no entry of their own.
    #[inline]
    fn other(&self) -> &Self {
        self.each.as_deref().unwrap_or(&SILENT)
    }

    fn child(&self, name: &[u8]) -> &Self {
        let place = match &self.places {
            None => self.children.iter().position(|(child, _)| child == name),
            Some(places) => places.get(name).copied(),
        };
        place.map_or_else(|| self.other(), |place| &self.children[place].1)
    }

    /// The node of the child that a Python string names.
    pub(super) fn key(&self, name: &Bound<'_, PyString>) -> Result<&Self> {
        if self.children.is_empty() {
            return Ok(self.other());
        }
        Ok(self.child(&name_of(name)?))
    }

    /// The children that have an entry of their own.
    pub(super) fn named(&self) -> impl Iterator<Item = (&[u8], &Self)> {
        self.children.iter().map(|(name, node)| (name.as_slice(), node))
    }
}

/// One bit for a name: most that have no entry are told apart by it.
#[inline]
fn mark(name: &[u8]) -> u64 {
    1 << ((usize::from(name.first().copied().unwrap_or_default()) + 7 * name.len()) % 64)
}

fn name_of(name: &Bound<'_, PyString>) -> Result<Name> {
    if let Ok(text) = name.to_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let encode = intern!(name.py(), "encode");
    Ok(name.call_method1(encode, ("utf-8", "surrogatepass"))?.extract()?)
}

/// The Python string of a child's name.
pub(super) fn python_name<'py>(py: Python<'py>, name: &[u8]) -> Result<Bound<'py, PyString>> {
    if let Ok(text) = std::str::from_utf8(name) {
        return Ok(PyString::new(py, text));
    }
    let decoded =
        PyBytes::new(py, name).call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"))?;
    Ok(decoded.cast_into::<PyString>().map_err(PyErr::from)?)
}
