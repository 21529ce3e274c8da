//! A look at a bus, as Python holds it: plain tuples, which `pymq._inspect` gives their names.

use std::sync::Arc;

use pymq::transport::Leftover;
use pyo3::prelude::*;

use crate::connection::Connection;
use crate::operation::{Operation, Task, finish};
use crate::this_process::ThisProcess;

/// Who is on a bus.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Inspection {
    connection: ThisProcess<Arc<Connection>>,
}

impl Inspection {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection: ThisProcess::new(connection) }
    }

    fn operation<T, F>(
        &self,
        look: impl FnOnce(pymq::Inspection) -> F + Send + 'static,
    ) -> PyResult<Operation>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = pymq::Result<T>> + Send + 'static,
    {
        let connection = Arc::clone(self.connection.get()?);
        let runtime = Arc::clone(connection.runtime());
        let work = async move { Ok(finish(look(connection.bus().inspect()).await?)) };
        Ok(Operation::new(Task::new(&runtime, work)))
    }
}

#[pymethods]
impl Inspection {
    /// Topics: name, subscribers.
    fn topics(&self) -> PyResult<Operation> {
        self.operation(|look| async move {
            let topics = look.topics().await?;
            Ok(topics.into_iter().map(|topic| (topic.name, topic.subscribers)).collect::<Vec<_>>())
        })
    }

    /// Functions: name, each provider with its open calls, how many are silent, how many others listen.
    fn functions(&self) -> PyResult<Operation> {
        self.operation(|look| async move {
            let functions = look.functions().await?.into_iter().map(|function| {
                let providers = function.providers.into_iter();
                let providers = providers.map(|one| (one.id.to_string(), one.open_calls));
                let providers: Vec<_> = providers.collect();
                (function.name, providers, function.silent, function.others)
            });
            Ok(functions.collect::<Vec<_>>())
        })
    }

    /// The names of the queues.
    fn queues(&self) -> PyResult<Operation> {
        self.operation(|look| async move { look.queues().await })
    }

    /// Who holds items of a queue: name, items, seconds left.
    fn holders(&self, queue: String) -> PyResult<Operation> {
        self.operation(|look| async move {
            let holders = look.holders(&queue).await?.into_iter().map(|holder| {
                (holder.name, holder.items, holder.left.map(|left| left.as_secs_f64()))
            });
            Ok(holders.collect::<Vec<_>>())
        })
    }

    /// What was found: subject, severity, words, remedy.
    fn examine(&self) -> PyResult<Operation> {
        self.operation(|look| async move {
            let findings = look
                .examine()
                .await?
                .into_iter()
                .map(|found| (found.subject, found.severity.word(), found.words, found.remedy));
            Ok(findings.collect::<Vec<_>>())
        })
    }

    /// What was left behind: name, words.
    fn leftovers(&self) -> PyResult<Operation> {
        self.operation(|look| async move {
            let leftovers = look.leftovers().await?.into_iter();
            Ok(leftovers.map(|left| (left.name, left.words)).collect::<Vec<_>>())
        })
    }

    /// Does with a leftover what its owner should have done.
    fn tidy(&self, name: String, words: String) -> PyResult<Operation> {
        let leftover = Leftover::new(name, words);
        self.operation(|look| async move { look.tidy(&leftover).await })
    }
}
