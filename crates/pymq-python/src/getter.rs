//! How items come out of a queue, for threads: claimed, read, handed over.
//!
//! The one invariant: until Python has what a call returns, the item is ours, and goes back uncounted
//! whatever is raised meanwhile. So these methods are native to their end: the last thing that they
//! do is to note that the item was handed over, and no line of Python's comes after that. A signal
//! that came until then has its handler called before, so that what it raises finds the item ours.

use std::sync::{Arc, Mutex, PoisonError};

use pymq::transport::{Failure, Reason, SettleOptions, Settlement};
use pymq::{ByteDelivery, ErrorKind};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyGenericAlias, PyList, PyTuple, PyType};

use crate::codec::{CodecCore, Plan};
use crate::error::{self, PyError};
use crate::hand::{Done, Hand, Held, this_thread};
use crate::operation::{Operation, Task, nothing};
use crate::process::Native;
use crate::queue::{Claimed, Queue};
use crate::wait;

/// `pymq._dispatch.wait_for`, and where that module keeps the calling thread's lane.
static WAIT_FOR: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static HERE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What is needed to get items by a handle.
pub(crate) struct Desk {
    queue: Py<Queue>,
    held: Native<Arc<Held>>,
    codec: Py<CodecCore>,
    plan: Option<Py<Plan>>,
    /// `(DecodeError) -> None`: an item was passed over.
    report: Py<PyAny>,
    /// `(item, delivery) -> Delivery`
    delivery: Py<PyAny>,
}

/// An item that was read, still ours.
pub(crate) type Read = (Py<PyAny>, Claimed);

impl Desk {
    /// The desk of a `pymq._handle.Handle`.
    pub(crate) fn of(handle: &Bound<'_, PyAny>, delivery: &Bound<'_, PyAny>) -> PyResult<Self> {
        let hand = handle.getattr("open")?;
        let held = Arc::clone(hand.cast::<Hand>()?.get().held()?);
        let queue: Py<Queue> = handle.getattr("bare")?.extract()?;
        queue.get().settles(&held)?;
        Ok(Self {
            queue,
            held: Native::new(held),
            codec: handle.getattr("codec")?.cast_into::<CodecCore>()?.unbind(),
            plan: handle.getattr("plan")?.extract()?,
            report: handle.getattr("report")?.unbind(),
            delivery: delivery.clone().unbind(),
        })
    }

    pub(crate) fn queue(&self) -> &Queue {
        self.queue.get()
    }

    pub(crate) fn held(&self) -> PyResult<&Arc<Held>> {
        self.held.get()
    }

    /// Claims for the thread that waits; `queue.Empty` when there was nothing in time.
    fn claim(&self, py: Python<'_>, limit: usize, way: &Way) -> PyResult<Claimed> {
        let task = self.queue().claiming(limit, way.block, way.timeout)?;
        let claimed = if way.block { in_turn(py, task)? } else { task.wait(py, None)? };
        if claimed.deliveries().is_empty() {
            return Err(error::empty(py));
        }
        Ok(claimed)
    }

    /// Reads one item of several.
    ///
    /// # Errors
    /// `DecodeError`: it belongs to the dead letters. Whatever else the program's own classes raise.
    pub(crate) fn read(&self, py: Python<'_>, delivery: &ByteDelivery) -> PyResult<Py<PyAny>> {
        let plan = self.plan.as_ref().map(|plan| plan.bind(py));
        let item = self.codec.get().decode(py, delivery.payload(), plan, "item")?;
        Ok(item.unbind())
    }

