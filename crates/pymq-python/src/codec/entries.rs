//! Entries by name: those of dicts, and the attributes of objects.
//!
//! The one invariant: an entry that is borrowed is not touched again after Python code has run; it is
//! fetched anew.
#![allow(unsafe_code)] // What `walk` lends is used with care, as argued there and here.

use pymq::wire::tags;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::encode::{Encoder, Tried};
use super::encoding::Attributes;
use super::exact::{exact, utf8};
use super::fault::{Result, Step};
use super::names::{Expected, Name, is_special};
use super::node::{Branch, ChildKey};
use super::walk::{Entries, changed};
use super::{keys, scalar};

impl<'py> Encoder<'_, 'py> {
    pub(super) fn dict(&mut self, dict: &Bound<'py, PyDict>, own: Option<&[u8]>) -> Result<bool> {
        self.enter(dict.as_any())?;
        let mark = self.out.len();
        let node = if let Some(node) = self.text_dict(dict, own)? {
            node
        } else {
            self.out.truncate(mark);
            keys::dict(self, dict, own)?
        };
        self.leave();
        Ok(node)
    }

    /// None if it turns out that not all keys are text. That is known before anything is written that
    /// holds others: what is written twice at each level never ends.
    fn text_dict(&mut self, dict: &Bound<'py, PyDict>, own: Option<&[u8]>) -> Result<Option<bool>> {
        let start = self.out.len() + 1;
        let mut branch = Branch::shared(&self.types);
        self.out.push(b'{');
        let (mut entries, mut names) = (Entries::new(dict), Expected::NONE);
        let mut is_known = false;
        while let Some((key, value)) =
            self.next_entry(&mut entries, &mut names, &mut branch, start)?
        {
            if !is_known && !has_text_keys(dict) {
                return Ok(None);
            }
            is_known = true;
            if !key.is_text() {
                return Err(changed());
            }
            self.entry(&mut branch, start, &key, &value, Step::Key)?;
        }
        self.out.push(b'}');
        Ok(Some(branch.close(&mut self.types, own)))
    }

    /// Writes entries as long as they are simple, and gives the first that is not.
    fn next_entry<'n>(
        &mut self,
        entries: &mut Entries<'_, 'py>,
        names: &mut Expected<'n>,
        branch: &mut Branch,
        start: usize,
    ) -> Result<Option<(Key<'n, 'py>, Bound<'py, PyAny>)>> {
        entries.check()?;
        loop {
            let out = self.out.len();
            // SAFETY: no Python code runs as long as entries are written; where it may have run, the
            // entry is fetched anew and not touched otherwise.
            let Some((key, value)) = (unsafe { entries.next_borrowed() }) else {
                return Ok(None);
            };
            let name = names.take(&key);
            let tried = match name {
                Some(name) => self.named_entry(branch, start, name, &value),
                None => self.simple_entry(branch, start, &key, &value),
            };
            let (key, value) = match tried {
                Tried::Written => continue,
                Tried::Left => {
                    (name.map_or_else(|| Key::Other(key.to_owned()), Key::Known), value.to_owned())
                }
                Tried::Failed => {
                    // Another one may stand there by now.
                    let (key, value) = entries.again()?;
                    (Key::Other(key), value)
                }
            };
            self.out.truncate(out);
            return Ok(Some((key, value)));
        }
    }

    #[inline]
    fn named_entry(
        &mut self,
        branch: &mut Branch,
        start: usize,
        name: &Name,
        value: &Bound<'py, PyAny>,
    ) -> Tried {
        self.out.extend_from_slice(name.member(self.out.len() == start));
        let tried = self.simple(value);
        if tried == Tried::Written && !value.is_none() {
            branch.plain(&mut self.types, name.child());
        }
        tried
    }

    fn simple_entry(
        &mut self,
        branch: &mut Branch,
        start: usize,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> Tried {
        let Some(key) = exact::<PyString>(key) else { return Tried::Left };
        let Some(name) = utf8(key) else { return Tried::Failed };
        if is_special(name) {
            return Tried::Left;
        }
        if self.out.len() > start {
            self.out.push(b',');
        }
        scalar::string(&mut self.out, name);
        self.out.push(b':');
        let tried = self.simple(value);
        if tried == Tried::Written && !value.is_none() {
            branch.plain(&mut self.types, ChildKey::Name(name));
        }
        tried
    }

    /// Writes `"key":value`, with a comma unless it is the first behind `start`.
    fn entry(
        &mut self,
        branch: &mut Branch,
        start: usize,
        key: &Key<'_, 'py>,
        value: &Bound<'py, PyAny>,
        step: fn(String) -> Step,
    ) -> Result<()> {
        let json;
        let child = match key {
            Key::Known(name) => {
                self.out.extend_from_slice(name.member(self.out.len() == start));
                name.child()
            }
            Key::Other(key) => {
                let key = key.cast::<PyString>().map_err(PyErr::from)?;
                if self.out.len() > start {
                    self.out.push(b',');
                }
                let from = self.out.len();
                self.text(key)?;
                let end = self.out.len();
                self.out.push(b':');
                if let Some(name) = utf8(key) {
                    ChildKey::Name(name)
                } else {
                    json = self.out[from..end].to_vec();
                    ChildKey::Json(&json)
                }
            }
        };
        self.child(branch, child, value).map_err(|fault| fault.at(step(key.text(self.py))))
    }

    pub(super) fn object(
        &mut self,
        value: &Bound<'py, PyAny>,
        attributes: &Attributes,
        own: Option<&[u8]>,
    ) -> Result<bool> {
        let Attributes { dicts, slots, names } = attributes;
        self.enter(value)?;
        let mut branch = Branch::named(&self.types);
        self.out.push(b'{');
        let start = self.out.len();
        let mut expected = names.expected();
        for name in dicts {
            let attributes = value.getattr(name.bind(self.py))?;
            let Ok(attributes) = attributes.cast::<PyDict>() else { continue };
            names.learn(attributes);
            let mut entries = Entries::new(attributes);
            while let Some((key, value)) =
                self.next_entry(&mut entries, &mut expected, &mut branch, start)?
            {
                if key.is_attribute() {
                    self.clashes |= self.levels.len() == 1 && key.is_reserved();
                    self.entry(&mut branch, start, &key, &value, Step::Field)?;
                }
            }
        }
        for name in slots {
            let name = name.bind(self.py);
            if let Some(value) = value.getattr_opt(name)? {
                let key = Key::Other(name.clone().into_any());
                self.entry(&mut branch, start, &key, &value, Step::Field)?;
            }
        }
        self.out.push(b'}');
        self.leave();
        Ok(branch.close(&mut self.types, own))
    }
}

