//! Asynchronous operations: begun under a token, pulled by an event loop when they have ended.
//!
//! Each is a task on its bus's I/O thread, so ten thousand that wait need no thread of their own.
//! Every one that was begun is reported once, unless it is cancelled; a result that is never seen is
//! dropped as it is, and gives back what it held.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{PyTraverseError, PyVisit};
use tokio::task::AbortHandle;

use crate::error::{PyError, bad_value};
use crate::operation::descriptor::{Bell, Descriptor};
use crate::operation::{Abandoned, Deed, Finish, Operation, Task, nothing};
use crate::runtime::Begun;
use crate::this_process::ThisProcess;

/// Results of asynchronous operations, pulled by an event loop when `fileno` is readable.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Completions {
    side: ThisProcess<LoopSide>,
}

/// What the loop's side holds; dropping it gives up everything that is under way.
struct LoopSide(Arc<Shared>);

impl Drop for LoopSide {
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
    done: VecDeque<(i64, Result<Finish, PyError>)>,
    closed: bool,
}

/// An operation under way. Its number tells it from an earlier one with the same token.
struct Running {
    number: u64,
    abort: Option<AbortHandle>,
}

impl Shared {
    /// Registers an operation before it begins.
    fn register(self: &Arc<Self>, token: i64) -> PyResult<Report> {
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
        Ok(Report { shared: Arc::clone(self), token, number })
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
        state.done.push_back((token, result));
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
        let done = std::mem::take(&mut state.done);
        let (unseen, done): (VecDeque<_>, _) =
            done.into_iter().partition(|(ended, _)| *ended == token);
        state.done = done;
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

    /// The end that was reported first; then the bell is silent if it was the last.
    fn next(&self) -> Option<(i64, Result<Finish, PyError>)> {
        let mut state = self.lock();
        let next = state.done.pop_front()?;
        if state.done.is_empty() {
            self.bell.hush();
        }
        Some(next)
    }

    /// Puts back an end that nobody could be told of.
    fn put_back(&self, token: i64, result: Result<Finish, PyError>) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            drop(result);
            return;
        }
        state.done.push_front((token, result));
        if state.done.len() == 1 {
            self.bell.ring();
        }
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn resolve(&self, waiting: &Bound<'_, PyDict>) -> PyResult<()> {
        while let Some((token, result)) = self.next() {
            if let Err((interrupted, untold)) = tell(waiting, token, result) {
                self.put_back(token, *untold);
                return Err(interrupted);
            }
        }
        Ok(())
    }
}

/// Tells a future of its result, unless it has one: it was cancelled, or told and then interrupted.
/// What nobody is told of is dropped as it is. An interruption comes with what is still to be told.
fn tell(
    waiting: &Bound<'_, PyDict>,
    token: i64,
    result: Result<Finish, PyError>,
) -> Result<(), (PyErr, Box<Result<Finish, PyError>>)> {
    let py = waiting.py();
    let future = match undone(waiting, token) {
        Ok(Some(future)) => future,
        Ok(None) => return Ok(()),
        Err(interrupted) => return Err((interrupted, Box::new(result))),
    };
    let made = match result {
        Ok(finish) => finish(py),
        Err(error) => Err(error.into()),
    };
    let told = match &made {
        Ok(value) => future.call_method1("set_result", (value,)),
        Err(error) => future.call_method1("set_exception", (error.value(py),)),
    };
    match told.and_then(|_| waiting.del_item(token)) {
        Ok(()) => Ok(()),
        Err(interrupted) => {
            let again = made.map(|value| -> Finish { Box::new(move |_| Ok(value)) });
            Err((interrupted, Box::new(again.map_err(PyError::Interrupted))))
        }
    }
}

/// The future that waits under a token, if it does; one that is done is taken out.
fn undone<'py>(waiting: &Bound<'py, PyDict>, token: i64) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(future) = waiting.get_item(token)? else { return Ok(None) };
    if !future.call_method0("done")?.is_truthy()? {
        return Ok(Some(future));
    }
    waiting.del_item(token)?;
    Ok(None)
}

/// See [`Completions::reader`].
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Reader {
    shared: ThisProcess<Arc<Shared>>,
    waiting: Py<PyDict>,
    /// Kept by the loop in this way, and by nobody for longer.
    reactor: Py<PyAny>,
}

#[pymethods]
impl Reader {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.get()?.resolve(self.waiting.bind(py))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.waiting)?;
        visit.call(&self.reactor)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Ok(shared) = self.shared.get() {
            shared.close();
        }
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
struct Report {
    shared: Arc<Shared>,
    token: i64,
    number: u64,
}

impl Report {
    fn done(&self, result: Result<Finish, PyError>) {
        self.shared.report(self.token, self.number, result);
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        // Does nothing where the end was reported.
        self.shared.report(self.token, self.number, Err(PyError::Closed));
    }
}

impl Completions {
    fn begin_task(shared: &Arc<Shared>, token: i64, task: Task<Finish>) -> PyResult<()> {
        let report = shared.register(token)?;
        let number = report.number;
        let (runtime, work, abandoned) = task.into_parts();
        let begun = runtime.begin(Box::pin(async move {
            let result = work.await;
            report.done(result);
        }));
        // Where it does not wait, its report has reported.
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
        Ok(Self { side: ThisProcess::new(LoopSide(Arc::new(shared))) })
    }

    fn fileno(&self) -> PyResult<Descriptor> {
        Ok(self.side.get()?.0.bell.fileno())
    }

    /// Tells the futures in `waiting`, by token, of the operations that have ended, and takes them
    /// out. Interrupted in the middle, it goes on where it was when it is called again.
    fn resolve(&self, waiting: &Bound<'_, PyDict>) -> PyResult<()> {
        self.side.get()?.0.resolve(waiting)
    }

    /// What an event loop calls when `fileno` is readable: `resolve` with the `waiting` of a reactor.
    /// The loop alone has it, so that it is dropped when the loop is closed: then all ends.
    fn reader(&self, reactor: Bound<'_, PyAny>) -> PyResult<Reader> {
        let waiting = reactor.getattr("waiting")?.cast_into::<PyDict>()?.unbind();
        let shared = ThisProcess::new(Arc::clone(&self.side.get()?.0));
        Ok(Reader { shared, waiting, reactor: reactor.unbind() })
    }

    /// Ends an operation, of which nothing is reported then; what it claimed goes back, uncounted.
    fn cancel(&self, token: i64) -> PyResult<()> {
        self.side.get()?.0.cancel(token);
        Ok(())
    }

    /// Ends all operations, as `cancel` does, and takes no more.
    fn close(&self) -> PyResult<()> {
        self.side.get()?.0.close();
        Ok(())
    }

    /// Begins an operation, to be reported under a token that no other one has meanwhile.
    fn begin(&self, token: i64, operation: &Operation) -> PyResult<()> {
        let shared = &self.side.get()?.0;
        match operation.take()? {
            Deed::Task(task) => Self::begin_task(shared, token, task),
            Deed::Close { connection, within } => {
                let report = shared.register(token)?;
                connection.order_end(within, move || report.done(Ok(nothing())));
                Ok(())
            }
        }
    }
}
