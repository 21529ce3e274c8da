//! The two ends of a call: what a provider is asked, and what a caller is answered.
//!
//! Arguments and results are bytes here; whoever dispatches runs the function.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pymq::rpc;
use pymq::wire::Outcome;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::connection::Connection;
use crate::error::bad_value;
use crate::intake::source::Source;
use crate::metadata::Metadata;
use crate::operation::Operation;
use crate::this_process::ThisProcess;

/// An exposed function, to be attached to an `Intake`.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Provider {
    source: ThisProcess<Arc<Source>>,
    function: String,
    id: String,
}

impl Provider {
    /// Its calls are read by `seat`, if any, before anything else happens.
    pub(crate) fn new(
        connection: Arc<Connection>,
        provider: rpc::Provider,
        seat: Option<impl FnOnce(&Arc<Source>)>,
    ) -> Self {
        let (function, id) = (provider.function().to_owned(), provider.id().to_string());
        let source = Source::calls(connection, provider);
        seat.into_iter().for_each(|seat| seat(&source));
        Self { source: ThisProcess::new(source), function, id }
    }

    pub(crate) fn source(&self) -> PyResult<&Arc<Source>> {
        self.source.get()
    }
}

#[pymethods]
impl Provider {
    #[getter]
    fn function(&self) -> &str {
        &self.function
    }

    #[getter]
    fn id(&self) -> &str {
        &self.id
    }

    /// Unexposes the function; requests that have arrived can still be taken from its intake.
    fn end(&self) -> PyResult<Operation> {
        Ok(self.source()?.end())
    }
}

/// One request; dropped unanswered it is answered with an error.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Call {
    native: ThisProcess<Request>,
}

struct Request {
    /// Gone once it is answered.
    call: Mutex<Option<rpc::Call>>,
    /// A call that runs keeps its bus.
    _connection: Arc<Connection>,
}

impl Call {
    pub(crate) fn new(connection: Arc<Connection>, call: rpc::Call) -> Self {
        Self {
            native: ThisProcess::new(Request {
                call: Mutex::new(Some(call)),
                _connection: connection,
            }),
        }
    }

    /// Looks at the call, while it is not answered.
    fn look<T>(&self, at: impl FnOnce(&rpc::Call) -> T) -> PyResult<T> {
        let call = self.native.get()?.call.lock().unwrap_or_else(PoisonError::into_inner);
        call.as_ref().map(at).ok_or_else(|| bad_value("this call was answered already"))
    }
}

#[pymethods]
impl Call {
    #[getter]
    fn args<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.look(|call| call.arguments().positional.clone())?))
    }

    #[getter]
    fn kwargs<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.look(|call| call.arguments().keywords.clone())?))
    }

    #[getter]
    fn types<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(optional(py, self.look(|call| call.arguments().types.clone())?.as_ref()))
    }

    /// What the caller says beside the arguments.
    #[getter]
    fn metadata(&self) -> PyResult<Metadata> {
        self.look(|call| Metadata::from(call.metadata().clone()))
    }

    /// How long the caller still waits, in seconds; `None` where it has not said.
    #[getter]
    fn left(&self) -> PyResult<Option<f64>> {
        self.look(|call| call.left().map(|left| left.as_secs_f64()))
    }

    /// Whether the caller has stopped waiting.
    #[getter]
    fn cancelled(&self) -> PyResult<bool> {
        let call = self.native.get()?.call.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(call.as_ref().is_some_and(rpc::Call::is_cancelled))
    }

    /// Sends the result, or the arguments of the error if it failed; does not wait.
    #[pyo3(signature = (value, type_name, types=None, failed=false, traceback=None))]
    fn answer(
        &self,
        value: &[u8],
        type_name: String,
        types: Option<&[u8]>,
        failed: bool,
        traceback: Option<String>,
    ) -> PyResult<()> {
        let call = self.native.get()?.call.lock().unwrap_or_else(PoisonError::into_inner).take();
        let call = call.ok_or_else(|| bad_value("this call was answered already"))?;
        let mut outcome = Outcome::result(Bytes::copy_from_slice(value), type_name);
        outcome.types = types.map(Bytes::copy_from_slice);
        outcome.failed = failed;
        outcome.traceback = traceback;
        call.answer(outcome);
        Ok(())
    }
}

/// What one provider answered.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Reply(rpc::Reply);

impl From<rpc::Reply> for Reply {
    fn from(reply: rpc::Reply) -> Self {
        Self(reply)
    }
}

#[pymethods]
impl Reply {
    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.outcome.value)
    }

    #[getter]
    fn type_name(&self) -> &str {
        &self.0.outcome.type_name
    }

    #[getter]
    fn types<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        optional(py, self.0.outcome.types.as_ref())
    }

    /// Whether the function failed; then `value` holds its error's arguments.
    #[getter]
    fn failed(&self) -> bool {
        self.0.outcome.failed
    }

    /// Where the function failed, in its own side's words.
    #[getter]
    fn traceback(&self) -> Option<&str> {
        self.0.outcome.traceback.as_deref()
    }

    #[getter]
    fn provider(&self) -> Option<String> {
        self.0.provider.map(|id| id.to_string())
    }
}

/// A provider that did not answer.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Missing(rpc::Missing);

impl From<rpc::Missing> for Missing {
    fn from(missing: rpc::Missing) -> Self {
        Self(missing)
    }
}

#[pymethods]
impl Missing {
    #[getter]
    fn provider(&self) -> Option<String> {
        self.0.provider.map(|id| id.to_string())
    }

    /// Whether it died; otherwise it only took too long.
    #[getter]
    fn lost(&self) -> bool {
        self.0.lost
    }
}

fn optional<'py>(py: Python<'py>, bytes: Option<&Bytes>) -> Option<Bound<'py, PyBytes>> {
    bytes.map(|bytes| PyBytes::new(py, bytes))
}
