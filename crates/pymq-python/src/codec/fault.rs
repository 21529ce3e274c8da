//! What goes wrong inside a value, and where.
//!
//! A fault gathers its path while it travels outwards, so a message that is fine costs nothing.
//! It becomes a Python exception at the edge of the codec, never before.

use std::fmt::Write as _;

use pyo3::import_exception;
use pyo3::prelude::*;

import_exception!(pymq.exceptions, DecodeError);
import_exception!(pymq.exceptions, EncodeError);

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// One step from a container to what it holds.
#[derive(Debug)]
pub(super) enum Step {
    Field(String),
    Index(usize),
    Key(String),
}

#[derive(Debug)]
enum Reason {
    /// Raised by Python itself and not ours to rename (an interrupt, a lack of memory).
    Python(PyErr),
    Refused {
        text: String,
        cause: Option<PyErr>,
    },
}

/// Boxed, because results carry it through every level of a value.
#[derive(Debug)]
pub(super) struct Fault(Box<(Reason, Vec<Step>)>);

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Self(Box::new((Reason::Python(error), Vec::new())))
    }
}

impl Fault {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(Box::new((Reason::Refused { text: text.into(), cause: None }, Vec::new())))
    }

    /// A refusal that an ordinary exception explains; anything graver stays what it is.
    pub(super) fn caused(py: Python<'_>, text: impl FnOnce(&str) -> String, cause: PyErr) -> Self {
        if !cause.is_instance_of::<pyo3::exceptions::PyException>(py)
            || cause.is_instance_of::<pyo3::exceptions::PyMemoryError>(py)
        {
            return cause.into();
        }
        let text = text(&cause.to_string());
        Self(Box::new((Reason::Refused { text, cause: Some(cause) }, Vec::new())))
    }

    pub(super) fn at(mut self, step: Step) -> Self {
        self.0.1.push(step);
        self
    }

    /// Is this the value's fault, so that another reading of it may succeed?
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.0.0, Reason::Refused { .. })
    }

    /// The same place, another reason.
    pub(super) fn because(mut self, text: &str) -> Self {
        self.0.0 = Reason::Refused { text: text.to_owned(), cause: None };
        self
    }

    /// Drops the steps of the innermost `levels`.
    pub(super) fn cut(&mut self, levels: usize) {
        self.0.1.drain(..levels.min(self.0.1.len()));
    }

    pub(super) fn into_encode_error(self, py: Python<'_>, root: &str) -> PyErr {
        self.into_error(py, root, EncodeError::new_err::<String>)
    }

    pub(super) fn into_decode_error(self, py: Python<'_>, root: &str) -> PyErr {
        self.into_error(py, root, DecodeError::new_err::<String>)
    }

    fn into_error(self, py: Python<'_>, root: &str, raise: fn(String) -> PyErr) -> PyErr {
        let (reason, steps) = *self.0;
        let (text, cause) = match reason {
            Reason::Python(error) => return error,
            Reason::Refused { text, cause } => (text, cause),
        };
        let error = raise(format!("{}: {text}", path(root, &steps)));
        error.set_cause(py, cause);
        error
    }
}

fn path(root: &str, steps: &[Step]) -> String {
    let mut path = root.to_owned();
    for step in steps.iter().rev() {
        match step {
            Step::Field(name) => {
                path.push('.');
                path.push_str(name);
            }
            Step::Index(index) => {
                write!(path, "[{index}]").expect("writing to a String does not fail");
            }
            Step::Key(key) => {
                write!(path, "[{key:?}]").expect("writing to a String does not fail");
            }
        }
    }
    path
}

/// The name that people know a class by, for messages.
pub(super) fn type_name(value: &Bound<'_, PyAny>) -> String {
    let class = value.get_type();
    match class.fully_qualified_name() {
        Ok(name) => match name.to_string_lossy().as_ref() {
            "_thread.lock" => "threading.Lock".to_owned(),
            "_thread.RLock" => "threading.RLock".to_owned(),
            name => name.to_owned(),
        },
        Err(_) => "an object without a type name".to_owned(),
    }
}
