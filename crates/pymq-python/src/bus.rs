//! The bus as Python holds it: a connection with an I/O thread of its own.
//!
//! Everything made from it keeps it alive; the thread ends at [`close`](Bus::close) or with the last
//! of them. What takes time is an [`Operation`], for threads that wait and for event loops alike.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use pymq::rpc::CallOptions;
use pymq::transport::{Filter, State};
use pymq::wire::Arguments;
use pyo3::IntoPyObject;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::connection::Connection;
use crate::error::bad_value;
use crate::inspection::Inspection;
use crate::intake::Reservation;
use crate::intake::provider::{Missing, Provider, Reply};
use crate::intake::subscription::Subscription;
use crate::metadata;
use crate::operation::wait;
use crate::operation::{Operation, Task, finish};
use crate::queue::Queue;
use crate::runtime::Runtime;
use crate::this_process::ThisProcess;

/// A connection with an I/O thread of its own; ends with `close`, or with its last handle.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Bus {
    connection: ThisProcess<Arc<Connection>>,
}

/// What the calls of all kinds are made with.
type Encoded<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);

/// A state: its word, since when, and why.
type Standing = (String, Option<f64>, Option<String>);

impl Bus {
    fn connection(&self) -> PyResult<&Arc<Connection>> {
        self.connection.get()
    }

    fn operation<T, F>(&self, work: impl FnOnce(Arc<Connection>) -> F) -> PyResult<Operation>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = pymq::Result<T>> + Send + 'static,
    {
        let connection = self.connection()?;
        let work = work(Arc::clone(connection));
        let work = async move { Ok(finish(work.await?)) };
        Ok(Operation::new(Task::new(connection.runtime(), work)))
    }
}

/// A state as Python is told it.
fn standing(state: &State) -> Standing {
    let (since, why) = match state {
        State::Connected { since } => (Some(since), None),
        State::Away { since, why } => (Some(since), Some(why.to_string())),
        _ => (None, None),
    };
    let seconds = |since: &SystemTime| {
        since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
    };
    (state.word().to_owned(), since.map(seconds), why)
}

/// A call's limit: without a number none is said, and one that no clock can hold is for ever.
fn limit(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    Ok(match wait::timeout(timeout)? {
        None if timeout.is_some() => Some(Duration::MAX),
        limit => limit,
    })
}

fn arguments((positional, keywords, types): Encoded<'_>) -> Arguments {
    Arguments {
        positional: Bytes::copy_from_slice(positional),
        keywords: Bytes::copy_from_slice(keywords),
        types: types.map(Bytes::copy_from_slice),
    }
}

#[pymethods]
impl Bus {
    /// Connects to an address.
    #[staticmethod]
    #[pyo3(signature = (url, namespace="global", wait=None))]
    fn connect(url: String, namespace: &str, wait: Option<f64>) -> PyResult<Operation> {
        let mut builder = pymq::Bus::builder(&url).namespace(namespace);
        if let Some(seconds) = wait {
            let wait = wait::timeout(Some(seconds))?.unwrap_or(Duration::MAX);
            builder = builder.connect_wait(wait);
        }
        let runtime = Arc::new(Runtime::start()?);
        let theirs = Arc::clone(&runtime);
        Ok(Operation::new(Task::new(&runtime, async move {
            let bus = builder.connect().await?;
            let connection = Connection::new(theirs, bus);
            Ok(finish(Self { connection: ThisProcess::new(connection) }))
        })))
    }

    /// The state: its word, since when in seconds since 1970, and why.
    #[getter]
    fn state(&self) -> PyResult<Standing> {
        Ok(standing(&self.connection()?.bus().state()))
    }

    /// Asks the broker for a sign of life; says how many seconds the round trip took.
    fn ping(&self) -> PyResult<Operation> {
        self.operation(|connection| async move { Ok(connection.bus().ping().await?.as_secs_f64()) })
    }

    /// The first state that is not `known`; `None` when `known` says `closed`.
    fn next_state(&self, known: Option<Standing>) -> PyResult<Operation> {
        // Of its own, since the bus may be gone while somebody waits.
        let mut states = self.connection()?.bus().states();
        self.operation(|_| async move {
            while let Some(state) = states.next().await {
                let state = standing(&state);
                if Some(&state) != known.as_ref() {
                    return Ok(Some(state));
                }
            }
            Ok(None)
        })
    }

