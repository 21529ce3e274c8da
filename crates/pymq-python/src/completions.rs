//! Asynchronous operations: begun under a token, pulled by an event loop when they have ended.
//!
//! Each is a task on its bus's I/O thread, so ten thousand that wait need no thread of their own.
//! Every one that was begun is reported once, unless it is cancelled; a result that is never seen is
//! dropped as it is, and gives back what it held.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pymq::transport::Settlement;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3::{IntoPyObject, IntoPyObjectExt as _};
use tokio::task::AbortHandle;

use crate::bell::{Bell, Descriptor};
use crate::bus::{Bus, Standing};
use crate::error::{PyError, bad_value};
use crate::intake::Attachable;
use crate::metadata::Metadata;
use crate::operation::{Abandoned, Operation};
use crate::process::Native;
use crate::queue::{Delivery, Queue};
use crate::runtime::Begun;

/// How long a bus that an event loop closes may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// Results of asynchronous operations, pulled by an event loop when `fileno` is readable.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Completions {
    desk: Native<Desk>,
}

/// What the loop's side holds; dropping it gives up everything that is under way.
struct Desk(Arc<Shared>);

impl Drop for Desk {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Shared {
    state: Mutex<State>,
    bell: Bell,
}

#[derive(Default)]
struct State {
    running: HashMap<i64, Running>,
    last: u64,
    done: Vec<(i64, Result<Finish, PyError>)>,
    closed: bool,
}

/// An operation under way. Its number tells it from an earlier one with the same token.
struct Running {
    number: u64,
    abort: Option<AbortHandle>,
}

/// Makes a result Python's, on a thread of Python's.
type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// What Python sees of one: token, error, result.
type Entry = (i64, Option<Py<PyBaseException>>, Option<Py<PyAny>>);

impl Shared {
    /// Registers an operation before it begins.
    fn register(self: &Arc<Self>, token: i64) -> PyResult<Ticket> {
        let mut state = self.lock();
        if state.closed {
            return Err(bad_value("these completions were closed; make new ones"));
        }
        if state.running.contains_key(&token) {
            return Err(bad_value("an operation with this token is under way"));
        }
        state.last += 1;
        let number = state.last;
        state.running.insert(token, Running { number, abort: None });
        Ok(Ticket { shared: Arc::clone(self), token, number })
    }

    /// Notes how to abort an operation; one that ended meanwhile needs no aborting.
    fn note(&self, token: i64, number: u64, abort: AbortHandle) {
        let mut state = self.lock();
        match state.running.get_mut(&token).filter(|running| running.number == number) {
            Some(running) => running.abort = Some(abort),
            // Closed or cancelled by another thread in between.
            None => abort.abort(),
        }
    }

    /// Reports an end; of an operation that was cancelled nobody wants to hear.
    fn report(&self, token: i64, number: u64, result: Result<Finish, PyError>) {
        let mut state = self.lock();
        if state.running.get(&token).is_none_or(|running| running.number != number) {
            drop(state);
            // Outside the lock: it may give items back.
            drop(result);
            return;
        }
        state.running.remove(&token);
        state.done.push((token, result));
        if state.done.len() == 1 {
            self.bell.ring();
        }
    }

    fn cancel(&self, token: i64) {
        let mut state = self.lock();
        if let Some(running) = state.running.remove(&token) {
            drop(state);
            return running.abort();
        }
        let unseen: Vec<_> = state.done.extract_if(.., |(ended, _)| *ended == token).collect();
        if state.done.is_empty() && !unseen.is_empty() {
            self.bell.hush();
        }
        drop(state);
        drop(unseen);
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let (running, unseen) =
            (std::mem::take(&mut state.running), std::mem::take(&mut state.done));
        if !unseen.is_empty() {
            self.bell.hush();
        }
        drop(state);
        drop(unseen);
        running.into_values().for_each(Running::abort);
    }

