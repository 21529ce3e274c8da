//! Queues of bytes, and the deliveries claimed from them.
//!
//! A claim whose result nobody takes gives its items back uncounted; a delivery that somebody took
//! and dropped goes back counted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pymq::transport::{Letters, Settlement, Shelf, Wait};
use pymq::{ByteDelivery, ByteQueue};
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::bus::Core;
use crate::error::{PyError, bad_value};
use crate::operation::{Finish, Operation, Task, finish, nothing};
use crate::process::Native;
use crate::wait;

/// A queue of bytes with this handle's options.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Queue {
    handle: Native<Handle>,
    name: String,
}

#[derive(Clone)]
struct Handle {
    queue: ByteQueue,
    core: Arc<Core>,
}

impl Queue {
    pub(crate) fn new(
        core: &Arc<Core>,
        name: &str,
        (maxsize, lease, max_deliveries, prefetch): (i64, f64, u32, usize),
    ) -> PyResult<Self> {
        let lease = length(lease, "'lease' must be a positive number of seconds")?;
        let queue = core.bus().byte_queue(name).with(|spec| {
            // As `queue.Queue` has it: nothing and less is no bound.
            spec.maxsize = usize::try_from(maxsize).unwrap_or(0);
            spec.lease = lease;
            spec.max_deliveries = max_deliveries;
        });
        let queue = queue.prefetch(prefetch);
        let handle = Handle { queue, core: Arc::clone(core) };
        Ok(Self { handle: Native::new(handle), name: name.to_owned() })
    }

    fn operation<T, F>(&self, work: impl FnOnce(Handle) -> F) -> PyResult<Operation>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = pymq::Result<T>> + Send + 'static,
    {
        let handle = self.handle.get()?;
        let work = work(handle.clone());
        let work = async move { Ok(finish(work.await?)) };
        Ok(Operation::new(Task::new(handle.core.runtime(), work)))
    }

    /// One that gives nothing.
    fn command<F>(&self, work: impl FnOnce(Handle) -> F) -> PyResult<Operation>
    where
        F: Future<Output = pymq::Result<()>> + Send + 'static,
    {
        let handle = self.handle.get()?;
        let work = work(handle.clone());
        let work = async move { work.await.map(|()| nothing()).map_err(PyError::Library) };
        Ok(Operation::new(Task::new(handle.core.runtime(), work)))
    }
}

#[pymethods]
impl Queue {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Appends items, all in one step; `queue.Full` if there was no space in time.
    #[pyo3(signature = (items, block, timeout))]
    fn put(
        &self,
        items: Vec<Bound<'_, PyBytes>>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Operation> {
        let wait = waiting(block, timeout)?;
        let items = items.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect();
        self.command(|Handle { queue, core }| async move {
            let _core = core;
            queue.put(items, wait).await.map(drop)
        })
    }

    /// Takes up to `limit` items on lease, waiting for the first one only; none if none came.
    #[pyo3(signature = (limit, block, timeout))]
    fn claim(&self, limit: usize, block: bool, timeout: Option<f64>) -> PyResult<Operation> {
        let wait = waiting(block, timeout)?;
        self.operation(|Handle { queue, core }| async move {
            let deliveries = queue.claim_many(limit, wait).await?;
            Ok(Claimed { deliveries, core })
        })
    }

    /// Waiting, leased, dead.
    fn stats(&self) -> PyResult<Operation> {
        self.operation(|Handle { queue, core }| async move {
            let _core = core;
            let stats = queue.stats().await?;
            Ok((stats.waiting, stats.leased, stats.dead))
        })
    }

    /// Waits until nothing waits and nothing is leased, anywhere.
    fn join(&self) -> PyResult<Operation> {
        self.command(|Handle { queue, core }| async move {
            let _core = core;
            queue.join().await
        })
    }

    /// Items from the head, left where they are: of those that wait, or of the dead letters.
    fn peek(&self, dead: bool, limit: usize) -> PyResult<Operation> {
        let handle = self.handle.get()?;
        let Handle { queue, core } = handle.clone();
        let peek = async move {
            let _core = core;
            let items = queue.peek(shelf(dead), limit).await?;
            let finish: Finish = Box::new(move |py| {
                let items = items.iter().map(|item| PyBytes::new(py, item));
                Ok(PyList::new(py, items.collect::<Vec<_>>())?.into_any().unbind())
            });
            Ok(finish)
        };
        Ok(Operation::new(Task::new(handle.core.runtime(), peek)))
    }

    /// Deletes what waits, or the dead letters; lifts a shutdown. Says how many.
    fn purge(&self, dead: bool) -> PyResult<Operation> {
        self.operation(|Handle { queue, core }| async move {
            let _core = core;
            queue.purge(shelf(dead)).await
        })
    }

    /// Moves up to `limit` dead letters back, oldest first; says how many.
    fn redrive(&self, limit: usize) -> PyResult<Operation> {
        self.operation(|Handle { queue, core }| async move {
            let _core = core;
            queue.redrive(Letters::Oldest(limit), None).await
        })
    }

    /// Shuts the queue down for everyone.
    fn shut_down(&self) -> PyResult<Operation> {
        self.command(|Handle { queue, core }| async move {
            let _core = core;
            queue.shut_down().await
        })
    }

    /// How many items were fetched ahead and not claimed yet.
    fn fetched_ahead(&self) -> PyResult<usize> {
        Ok(self.handle.get()?.queue.fetched_ahead())
    }

    /// Returns what was fetched ahead, uncounted. Does not wait.
    fn give_back(&self) -> PyResult<()> {
        self.handle.get()?.queue.give_back();
        Ok(())
    }
}

