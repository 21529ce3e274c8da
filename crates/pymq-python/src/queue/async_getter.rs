//! How items come out of a queue, for event loops: what a `get` gives to be awaited.
//!
//! What waits is a coroutine of Python's (`pymq._reactor.run`), which never sees the item: that comes
//! by another way, and is handed over ([`Handover::give`]) in the same native step in which the wait ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyGenericAlias, PyTuple, PyType};

use crate::error;
use crate::operation::{Operation, nothing};
use crate::queue::Claimed;
use crate::queue::getter::not_ours;
use crate::queue::handover::{
    Current, Form, Handover, Truth, Waiting, claiming, is_end, is_unreadable, limit,
};
use crate::queue::telemetry;

/// `pymq._reactor.run`
static RUN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The half of a queue's handle that gets items, for event loops; `pymq._aio_queue.AsyncQueue` is
/// the whole.
#[pyclass(frozen, subclass, module = "pymq._pymq")]
pub(crate) struct AsyncGetter {
    attached: PyOnceLock<Attached>,
}

struct Attached {
    handover: Arc<Handover>,
    /// `() -> int`: the number of the task that asks, as an owner.
    owner: Py<PyAny>,
}

/// A handover, and as whom the one who asks there takes items.
type Asked = (Arc<Handover>, u64);

impl Attached {
    /// Whoever asks is the owner, though the wait may run as a task of its own.
    fn asked(&self, py: Python<'_>) -> PyResult<Asked> {
        Ok((Arc::clone(&self.handover), self.owner.call0(py)?.extract(py)?))
    }
}

impl AsyncGetter {
    fn take(
        &self,
        py: Python<'_>,
        limit: usize,
        waiting: &Waiting,
        form: Form,
    ) -> PyResult<Taking> {
        Taking::new(py, vec![self.attached(py)?.asked(py)?], limit, waiting, form)
    }

    fn attached(&self, py: Python<'_>) -> PyResult<&Attached> {
        self.attached.get(py).ok_or_else(|| PyRuntimeError::new_err("this queue has no handle yet"))
    }
}

#[pymethods]
impl AsyncGetter {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self { attached: PyOnceLock::new() }
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(class.py(), class.as_any(), item)
    }

    /// Says by which handle items are got, what a delivery is made with, who asks, and whether who
    /// watches is told of them here.
    #[pyo3(signature = (handle, delivery, owner, tells=true))]
    fn _attach(
        &self,
        handle: &Bound<'_, PyAny>,
        delivery: &Bound<'_, PyAny>,
        owner: Py<PyAny>,
        tells: bool,
    ) -> PyResult<()> {
        let handover = Arc::new(Handover::of(handle, delivery, tells)?);
        let _ = self.attached.set(handle.py(), Attached { handover, owner });
        Ok(())
    }

    /// Take the first item, waiting for one; raises as `pymq.Queue.get` does.
    ///
    /// Cancelled or interrupted, it loses nothing.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn get(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<Taking> {
        self.take(py, 1, &Waiting::new(block, timeout)?, Form::Item)
    }

    /// Take the first item if there is one now, else raise `Empty`.
    fn get_nowait(&self, py: Python<'_>) -> PyResult<Taking> {
        self.take(py, 1, &Waiting::NOT, Form::Item)
    }

    /// Take up to `limit` items in one round trip, waiting for the first one only.
    #[pyo3(signature = (limit, block=Truth(true), timeout=None), text_signature = "($self, limit, block=True, timeout=None)")]
    fn get_many(
        &self,
        py: Python<'_>,
        limit: i64,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<Taking> {
        self.take(py, self::limit(limit)?, &Waiting::new(block, timeout)?, Form::Items)
    }

    /// Take the first item on a lease, whatever the handle's `ack` says.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn get_delivery(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<Taking> {
        self.take(py, 1, &Waiting::new(block, timeout)?, Form::Delivery)
    }

    /// Serve items, waiting for each, until the queue is shut down, `stop` is called or the bus closes.
    ///
    /// Each is confirmed when the next is asked for, or by `task_done`; leaving early requeues the one
    /// in hand.
    fn __aiter__(&self, py: Python<'_>) -> PyResult<AsyncServing> {
        let Attached { handover, owner } = self.attached(py)?;
        let (handover, owner) = (Arc::clone(handover), owner.clone_ref(py));
        Ok(AsyncServing { handover, owner, current: Arc::default() })
    }
}

/// A loop over items.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct AsyncServing {
    handover: Arc<Handover>,
    owner: Py<PyAny>,
    current: Arc<Current>,
}

#[pymethods]
impl AsyncServing {
    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __anext__(&self, py: Python<'_>) -> PyResult<Taking> {
        if let Some(done) = self.current.take(self.handover.held()?) {
            done.ack_soon();
        }
        let asked = (Arc::clone(&self.handover), self.owner.call0(py)?.extract(py)?);
        let form = Form::Next(Arc::clone(&self.current));
        Taking::new(py, vec![asked], 1, &Waiting::FOREVER, form)
    }
}

impl Drop for AsyncServing {
    fn drop(&mut self) {
        // The loop was left: what it had in hand is requeued, by being dropped.
        if let Ok(held) = self.handover.held() {
            drop(self.current.take(held));
        }
    }
}