    /// What is known of the health, by name.
    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let health = self.connection()?.bus().health();
        let numbers = PyDict::new(py);
        numbers.set_item("server", health.server)?;
        numbers.set_item("absent_nodes", health.absent_nodes)?;
        numbers.set_item("reconnects", health.reconnects)?;
        numbers.set_item("unread_events", health.unread_events)?;
        numbers.set_item("lost_events", health.lost_events)?;
        numbers.set_item("lost_posts", health.lost_posts)?;
        numbers.set_item("consumers", health.consumers)?;
        let heartbeat = health.oldest_heartbeat.map(|age| age.as_secs_f64());
        numbers.set_item("oldest_heartbeat", heartbeat)?;
        Ok(numbers)
    }

    /// A look at who is on it.
    fn inspect(&self) -> PyResult<Inspection> {
        Ok(Inspection::new(Arc::clone(self.connection()?)))
    }

    /// Publishes; says how many received it, where that is known.
    fn publish(&self, topic: String, payload: &[u8]) -> PyResult<Operation> {
        let payload = Bytes::copy_from_slice(payload);
        self.operation(
            |connection| async move { connection.bus().publish_bytes(&topic, payload).await },
        )
    }

    /// Publishes without waiting for the broker; gives what is to be waited for where there is no
    /// room yet.
    fn post(&self, topic: String, payload: &[u8]) -> PyResult<Option<Operation>> {
        let (connection, payload) =
            (Arc::clone(self.connection()?), Bytes::copy_from_slice(payload));
        let runtime = Arc::clone(connection.runtime());
        let post = async move { Ok(connection.bus().post_bytes(&topic, payload).await?) };
        let full = Task::new(&runtime, post).goes_on().now()?.err();
        Ok(full.map(|task| Operation::new(task.then(finish))))
    }

    /// Subscribes to a topic or a pattern, to be read in a place; the next event published is seen.
    #[pyo3(signature = (name, pattern, place=None))]
    fn subscribe(
        &self,
        name: String,
        pattern: bool,
        place: Option<PyRef<'_, Reservation>>,
    ) -> PyResult<Operation> {
        let filter = if pattern { Filter::Pattern(name) } else { Filter::Topic(name) };
        let seat = place.map(|place| place.seat()).transpose()?;
        self.operation(|connection| async move {
            let subscription = connection.bus().subscribe_bytes(&filter).await?;
            Ok(Subscription::new(connection, filter, subscription, seat))
        })
    }

    /// Exposes a function, whose calls are to be read in a place.
    #[pyo3(signature = (function, place=None))]
    fn provide(
        &self,
        function: String,
        place: Option<PyRef<'_, Reservation>>,
    ) -> PyResult<Operation> {
        let seat = place.map(|place| place.seat()).transpose()?;
        self.operation(|connection| async move {
            let provider = connection.bus().provide(&function).await?;
            Ok(Provider::new(connection, provider, seat))
        })
    }

    /// A queue with options of this handle's own, by name.
    #[pyo3(signature = (name, **options))]
    fn queue(&self, name: &str, options: Option<&Bound<'_, PyDict>>) -> PyResult<Queue> {
        Queue::new(self.connection()?, name, options)
    }

    /// Calls one provider; a function that fails is a reply.
    #[pyo3(signature = (function, args, kwargs, types, timeout, metadata=None))]
    fn call(
        &self,
        function: String,
        args: &[u8],
        kwargs: &[u8],
        types: Option<&[u8]>,
        timeout: Option<f64>,
        metadata: Option<PyRef<'_, metadata::Metadata>>,
    ) -> PyResult<Operation> {
        let mut options = CallOptions::default();
        options.timeout = limit(timeout)?;
        let arguments = arguments((args, kwargs, types));
        let metadata = metadata.map(|metadata| metadata.inner().clone()).unwrap_or_default();
        self.operation(|connection| async move {
            connection
                .bus()
                .call_bytes(&function, arguments, metadata, options)
                .await
                .map(Reply::from)
        })
    }

    /// Calls every provider; every answer, and who did not give one, when all that are alive have
    /// answered or at the timeout.
    #[pyo3(signature = (function, args, kwargs, types, timeout, legacy_grace=5.0, metadata=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's arguments, one by one")]
    fn call_all(
        &self,
        function: String,
        args: &[u8],
        kwargs: &[u8],
        types: Option<&[u8]>,
        timeout: Option<f64>,
        legacy_grace: f64,
        metadata: Option<PyRef<'_, metadata::Metadata>>,
    ) -> PyResult<Operation> {
        let legacy_grace = wait::timeout(Some(legacy_grace))?.unwrap_or(Duration::MAX);
        let mut options = CallOptions::default().legacy_grace(legacy_grace);
        options.timeout = limit(timeout)?;
        let arguments = arguments((args, kwargs, types));
        let metadata = metadata.map(|metadata| metadata.inner().clone()).unwrap_or_default();
        self.operation(|connection| async move {
            let all =
                connection.bus().call_all_bytes(&function, arguments, metadata, options).await?;
            let replies: Vec<_> = all.replies.into_iter().map(Reply::from).collect();
            let missing: Vec<_> = all.missing.into_iter().map(Missing::from).collect();
            Ok((replies, missing))
        })
    }

    /// Ends everything, within `timeout` seconds and the moment that its thread needs to end, even
    /// if nobody waits for it. Closing again does nothing.
    #[pyo3(signature = (timeout=10.0))]
    fn close(&self, timeout: f64) -> PyResult<Operation> {
        let within = wait::timeout(Some(timeout))?.unwrap_or(Duration::MAX);
        Ok(Operation::close(self.connection()?, within))
    }

    /// In a forked child: lets go of the parent's bus, whose sockets and threads stay untouched.
    /// What was made from it is an error to use, and safe to drop.
    fn abandon(&self) -> PyResult<()> {
        if self.connection.is_foreign() {
            return Ok(());
        }
        Err(bad_value("only a forked child abandons a bus; close this one"))
    }

    /// Whether and how far the transport goes beyond the contract.
    #[getter]
    fn capabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let all = PyDict::new(py);
        for (name, able) in self.connection()?.bus().capabilities().named() {
            all.set_item(name, able)?;
        }
        Ok(all)
    }
}
