//! The last step of a call that must not be parted from its caller.
//!
//! CPython runs signal handlers, and raises what they raise, after every call of a native function: what
//! such a function returned is gone then, and nobody knows. It runs none after an attribute was read,
//! nor when a function of Python's returns (since 3.11, where it is called plainly). So a native call
//! gives a `LastStep`, and a function of Python's returns its `result`: until that is read nothing has
//! happened, and once it is read the caller has it.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

type Step = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A step that is done when its result is read; dropped before, it never happens.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct LastStep {
    /// The process that it was made in; its maker knows it, and asking the system takes as long as a step.
    process: u32,
    step: Mutex<Option<Step>>,
}

impl LastStep {
    pub(crate) fn new(
        process: u32,
        step: impl FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self {
        let step: Step = Box::new(step);
        Self { process, step: Mutex::new(Some(step)) }
    }
}

#[pymethods]
impl LastStep {
    /// Does the step, and gives what the call returns.
    #[getter]
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        // Nothing of others runs under the lock, so a poisoned one is as good as any.
        let step = self.step.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(step) = step else {
            return Err(PyRuntimeError::new_err("this step was done already; make another call"));
        };
        step(py)
    }
}

impl Drop for LastStep {
    fn drop(&mut self) {
        let step = self.step.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if step.is_some() && self.process != std::process::id() {
            // A forked child's copy: what it holds is the parent's to give back.
            std::mem::forget(step);
        }
    }
}
