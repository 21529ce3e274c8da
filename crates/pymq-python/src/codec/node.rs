//! The types tree: what the JSON shape of a value loses, by path.
//!
//! A node is a string (the tag of the value at this place) or an object. In an object, `=` is the
//! place's own tag, `*` the node of every child that has no entry of its own, and any other key is
//! a child's field name, dict key or index. Keys are users' data: one that reads `=` or `*`, or
//! starts with `/`, is written with one more `/` in front, so nobody's data can forge a tag.
//! A node never goes deeper than the value that it describes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::fault::{Fault, Result};
use super::scalar;

const OWN: &str = "=";
const EACH: &str = "*";
const ESCAPE: char = '/';

fn is_reserved(key: &str) -> bool {
    key == OWN || key == EACH || key.starts_with(ESCAPE)
}

// ---- writing

/// How a child is named in its parent's node.
#[derive(Clone, Copy)]
pub(super) enum ChildKey<'a> {
    Index(usize),
    Name(&'a str),
    /// A name with lone surrogates, as quoted JSON.
    Json(&'a [u8]),
}

/// The node of one container while its children are written to the end of a buffer.
pub(super) struct Branch {
    base: usize,
    shares: bool,
    open: bool,
    plain: bool,
    each: Option<(usize, usize)>,
}

/// Where a child's node begins, between `begin` and `end`.
pub(super) struct Mark {
    before: usize,
    start: usize,
}

impl Branch {
    /// For an object's fields, each of which has its own entry.
    pub(super) fn named(types: &[u8]) -> Self {
        Self { base: types.len(), shares: false, open: false, plain: false, each: None }
    }

    /// For a collection, where equal nodes of the children are written once.
    pub(super) fn shared(types: &[u8]) -> Self {
        Self { shares: true, ..Self::named(types) }
    }

    /// A child that needs no node: with a shared one about, it has to say so.
    pub(super) fn plain(&mut self, types: &mut Vec<u8>, key: ChildKey<'_>) {
        self.plain = true;
        if self.each.is_some() {
            write_key(types, b',', key);
            types.extend_from_slice(b"{}");
        }
    }

    pub(super) fn begin(&self, types: &mut Vec<u8>, key: ChildKey<'_>) -> Mark {
        let before = types.len();
        if self.may_share() {
            types.extend_from_slice(b"{\"*\":");
        } else {
            write_key(types, if self.open { b',' } else { b'{' }, key);
        }
        Mark { before, start: types.len() }
    }

    /// Keeps what was written since `begin` if it `is_node`, and only if it says something new.
    pub(super) fn end(
        &mut self,
        types: &mut Vec<u8>,
        key: ChildKey<'_>,
        mark: Mark,
        is_node: bool,
    ) {
        if !is_node {
            types.truncate(mark.before);
            return self.plain(types, key);
        }
        if self.may_share() {
            self.each = Some((mark.start, types.len()));
        } else if self.each.is_some_and(|(from, to)| types[from..to] == types[mark.start..]) {
            types.truncate(mark.before);
        }
        self.open = true;
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
                types.extend_from_slice(b",\"=\":");
                types.extend_from_slice(tag);
                types.push(b'}');
            }
        }
        true
    }

    fn may_share(&self) -> bool {
        self.shares && !self.open && !self.plain
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
        ChildKey::Name(name) if is_reserved(name) => {
            scalar::string(types, &format!("{ESCAPE}{name}"));
        }
        ChildKey::Name(name) => scalar::string(types, name),
        ChildKey::Json(name) if name.starts_with(b"\"/") => {
            types.extend_from_slice(b"\"/");
            types.extend_from_slice(&name[1..]);
        }
        ChildKey::Json(name) => types.extend_from_slice(name),
    }
    types.push(b':');
}

// ---- reading