/// Get an item from the first of some queues that has one, with the queue that it is from; see
/// `pymq.get_from`.
#[pyfunction]
#[pyo3(signature = (queues, block=Truth(true), timeout=None), text_signature = "(queues, block=True, timeout=None)")]
pub(crate) fn aio_get_from(
    py: Python<'_>,
    queues: &Bound<'_, PyAny>,
    block: Truth,
    timeout: Option<f64>,
) -> PyResult<Taking> {
    let waiting = Waiting::new(block, timeout)?;
    let queues = queues.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let asked = queues.iter().map(|queue| match queue.cast::<AsyncGetter>() {
        Ok(getter) => getter.get().attached(py)?.asked(py),
        Err(_) => Err(not_ours(queue)),
    });
    let asked = asked.collect::<PyResult<Vec<_>>>()?;
    if asked.is_empty() {
        return Err(PyValueError::new_err("there is no queue to get from; name one or more"));
    }
    let form = Form::From(queues.into_iter().map(Bound::unbind).collect());
    Taking::new(py, asked, 1, &waiting, form)
}

/// A get under way, to be awaited once or to be made a task of.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Taking {
    handovers: Vec<Arc<Handover>>,
    /// As whom, at each of them.
    owners: Vec<u64>,
    form: Form,
    /// When it began, where somebody watches.
    since: Option<Instant>,
    /// What waits for the claim; gone when it has ended.
    wait: Mutex<Option<Py<PyAny>>>,
    came: Came,
}

/// Where a claim puts what it took, as long as somebody waits for that.
#[derive(Clone, Default)]
struct Came(Arc<Mutex<Slot>>);

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Full((usize, Claimed)),
    /// Nobody waits any more: what comes goes back at once.
    Over,
}

impl Came {
    fn begin(&self) {
        *self.lock() = Slot::Empty;
    }

    fn put(&self, claimed: (usize, Claimed)) {
        let mut slot = self.lock();
        if matches!(*slot, Slot::Empty) {
            *slot = Slot::Full(claimed);
        }
    }

    fn take(&self) -> Option<(usize, Claimed)> {
        match std::mem::replace(&mut *self.lock(), Slot::Over) {
            Slot::Full(claimed) => Some(claimed),
            Slot::Empty | Slot::Over => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taking {
    fn new(
        py: Python<'_>,
        asked: Vec<Asked>,
        limit: usize,
        waiting: &Waiting,
        form: Form,
    ) -> PyResult<Self> {
        let came = Came::default();
        let (handovers, owners): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        let wait = Mutex::new(Some(begin(py, &handovers, limit, waiting, &came)?));
        Ok(Self { handovers, owners, form, since: telemetry::waits(), wait, came })
    }

    /// Goes on with the wait; `Ok` is what the event loop wants, `Err` the end: a `StopIteration`
    /// with the result, or what was raised.
    fn step(
        &self,
        py: Python<'_>,
        mut go_on: impl FnMut(&Bound<'_, PyAny>) -> PyResult<Py<PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let Some(wait) = self.lock().as_ref().map(|wait| wait.clone_ref(py)) else {
            return Err(PyRuntimeError::new_err(
                "cannot await a get that has ended; make another one",
            ));
        };
        let mut wait = wait.into_bound(py);
        let mut stepped = go_on(&wait);
        loop {
            let raised = match stepped {
                Ok(wanted) => return Ok(wanted),
                Err(raised) => raised,
            };
            *self.lock() = None;
            let claimed = self.came.take();
            if !raised.is_instance_of::<PyStopIteration>(py) {
                // With it goes back what had come.
                return Err(self.ended(py, raised));
            }
            match self.finish(py, claimed) {
                Ok(result) => return Err(PyStopIteration::new_err((result,))),
                Err(error) if matches!(self.form, Form::Next(_)) && is_unreadable(py, &error) => {
                    self.handovers[0].report(py, &error)?;
                }
                Err(error) => return Err(error),
            }
            let next = begin(py, &self.handovers, 1, &Waiting::FOREVER, &self.came)?;
            wait = next.clone_ref(py).into_bound(py);
            *self.lock() = Some(next);
            stepped = wait.call_method1("send", (py.None(),)).map(Bound::unbind);
        }
    }

    /// An error as the one who awaits has it: a loop ends without one.
    fn ended(&self, py: Python<'_>, error: PyErr) -> PyErr {
        match self.form {
            Form::Next(_) if is_end(py, &error) => PyStopAsyncIteration::new_err(()),
            _ => error,
        }
    }

    fn finish(&self, py: Python<'_>, came: Option<(usize, Claimed)>) -> PyResult<Py<PyAny>> {
        let came = came.ok_or_else(|| error::empty(py))?;
        let (handover, owner) = (&self.handovers[came.0], self.owners[came.0]);
        handover.give(py, &self.form, owner, came, self.since, Handover::give_up)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.wait.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A coroutine that waits for a claim, whose result goes to `came`.
fn begin(
    py: Python<'_>,
    handovers: &[Arc<Handover>],
    limit: usize,
    waiting: &Waiting,
    came: &Came,
) -> PyResult<Py<PyAny>> {
    came.begin();
    let came = came.clone();
    let claim = claiming(handovers, limit, waiting)?.then(move |claimed| {
        came.put(claimed);
        nothing()
    });
    let run = RUN.import(py, "pymq._reactor", "run")?;
    Ok(run.call1((Operation::new(claim),))?.unbind())
}

#[pymethods]
impl Taking {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.send(py, py.None())
    }

    fn send(&self, py: Python<'_>, value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.step(py, |wait| Ok(wait.call_method1("send", (&value,))?.unbind()))
    }

    #[pyo3(signature = (*raised))]
    fn throw(&self, py: Python<'_>, raised: &Bound<'_, PyTuple>) -> PyResult<Py<PyAny>> {
        self.step(py, |wait| Ok(wait.call_method1("throw", raised.clone())?.unbind()))
    }

    /// Gives it up.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let wait = self.lock().take();
        let closed = wait.map(|wait| wait.call_method0(py, "close")).transpose();
        drop(self.came.take());
        closed.map(drop)
    }
}
