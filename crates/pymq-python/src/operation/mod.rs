//! An operation on a bus, before it is decided who waits for it.
//!
//! A thread waits for it by [`Operation::wait`]; an event loop hands it to
//! [`Completions`](crate::operation::completions). Nothing is done before one of the two begins it. One that
//! takes long runs on the bus's I/O thread, and a wait that is broken off ends it there, without
//! losing what it held.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::{IntoPyObject, IntoPyObjectExt as _};
use tokio::task::JoinHandle;

pub(crate) use self::completions::{Completions, Reader};
use crate::connection::Connection;
use crate::error::{PyError, bad_value};
use crate::runtime::{Begun, Runtime, Work};
use crate::this_process::ThisProcess;

pub(crate) mod completions;
pub(crate) mod descriptor;
pub(crate) mod wait;

/// How long the thread of a bus may take to end when the bus was closed.
const THREAD_ENDS_WITHIN: Duration = Duration::from_secs(1);

/// What becomes of an operation when nobody waits for it any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abandoned {
    /// It is given up.
    Ends,
    /// It runs to its end: half a settlement would leave an item leased.
    GoesOn,
}

/// Makes a result Python's, on a thread of Python's.
pub(crate) type Finish = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// A result as Python will have it.
pub(crate) fn finish<T>(value: T) -> Finish
where
    T: for<'py> IntoPyObject<'py> + Send + 'static,
{
    Box::new(|py| value.into_py_any(py))
}

/// What an operation that gives nothing gives: `None`.
pub(crate) fn nothing() -> Finish {
    Box::new(|py| Ok(py.None()))
}

/// Something to be done on the runtime of a bus.
pub(crate) struct Task<T> {
    runtime: Arc<Runtime>,
    work: Work<Result<T, PyError>>,
    abandoned: Abandoned,
}

impl<T: Send + 'static> Task<T> {
    pub(crate) fn new(
        runtime: &Arc<Runtime>,
        work: impl Future<Output = Result<T, PyError>> + Send + 'static,
    ) -> Self {
        let (runtime, work) = (Arc::clone(runtime), Box::pin(work));
        Self { runtime, work, abandoned: Abandoned::Ends }
    }

    /// The same task, but not given up once it has begun.
    pub(crate) fn goes_on(self) -> Self {
        Self { abandoned: Abandoned::GoesOn, ..self }
    }

    /// Does something more with what it gives.
    pub(crate) fn then<U: Send + 'static>(
        self,
        more: impl FnOnce(T) -> U + Send + 'static,
    ) -> Task<U> {
        let Self { runtime, work, abandoned } = self;
        Task { runtime, work: Box::pin(async move { work.await.map(more) }), abandoned }
    }

    /// Does it if that takes no time; else it is still to be done, by `wait`.
    pub(crate) fn now(self) -> Result<Result<T, Self>, PyError> {
        let Self { runtime, work, abandoned } = self;
        match runtime.begin(work) {
            Begun::Done(result) => result.map(Ok),
            Begun::Closed => Err(PyError::Closed),
            Begun::Waits(work) => Ok(Err(Self { runtime, work, abandoned })),
        }
    }

    /// Does it, waiting on the calling thread, until `deadline` if there is one.
    ///
    /// # Errors
    /// The task's own; `Interrupted` with what a signal handler raised, `TimedOut`, `Closed`.
    pub(crate) fn wait(self, py: Python<'_>, deadline: Option<Instant>) -> Result<T, PyError> {
        let Self { runtime, work, abandoned } = self;
        let begun = Instant::now();
        let progress = match runtime.turn() {
            // Begun where it is driven: from outside, it would wake a runtime that nobody drives, and
            // that wakes for nothing then.
            Some(turn) => py.detach(|| runtime.drive(turn, work)),
            // Letting go of the GIL for what takes no time could cost another thread's whole turn.
            None => runtime.begin(work),
        };
        let task = match progress {
            Begun::Done(result) => return result,
            Begun::Closed => return Err(PyError::Closed),
            Begun::Waits(work) => runtime.spawn(work),
        };
        let mut waited = Waited { task, abandoned };
        let ended = wait::in_slices(py, deadline, |until| wait::park(&mut waited.task, until));
        match ended.map_err(PyError::Interrupted)? {
            Some(Ok(result)) => {
                runtime.over(begun);
                result
            }
            Some(Err(error)) if error.is_panic() => Err(PyError::Panicked),
            // The runtime ended under it.
            Some(Err(_)) => Err(PyError::Closed),
            None => Err(PyError::TimedOut),
        }
    }

    /// Takes it apart, for whoever begins it elsewhere.
    pub(crate) fn into_parts(self) -> (Arc<Runtime>, Work<Result<T, PyError>>, Abandoned) {
        (self.runtime, self.work, self.abandoned)
    }
}

/// A task that a thread waits for; a result that comes after the wait was broken off is dropped with
/// it, as an unseen result.
struct Waited<T> {
    task: JoinHandle<T>,
    abandoned: Abandoned,
}

impl<T> Drop for Waited<T> {
    fn drop(&mut self) {
        if self.abandoned == Abandoned::Ends {
            self.task.abort();
        }
    }
}

/// What Python holds: done once, by a thread that waits or on an event loop.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Operation {
    /// Gone once it was begun.
    deed: ThisProcess<Mutex<Option<Deed>>>,
}

/// What is done.
pub(crate) enum Deed {
    Task(Task<Finish>),
    /// The end of the bus and of its runtime, so that no task of that runtime can be it.
    Close {
        connection: Arc<Connection>,
        within: Duration,
    },
}

impl Operation {
    pub(crate) fn new(task: Task<Finish>) -> Self {
        Self::from(Deed::Task(task))
    }

    pub(crate) fn close(connection: &Arc<Connection>, within: Duration) -> Self {
        Self::from(Deed::Close { connection: Arc::clone(connection), within })
    }

    /// Takes out what is to be done.
    ///
    /// # Errors
    /// If it was begun before, or belongs to another process.
    pub(crate) fn take(&self) -> PyResult<Deed> {
        let mut deed = self.deed.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        deed.take().ok_or_else(|| bad_value("this operation was begun already; make another one"))
    }
}

impl From<Deed> for Operation {
    fn from(deed: Deed) -> Self {
        Self { deed: ThisProcess::new(Mutex::new(Some(deed))) }
    }
}

#[pymethods]
impl Operation {
    /// Does it and waits for its result. `TimeoutError` when that takes longer than `timeout`
    /// seconds: then it is given up, but for a settlement, which goes on.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let deadline = wait::deadline(wait::timeout(timeout)?);
        match self.take()? {
            Deed::Task(task) => task.wait(py, deadline)?(py),
            Deed::Close { connection, within } => {
                close(py, &connection, within)?;
                Ok(py.None())
            }
        }
    }
}

/// Ends everything, within its time and the moment that the thread needs to end.
fn close(py: Python<'_>, connection: &Arc<Connection>, within: Duration) -> PyResult<()> {
    let (ended, end) = channel::<()>();
    connection.order_end(within, move || drop(ended));
    let deadline = wait::deadline(within.checked_add(THREAD_ENDS_WITHIN));
    // `then` is dropped, not called, should the thread die: that ends the wait as well.
    let end = Mutex::new(end);
    let over = wait::in_slices(py, deadline, |until| {
        let end = end.lock().unwrap_or_else(PoisonError::into_inner);
        let left =
            until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()));
        matches!(end.recv_timeout(left), Err(RecvTimeoutError::Disconnected)).then_some(())
    })?;
    if over.is_some() {
        py.detach(|| connection.runtime().join());
    }
    Ok(())
}
