//! The Python edge: the whole native API on one screen.
use pyo3::prelude::*;

mod codec;

/// Native core of the Python package `pymq`.
#[pymodule(gil_used = true)]
mod _pymq {
    #[pymodule_export]
    use crate::codec::{CallPlan, CodecCore, Encoding, Plan, forget_tags};
}