/// Deliveries on their way to Python. Those that do not get there were handed to nobody.
pub(crate) struct Claimed {
    deliveries: Vec<ByteDelivery>,
    core: Arc<Core>,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        // The newest first, so that the oldest comes to lie at the head.
        for delivery in self.deliveries.drain(..).rev() {
            delivery.give_back();
        }
    }
}

impl<'py> IntoPyObject<'py> for Claimed {
    type Target = PyAny;
    type Output = Bound<'py, PyAny>;
    type Error = PyErr;

    fn into_pyobject(mut self, py: Python<'py>) -> PyResult<Self::Output> {
        let deliveries = std::mem::take(&mut self.deliveries);
        let handed = deliveries.into_iter().map(|delivery| Delivery::new(delivery, &self.core));
        handed.collect::<Vec<_>>().into_bound_py_any(py)
    }
}

/// A leased item; dropped unsettled it goes back to its queue, counted.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Delivery {
    lease: Native<Arc<Lease>>,
    payload: Bytes,
    deliveries: u32,
}

struct Lease {
    state: Mutex<State>,
    core: Arc<Core>,
}

enum State {
    Held(ByteDelivery),
    /// Its settlement was begun, and goes on whoever waits for it.
    Settling(Settlement),
    Settled,
}

impl Lease {
    /// Takes the delivery out, to be settled; `None` if that is under way already, in that way: who
    /// was interrupted while it waited may say it again.
    fn begin(&self, how: Settlement) -> Result<Option<ByteDelivery>, PyError> {
        let mut state = self.lock();
        match *state {
            State::Settling(begun) if begun == how => return Ok(None),
            State::Settling(_) | State::Settled => return Err(PyError::Settled),
            State::Held(_) => {}
        }
        match std::mem::replace(&mut *state, State::Settling(how)) {
            State::Held(delivery) => Ok(Some(delivery)),
            State::Settling(_) | State::Settled => Err(PyError::Settled),
        }
    }

    /// Takes the delivery out for good.
    fn take(&self) -> PyResult<ByteDelivery> {
        match std::mem::replace(&mut *self.lock(), State::Settled) {
            State::Held(delivery) => Ok(delivery),
            State::Settling(_) | State::Settled => Err(PyError::Settled.into()),
        }
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Delivery {
    fn new(delivery: ByteDelivery, core: &Arc<Core>) -> Self {
        let (payload, deliveries) = (delivery.payload().clone(), delivery.deliveries());
        let lease = Lease { state: Mutex::new(State::Held(delivery)), core: Arc::clone(core) };
        Self { lease: Native::new(Arc::new(lease)), payload, deliveries }
    }

    fn settle(&self, how: Settlement) -> PyResult<Operation> {
        let lease = Arc::clone(self.lease.get()?);
        let runtime = Arc::clone(lease.core.runtime());
        let settle = async move {
            if let Some(delivery) = lease.begin(how)? {
                let settled = delivery.settle(how).await;
                *lease.lock() = State::Settled;
                settled?;
            }
            Ok(nothing())
        };
        Ok(Operation::new(Task::new(&runtime, settle).goes_on()))
    }
}

#[pymethods]
impl Delivery {
    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.payload)
    }

    /// How often it was handed out, this time included.
    #[getter]
    fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// Whether its lease was ended, or is about to be.
    #[getter]
    fn settled(&self) -> PyResult<bool> {
        Ok(!matches!(*self.lease.get()?.lock(), State::Held(_)))
    }

    /// Done: the item is gone. `LeaseLostError` if it was somebody else's by now.
    fn ack(&self) -> PyResult<Operation> {
        self.settle(Settlement::Ack)
    }

    /// Confirms with the next claim or within 10 ms; does not wait.
    fn ack_soon(&self) -> PyResult<()> {
        self.lease.get()?.take()?.ack_soon();
        Ok(())
    }

    /// To the head, one delivery more on its count.
    fn requeue(&self) -> PyResult<Operation> {
        self.settle(Settlement::Requeue)
    }

    /// To the head, uncounted: it was never handed to anybody. Does not wait.
    fn give_back(&self) -> PyResult<()> {
        self.lease.get()?.take()?.give_back();
        Ok(())
    }

    /// To the dead letters.
    fn reject(&self) -> PyResult<Operation> {
        self.settle(Settlement::Reject)
    }

    /// Makes sure that the lease lasts that long from now, even if this process does not.
    fn extend(&self, seconds: f64) -> PyResult<Operation> {
        let duration = length(seconds, "'seconds' must be a positive number of seconds")?;
        let lease = Arc::clone(self.lease.get()?);
        let runtime = Arc::clone(lease.core.runtime());
        let extend = async move {
            let extended = match &*lease.lock() {
                State::Held(delivery) => delivery.extend(duration),
                State::Settling(_) | State::Settled => return Err(PyError::Settled),
            };
            extended.await?;
            Ok(nothing())
        };
        Ok(Operation::new(Task::new(&runtime, extend)))
    }
}

fn shelf(dead: bool) -> Shelf {
    if dead { Shelf::Dead } else { Shelf::Waiting }
}

/// How an operation waits, by the rules of `queue.Queue`: who does not block needs no timeout.
fn waiting(block: bool, timeout: Option<f64>) -> PyResult<Wait> {
    match (block, timeout) {
        (false, _) => Ok(Wait::No),
        (true, timeout) => Ok(wait::timeout(timeout)?.map_or(Wait::Forever, Wait::at_most)),
    }
}

/// A length of time that a clock holds and that is more than nothing.
fn length(seconds: f64, why: &'static str) -> PyResult<Duration> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err(bad_value(why)),
    }
}
