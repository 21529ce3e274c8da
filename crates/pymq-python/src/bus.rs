//! The bus as Python holds it: a connection with an I/O thread of its own.
//!
//! Everything made from it keeps it alive; the thread ends at [`close`](Bus::close) or with the last
//! of them. What takes time is an [`Operation`], for threads that wait and for event loops alike.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use pymq::rpc::CallOptions;
use pymq::transport::{Filter, State};
use pymq::wire::Arguments;
use pyo3::IntoPyObject;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::error::bad_value;
use crate::inspection::Inspection;
use crate::intake::Place;
use crate::metadata;
use crate::operation::{Operation, Task, finish};
use crate::provider::{Missing, Provider, Reply};
use crate::options::Said;
use crate::queue::Queue;
use crate::runtime::{Closing, Runtime};
use crate::subscription::Subscription;
use crate::this_process::ThisProcess;
use crate::wait;

/// How long the last words to the broker may take when a bus was dropped unclosed.
const FAREWELL: Duration = Duration::from_secs(1);

/// A bus and its thread, shared by everything made from it.
pub(crate) struct Core {
    runtime: Arc<Runtime>,
    bus: pymq::Bus,
}

impl Core {
    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    pub(crate) fn bus(&self) -> &pymq::Bus {
        &self.bus
    }

    /// Orders the end of everything; `then` is run when it has come, last of all on the thread.
    pub(crate) fn order_end(&self, within: Duration, then: impl FnOnce() + Send + 'static) {
        let now = Instant::now();
        let until = now.checked_add(within).unwrap_or(now + Duration::from_secs(86_400));
        self.runtime.end_with(Closing { bus: self.bus.clone(), until, then: Box::new(then) });
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.order_end(FAREWELL, || {});
    }
}

/// A connection with an I/O thread of its own; ends with `close`, or with its last handle.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Bus {
    core: ThisProcess<Arc<Core>>,
}

/// What the calls of all kinds are made with.
type Encoded<'a> = (&'a [u8], &'a [u8], Option<&'a [u8]>);

/// A state: its word, since when, and why.
type Standing = (String, Option<f64>, Option<String>);

impl Bus {
    fn core(&self) -> PyResult<&Arc<Core>> {
        self.core.get()
    }

    fn operation<T, F>(&self, work: impl FnOnce(Arc<Core>) -> F) -> PyResult<Operation>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = pymq::Result<T>> + Send + 'static,
    {
        let core = self.core()?;
        let work = work(Arc::clone(core));
        let work = async move { Ok(finish(work.await?)) };
        Ok(Operation::new(Task::new(&core.runtime, work)))
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
            let core = Arc::new(Core { runtime: theirs, bus });
            Ok(finish(Self { core: ThisProcess::new(core) }))
        })))
    }

    /// The state: its word, since when in seconds since 1970, and why.
    #[getter]
    fn state(&self) -> PyResult<Standing> {
        Ok(standing(&self.core()?.bus.state()))
    }

    /// Asks the broker for a sign of life; says how many seconds the round trip took.
    fn ping(&self) -> PyResult<Operation> {
        self.operation(|core| async move { Ok(core.bus.ping().await?.as_secs_f64()) })
    }

    /// The first state that is not `known`; `None` when `known` says `closed`.
    fn next_state(&self, known: Option<Standing>) -> PyResult<Operation> {
        // Of its own, since the bus may be gone while somebody waits.
        let mut states = self.core()?.bus.states();
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
        let health = self.core()?.bus.health();
        let numbers = PyDict::new(py);
        numbers.set_item("server", health.server)?;
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
        Ok(Inspection::new(Arc::clone(self.core()?)))
    }

    /// Publishes; says how many received it, where that is known.
    fn publish(&self, topic: String, payload: &[u8]) -> PyResult<Operation> {
        let payload = Bytes::copy_from_slice(payload);
        self.operation(|core| async move { core.bus.publish_bytes(&topic, payload).await })
    }

    /// Publishes without waiting for the broker; gives what is to be waited for where there is no
    /// room yet.
    fn post(&self, topic: String, payload: &[u8]) -> PyResult<Option<Operation>> {
        let (core, payload) = (Arc::clone(self.core()?), Bytes::copy_from_slice(payload));
        let runtime = Arc::clone(&core.runtime);
        let post = async move { Ok(core.bus.post_bytes(&topic, payload).await?) };
        let full = Task::new(&runtime, post).goes_on().now()?.err();
        Ok(full.map(|task| Operation::new(task.then(finish))))
    }

    /// Subscribes to a topic or a pattern, to be read in a place; the next event published is seen.
    #[pyo3(signature = (name, pattern, place=None))]
    fn subscribe(
        &self,
        name: String,
        pattern: bool,
        place: Option<PyRef<'_, Place>>,
    ) -> PyResult<Operation> {
        let filter = if pattern { Filter::Pattern(name) } else { Filter::Topic(name) };
        let seat = place.map(|place| place.seat()).transpose()?;
        self.operation(|core| async move {
            let subscription = core.bus.subscribe_bytes(&filter).await?;
            Ok(Subscription::new(core, filter, subscription, seat))
        })
    }

    /// Exposes a function, whose calls are to be read in a place.
    #[pyo3(signature = (function, place=None))]
    fn provide(&self, function: String, place: Option<PyRef<'_, Place>>) -> PyResult<Operation> {
        let seat = place.map(|place| place.seat()).transpose()?;
        self.operation(|core| async move {
            let provider = core.bus.provide(&function).await?;
            Ok(Provider::new(core, provider, seat))
        })
    }

    /// A queue with options of this handle's own, by name.
    #[pyo3(signature = (name, **options))]
    fn queue(&self, name: &str, options: Said<'_, '_>) -> PyResult<Queue> {
        Queue::new(self.core()?, name, options)
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
        self.operation(|core| async move {
            core.bus.call_bytes(&function, arguments, metadata, options).await.map(Reply::from)
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
        self.operation(|core| async move {
            let all = core.bus.call_all_bytes(&function, arguments, metadata, options).await?;
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
        Ok(Operation::close(self.core()?, within))
    }

    /// In a forked child: lets go of the parent's bus, whose sockets and threads stay untouched.
    /// What was made from it is an error to use, and safe to drop.
    fn abandon(&self) -> PyResult<()> {
        if self.core.is_foreign() {
            return Ok(());
        }
        Err(bad_value("only a forked child abandons a bus; close this one"))
    }

    /// Whether and how far the transport goes beyond the contract.
    #[getter]
    fn capabilities<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let capabilities = self.core()?.bus.capabilities();
        let all = PyDict::new(py);
        all.set_item("receiver_count", capabilities.receiver_count)?;
        all.set_item("cross_process", capabilities.cross_process)?;
        all.set_item("originals", capabilities.originals)?;
        all.set_item("delays", capabilities.delays)?;
        all.set_item("put_ids", capabilities.put_ids)?;
        all.set_item("priorities", capabilities.priorities)?;
        all.set_item("letters", capabilities.letters)?;
        Ok(all)
    }
}
