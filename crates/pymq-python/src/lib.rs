//! The Python edge: the whole native API on one screen.
use pyo3::prelude::*;

/// Native core of the Python package `pymq`.
#[pymodule(gil_used = true)]
mod _pymq {}
