//! How threads get items: they claim, wait, and are given what came.
//!
//! What hands an item over, or knows that one was confirmed, is the last step of a call ([`LastStep`]),
//! which the methods of `pymq._queue.NativeQueue` do.

use std::sync::{Arc, Mutex, PoisonError};

use pymq::transport::{SettleOptions, Settlement};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyGenericAlias, PyTuple, PyType};

use crate::error::PyError;
use crate::operation::wait;
use crate::operation::{Operation, Task, nothing};
use crate::queue::Claimed;
use crate::queue::handover::{
    Current, Form, Handover, Truth, Waiting, claiming, is_end, is_unreadable, limit,
};
use crate::queue::last_step::LastStep;
use crate::queue::open_items::{Done, this_thread};
use crate::queue::telemetry;

/// `pymq._nested_waits.wait_for`, and where that module keeps the calling thread's lane.
static WAIT_FOR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static HERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
/// `asyncio.get_running_loop`, which gives nothing where none runs, and `pymq._loops.refuse_to_freeze`.
static LOOP_HERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static REFUSE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Claims for the thread that waits.
///
/// # Errors
/// Those of a claim, and `RuntimeError` where the wait would freeze an event loop.
fn claim(
    py: Python<'_>,
    handovers: &[Arc<Handover>],
    limit: usize,
    waiting: &Waiting,
) -> PyResult<(usize, Claimed)> {
    match waiting.block {
        true if is_on_a_loop(py)? => on_a_loop(py, handovers, limit, waiting),
        true => in_turn(py, claiming(handovers, limit, waiting)?),
        false => Ok(claiming(handovers, limit, waiting)?.wait(py, None)?),
    }
}

/// Claims for the thread that waits, and offers it what came.
///
/// # Errors
/// As [`claim`] and [`Handover::offer`].
fn offer(
    py: Python<'_>,
    handovers: &[Arc<Handover>],
    limit: usize,
    waiting: &Waiting,
    form: Form,
) -> PyResult<LastStep> {
    let since = telemetry::waits();
    let came = claim(py, handovers, limit, waiting)?;
    handovers[came.0].offer(py, form, came, since)
}

/// Claims for the thread that waits, and gives it what came.
///
/// # Errors
/// As [`claim`] and [`Handover::give`].
fn get(
    py: Python<'_>,
    handover: &Arc<Handover>,
    waiting: &Waiting,
    form: &Form,
) -> PyResult<Py<PyAny>> {
    let since = telemetry::waits();
    let came = claim(py, std::slice::from_ref(handover), 1, waiting)?;
    handover.give(py, form, this_thread(), came, since, Handover::reject)
}

fn is_on_a_loop(py: Python<'_>) -> PyResult<bool> {
    let here = LOOP_HERE.import(py, "asyncio", "_get_running_loop")?;
    Ok(!here.call0()?.is_none())
}

/// What is there at once; only what has to wait for more may be refused.
fn on_a_loop(
    py: Python<'_>,
    handovers: &[Arc<Handover>],
    limit: usize,
    waiting: &Waiting,
) -> PyResult<(usize, Claimed)> {
    let came = claiming(handovers, limit, &Waiting::NOT)?.wait(py, None)?;
    if !came.1.deliveries().is_empty() {
        return Ok(came);
    }
    REFUSE.import(py, "pymq._loops", "refuse_to_freeze")?.call1(("get", waiting.timeout))?;
    in_turn(py, claiming(handovers, limit, waiting)?)
}

/// Waits for a claim. From inside a callback others have their turn meanwhile; the main thread waits
/// under a frame of Python's, so that signal handlers see where it is.
fn in_turn(py: Python<'_>, claim: Task<(usize, Claimed)>) -> PyResult<(usize, Claimed)> {
    let claim = match claim.now()? {
        Ok(came) => return Ok(came),
        Err(waits) => waits,
    };
    let here = HERE.import(py, "pymq._nested_waits", "here")?;
    if here.getattr("lane")?.is_none() && !wait::is_main_thread() {
        return Ok(claim.wait(py, None)?);
    }
    // The result goes by here, not through Python's frames, where an exception could meet it.
    let came = Arc::new(Mutex::new(None));
    let theirs = Arc::clone(&came);
    let operation = Operation::new(claim.then(move |claimed| {
        *theirs.lock().unwrap_or_else(PoisonError::into_inner) = Some(claimed);
        nothing()
    }));
    let operation = Bound::new(py, operation)?;
    WAIT_FOR.import(py, "pymq._nested_waits", "wait_for")?.call1((operation,))?;
    let claimed = came.lock().unwrap_or_else(PoisonError::into_inner).take();
    claimed.ok_or_else(|| PyError::Closed.into())
}

