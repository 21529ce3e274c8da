//! Errors, on their way to Python: one table from kinds to the classes of `pymq.exceptions`.
//!
//! The classes are Python's own and found by name when they are needed, so that raising one never
//! depends on the order of imports. What a remote function raised is no error here but a `Reply`.

use pymq::{Error, ErrorKind};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// A failure that Python is to see.
#[derive(Debug)]
pub(crate) enum PyError {
    /// The library's.
    Library(Error),
    /// The bus was closed while something waited, or before.
    Closed,
    /// An object of another process.
    Foreign { process: u32 },
    /// A task of ours panicked; the message went to stderr.
    Panicked,
}

impl PyError {
    /// Where its class lives, and what that is called.
    fn class(&self) -> (&'static str, &'static str) {
        const OURS: &str = "pymq.exceptions";
        let kind = match self {
            Self::Library(error) => error.kind(),
            Self::Closed | Self::Foreign { .. } => ErrorKind::Closed,
            Self::Panicked => ErrorKind::Server,
        };
        match kind {
            ErrorKind::Closed => (OURS, "ClosedError"),
            ErrorKind::Timeout => (OURS, "CallTimeoutError"),
            ErrorKind::NoSuchRemote => (OURS, "NoSuchRemoteError"),
            ErrorKind::Remote => (OURS, "RemoteInvocationError"),
            ErrorKind::ProviderLost => (OURS, "ProviderLostError"),
            ErrorKind::Decode => (OURS, "DecodeError"),
            ErrorKind::Encode => (OURS, "EncodeError"),
            ErrorKind::Unsupported => (OURS, "UnsupportedError"),
            ErrorKind::Config => (OURS, "ConfigError"),
            ErrorKind::Connection => (OURS, "ConnectionLostError"),
            ErrorKind::Ambiguous => (OURS, "OutcomeUnknownError"),
            ErrorKind::LeaseLost => (OURS, "LeaseLostError"),
            ErrorKind::ShutDown => (OURS, "ShutDown"),
            ErrorKind::Full => ("queue", "Full"),
            ErrorKind::Server => (OURS, "ServerError"),
            _ => (OURS, "PymqError"),
        }
    }

    fn message(&self) -> String {
        match self {
            Self::Library(error) => error.to_string(),
            Self::Closed => "the bus was closed; connect a new one".to_owned(),
            Self::Foreign { process } => {
                format!("this bus belongs to process {process}; connect a new one after fork")
            }
            Self::Panicked => "a task of the bus panicked; please report this".to_owned(),
        }
    }

    /// The error's arguments: as the original, failed calls name an error type first.
    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let type_name = match self {
            Self::Library(error) if error.kind() == ErrorKind::Timeout => "TimeoutError",
            Self::Library(error) if error.kind() == ErrorKind::ProviderLost => "ProviderLostError",
            _ => return (self.message(),).into_pyobject(py),
        };
        (type_name, self.message()).into_pyobject(py)
    }

    fn raise(&self, py: Python<'_>) -> PyResult<PyErr> {
        let (module, class) = self.class();
        let class = py.import(module)?.getattr(class)?;
        Ok(PyErr::from_value(class.call1(self.arguments(py)?)?))
    }
}

impl From<Error> for PyError {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

/// Called with the GIL held only: nothing but Python threads makes errors of Python.
impl From<PyError> for PyErr {
    fn from(error: PyError) -> Self {
        Python::try_attach(|py| error.raise(py).unwrap_or_else(|broken| broken))
            .unwrap_or_else(|| PyRuntimeError::new_err(error.message()))
    }
}

/// An argument that nobody can use.
pub(crate) fn bad_value(why: &'static str) -> PyErr {
    PyValueError::new_err(why)
}
