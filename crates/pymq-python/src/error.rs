//! Errors, on their way to Python: one table from kinds to the classes of `pymq.exceptions`.
//!
//! The classes are Python's own, found by name once, when the module is loaded: a daemon thread may
//! be ended while it runs Python code under a frame of ours, and Rust does not survive that, so
//! raising an error runs none. What a remote function raised is no error here but a `Reply`.

use pymq::{Error, ErrorKind};
use pyo3::exceptions::{PyRuntimeError, PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

const OURS: &str = "pymq.exceptions";

/// What is raised for what; for every other kind, the first.
const CLASSES: [(ErrorKind, &str, &str); 17] = [
    (ErrorKind::Lagged, OURS, "PymqError"),
    (ErrorKind::Closed, OURS, "ClosedError"),
    (ErrorKind::Timeout, OURS, "CallTimeoutError"),
    (ErrorKind::NoSuchRemote, OURS, "NoSuchRemoteError"),
    (ErrorKind::Remote, OURS, "RemoteInvocationError"),
    (ErrorKind::ProviderLost, OURS, "ProviderLostError"),
    (ErrorKind::Decode, OURS, "DecodeError"),
    (ErrorKind::Encode, OURS, "EncodeError"),
    (ErrorKind::Unsupported, OURS, "UnsupportedError"),
    (ErrorKind::Config, OURS, "ConfigError"),
    (ErrorKind::Connection, OURS, "ConnectionLostError"),
    (ErrorKind::Ambiguous, OURS, "OutcomeUnknownError"),
    (ErrorKind::LeaseLost, OURS, "LeaseLostError"),
    (ErrorKind::Busy, OURS, "ProviderBusyError"),
    (ErrorKind::Full, "queue", "Full"),
    (ErrorKind::ShutDown, OURS, "ShutDown"),
    (ErrorKind::Server, OURS, "ServerError"),
];

/// The classes of the table, in its order.
static FOUND: PyOnceLock<Vec<Py<PyType>>> = PyOnceLock::new();
/// `queue.Empty`, which is no failure of the library's.
static EMPTY: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Finds the classes.
///
/// # Errors
/// What importing their modules raises.
pub(crate) fn find_classes(py: Python<'_>) -> PyResult<()> {
    let find = |(_, module, name): &(ErrorKind, &str, &str)| {
        Ok(py.import(*module)?.getattr(*name)?.cast_into::<PyType>()?.unbind())
    };
    EMPTY.import(py, "queue", "Empty")?;
    FOUND.get_or_try_init(py, || CLASSES.iter().map(find).collect::<PyResult<_>>()).map(drop)
}

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
    /// A delivery whose lease was ended before.
    Settled,
    /// More was said to be done than was taken.
    NothingOpen,
    /// The caller's own limit of time for a wait was reached.
    TimedOut,
    /// What a signal handler raised while a thread waited.
    Interrupted(PyErr),
}

impl PyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Library(error) => error.kind(),
            Self::Closed | Self::Foreign { .. } => ErrorKind::Closed,
            Self::Panicked
            | Self::Settled
            | Self::NothingOpen
            | Self::TimedOut
            | Self::Interrupted(_) => ErrorKind::Server,
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
            Self::Settled => "this delivery was settled already".to_owned(),
            Self::NothingOpen => "task_done() called too many times".to_owned(),
            Self::TimedOut => "it was not done in time".to_owned(),
            Self::Interrupted(error) => error.to_string(),
        }
    }

    fn class<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyType>> {
        let row = CLASSES.iter().position(|(kind, ..)| *kind == self.kind()).unwrap_or_default();
        FOUND.get(py)?.get(row).map(|class| class.bind(py).clone())
    }
}

impl From<Error> for PyError {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

/// Made on threads of Python's only, which are attached already; nothing is called, nothing built.
impl From<PyError> for PyErr {
    fn from(error: PyError) -> Self {
        let error = match error {
            PyError::Interrupted(raised) => return raised,
            PyError::Settled | PyError::NothingOpen => {
                return PyValueError::new_err(error.message());
            }
            PyError::TimedOut => return PyTimeoutError::new_err(error.message()),
            other => other,
        };
        let message = error.message();
        let raised = Python::try_attach(|py| {
            let class = error.class(py)?;
            // As in the original, a failed call's error has the name of an error's type first.
            Some(match error.kind() {
                ErrorKind::Timeout => Self::from_type(class, ("TimeoutError", message.clone())),
                ErrorKind::ProviderLost => {
                    Self::from_type(class, ("ProviderLostError", message.clone()))
                }
                _ => Self::from_type(class, (message.clone(),)),
            })
        });
        raised.flatten().unwrap_or_else(|| PyRuntimeError::new_err(message))
    }
}

/// An argument that nobody can use.
pub(crate) fn bad_value(why: &'static str) -> PyErr {
    PyValueError::new_err(why)
}

/// What is raised where nothing came in time.
pub(crate) fn empty(py: Python<'_>) -> PyErr {
    match EMPTY.get(py) {
        Some(class) => PyErr::from_type(class.bind(py).clone(), ()),
        None => PyRuntimeError::new_err("empty"),
    }
}

/// Whether an error of Python's is that of one of these kinds.
pub(crate) fn is_of(py: Python<'_>, error: &PyErr, kinds: &[ErrorKind]) -> bool {
    let classes = CLASSES.iter().zip(FOUND.get(py).into_iter().flatten());
    classes
        .filter(|((kind, ..), _)| kinds.contains(kind))
        .any(|(_, class)| error.is_instance(py, class.bind(py)))
}
