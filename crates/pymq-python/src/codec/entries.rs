//! Entries by name: those of dicts, and the attributes of objects.
//!
//! The one invariant: an entry that is borrowed is not touched again after Python code has run; it is
//! fetched anew.
#![allow(unsafe_code)] // What `walk` lends is used with care, as argued there and here.

use pymq::wire::tags;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::encode::Encoder;
use super::fault::{Result, Step};
use super::node::{Branch, ChildKey};
use super::walk::{Entries, changed};
use super::{keys, scalar};

impl<'py> Encoder<'_, 'py> {
    pub(super) fn dict(&mut self, dict: &Bound<'py, PyDict>, own: Option<&[u8]>) -> Result<bool> {
        self.enter(dict.as_any())?;
        // Known before anything is written: what is written twice at each level never ends.
        let node = if has_text_keys(dict)? {
            self.text_dict(dict, own)?
        } else {
            keys::dict(self, dict, own)?
        };
        self.leave();
        Ok(node)
    }

    fn text_dict(&mut self, dict: &Bound<'py, PyDict>, own: Option<&[u8]>) -> Result<bool> {
        let out = self.out.len();
        let mut branch = Branch::shared(&self.types);
        self.out.push(b'{');
        let mut entries = Entries::new(dict);
        while let Some((key, value)) = self.next_entry(&mut entries, &mut branch, out + 1)? {
            let key = key.cast_exact::<PyString>().map_err(|_| changed())?;
            self.entry(&mut branch, out + 1, key, &value, Step::Key)?;
        }
        self.out.push(b'}');
        Ok(branch.close(&mut self.types, own))
    }

    /// Writes entries as long as they are simple, and gives the first that is not.
    fn next_entry(
        &mut self,
        entries: &mut Entries<'_, 'py>,
        branch: &mut Branch,
        start: usize,
    ) -> Result<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        loop {
            let out = self.out.len();
            // SAFETY: `simple_entry` runs no Python code unless it fails, and then the borrowed
            // entry is not touched again.
            let Some((key, value)) = (unsafe { entries.next_borrowed() })? else {
                return Ok(None);
            };
            if !self.simple_entry(branch, start, &key, &value) {
                self.out.truncate(out);
                return entries.again().map(Some);
            }
        }
    }

    fn simple_entry(
        &mut self,
        branch: &mut Branch,
        start: usize,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
    ) -> bool {
        let Ok(key) = key.cast_exact::<PyString>() else { return false };
        let Ok(name) = key.to_str() else { return false };
        // Names with underscores may be special.
        if name.starts_with("__") {
            return false;
        }
        if self.out.len() > start {
            self.out.push(b',');
        }
        scalar::string(&mut self.out, name);
        self.out.push(b':');
        let written = self.simple(value);
        if written && !value.is_none() {
            branch.plain(&mut self.types, ChildKey::Name(name));
        }
        written
    }

    /// Writes `"key":value`, with a comma unless it is the first behind `start`.
    fn entry(
        &mut self,
        branch: &mut Branch,
        start: usize,
        key: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
        step: fn(String) -> Step,
    ) -> Result<()> {
        if self.out.len() > start {
            self.out.push(b',');
        }
        let from = self.out.len();
        self.text(key)?;
        let name;
        let child = match key.to_str() {
            Ok(name) => ChildKey::Name(name),
            Err(_) => {
                name = self.out[from..].to_vec();
                ChildKey::Json(&name)
            }
        };
        self.out.push(b':');
        self.child(branch, child, value)
            .map_err(|fault| fault.at(step(key.to_string_lossy().into_owned())))
    }

    pub(super) fn object(
        &mut self,
        value: &Bound<'py, PyAny>,
        dicts: &[Py<PyString>],
        slots: &[Py<PyString>],
        own: Option<&[u8]>,
    ) -> Result<bool> {
        self.enter(value)?;
        let mut branch = Branch::named(&self.types);
        self.out.push(b'{');
        let start = self.out.len();
        for name in dicts {
            let attributes = value.getattr(name.bind(self.py))?;
            let Ok(attributes) = attributes.cast::<PyDict>() else { continue };
            let mut entries = Entries::new(attributes);
            while let Some((key, value)) = self.next_entry(&mut entries, &mut branch, start)? {
                if let Ok(key) = key.cast::<PyString>()
                    && !is_dunder(key)
                {
                    self.clashes |= self.levels.len() == 1 && is_reserved(key);
                    self.entry(&mut branch, start, key, &value, Step::Field)?;
                }
            }
        }
        for name in slots {
            let name = name.bind(self.py);
            if let Some(value) = value.getattr_opt(name)? {
                self.entry(&mut branch, start, name, &value, Step::Field)?;
            }
        }
        self.out.push(b'}');
        self.leave();
        Ok(branch.close(&mut self.types, own))
    }
}

fn has_text_keys(dict: &Bound<'_, PyDict>) -> Result<bool> {
    let mut entries = Entries::new(dict);
    // SAFETY: looking at a key's type runs no Python code.
    while let Some((key, _)) = unsafe { entries.next_borrowed() }? {
        if key.cast_exact::<PyString>().is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `__class__` and its like belong to the class, not to the data.
pub(super) fn is_dunder(name: &Bound<'_, PyString>) -> bool {
    name.to_str().is_ok_and(|name| name.len() > 4 && name.starts_with("__") && name.ends_with("__"))
}

/// Whether it is a key of the wire's own.
fn is_reserved(name: &Bound<'_, PyString>) -> bool {
    name.to_str().is_ok_and(|name| name.starts_with("__") && tags::KEYS.contains(&name))
}