    fn drain(&self) -> Vec<(i64, Result<Finish, PyError>)> {
        let mut state = self.lock();
        if !state.done.is_empty() {
            self.bell.hush();
        }
        std::mem::take(&mut state.done)
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Running {
    fn abort(self) {
        if let Some(abort) = self.abort {
            abort.abort();
        }
    }
}

/// The right and the duty to report one operation's end: dropped with a task whose runtime has
/// ended, it says so.
struct Ticket {
    shared: Arc<Shared>,
    token: i64,
    number: u64,
}

impl Ticket {
    fn done<T>(&self, result: Result<T, PyError>)
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        let finish = result.map(|value| -> Finish { Box::new(|py| value.into_py_any(py)) });
        self.shared.report(self.token, self.number, finish);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // Does nothing where the end was reported.
        self.shared.report(self.token, self.number, Err(PyError::Closed));
    }
}

/// The result of what gives nothing.
struct Nothing;

impl<'py> IntoPyObject<'py> for Nothing {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        Ok(py.None().into_bound(py))
    }
}

impl Completions {
    fn begin<T, U>(&self, token: i64, operation: Operation<T>, give: fn(T) -> U) -> PyResult<()>
    where
        T: Send + 'static,
        U: for<'py> IntoPyObject<'py> + Send + 'static,
    {
        let shared = &self.desk.get()?.0;
        let ticket = shared.register(token)?;
        let number = ticket.number;
        let (runtime, work, abandoned) = operation.into_parts();
        let begun = runtime.begin(Box::pin(async move {
            let result = work.await;
            ticket.done(result.map(give).map_err(PyError::Library));
        }));
        // Where it does not wait, its ticket has reported.
        if let Begun::Waits(work) = begun {
            let task = runtime.spawn(work);
            if abandoned == Abandoned::Ends {
                shared.note(token, number, task.abort_handle());
            }
        }
        Ok(())
    }
}

#[pymethods]
impl Completions {
    #[new]
    fn new() -> PyResult<Self> {
        let shared = Shared { state: Mutex::default(), bell: Bell::new()? };
        Ok(Self { desk: Native::new(Desk(Arc::new(shared))) })
    }

    fn fileno(&self) -> PyResult<Descriptor> {
        Ok(self.desk.get()?.0.bell.fileno())
    }

    /// Those that have ended since: token, error or None, result.
    fn drain(&self, py: Python<'_>) -> PyResult<Vec<Entry>> {
        let done = self.desk.get()?.0.drain();
        let entries = done.into_iter().map(|(token, result)| {
            let given = match result {
                Ok(finish) => finish(py),
                Err(error) => Err(error.into()),
            };
            match given {
                Ok(value) => (token, None, Some(value)),
                Err(error) => (token, Some(error.into_value(py)), None),
            }
        });
        Ok(entries.collect())
    }

    /// Ends an operation, of which nothing is reported then; what it claimed goes back, uncounted.
    fn cancel(&self, token: i64) -> PyResult<()> {
        self.desk.get()?.0.cancel(token);
        Ok(())
    }

    /// Ends all operations, as `cancel` does, and takes no more.
    fn close(&self) -> PyResult<()> {
        self.desk.get()?.0.close();
        Ok(())
    }

    fn begin_publish(&self, token: i64, bus: &Bus, topic: String, payload: &[u8]) -> PyResult<()> {
        self.begin(token, bus.publishing(topic, payload)?, |receivers| receivers)
    }

    fn begin_subscribe(&self, token: i64, bus: &Bus, name: String, pattern: bool) -> PyResult<()> {
        self.begin(token, bus.subscribing(name, pattern)?, |subscription| subscription)
    }

    fn begin_provide(&self, token: i64, bus: &Bus, function: String) -> PyResult<()> {
        self.begin(token, bus.providing(function)?, |provider| provider)
    }

    fn begin_end(&self, token: i64, source: Attachable<'_>) -> PyResult<()> {
        self.begin(token, source.source()?.end(), |()| Nothing)
    }

