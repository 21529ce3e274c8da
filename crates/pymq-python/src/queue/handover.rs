//! How an item gets from its queue into a program's hands, for threads and for event loops alike.
//!
//! The one invariant: until Python has what a call returns, the item is ours, and goes back uncounted
//! whatever is raised meanwhile. So the last thing that is done is to note that the item was handed
//! over ([`Handover::pass`]), in a step after which no handler of a signal runs before the program has
//! the result: the end of a wait of an event loop, the next item of a loop, or a [`LastStep`]. A signal that
//! came until then has its handler called before, so that what it raises finds the item ours.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use pymq::transport::{Failure, Reason, SettleOptions, Settlement};
use pymq::wire;
use pymq::{ByteDelivery, ErrorKind};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString};
use pyo3::{IntoPyObjectExt as _, intern};

use crate::codec::{CodecCore, Plan};
use crate::error::{self, PyError};
use crate::metadata::Metadata;
use crate::operation::Task;
use crate::queue::last_step::LastStep;
use crate::queue::open_items::{Held, OpenItems, this_thread, watch_this_thread};
use crate::queue::telemetry;
use crate::queue::{Claimed, Queue};
use crate::this_process::ThisProcess;

/// `pymq._message._current`: the message that is handled in a context.
static CURRENT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What is needed to get items by a handle.
pub(crate) struct Handover {
    queue: Py<Queue>,
    name: Py<PyString>,
    held: ThisProcess<Arc<Held>>,
    codec: Py<CodecCore>,
    plan: Option<Py<Plan>>,
    /// `(DecodeError) -> None`: an item was passed over.
    report: Py<PyAny>,
    /// `(item, delivery) -> Delivery`
    delivery: Py<PyAny>,
    /// Whether who watches is told here of what is given; a worker tells of it as it handles it.
    tells: bool,
}

/// In which form items are given.
pub(crate) enum Form {
    Item,
    Items,
    Delivery,
    /// As the item that a loop has in hand.
    Next(Arc<Current>),
    /// With the one of these queues that it came from.
    From(Vec<Py<PyAny>>),
}