/// A node as parsed.
#[derive(Clone, Default)]
pub(super) struct Node<'py> {
    pub(super) own: Option<Bound<'py, PyString>>,
    pub(super) each: Option<Bound<'py, PyAny>>,
    children: Option<Bound<'py, PyDict>>,
    reserved: usize,
}

impl<'py> Node<'py> {
    /// A place of which only the tag is known.
    pub(super) fn tagged(py: Python<'py>, tag: &str) -> Self {
        Self { own: Some(PyString::new(py, tag)), ..Self::default() }
    }

    pub(super) fn read(node: &Bound<'py, PyAny>) -> Result<Self> {
        if let Ok(tag) = node.cast_exact::<PyString>() {
            return Ok(Self { own: Some(tag.clone()), ..Self::default() });
        }
        let Ok(tree) = node.cast_exact::<PyDict>() else {
            return Err(Fault::new("malformed type tree: a node is a string or an object"));
        };
        let py = node.py();
        let own = match tree.get_item(intern!(py, "="))? {
            None => None,
            Some(tag) => Some(
                tag.cast_into_exact::<PyString>()
                    .map_err(|_| Fault::new("malformed type tree: a tag is a string"))?,
            ),
        };
        let each = tree.get_item(intern!(py, "*"))?;
        let reserved = usize::from(own.is_some()) + usize::from(each.is_some());
        let children = (tree.len() > reserved).then(|| tree.clone());
        Ok(Self { own, each, children, reserved })
    }

    pub(super) fn has_no_children(&self) -> bool {
        self.each.is_none() && self.children.is_none()
    }

    pub(super) fn without_own(&self) -> Self {
        Self { own: None, ..self.clone() }
    }

    pub(super) fn index(&self, py: Python<'py>, index: usize) -> Result<Self> {
        let entry = match &self.children {
            None => None,
            Some(children) => children.get_item(PyString::new(py, &index.to_string()))?,
        };
        self.entry_or_each(entry)
    }

    pub(super) fn name(&self, name: &Bound<'py, PyString>) -> Result<Self> {
        let Some(children) = &self.children else { return self.entry_or_each(None) };
        let entry = children.get_item(Self::key(name)?)?;
        self.entry_or_each(entry)
    }

    /// How many children have an entry of their own.
    pub(super) fn named_count(&self) -> usize {
        self.children.as_ref().map_or(0, |children| children.len() - self.reserved)
    }

    /// Is there an entry for this child itself?
    pub(super) fn names(&self, name: &Bound<'py, PyString>) -> Result<bool> {
        match &self.children {
            None => Ok(false),
            Some(children) => Ok(children.contains(Self::key(name)?)?),
        }
    }

    /// The children that have an entry of their own.
    pub(super) fn named(&self) -> Result<Vec<(Bound<'py, PyString>, Self)>> {
        let Some(children) = &self.children else { return Ok(Vec::new()) };
        let mut named = Vec::with_capacity(children.len());
        for (key, node) in children.iter() {
            let Ok(key) = key.cast_into::<PyString>() else { continue };
            let text = key.to_string_lossy();
            if text == OWN || text == EACH {
                continue;
            }
            let name = if text.starts_with(ESCAPE) {
                key.call_method1(intern!(key.py(), "removeprefix"), ("/",))?
                    .cast_into::<PyString>()
                    .expect("str.removeprefix gives a str")
            } else {
                key.clone()
            };
            named.push((name, Self::read(&node)?));
        }
        Ok(named)
    }

    fn key(name: &Bound<'py, PyString>) -> Result<Bound<'py, PyAny>> {
        if is_reserved(&name.to_string_lossy()) {
            return Ok(PyString::new(name.py(), "/").add(name)?);
        }
        Ok(name.clone().into_any())
    }

    fn entry_or_each(&self, entry: Option<Bound<'py, PyAny>>) -> Result<Self> {
        match entry.as_ref().or(self.each.as_ref()) {
            Some(node) => Self::read(node),
            None => Ok(Self::default()),
        }
    }
}
