//! Dead letters as Python holds them, and which of them are meant.

use std::time::SystemTime;

use pymq::Failure;
use pymq::transport::{DeadLetter, Letters};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A dead letter.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Letter(DeadLetter);

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        Self(letter)
    }
}

#[pymethods]
impl Letter {
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.payload)
    }

    /// What kind of end it had.
    #[getter]
    fn reason(&self) -> &'static str {
        self.0.failure.reason.name()
    }

    /// The error's type and its words, and where it failed; empty where that is not known.
    #[getter]
    fn failure(&self) -> (&str, &str, &str) {
        let Failure { error, words, origin, .. } = &self.0.failure;
        (error, words, origin)
    }

    #[getter]
    fn deliveries(&self) -> Option<u32> {
        self.0.deliveries
    }

    /// When it died, in seconds since 1970.
    #[getter]
    fn died(&self) -> Option<f64> {
        let since = self.0.died?.duration_since(SystemTime::UNIX_EPOCH);
        Some(since.unwrap_or_default().as_secs_f64())
    }
}

/// Some of the dead letters.
#[derive(FromPyObject)]
pub(crate) enum Which<'py> {
    Oldest(usize),
    These(Vec<PyRef<'py, Letter>>),
}

impl Which<'_> {
    pub(crate) fn letters(&self) -> Letters {
        match self {
            Self::Oldest(limit) => Letters::Oldest(*limit),
            Self::These(letters) => {
                Letters::These(letters.iter().map(|letter| letter.0.receipt.clone()).collect())
            }
        }
    }
}
