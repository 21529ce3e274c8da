//! Where a dispatching thread pulls batches from: several sources, in the order of arrival.
//!
//! A source at which something arrives says so once and is put, by the age of its oldest message, among
//! those that have something: all sources are never looked through. The oldest message is taken first,
//! wherever it lies, so that what one program sends over several sources stays in its order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use pymq::transport::Stamp;
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::error::bad_value;
use crate::intake::door::{Door, Knock};
use crate::intake::pace::Pace;
use crate::intake::provider::{Call, Provider};
use crate::intake::source::{Item, Source};
use crate::intake::subscription::Subscription;
use crate::operation::descriptor::Descriptor;
use crate::operation::wait;
use crate::this_process::ThisProcess;

pub(crate) mod door;
pub(crate) mod pace;
pub(crate) mod provider;
pub(crate) mod source;
pub(crate) mod subscription;

/// Where a dispatching thread pulls batches from: several sources, in the order of arrival.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Intake {
    inner: ThisProcess<Arc<Inner>>,
}

/// Where in an intake a source will be.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Place {
    inner: ThisProcess<Arc<Inner>>,
    number: u64,
}

#[pymethods]
impl Place {
    /// The source's number in batches.
    #[getter]
    fn number(&self) -> u64 {
        self.number
    }
}

impl Place {
    /// What puts a source there, on whatever thread, unless the place was given up.
    pub(crate) fn seat(&self) -> PyResult<impl FnOnce(&Arc<Source>) + Send + use<>> {
        let (inner, number) = (Arc::clone(self.inner.get()?), self.number);
        Ok(move |source: &Arc<Source>| inner.seat(number, source))
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
        let number = inner.lock().reserve();
        inner.seat(number, source);
        Ok(number)
    }

    /// A place for a source that is about to begin. It is read from its first moment on, whatever
    /// becomes of the thread that begins it; `detach` gives the place up.
    fn reserve(&self) -> PyResult<Place> {
        let inner = Arc::clone(self.inner.get()?);
        let number = inner.lock().reserve();
        Ok(Place { inner: ThisProcess::new(inner), number })
    }

    /// Stops reading a source; what it had not given yet is gone, unless it is attached elsewhere.
    fn detach(&self, number: u64) -> PyResult<()> {
        let detached = self.inner.get()?.lock().attached.remove(&number);
        drop(detached);
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
        inner.in_hand.store(false, Ordering::Relaxed);
        let begun = Instant::now();
        let mut row = inner.pace().comes_back();
        // What is there is taken without letting go of the GIL: nothing here waits for it.
        let mut taken = inner.take(limit);
        let in_vain = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if taken.is_empty() && !in_vain {
            let waited = wait::in_slices(py, deadline, |until| {
                let row = row.take();
                row.and_then(|source| inner.serve(&source, limit, until))
                    .or_else(|| inner.wait(limit, until))
            })?;
            taken = waited.unwrap_or_default();
        }
        inner.pace().takes(taken.len(), calls_in(&taken), begun.elapsed());
        let mut topics = Topics::default();
        taken.into_iter().map(|taken| taken.into_entry(py, &mut topics)).collect()
    }

    /// Wakes whoever waits; from then on `recv` gives what is left and then empty batches.
    fn close(&self) -> PyResult<()> {
        self.inner.get()?.door.close();
        Ok(())
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.inner.get()?.door.is_closed())
    }

    /// Whether nothing is there to be taken, and what was taken was followed by another `recv`.
    #[getter]
    fn idle(&self) -> PyResult<bool> {
        let inner = self.inner.get()?;
        // Taking needs this lock too: nothing is between the door and the hand.
        let _state = inner.lock();
        Ok(!inner.in_hand.load(Ordering::Relaxed) && !inner.door.has_something())
    }

    /// A descriptor, readable while there is something to take; for event loops.
    fn fileno(&self) -> PyResult<Descriptor> {
        Ok(self.inner.get()?.door.bell()?.fileno())
    }
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    door: Arc<Door>,
    pace: Mutex<Pace>,
    /// Whether the last `recv` gave something; written under the lock of the state, or by the one
    /// reader there is before it takes.
    in_hand: AtomicBool,
}

