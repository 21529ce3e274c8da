//! The names of a class's attributes as they stand in JSON, each made once.
//!
//! They are those of the class's first object that was sent. Others may have other attributes, or
//! the same in another order: a name that is not found here is written from its text.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::exact::{exact, utf8};
use super::node::ChildKey;
use super::scalar;

/// As many, and as long, names are kept for a class: an object may be used as a dict.
const MOST_NAMES: usize = 64;
const LONGEST_NAME: usize = 64;

/// One attribute's name.
#[derive(Debug)]
pub(super) struct Name {
    /// Held, so no other object has its address.
    key: Py<PyString>,
    /// `,"name":`
    member: Box<[u8]>,
}

impl Name {
    /// None where more than its text is to be looked at.
    fn new(key: &Bound<'_, PyString>) -> Option<Self> {
        let text = utf8(key)?;
        if is_special(text) || text.len() > LONGEST_NAME || ChildKey::Name(text).is_escaped() {
            return None;
        }
        let mut member = vec![b','];
        scalar::string(&mut member, text);
        member.push(b':');
        Some(Self { key: key.clone().unbind(), member: member.into() })
    }

    /// As it stands in an object, with a comma unless it is the first.
    #[inline]
    pub(super) fn member(&self, is_first: bool) -> &[u8] {
        &self.member[usize::from(is_first)..]
    }

    pub(super) fn text(&self, py: Python<'_>) -> String {
        self.key.bind(py).to_string_lossy().into_owned()
    }

    #[inline]
    pub(super) fn child(&self) -> ChildKey<'_> {
        ChildKey::Json(&self.member[1..self.member.len() - 1])
    }
}

/// The names of a class.
#[derive(Debug, Default)]
pub(super) struct Names(OnceLock<Box<[Name]>>);

impl Names {
    /// Those that are known by now, the first expected first.
    #[inline]
    pub(super) fn expected(&self) -> Expected<'_> {
        Expected(self.0.get().map_or(&[], |names| names))
    }

    /// Keeps the names of an object, if it is the first. Nobody waits for another who does so: Python
    /// code may run meanwhile, and what it encodes may be of this class.
    #[inline]
    pub(super) fn learn(&self, attributes: &Bound<'_, PyDict>) {
        if self.0.get().is_none() {
            let keys = attributes.keys();
            let keys = keys.iter().take(MOST_NAMES);
            let names = keys.filter_map(|key| Name::new(exact(&key)?)).collect();
            // Another may have been the first by now.
            let _ = self.0.set(names);
        }
    }
}

/// The names that have not been met in an object.
pub(super) struct Expected<'a>(&'a [Name]);

impl<'a> Expected<'a> {
    pub(super) const NONE: Self = Self(&[]);

    /// The name of this key, if it is expected.
    #[inline]
    pub(super) fn take(&mut self, key: &Bound<'_, PyAny>) -> Option<&'a Name> {
        let at = self.0.iter().position(|name| name.key.as_ptr() == key.as_ptr())?;
        let name = &self.0[at];
        self.0 = &self.0[at + 1..];
        Some(name)
    }
}

/// Names with underscores may be Python's or the wire's own.
pub(super) fn is_special(name: &str) -> bool {
    name.starts_with("__")
}