/// The key of an entry that is not simple.
enum Key<'n, 'py> {
    Known(&'n Name),
    Other(Bound<'py, PyAny>),
}

impl Key<'_, '_> {
    fn is_text(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::Other(key) => key.is_exact_instance_of::<PyString>(),
        }
    }

    fn is_attribute(&self) -> bool {
        match self {
            Self::Known(_) => true,
            Self::Other(key) => key.cast::<PyString>().is_ok_and(|key| !is_dunder(key)),
        }
    }

    fn is_reserved(&self) -> bool {
        match self {
            Self::Known(_) => false,
            Self::Other(key) => key.cast::<PyString>().is_ok_and(is_reserved),
        }
    }

    fn text(&self, py: Python<'_>) -> String {
        match self {
            Self::Known(name) => name.text(py),
            Self::Other(key) => key
                .cast::<PyString>()
                .map_or_else(|_| String::new(), |key| key.to_string_lossy().into_owned()),
        }
    }
}
fn has_text_keys(dict: &Bound<'_, PyDict>) -> bool {
    let mut entries = Entries::new(dict);
    // SAFETY: looking at a key's type runs no Python code.
    while let Some((key, _)) = unsafe { entries.next_borrowed() } {
        if !key.is_exact_instance_of::<PyString>() {
            return false;
        }
    }
    true
}

/// `__class__` and its like belong to the class, not to the data.
pub(super) fn is_dunder(name: &Bound<'_, PyString>) -> bool {
    utf8(name).is_some_and(|name| name.len() > 4 && is_special(name) && name.ends_with("__"))
}

/// Whether it is a key of the wire's own.
fn is_reserved(name: &Bound<'_, PyString>) -> bool {
    utf8(name).is_some_and(|name| is_special(name) && tags::KEYS.contains(&name))
}