#[derive(Default)]
struct State {
    /// By number; nothing where a source is still to come.
    attached: HashMap<u64, Option<Attached>>,
    last: u64,
    /// Those that have something, by the stamp of the oldest.
    full: BinaryHeap<Reverse<(Stamp, u64)>>,
    /// Those that have ended and were not told of yet.
    ended: VecDeque<u64>,
}

struct Attached {
    source: Arc<Source>,
    waker: Waker,
}

/// One thing taken, and from where.
struct Taken {
    number: u64,
    source: Arc<Source>,
    /// `None`: it has ended.
    item: Option<Item>,
}

impl Inner {
    fn seat(&self, number: u64, source: &Arc<Source>) {
        let mut state = self.lock();
        let Some(place) = state.attached.get_mut(&number) else { return };
        let waker = Waker::from(Arc::new(Knock { number, door: Arc::clone(&self.door) }));
        *place = Some(Attached { source: Arc::clone(source), waker });
        drop(state);
        self.door.knock(number);
    }

    /// Takes what is there; never waits.
    fn take(&self, limit: usize) -> Vec<Taken> {
        let mut state = self.lock();
        for number in self.door.knocked() {
            state.enlist(number);
        }
        let taken = state.take(limit);
        if !taken.is_empty() {
            self.in_hand.store(true, Ordering::Relaxed);
        }
        let left = !state.full.is_empty() || !state.ended.is_empty();
        self.door.leave(left);
        taken
    }

    /// Drives the runtime of a source until there is something, and takes it; `None` where that is not
    /// for this thread to do, or nothing has come for a while.
    fn serve(
        &self,
        source: &Arc<Source>,
        limit: usize,
        until: Option<Instant>,
    ) -> Option<Vec<Taken>> {
        let runtime = source.connection().runtime();
        let seated = self.lock().seated();
        let turn = runtime.turn_to_serve(seated)?;
        let come = runtime.serve(&turn, until, poll_fn(|context| self.door.poll_open(context)));
        self.door.forget_driver();
        let taken = if come { self.take(limit) } else { Vec::new() };
        if taken.is_empty() {
            turn.give_back();
            return None;
        }
        if !self.pace().keeps_with(taken.len()) {
            turn.give_up();
        }
        Some(taken)
    }

    /// Takes what is there as soon as there is something, or nothing once it is closed; `None` when
    /// the time is up.
    fn wait(&self, limit: usize, until: Option<Instant>) -> Option<Vec<Taken>> {
        loop {
            let closed = self.door.wait(until)?;
            let taken = self.take(limit);
            if closed || !taken.is_empty() {
                return Some(taken);
            }
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

impl State {
    /// How many sources are read here.
    fn seated(&self) -> usize {
        self.attached.values().flatten().count()
    }

    fn reserve(&mut self) -> u64 {
        self.last += 1;
        self.attached.insert(self.last, None);
        self.last
    }

    /// Puts a source in its place among those that have something, or has it knock when it does.
    fn enlist(&mut self, number: u64) {
        let Some(Some(attached)) = self.attached.get(&number) else { return };
        match attached.source.poll_oldest(&mut Context::from_waker(&attached.waker)) {
            Poll::Ready(Some(stamp)) => self.full.push(Reverse((stamp, number))),
            Poll::Ready(None) => self.ended.push_back(number),
            Poll::Pending => {}
        }
    }

    fn take(&mut self, limit: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(Reverse((_, number))) = self.full.pop()
        {
            let Some(Some(attached)) = self.attached.get(&number) else { continue };
            let source = Arc::clone(&attached.source);
            // All of this source that is older than the oldest of the others.
            let border = self.full.peek().map_or(Stamp::NEVER, |Reverse((stamp, _))| *stamp);
            let items = source.drain(border, limit - taken.len());
            taken.extend(items.into_iter().map(|item| {
                let source = Arc::clone(&source);
                Taken { number, source, item: Some(item) }
            }));
            self.enlist(number);
        }
        while taken.len() < limit
            && let Some(number) = self.ended.pop_front()
        {
            let Some(Some(ended)) = self.attached.remove(&number) else { continue };
            let source = ended.source;
            taken.push(Taken { number, source, item: None });
        }
        taken
    }
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

impl Taken {
    fn into_entry<'py>(self, py: Python<'py>, topics: &mut Topics<'py>) -> PyResult<Entry<'py>> {
        let Self { number, source, item } = self;
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
