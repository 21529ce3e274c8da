//! What goes wrong inside a value, and where.
//!
//! A fault gathers its path while it travels outwards, so a message that is fine costs nothing.
//! It becomes a Python exception at the edge of the codec, never before. The exception has two
//! texts: its own, which may show a value, shortened; and one for logs, which tells places and types
//! and nothing that a message holds.

use std::borrow::Cow;

use pyo3::exceptions::{PyException, PyMemoryError};
use pyo3::prelude::*;
use pyo3::{import_exception, intern};

import_exception!(pymq.exceptions, DecodeError);
import_exception!(pymq.exceptions, EncodeError);

pub(super) type Result<T> = std::result::Result<T, Fault>;

/// One step from a container to what it holds.
#[derive(Debug)]
pub(super) enum Step {
    Field(String),
    Index(usize),
    Key(String),
    /// An attribute that only the message knows of.
    Beside(String),
}

#[derive(Debug)]
enum Reason {
    /// Raised by a signal's handler meanwhile: not the value's fault, whatever it is.
    Signal(PyErr),
    /// Raised by Python itself and not ours to rename (an interrupt, a lack of memory).
    Python(PyErr),
    Refused {
        text: String,
        /// The same for logs, if `text` shows what the message holds.
        redacted: Option<String>,
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
        Self::refused(text.into(), None, None)
    }

    /// A text that shows what the message holds, and another for logs.
    pub(super) fn showing(text: String, redacted: impl Into<String>) -> Self {
        Self::refused(text, Some(redacted.into()), None)
    }

    /// A refusal that an ordinary exception explains; anything graver stays what it is.
    pub(super) fn caused(py: Python<'_>, text: impl Fn(&str) -> String, cause: PyErr) -> Self {
        if !is_ordinary(py, &cause) {
            return cause.into();
        }
        let words = words(py, &cause);
        let redacted = text(&kind(py, &cause));
        // Its words are cut short; so is what a traceback would print.
        let cause = (words.len() <= MOST_WORDS).then_some(cause);
        Self::refused(text(&shortened(&words, MOST_WORDS)), Some(redacted), cause)
    }

    pub(super) fn signal(error: PyErr) -> Self {
        Self(Box::new((Reason::Signal(error), Vec::new())))
    }

    fn refused(text: String, redacted: Option<String>, cause: Option<PyErr>) -> Self {
        Self(Box::new((Reason::Refused { text, redacted, cause }, Vec::new())))
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
        self.0.0 = Reason::Refused { text: text.to_owned(), redacted: None, cause: None };
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
        let (text, redacted, cause) = match reason {
            Reason::Refused { text, redacted, cause } => (text, redacted, cause),
            // Code of a class was run on the way, and failed.
            Reason::Python(error) if is_ordinary(py, &error) => {
                let words = shortened(&words(py, &error), MOST_WORDS).into_owned();
                (words, Some(kind(py, &error)), Some(error))
            }
            Reason::Python(error) | Reason::Signal(error) => return error,
        };
        let redacted = redacted.as_ref().unwrap_or(&text);
        let redacted = format!("{}: {redacted}", path(root, &steps, redacted_step));
        let error = raise(format!("{}: {text}", path(root, &steps, step)));
        error.set_cause(py, cause);
        match error.value(py).setattr(intern!(py, "_redacted"), redacted) {
            Ok(()) => error,
            Err(failed) => failed,
        }
    }
}

/// As much of a value, a key or another exception is shown.
const MOST_WORDS: usize = 500;
const MOST_OF_A_KEY: usize = 60;
/// At either end of a path.
const MOST_STEPS: usize = 10;

/// Neither an interrupt nor a lack of memory, which are not ours to rename.
fn is_ordinary(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py) && !error.is_instance_of::<PyMemoryError>(py)
}

fn kind(py: Python<'_>, error: &PyErr) -> String {
    error.get_type(py).name().map_or_else(|_| "an error".to_owned(), |name| name.to_string())
}

/// What the exception says, if it can.
fn words(py: Python<'_>, error: &PyErr) -> String {
    let kind = kind(py, error);
    match error.value(py).str() {
        Ok(text) => format!("{kind}: {}", text.to_string_lossy()),
        Err(_) => kind,
    }
}

pub(super) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

fn path(root: &str, steps: &[Step], named: fn(&Step) -> String) -> String {
    let named = |steps: &[Step]| steps.iter().rev().map(named).collect::<String>();
    if steps.len() <= 2 * MOST_STEPS {
        return format!("{root}{}", named(steps));
    }
    let (inner, outer) = (&steps[..MOST_STEPS], &steps[steps.len() - MOST_STEPS..]);
    format!("{root}{} … {}", named(outer), named(inner))
}

fn step(step: &Step) -> String {
    match step {
        Step::Field(name) | Step::Beside(name) => format!(".{}", shortened(name, MOST_OF_A_KEY)),
        Step::Index(index) => format!("[{index}]"),
        Step::Key(key) => format!("[{:?}]", shortened(key, MOST_OF_A_KEY)),
    }
}

/// Keys and attributes that the class does not know are what the message holds.
fn redacted_step(at: &Step) -> String {
    match at {
        Step::Field(_) | Step::Index(_) => step(at),
        Step::Key(_) => "[…]".to_owned(),
        Step::Beside(_) => ".…".to_owned(),
    }
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