    /// Reads the items that can be read and leaves the others to the dead letters; an error if that
    /// is all of them. None is handed over before all are read.
    pub(crate) fn read_many(&self, py: Python<'_>, claimed: &mut Claimed) -> PyResult<Py<PyList>> {
        let items = PyList::empty(py);
        let mut unreadable = None;
        while items.len() < claimed.deliveries().len() {
            let place = items.len();
            match self.read(py, &claimed.deliveries()[place]) {
                Ok(item) => items.append(item)?,
                Err(error) if is_unreadable(py, &error) => {
                    give_up(claimed.remove(place), &error);
                    self.report(py, &error)?;
                    unreadable = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        match unreadable {
            Some(error) if items.is_empty() => Err(error),
            _ => Ok(items.unbind()),
        }
    }

    /// Says in the log that an item was passed over.
    pub(crate) fn report(&self, py: Python<'_>, error: &PyErr) -> PyResult<()> {
        self.report.call1(py, (error.value(py),)).map(drop)
    }

    /// Hands items over. After this nothing may fail, and no Python may run.
    pub(crate) fn hand_over(&self, held: &Arc<Held>, owner: u64, claimed: Claimed) {
        let deliveries = claimed.into_deliveries();
        if held.is_manual() {
            held.take(owner, deliveries);
            return;
        }
        held.count(owner, deliveries.len());
        deliveries.into_iter().for_each(ByteDelivery::ack_soon);
    }

    /// The item as a delivery, which is its holder's to settle.
    pub(crate) fn deliver(
        &self,
        py: Python<'_>,
        item: Py<PyAny>,
        claimed: Claimed,
    ) -> PyResult<Py<PyAny>> {
        let Some(native) = claimed.into_delivery() else { return Err(error::empty(py)) };
        let native = Py::new(py, native)?;
        // What is raised here keeps the frames alive that know the delivery, so dropping is not enough.
        self.delivery.call1(py, (item, &native)).inspect_err(|_| {
            let _ = native.get().give_back();
        })
    }

    fn get_one(&self, py: Python<'_>, way: &Way) -> PyResult<Read> {
        let mut claimed = self.claim(py, 1, way)?;
        match self.read(py, &claimed.deliveries()[0]) {
            Ok(item) => Ok((item, claimed)),
            Err(error) if is_unreadable(py, &error) => {
                let options = SettleOptions::default().failure(undecodable(&error));
                let reject =
                    self.queue().settling(claimed.remove(0), Settlement::Reject, options)?;
                match reject.wait(py, None) {
                    Err(PyError::Interrupted(raised)) => Err(raised),
                    // The item cannot be read whatever became of it.
                    Ok(()) | Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Leaves an item that cannot be read to the dead letters, without waiting for it.
pub(crate) fn give_up(delivery: ByteDelivery, error: &PyErr) {
    let options = SettleOptions::default().failure(undecodable(error));
    delivery.settle_soon(Settlement::Reject, options);
}

fn undecodable(error: &PyErr) -> Failure {
    Failure::new(Reason::Undecodable).error("DecodeError", &error.to_string())
}

/// Whether an item is to blame for an error, and not the moment.
pub(crate) fn is_unreadable(py: Python<'_>, error: &PyErr) -> bool {
    error::is_of(py, error, &[ErrorKind::Decode])
}

/// Whether a loop over items ends with an error, because there will be no more.
pub(crate) fn is_end(py: Python<'_>, error: &PyErr) -> bool {
    error::is_of(py, error, &[ErrorKind::ShutDown, ErrorKind::Closed])
}

/// How a get waits, with the arguments of `queue.Queue.get`.
pub(crate) struct Way {
    pub(crate) block: bool,
    pub(crate) timeout: Option<f64>,
}

impl Way {
    pub(crate) const NOT: Self = Self { block: false, timeout: None };
    pub(crate) const FOREVER: Self = Self { block: true, timeout: None };

    pub(crate) fn new(Truth(block): Truth, timeout: Option<f64>) -> PyResult<Self> {
        match timeout {
            Some(timeout) if block && (timeout < 0.0 || timeout.is_nan()) => {
                Err(PyValueError::new_err("'timeout' must be a non-negative number"))
            }
            _ => Ok(Self { block, timeout }),
        }
    }
}

/// Anything that Python takes for true or false.
pub(crate) struct Truth(pub(crate) bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(value: pyo3::Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        value.is_truthy().map(Self)
    }
}

/// How many items are asked for.
pub(crate) fn limit(limit: i64) -> PyResult<usize> {
    match usize::try_from(limit) {
        Ok(limit) if limit > 0 => Ok(limit),
        _ => Err(PyValueError::new_err(format!("limit is at least 1, not {limit}"))),
    }
}

/// Waits for a claim. From inside a callback others have their turn meanwhile; the main thread waits
/// under a frame of Python's, so that signal handlers see where it is.
fn in_turn(py: Python<'_>, claim: Task<Claimed>) -> PyResult<Claimed> {
    let claim = match claim.now()? {
        Ok(claimed) => return Ok(claimed),
        Err(claim) => claim,
    };
    let here = HERE.import(py, "pymq._dispatch", "_here")?;
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
    WAIT_FOR.import(py, "pymq._dispatch", "wait_for")?.call1((operation,))?;
    let claimed = came.lock().unwrap_or_else(PoisonError::into_inner).take();
    claimed.ok_or_else(|| PyError::Closed.into())
}

/// The half of a queue's handle that gets items; `pymq._queue.NativeQueue` is the whole.
#[pyclass(frozen, subclass, module = "pymq._pymq")]
pub(crate) struct Getter {
    desk: PyOnceLock<Arc<Desk>>,
}

impl Getter {
    fn desk(&self, py: Python<'_>) -> PyResult<&Arc<Desk>> {
        self.desk.get(py).ok_or_else(|| PyRuntimeError::new_err("this queue has no handle yet"))
    }
}

#[pymethods]
impl Getter {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyTuple>, _options: Option<&Bound<'_, PyDict>>) -> Self {
        Self { desk: PyOnceLock::new() }
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyGenericAlias>> {
        PyGenericAlias::new(class.py(), class.as_any(), item)
    }

    /// Says by which handle items are got, and what a delivery is made with.
    fn _attach(&self, handle: &Bound<'_, PyAny>, delivery: &Bound<'_, PyAny>) -> PyResult<()> {
        let desk = Arc::new(Desk::of(handle, delivery)?);
        let _ = self.desk.set(handle.py(), desk);
        Ok(())
    }

    /// Take the first item; waits for one as `queue.Queue.get` does.
    ///
    /// Raises `Empty`, `ShutDown`, and `DecodeError` for an item that cannot be read: that one is a
    /// dead letter then, with its bytes as they were. Interrupted, it loses nothing.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn get(&self, py: Python<'_>, block: Truth, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let desk = self.desk(py)?;
        let (item, claimed) = desk.get_one(py, &Way::new(block, timeout)?)?;
        py.check_signals()?;
        desk.hand_over(desk.held()?, this_thread(), claimed);
        Ok(item)
    }

    /// Take the first item if there is one now, else raise `Empty`.
    fn get_nowait(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.get(py, Truth(false), None)
    }

    /// Take up to `limit` items in one round trip, waiting for the first one only.
    ///
    /// Over Redis 1,000 come at a time at most. Raises `Empty` if there is none in time.
    #[pyo3(signature = (limit, block=Truth(true), timeout=None), text_signature = "($self, limit, block=True, timeout=None)")]
    fn get_many(
        &self,
        py: Python<'_>,
        limit: i64,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<Py<PyList>> {
        let desk = self.desk(py)?;
        let (limit, way) = (self::limit(limit)?, Way::new(block, timeout)?);
        let mut claimed = desk.claim(py, limit, &way)?;
        let items = desk.read_many(py, &mut claimed)?;
        py.check_signals()?;
        desk.hand_over(desk.held()?, this_thread(), claimed);
        Ok(items)
    }

    /// Take the first item as a `Delivery`, whatever the handle's `ack` says.
    #[pyo3(signature = (block=Truth(true), timeout=None), text_signature = "($self, block=True, timeout=None)")]
    fn get_delivery(
        &self,
        py: Python<'_>,
        block: Truth,
        timeout: Option<f64>,
    ) -> PyResult<Py<PyAny>> {
        let desk = self.desk(py)?;
        let (item, claimed) = desk.get_one(py, &Way::new(block, timeout)?)?;
        desk.deliver(py, item, claimed)
    }

    /// Serve items, waiting for each, until the queue is shut down, `stop` is called or the bus closes.
    ///
    /// Each is confirmed when the next is asked for, or by `task_done`; leaving early requeues the one
    /// in hand. Items that cannot be read are logged and left to the dead letters.
    fn __iter__(&self, py: Python<'_>) -> PyResult<Serving> {
        Ok(Serving { desk: Arc::clone(self.desk(py)?), current: Current::default() })
    }

    /// Confirm the item that this thread got last and has open (of those that one call gave, the
    /// first); if it has none, the handle's oldest.
    ///
    /// The first call makes an `ack="auto"` handle a manual one. Raises `ValueError` if nothing is
    /// open, and `LeaseLostError` if the item belongs to others by now. Interrupted, it goes on, and
    /// may be called again.
    fn task_done(&self, py: Python<'_>) -> PyResult<()> {
        let desk = self.desk(py)?;
        let (held, owner) = (desk.held()?, this_thread());
        let delivery = match held.done(owner).ok_or(PyError::NothingOpen)? {
            Done::Item(delivery) => delivery,
            Done::Already => return Ok(()),
        };
        let settle = desk.queue().settling(delivery, Settlement::Ack, SettleOptions::default())?;
        held.set_interrupted(owner, true);
        let settled = settle.wait(py, None);
        if !matches!(settled, Err(PyError::Interrupted(_))) {
            // What a signal handler raises from now on is raised here, where it is known that this
            // item was confirmed, and not between our end and the caller's next step.
            py.check_signals()?;
            held.set_interrupted(owner, false);
        }
        Ok(settled?)
    }
}

/// The item that a loop has in hand.
#[derive(Default)]
pub(crate) struct Current(Mutex<Option<u64>>);

impl Current {
    pub(crate) fn set(&self, number: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    /// Takes it out, unless `task_done` or `close` did.
    pub(crate) fn take(&self, held: &Held) -> Option<ByteDelivery> {
        let number = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        held.remove(number)
    }
}

/// A loop over items.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Serving {
    desk: Arc<Desk>,
    current: Current,
}

impl Serving {
    fn next(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let held = self.desk.held()?;
        if let Some(done) = self.current.take(held) {
            done.ack_soon();
        }
        loop {
            match self.desk.get_one(py, &Way::FOREVER) {
                Ok((item, claimed)) => {
                    py.check_signals()?;
                    self.current.set(held.take(this_thread(), claimed.into_deliveries()));
                    return Ok(item);
                }
                Err(error) if is_unreadable(py, &error) => self.desk.report(py, &error)?,
                Err(error) => return Err(error),
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
        if let Ok(held) = self.desk.held() {
            drop(self.current.take(held));
        }
    }
}
