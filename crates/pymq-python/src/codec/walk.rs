//! Going through collections that other code may change meanwhile, without counting references.
//!
//! Entries and elements are lent by their collection: until Python code runs they are there, and
//! afterwards they must be asked for again. Nothing here writes.
#![allow(unsafe_code)] // Measured: a tenth of the encoder's time. Argued at each place.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};
use pyo3::{Borrowed, ffi};

use super::fault::{Fault, Result};

/// The entries of a dict that other code may change meanwhile: PyO3's own iterator would panic.
pub(super) struct Entries<'a, 'py> {
    dict: &'a Bound<'py, PyDict>,
    before: ffi::Py_ssize_t,
    position: ffi::Py_ssize_t,
    size: usize,
}

impl<'a, 'py> Entries<'a, 'py> {
    pub(super) fn new(dict: &'a Bound<'py, PyDict>) -> Self {
        Self { dict, before: 0, position: 0, size: dict.len() }
    }

    pub(super) fn next(&mut self) -> Result<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
        self.check()?;
        // SAFETY: both are made references of our own at once.
        let entry = unsafe { self.next_borrowed() };
        Ok(entry.map(|(key, value)| (key.to_owned(), value.to_owned())))
    }

    /// To be called when Python code has run.
    pub(super) fn check(&self) -> Result<()> {
        if self.dict.len() == self.size { Ok(()) } else { Err(changed()) }
    }

    /// The last entry once more.
    pub(super) fn again(&mut self) -> Result<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
        self.position = self.before;
        self.next()?.ok_or_else(changed)
    }

    /// The next entry without counting references, and without a look at whether the dict was changed.
    ///
    /// # Safety
    ///
    /// The entry is the dict's: it may be used until Python code runs, which can change the dict.
    #[inline]
    pub(super) unsafe fn next_borrowed(
        &mut self,
    ) -> Option<(Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)> {
        self.before = self.position;
        let (mut key, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the dict is alive and the GIL is held; a dict that was changed between two calls
        // gives other entries, never invalid ones.
        let found = unsafe {
            ffi::PyDict_Next(self.dict.as_ptr(), &mut self.position, &mut key, &mut value)
        };
        if found == 0 {
            return None;
        }
        let py = self.dict.py();
        // SAFETY: both are not null where an entry was found; how long they live is the caller's
        // promise.
        Some(unsafe { (Borrowed::from_ptr(py, key), Borrowed::from_ptr(py, value)) })
    }
}

/// What holds a sequence's elements.
pub(super) enum Elements<'a, 'py> {
    List(&'a Bound<'py, PyList>),
    Tuple(&'a Bound<'py, PyTuple>),
    Collected(&'a [Bound<'py, PyAny>]),
}

impl<'a, 'py> Elements<'a, 'py> {
    /// A list may shrink while Python code runs for one of its elements.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::List(list) => list.len(),
            Self::Tuple(tuple) => tuple.len(),
            Self::Collected(items) => items.len(),
        }
    }

    /// An element that may have gone meanwhile.
    pub(super) fn get(&self, index: usize) -> Option<Bound<'py, PyAny>> {
        if index >= self.len() {
            return None;
        }
        // SAFETY: the length has just been looked at.
        Some(unsafe { self.get_borrowed(index) }.to_owned())
    }

    /// An element without counting references.
    ///
    /// # Safety
    ///
    /// No Python code has run since `len` was greater than `index`, and the element is used only
    /// until some does.
    #[inline]
    pub(super) unsafe fn get_borrowed(&self, index: usize) -> Borrowed<'a, 'py, PyAny> {
        match self {
            Self::List(list) => {
                // SAFETY: the index is within the list, so the item is not null; how long it
                // lives is the caller's promise.
                unsafe {
                    let item = ffi::PyList_GetItem(list.as_ptr(), index as ffi::Py_ssize_t);
                    Borrowed::from_ptr(list.py(), item)
                }
            }
            Self::Tuple(tuple) => {
                // SAFETY: as above; and a tuple's items stay.
                unsafe {
                    let item = ffi::PyTuple_GetItem(tuple.as_ptr(), index as ffi::Py_ssize_t);
                    Borrowed::from_ptr(tuple.py(), item)
                }
            }
            Self::Collected(items) => items[index].as_borrowed(),
        }
    }
}

pub(super) fn changed() -> Fault {
    Fault::new("changed while it was encoded; send a copy, or hold a lock")
}
