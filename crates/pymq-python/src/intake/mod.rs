//! Where a dispatching thread pulls batches from: several sources, in the order of arrival.
//!
//! How they are read as one is [`merged`]'s; here it waits without the GIL, and what was taken becomes
//! Python's.

use std::future::poll_fn;
use std::sync::{self as primitives, Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pymq::transport::Stamp;
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use self::merged::Merged;
use self::pace::Pace;
pub(crate) use self::provider::{Call, Missing, Provider, Reply};
use self::source::{Item, Source};
pub(crate) use self::subscription::Subscription;
use crate::error::bad_value;
use crate::operation::descriptor::{Bell, Descriptor};
use crate::operation::wait;
use crate::this_process::ThisProcess;

mod door;
mod merged;
mod pace;
pub(crate) mod provider;
pub(crate) mod source;
pub(crate) mod subscription;

/// What was taken from a subscription or a provider.
type Taken = merged::Taken<Source>;

/// Where a dispatching thread pulls batches from: several sources, in the order of arrival.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Intake {
    inner: ThisProcess<Arc<Inner>>,
}

/// Where in an intake a source will be.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Reservation {
    inner: ThisProcess<Arc<Inner>>,
    number: u64,
}

#[pymethods]
impl Reservation {
    /// The source's number in batches.
    #[getter]
    fn number(&self) -> u64 {
        self.number
    }
}

impl Reservation {
    /// What puts a source there, on whatever thread, unless the place was given up.
    pub(crate) fn seat(&self) -> PyResult<impl FnOnce(&Arc<Source>) + Send + use<>> {
        let (inner, number) = (Arc::clone(self.inner.get()?), self.number);
        Ok(move |source: &Arc<Source>| inner.merged.seat(number, source))
    }
}

/// What can be attached.
#[derive(FromPyObject)]
pub(crate) enum Attachable<'py> {
    Subscription(PyRef<'py, Subscription>),
    Provider(PyRef<'py, Provider>),
}

impl Attachable<'_> {
    pub(crate) fn source(&self) -> PyResult<&Arc<Source>> {
        match self {
            Self::Subscription(subscription) => subscription.source(),
            Self::Provider(provider) => provider.source(),
        }
    }
}

#[pymethods]
impl Intake {
    #[new]
    fn new() -> Self {
        Self { inner: ThisProcess::new(Arc::default()) }
    }

    /// Begins to read a source (which stays attached until it ends); its number in batches.
    fn attach(&self, source: Attachable<'_>) -> PyResult<u64> {
        let (inner, source) = (self.inner.get()?, source.source()?);
        let number = inner.merged.reserve();
        inner.merged.seat(number, source);
        Ok(number)
    }

    /// A place for a source that is about to begin. It is read from its first moment on, whatever
    /// becomes of the thread that begins it; `detach` gives the place up.
    fn reserve(&self) -> PyResult<Reservation> {
        let inner = Arc::clone(self.inner.get()?);
        let number = inner.merged.reserve();
        Ok(Reservation { inner: ThisProcess::new(inner), number })
    }

    /// Stops reading a source; what it had not given yet is gone, unless it is attached elsewhere.
    fn detach(&self, number: u64) -> PyResult<()> {
        self.inner.get()?.merged.detach(number);
        Ok(())
    }