    #[pyo3(signature = (token, bus, function, args, kwargs, types, timeout, metadata=None))]
    #[expect(clippy::too_many_arguments, reason = "Python's arguments, one by one")]
    fn begin_call(
        &self,
        token: i64,
        bus: &Bus,
        function: String,
        args: &[u8],
        kwargs: &[u8],
        types: Option<&[u8]>,
        timeout: Option<f64>,
        metadata: Option<PyRef<'_, Metadata>>,
    ) -> PyResult<()> {
        let metadata = metadata.map(|metadata| metadata.inner().clone());
        let call = bus.calling(function, (args, kwargs, types), timeout, metadata)?;
        self.begin(token, call, |reply| reply)
    }

    #[pyo3(signature = (
        token, bus, function, args, kwargs, types, timeout, legacy_grace=5.0, metadata=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "Python's arguments, one by one")]
    fn begin_call_all(
        &self,
        token: i64,
        bus: &Bus,
        function: String,
        args: &[u8],
        kwargs: &[u8],
        types: Option<&[u8]>,
        timeout: Option<f64>,
        legacy_grace: f64,
        metadata: Option<PyRef<'_, Metadata>>,
    ) -> PyResult<()> {
        let encoded = (args, kwargs, types);
        let metadata = metadata.map(|metadata| metadata.inner().clone());
        let call = bus.calling_all(function, encoded, timeout, legacy_grace, metadata)?;
        self.begin(token, call, |answers| answers)
    }

    #[pyo3(signature = (token, queue, items, block, timeout))]
    fn begin_put(
        &self,
        token: i64,
        queue: &Queue,
        items: Vec<Bound<'_, PyBytes>>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        self.begin(token, queue.putting(items, block, timeout)?, |()| Nothing)
    }

    #[pyo3(signature = (token, queue, limit, block, timeout))]
    fn begin_claim(
        &self,
        token: i64,
        queue: &Queue,
        limit: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        self.begin(token, queue.claiming(limit, block, timeout)?, |claimed| claimed)
    }

    /// `how`: "ack", "requeue" or "reject"; it is done even if it is cancelled.
    fn begin_settle(&self, token: i64, delivery: &Delivery, how: &str) -> PyResult<()> {
        let how = match how {
            "ack" => Settlement::Ack,
            "requeue" => Settlement::Requeue,
            "reject" => Settlement::Reject,
            _ => return Err(bad_value("'how' must be \"ack\", \"requeue\" or \"reject\"")),
        };
        self.begin(token, delivery.settling(how)?, |()| Nothing)
    }

    fn begin_extend(&self, token: i64, delivery: &Delivery, seconds: f64) -> PyResult<()> {
        self.begin(token, delivery.extending(seconds)?, |()| Nothing)
    }

    fn begin_purge(&self, token: i64, queue: &Queue, dead: bool) -> PyResult<()> {
        self.begin(token, queue.purging(dead)?, |count| count)
    }

    fn begin_shut_down(&self, token: i64, queue: &Queue) -> PyResult<()> {
        self.begin(token, queue.shutting_down()?, |()| Nothing)
    }

    fn begin_stats(&self, token: i64, queue: &Queue) -> PyResult<()> {
        self.begin(token, queue.counting()?, |stats| stats)
    }

    fn begin_join(&self, token: i64, queue: &Queue) -> PyResult<()> {
        self.begin(token, queue.joining(None)?, |_| Nothing)
    }

    #[pyo3(signature = (token, url, namespace="global", wait=None))]
    fn begin_connect(
        &self,
        token: i64,
        url: String,
        namespace: &str,
        wait: Option<f64>,
    ) -> PyResult<()> {
        self.begin(token, Bus::connecting(url, namespace, wait)?, |bus| bus)
    }

    fn begin_ping(&self, token: i64, bus: &Bus) -> PyResult<()> {
        self.begin(token, bus.pinging()?, |seconds| seconds)
    }

    fn begin_next_state(&self, token: i64, bus: &Bus, known: Option<Standing>) -> PyResult<()> {
        self.begin(token, bus.changing(known)?, |state| state)
    }

    /// Closes the bus, even if it is cancelled; reported when nothing of it is left.
    fn begin_close(&self, token: i64, bus: &Bus) -> PyResult<()> {
        let ticket = self.desk.get()?.0.register(token)?;
        bus.close_then(CLOSE_WITHIN, move || ticket.done(Ok(Nothing)))
    }
}
