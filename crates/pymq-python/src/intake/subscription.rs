//! The handle of a subscription.
//!
//! It reads nothing itself: an [`Intake`](crate::intake::Intake) that it is attached to does.

use std::sync::Arc;

use pymq::transport::{self, Filter};
use pyo3::prelude::*;

use crate::connection::Connection;
use crate::intake::source::Source;
use crate::operation::Operation;
use crate::this_process::ThisProcess;

/// A live subscription, to be attached to an `Intake`; `end` waits until the broker knows.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Subscription {
    source: ThisProcess<Arc<Source>>,
    name: String,
    pattern: bool,
}

impl Subscription {
    /// Its events are read by `seat`, if any, before anything else happens.
    pub(crate) fn new(
        connection: Arc<Connection>,
        filter: Filter,
        begun: transport::Subscription,
        seat: Option<impl FnOnce(&Arc<Source>)>,
    ) -> Self {
        let pattern = matches!(filter, Filter::Pattern(_));
        let (Filter::Topic(name) | Filter::Pattern(name)) = filter;
        let source = Source::events(connection, begun);
        seat.into_iter().for_each(|seat| seat(&source));
        Self { source: ThisProcess::new(source), name, pattern }
    }

    pub(crate) fn source(&self) -> PyResult<&Arc<Source>> {
        self.source.get()
    }
}

#[pymethods]
impl Subscription {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    #[getter]
    fn pattern(&self) -> bool {
        self.pattern
    }

    /// Unsubscribes; what has arrived can still be taken from its intake.
    fn end(&self) -> PyResult<Operation> {
        Ok(self.source()?.end())
    }
}
