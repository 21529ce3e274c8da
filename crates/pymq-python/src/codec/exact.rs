//! Values of exactly one of Python's own classes, as cheap as they can be told and looked into.
//!
//! Nothing here counts references or makes errors: most values are tried as several classes before the
//! right one.
#![allow(unsafe_code)] // Measured: a fifth of the encoder's instructions. Argued at each place.

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyString};
use pyo3::{PyTypeInfo, ffi};

/// The value, if it is of this class and of none of its subclasses. A `cast_exact` that fails counts
/// a reference to the value's class, for its error.
#[inline]
pub(super) fn exact<'a, 'py, T: PyTypeInfo>(
    value: &'a Bound<'py, PyAny>,
) -> Option<&'a Bound<'py, T>> {
    if value.is_exact_instance_of::<T>() { value.cast_exact().ok() } else { None }
}

/// A string's text, which it keeps; none if it has lone surrogates.
#[inline]
pub(super) fn utf8<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a str> {
    let mut len: ffi::Py_ssize_t = 0;
    // SAFETY: what is given is UTF-8 of this length, and lives as long as the string. Without it an
    // error is set, which is taken away.
    unsafe {
        let bytes = ffi::PyUnicode_AsUTF8AndSize(text.as_ptr(), &mut len);
        if bytes.is_null() {
            ffi::PyErr_Clear();
            return None;
        }
        let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), len as usize);
        Some(std::str::from_utf8_unchecked(bytes))
    }
}

/// An integer of at most 64 bits. No Python code runs, as no error is made of a longer one.
#[inline]
pub(super) fn small_integer(number: &Bound<'_, PyInt>) -> Option<i64> {
    let mut overflow = 0;
    // SAFETY: it is an integer, so nothing is asked of it and no error is set.
    let number = unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &mut overflow) };
    (overflow == 0).then_some(number)
}
