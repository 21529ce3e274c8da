//! What a message says of itself beside its value, as Python holds it.
//!
//! How it travels is the library's; here it is put on and taken off bytes.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pymq::{ByteDelivery, wire};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::error::{PyError, bad_value};

/// Headers, an identity and the time of sending of one message.
#[pyclass(frozen, module = "pymq._pymq")]
#[derive(Clone)]
pub(crate) struct Metadata(wire::Metadata);

impl Metadata {
    /// What an item says of itself.
    pub(crate) fn of(delivery: &ByteDelivery) -> Option<Self> {
        wire::Metadata::detach(delivery.payload().clone()).0.map(Self)
    }

    pub(crate) fn inner(&self) -> &wire::Metadata {
        &self.0
    }
}

impl From<wire::Metadata> for Metadata {
    fn from(metadata: wire::Metadata) -> Self {
        Self(metadata)
    }
}

#[pymethods]
impl Metadata {
    /// `headers` for the reader alone, `passed` for the calls made from within it as well; `sent` in
    /// seconds since 1970.
    #[new]
    #[pyo3(signature = (headers=None, passed=None, id=None, sent=None))]
    fn new(
        headers: Option<BTreeMap<String, String>>,
        passed: Option<BTreeMap<String, String>>,
        id: Option<String>,
        sent: Option<f64>,
    ) -> PyResult<Self> {
        let mut metadata = wire::Metadata::default();
        for (name, value) in headers.unwrap_or_default() {
            metadata = metadata.header(name, value);
        }
        for (name, value) in passed.unwrap_or_default() {
            metadata = metadata.passed(name, value);
        }
        if let Some(id) = id {
            metadata = metadata.id(id);
        }
        if let Some(sent) = sent {
            let since = Duration::try_from_secs_f64(sent)
                .ok()
                .and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
                .ok_or_else(|| bad_value("'sent' is no time since 1970"))?;
            metadata = metadata.sent_at(since);
        }
        Ok(Self(metadata))
    }

    /// All headers, those that are passed on too.
    #[getter]
    fn headers(&self) -> BTreeMap<String, String> {
        self.0.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// Those that calls made from within carry on.
    #[getter]
    fn passed(&self) -> BTreeMap<String, String> {
        self.0.passed_on().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[getter]
    fn id(&self) -> Option<&str> {
        self.0.identity()
    }

    /// In seconds since 1970, by the sender's clock.
    #[getter]
    fn sent(&self) -> Option<f64> {
        let since = self.0.sent()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(since.as_secs_f64())
    }

    /// A message with this in it.
    fn attach<'py>(&self, py: Python<'py>, payload: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let message = self.0.attach(Bytes::copy_from_slice(payload)).map_err(PyError::from)?;
        Ok(PyBytes::new(py, &message))
    }

    /// The same if every peer can read that; else nothing.
    fn attach_if_readable<'py>(
        &self,
        py: Python<'py>,
        payload: &[u8],
    ) -> Option<Bound<'py, PyBytes>> {
        let message = self.0.attach_if_readable(&Bytes::copy_from_slice(payload))?;
        Some(PyBytes::new(py, &message))
    }

    /// What a message says of itself, and the message without it.
    #[staticmethod]
    fn detach<'py>(
        py: Python<'py>,
        message: Bound<'py, PyBytes>,
    ) -> (Option<Self>, Bound<'py, PyBytes>) {
        let bytes = message.as_bytes();
        if !wire::Metadata::may_be_in(bytes) {
            return (None, message);
        }
        match wire::Metadata::detach(Bytes::copy_from_slice(bytes)) {
            (Some(metadata), rest) => (Some(Self(metadata)), PyBytes::new(py, &rest)),
            (None, _) => (None, message),
        }
    }
}