/// What becomes of an item that cannot be read.
pub(crate) type Leave = fn(&Handover, Python<'_>, ByteDelivery, &PyErr) -> PyResult<()>;

impl Handover {
    /// The handover of a `pymq._handle.Handle`.
    pub(crate) fn of(
        handle: &Bound<'_, PyAny>,
        delivery: &Bound<'_, PyAny>,
        tells: bool,
    ) -> PyResult<Self> {
        let hand = handle.getattr("open")?;
        let held = Arc::clone(hand.cast::<OpenItems>()?.get().held()?);
        let queue: Py<Queue> = handle.getattr("bare")?.extract()?;
        queue.get().settles(&held)?;
        Ok(Self {
            queue,
            name: handle.getattr("name")?.cast_into::<PyString>()?.unbind(),
            held: ThisProcess::new(held),
            codec: handle.getattr("codec")?.cast_into::<CodecCore>()?.unbind(),
            plan: handle.getattr("plan")?.extract()?,
            report: handle.getattr("report")?.unbind(),
            delivery: delivery.clone().unbind(),
            tells,
        })
    }

    pub(crate) fn queue(&self) -> &Queue {
        self.queue.get()
    }

    pub(crate) fn held(&self) -> PyResult<&Arc<Held>> {
        self.held.get()
    }

    /// The process that items are got in.
    pub(crate) fn process(&self) -> u32 {
        self.held.process()
    }

    /// Says in the log that an item was passed over.
    pub(crate) fn report(&self, py: Python<'_>, error: &PyErr) -> PyResult<()> {
        self.report.call1(py, (error.value(py),)).map(drop)
    }

    /// Reads what was claimed, of the `which`-th queue that was asked, and hands it to its owner,
    /// which is the last thing that is done. Who watches is told how long the owner had waited.
    ///
    /// # Errors
    /// `queue.Empty` if nothing was claimed, `DecodeError` for an item that cannot be read, and
    /// whatever the program's own classes and signal handlers raise.
    pub(crate) fn give(
        &self,
        py: Python<'_>,
        form: &Form,
        owner: u64,
        mut came: (usize, Claimed),
        since: Option<Instant>,
        leave: Leave,
    ) -> PyResult<Py<PyAny>> {
        let given = self.open(py, form, &mut came, since, leave)?;
        if matches!(form, Form::Delivery) {
            return self.deliver(py, given, came.1);
        }
        self.pass(py, form, owner, came.1, given)
    }

    /// The same for the thread that reads the step's result; until then the item is ours.
    ///
    /// # Errors
    /// As [`Handover::give`].
    pub(crate) fn offer(
        self: &Arc<Self>,
        py: Python<'_>,
        form: Form,
        mut came: (usize, Claimed),
        since: Option<Instant>,
    ) -> PyResult<LastStep> {
        let given = self.open(py, &form, &mut came, since, Self::reject)?;
        let handover = Arc::clone(self);
        Ok(LastStep::new(self.process(), move |py| {
            handover.pass(py, &form, this_thread(), came.1, given)
        }))
    }

    /// What came, as it is given. Nothing is handed over yet.
    fn open(
        &self,
        py: Python<'_>,
        form: &Form,
        (which, claimed): &mut (usize, Claimed),
        since: Option<Instant>,
        leave: Leave,
    ) -> PyResult<Py<PyAny>> {
        if claimed.deliveries().is_empty() {
            return Err(error::empty(py));
        }
        let given = match form {
            Form::Items => self.read_many(py, claimed)?.into_any(),
            _ => self.read_one(py, claimed, leave)?,
        };
        telemetry::tell(py, &self.name, since.filter(|_| self.tells), claimed)?;
        match form {
            Form::Items | Form::Delivery => return Ok(given),
            Form::Item | Form::Next(_) | Form::From(_) => self.note(py, claimed)?,
        }
        match form {
            Form::From(queues) => (queues.get(*which), given).into_py_any(py),
            _ => Ok(given),
        }
    }

    /// Hands items over to their owner: what is given of them. After it nothing may fail, and no Python may
    /// run.
    fn pass(
        &self,
        py: Python<'_>,
        form: &Form,
        owner: u64,
        claimed: Claimed,
        given: Py<PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let held = self.held()?;
        if held.is_manual() && owner == this_thread() {
            watch_this_thread(py)?;
        }
        py.check_signals()?;
        match form {
            Form::Next(current) => current.set(held.take(owner, claimed.into_deliveries())),
            _ => {
                let back = hand_over(held, owner, claimed)?;
                if matches!(form, Form::Items) {
                    take_out(given.bind(py), &back)?;
                }
            }
        }
        Ok(given)
    }

    /// The item as a delivery, which is its holder's to settle.
    fn deliver(&self, py: Python<'_>, item: Py<PyAny>, claimed: Claimed) -> PyResult<Py<PyAny>> {
        let Some(native) = claimed.into_delivery() else { return Err(error::empty(py)) };
        let native = Py::new(py, native)?;
        let made = self.delivery.call1(py, (item, &native));
        let made = made.and_then(|made| py.check_signals().map(|()| made));
        // What is raised here keeps the frames alive that know the delivery, so dropping is not enough.
        made.inspect_err(|_| {
            let _ = native.get().give_back();
        })
    }

    /// In this context that item is the message that is handled, unless the caller is the handler of
    /// another one.
    fn note(&self, py: Python<'_>, claimed: &Claimed) -> PyResult<()> {
        let [delivery, ..] = claimed.deliveries() else { return Ok(()) };
        let current = CURRENT.import(py, "pymq._message", "_current")?;
        let before = current.call_method0(intern!(py, "get"))?;
        if !before.is_none() && before.get_item(3)?.is_truthy()? {
            return Ok(());
        }
        let metadata = Metadata::of(delivery);
        let message = (&self.name, metadata, delivery.deliveries(), false);
        current.call_method1(intern!(py, "set"), (message,)).map(drop)
    }

    fn read(&self, py: Python<'_>, delivery: &ByteDelivery) -> PyResult<Py<PyAny>> {
        let (_, value) = wire::Metadata::detach(delivery.payload().clone());
        let plan = self.plan.as_ref().map(|plan| plan.bind(py));
        Ok(self.codec.get().decode(py, &value, plan, "item")?.unbind())
    }

    fn read_one(&self, py: Python<'_>, claimed: &mut Claimed, leave: Leave) -> PyResult<Py<PyAny>> {
        self.read(py, &claimed.deliveries()[0]).or_else(|error| {
            if is_unreadable(py, &error) {
                leave(self, py, claimed.remove(0), &error)?;
            }
            Err(error)
        })
    }

    /// Reads the items that can be read and leaves the others to the dead letters; an error if that
    /// is all of them. None is handed over before all are read.
    fn read_many(&self, py: Python<'_>, claimed: &mut Claimed) -> PyResult<Py<PyList>> {
        let items = PyList::empty(py);
        let mut unreadable = None;
        while items.len() < claimed.deliveries().len() {
            let place = items.len();
            match self.read(py, &claimed.deliveries()[place]) {
                Ok(item) => items.append(item)?,
                Err(error) if is_unreadable(py, &error) => {
                    self.give_up(py, claimed.remove(place), &error)?;
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

    /// Leaves an item that cannot be read to the dead letters, without waiting for it.
    #[expect(clippy::unnecessary_wraps, reason = "one of two ways to leave an item")]
    pub(crate) fn give_up(
        &self,
        _: Python<'_>,
        delivery: ByteDelivery,
        error: &PyErr,
    ) -> PyResult<()> {
        delivery.settle_soon(Settlement::Reject, undecodable(error));
        Ok(())
    }

    /// Leaves an item that cannot be read to the dead letters, and waits until it is there.
    pub(crate) fn reject(
        &self,
        py: Python<'_>,
        delivery: ByteDelivery,
        error: &PyErr,
    ) -> PyResult<()> {
        let reject = self.queue().settling(delivery, Settlement::Reject, undecodable(error))?;
        match reject.wait(py, None) {
            Err(PyError::Interrupted(raised)) => Err(raised),
            // The item cannot be read whatever became of it.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Hands items over; says which of them went back, since the bus was closed meanwhile: they are nobody's.
///
/// # Errors
/// `Closed` if all did.
fn hand_over(held: &Arc<Held>, owner: u64, claimed: Claimed) -> PyResult<Vec<usize>> {
    let deliveries = claimed.into_deliveries();
    if held.is_manual() {
        held.take(owner, deliveries);
        return Ok(Vec::new());
    }
    let count = deliveries.len();
    held.count(owner, count);
    let went_back = |(place, one): (usize, ByteDelivery)| (!one.ack_soon()).then_some(place);
    let back: Vec<usize> = deliveries.into_iter().enumerate().filter_map(went_back).collect();
    // Of several, those that are confirmed must not be lost for those that are not.
    if back.len() < count { Ok(back) } else { Err(PyError::Closed.into()) }
}

/// Takes the items at some places out of a list.
fn take_out(items: &Bound<'_, PyAny>, places: &[usize]) -> PyResult<()> {
    for place in places.iter().rev() {
        items.del_item(*place)?;
    }
    Ok(())
}

/// Claims up to `limit` items from the first of some queues that has any; says from which.
pub(crate) fn claiming(
    handovers: &[Arc<Handover>],
    limit: usize,
    waiting: &Waiting,
) -> PyResult<Task<(usize, Claimed)>> {
    if let [only] = handovers {
        return only.queue().claiming(limit, waiting.block, waiting.timeout);
    }
    let queues: Vec<_> = handovers.iter().map(|handover| handover.queue()).collect();
    Queue::claiming_any(&queues, waiting.block, waiting.timeout)
}

fn undecodable(error: &PyErr) -> SettleOptions {
    let failure = Failure::new(Reason::Undecodable).error("DecodeError", &error.to_string());
    SettleOptions::default().failure(failure)
}

/// Whether an item is to blame for an error, and not the moment.
pub(crate) fn is_unreadable(py: Python<'_>, error: &PyErr) -> bool {
    error::is_of(py, error, &[ErrorKind::Decode])
}

/// Whether a loop over items ends with an error, because there will be no more.
pub(crate) fn is_end(py: Python<'_>, error: &PyErr) -> bool {
    error::is_of(py, error, &[ErrorKind::ShutDown, ErrorKind::Closed])
}

/// The item that a loop has in hand.
#[derive(Default)]
pub(crate) struct Current(Mutex<Option<u64>>);

impl Current {
    fn set(&self, number: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    /// Takes it out, unless `task_done` or `close` did.
    pub(crate) fn take(&self, held: &Held) -> Option<ByteDelivery> {
        let number = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        held.remove(number)
    }
}

/// How a get waits, with the arguments of `queue.Queue.get`.
pub(crate) struct Waiting {
    pub(crate) block: bool,
    pub(crate) timeout: Option<f64>,
}

impl Waiting {
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
