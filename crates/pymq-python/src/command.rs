//! The program `pymq`, for the package's console script.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs a command line, the program's name first; gives the exit code.
#[pyfunction]
pub(crate) fn main(py: Python<'_>, words: Vec<OsString>) -> u8 {
    py.detach(|| pymq_cli::main(words))
}