/// Offers an item of the first of some queues that has one, with the queue that it is from.
#[pyfunction]
#[pyo3(signature = (queues, block, timeout))]
pub(crate) fn offer_from(
    py: Python<'_>,
    queues: &Bound<'_, PyAny>,
    block: Truth,
    timeout: Option<f64>,
) -> PyResult<LastStep> {
    let waiting = Waiting::new(block, timeout)?;
    let queues = queues.try_iter()?.collect::<PyResult<Vec<_>>>()?;
    let handovers = queues.iter().map(|queue| match queue.cast::<Getter>() {
        Ok(getter) => getter.get().handover(py).cloned(),
        Err(_) => Err(not_ours(queue)),
    });
    let handovers = handovers.collect::<PyResult<Vec<_>>>()?;
    if handovers.is_empty() {
        return Err(PyValueError::new_err("there is no queue to get from; name one or more"));
    }
    let form = Form::From(queues.into_iter().map(Bound::unbind).collect());
    offer(py, &handovers, 1, &waiting, form)
}

pub(crate) fn not_ours(queue: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("get_from takes from queues of a bus of PyMQ, not from {queue:?}"))
}

/// The half of a queue's handle that gets items; `pymq._queue.NativeQueue` is the whole.
#[pyclass(frozen, subclass, module = "pymq._pymq")]
pub(crate) struct Getter {
    handover: PyOnceLock<Arc<Handover>>,
}

impl Getter {
    fn handover(&self, py: Python<'_>) -> PyResult<&Arc<Handover>> {
        self.handover.get(py).ok_or_else(|| PyRuntimeError::new_err("this queue has no handle yet"))
    }

    fn offer(
        &self,
        py: Python<'_>,
        limit: usize,
        waiting: &Waiting,
        form: Form,
    ) -> PyResult<LastStep> {
        offer(py, std::slice::from_ref(self.handover(py)?), limit, waiting, form)
    }
}

#[pymethods]
impl Getter {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self { handover: PyOnceLock::new() }
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(class.py(), class.as_any(), item)
    }

    /// Says by which handle items are got, what a delivery is made with, and whether who watches is
    /// told of them here.
    #[pyo3(signature = (handle, delivery, tells=true))]
    fn _attach(
        &self,
        handle: &Bound<'_, PyAny>,
        delivery: &Bound<'_, PyAny>,
        tells: bool,
    ) -> PyResult<()> {
        let handover = Arc::new(Handover::of(handle, delivery, tells)?);
        let _ = self.handover.set(handle.py(), handover);
        Ok(())
    }

    /// Offers the first item, as `pymq._queue.NativeQueue.get` gives it.
    fn _offer(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<LastStep> {
        self.offer(py, 1, &Waiting::new(block, timeout)?, Form::Item)
    }

    /// Offers up to `limit` items, as `pymq._queue.NativeQueue.get_many` gives them.
    fn _offer_many(
        &self,
        py: Python<'_>,
        limit: i64,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<LastStep> {
        self.offer(py, self::limit(limit)?, &Waiting::new(block, timeout)?, Form::Items)
    }

    /// Take the first item as a `Delivery`, whatever the handle's `ack` says.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn get_delivery(
        &self,
        py: Python<'_>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        get(py, self.handover(py)?, &Waiting::new(block, timeout)?, &Form::Delivery)
    }

    /// Serve items, waiting for each, until the queue is shut down, `stop` is called or the bus closes.
    ///
    /// Each is confirmed when the next is asked for, or by `task_done`; leaving early requeues the one
    /// in hand. Items that cannot be read are logged and left to the dead letters.
    fn __iter__(&self, py: Python<'_>) -> PyResult<Serving> {
        Ok(Serving { handover: Arc::clone(self.handover(py)?), current: Arc::default() })
    }

    /// Confirms an item, as `pymq._queue.NativeQueue.task_done` says; what is left is to know it.
    fn _settle(&self, py: Python<'_>) -> PyResult<LastStep> {
        let handover = self.handover(py)?;
        let (held, owner) = (Arc::clone(handover.held()?), this_thread());
        let settle = match held.done(owner).ok_or(PyError::NothingOpen)? {
            Done::Item(delivery) => {
                let ack = SettleOptions::default();
                Some(handover.queue().settling(delivery, Settlement::Ack, ack)?)
            }
            Done::Already => None,
        };
        // Until the caller has our answer, said again it means this item.
        held.set_interrupted(owner, true);
        match settle.map_or(Ok(()), |settle| settle.wait(py, None)) {
            Ok(()) => {}
            Err(PyError::Interrupted(raised)) => return Err(raised),
            Err(error) => {
                held.set_interrupted(owner, false);
                return Err(error.into());
            }
        }
        Ok(LastStep::new(handover.process(), move |py| {
            held.set_interrupted(owner, false);
            Ok(py.None())
        }))
    }
}

/// A loop over items.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Serving {
    handover: Arc<Handover>,
    current: Arc<Current>,
}

impl Serving {
    fn next(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let held = self.handover.held()?;
        if let Some(done) = self.current.take(held) {
            done.ack_soon();
        }
        let form = Form::Next(Arc::clone(&self.current));
        loop {
            match get(py, &self.handover, &Waiting::FOREVER, &form) {
                Err(error) if is_unreadable(py, &error) => self.handover.report(py, &error)?,
                given => return given,
            }
        }
    }
}

#[pymethods]
impl Serving {
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.next(py) {
            Ok(item) => Ok(Some(item)),
            Err(error) if is_end(py, &error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // The loop was left: what it had in hand is requeued, by being dropped.
        if let Ok(held) = self.handover.held() {
            drop(self.current.take(held));
        }
    }
}