    /// Waits for arrivals, then takes all there are, up to `limit`.
    #[pyo3(signature = (limit=256, timeout=None))]
    fn recv<'py>(
        &self,
        py: Python<'py>,
        limit: usize,
        timeout: Option<f64>,
    ) -> PyResult<Vec<Entry<'py>>> {
        if limit == 0 {
            return Err(bad_value("'limit' must be at least 1"));
        }
        let inner = self.inner.get()?;
        let deadline = wait::deadline(wait::timeout(timeout)?);
        inner.merged.came_back();
        let begun = Instant::now();
        let mut row = inner.pace().comes_back();
        // What is there is taken without letting go of the GIL: nothing here waits for it.
        let mut taken = inner.merged.take(limit);
        let in_vain = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if taken.is_empty() && !in_vain {
            let waited = wait::in_slices(py, deadline, |until| {
                let row = row.take();
                row.and_then(|source| inner.serve(&source, limit, until))
                    .or_else(|| inner.merged.wait(limit, until))
            })?;
            taken = waited.unwrap_or_default();
        }
        inner.pace().takes(taken.len(), calls_in(&taken), begun.elapsed());
        let mut topics = Topics::default();
        taken.into_iter().map(|taken| entry(taken, py, &mut topics)).collect()
    }

    /// Wakes whoever waits; from then on `recv` gives what is left and then empty batches.
    fn close(&self) -> PyResult<()> {
        self.inner.get()?.merged.close();
        Ok(())
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.inner.get()?.merged.is_closed())
    }

    /// Whether nothing is there to be taken, and what was taken was followed by another `recv`.
    #[getter]
    fn idle(&self) -> PyResult<bool> {
        Ok(self.inner.get()?.merged.is_idle())
    }

    /// A descriptor, readable while there is something to take; for event loops.
    fn fileno(&self) -> PyResult<Descriptor> {
        Ok(self.inner.get()?.merged.bell()?.fileno())
    }
}

#[derive(Default)]
struct Inner {
    merged: Merged<Source>,
    pace: Mutex<Pace>,
}

impl Inner {
    /// Drives the runtime of a source until there is something, and takes it; `None` where that is not
    /// for this thread to do, or nothing has come for a while.
    fn serve(
        &self,
        source: &Arc<Source>,
        limit: usize,
        until: Option<Instant>,
    ) -> Option<Vec<Taken>> {
        let runtime = source.connection().runtime();
        let seated = self.merged.seated();
        let turn = runtime.turn_to_serve(seated)?;
        let come = runtime.serve(&turn, until, poll_fn(|context| self.merged.poll_open(context)));
        self.merged.forget_driver();
        let taken = if come { self.merged.take(limit) } else { Vec::new() };
        if taken.is_empty() {
            turn.give_back();
            return None;
        }
        if !self.pace().keeps_with(taken.len()) {
            turn.give_up();
        }
        Some(taken)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The source of these, if they are calls and of the same one.
fn calls_in(taken: &[Taken]) -> Option<&Arc<Source>> {
    let first = taken.first()?;
    let of_first = |taken: &Taken| {
        taken.number == first.number && matches!(taken.item, Some(Item::Request(_)))
    };
    taken.iter().all(of_first).then_some(&first.source)
}

/// Events that were missed, in the place where they would have been.
#[pyclass(frozen, get_all, module = "pymq._pymq")]
pub(crate) struct Missed {
    /// How many; `None` where a connection was lost and nobody can know.
    count: Option<u64>,
}

/// What Python sees of one arrival: source, topic, payload. Only events have a topic; what the
/// others are is said by their class, since any text at all may be a topic.
type Entry<'py> = (u64, Option<Bound<'py, PyString>>, Bound<'py, PyAny>);

fn entry<'py>(taken: Taken, py: Python<'py>, topics: &mut Topics<'py>) -> PyResult<Entry<'py>> {
    let Taken { number, source, item } = taken;
    Ok(match item {
        Some(Item::Event(message)) => {
            let topic = topics.name(py, &message.topic, &source);
            (number, Some(topic), PyBytes::new(py, &message.payload).into_any())
        }
        Some(Item::Missed(count)) => (number, None, Missed { count }.into_bound_py_any(py)?),
        Some(Item::Request(call)) => {
            let call = Call::new(Arc::clone(source.connection()), call);
            (number, None, call.into_bound_py_any(py)?)
        }
        None => (number, None, py.None().into_bound(py)),
    })
}

/// Makes a topic's name once for all its events that follow each other.
#[derive(Default)]
struct Topics<'py>(Option<(Arc<str>, Bound<'py, PyString>)>);

impl<'py> Topics<'py> {
    fn name(&mut self, py: Python<'py>, whole: &Arc<str>, source: &Source) -> Bound<'py, PyString> {
        if let Some((last, name)) = &self.0
            && Arc::ptr_eq(last, whole)
        {
            return name.clone();
        }
        let name = PyString::new(py, source.namespace().strip(whole).unwrap_or(whole));
        self.0 = Some((Arc::clone(whole), name.clone()));
        name
    }
}
