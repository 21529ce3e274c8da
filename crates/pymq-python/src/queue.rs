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
use pyo3::types::PyBytes;

use crate::bus::Core;
use crate::error::bad_value;
use crate::operation::Operation;
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

    pub(crate) fn putting(
        &self,
        items: Vec<Bound<'_, PyBytes>>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Operation<()>> {
        let wait = waiting(block, timeout)?;
        let items = items.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect();
        self.operation(|Handle { queue, core }| async move {
            let _core = core;
            queue.put(items, wait).await.map(drop)
        })
    }

    pub(crate) fn claiming(
        &self,
        limit: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Operation<Claimed>> {
        let wait = waiting(block, timeout)?;
        self.operation(|Handle { queue, core }| async move {
            let deliveries = queue.claim_many(limit, wait).await?;
            Ok(Claimed { deliveries, core })
        })
    }

    pub(crate) fn counting(&self) -> PyResult<Operation<(usize, usize, usize)>> {
        self.operation(|Handle { queue, core }| async move {
            let _core = core;
            let stats = queue.stats().await?;
            Ok((stats.waiting, stats.leased, stats.dead))
        })
    }

    pub(crate) fn purging(&self, dead: bool) -> PyResult<Operation<usize>> {
        self.operation(|Handle { queue, core }| async move {
            let _core = core;
            queue.purge(shelf(dead)).await
        })
    }

    pub(crate) fn shutting_down(&self) -> PyResult<Operation<()>> {
        self.operation(|Handle { queue, core }| async move {
            let _core = core;
            queue.shut_down().await
        })
    }

    /// Says whether it was done in time.
    pub(crate) fn joining(&self, timeout: Option<f64>) -> PyResult<Operation<bool>> {
        let timeout = wait::timeout(timeout)?;
        self.operation(|Handle { queue, core }| async move {
            let _core = core;
            match timeout {
                None => queue.join().await.map(|()| true),
                Some(timeout) => match tokio::time::timeout(timeout, queue.join()).await {
                    Ok(joined) => joined.map(|()| true),
                    Err(_) => Ok(false),
                },
            }
        })
    }

    fn operation<T, F>(&self, work: impl FnOnce(Handle) -> F) -> PyResult<Operation<T>>
    where
        T: Send + 'static,
        F: Future<Output = pymq::Result<T>> + Send + 'static,
    {
        let handle = self.handle.get()?;
        Ok(Operation::new(handle.core.runtime(), work(handle.clone())))
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
        py: Python<'_>,
        items: Vec<Bound<'_, PyBytes>>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        self.putting(items, block, timeout)?.wait(py)
    }

    /// Takes up to `limit` items on lease, waiting for the first one only; none if none came.
    #[pyo3(signature = (limit, block, timeout))]
    fn claim(
        &self,
        py: Python<'_>,
        limit: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Claimed> {
        self.claiming(limit, block, timeout)?.wait(py)
    }

    /// Waiting, leased, dead.
    fn stats(&self, py: Python<'_>) -> PyResult<(usize, usize, usize)> {
        self.counting()?.wait(py)
    }

    /// Waits until nothing waits and nothing is leased, anywhere; says whether it came to that.
    #[pyo3(signature = (timeout=None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        self.joining(timeout)?.wait(py)
    }

    /// Items from the head, left where they are: of those that wait, or of the dead letters.
    fn peek<'py>(
        &self,
        py: Python<'py>,
        dead: bool,
        limit: usize,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let peeked = self.operation(|Handle { queue, core }| async move {
            let _core = core;
            queue.peek(shelf(dead), limit).await
        })?;
        Ok(peeked.wait(py)?.iter().map(|item| PyBytes::new(py, item)).collect())
    }

    /// Deletes what waits, or the dead letters; lifts a shutdown. Says how many.
    fn purge(&self, py: Python<'_>, dead: bool) -> PyResult<usize> {
        self.purging(dead)?.wait(py)
    }

    /// Moves up to `limit` dead letters back, oldest first; says how many.
    fn redrive(&self, py: Python<'_>, limit: usize) -> PyResult<usize> {
        let redrive = self.operation(|Handle { queue, core }| async move {
            let _core = core;
            queue.redrive(Letters::Oldest(limit), None).await
        })?;
        redrive.wait(py)
    }

    /// Shuts the queue down for everyone.
    fn shut_down(&self, py: Python<'_>) -> PyResult<()> {
        self.shutting_down()?.wait(py)
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
    lease: Native<Lease>,
    payload: Bytes,
    deliveries: u32,
}

struct Lease {
    /// Gone once it is settled.
    delivery: Mutex<Option<ByteDelivery>>,
    core: Arc<Core>,
}

impl Delivery {
    fn new(delivery: ByteDelivery, core: &Arc<Core>) -> Self {
        let (payload, deliveries) = (delivery.payload().clone(), delivery.deliveries());
        let lease = Lease { delivery: Mutex::new(Some(delivery)), core: Arc::clone(core) };
        Self { lease: Native::new(lease), payload, deliveries }
    }

    pub(crate) fn settling(&self, how: Settlement) -> PyResult<Operation<()>> {
        let delivery = self.take()?;
        let core = Arc::clone(&self.lease.get()?.core);
        let runtime = Arc::clone(core.runtime());
        let settle = async move {
            let _core = core;
            delivery.settle(how).await
        };
        Ok(Operation::new(&runtime, settle).goes_on())
    }

    pub(crate) fn extending(&self, seconds: f64) -> PyResult<Operation<()>> {
        let duration = length(seconds, "'seconds' must be a positive number of seconds")?;
        let extended = match &*self.lock()? {
            Some(delivery) => delivery.extend(duration),
            None => return Err(settled()),
        };
        let core = Arc::clone(&self.lease.get()?.core);
        let runtime = Arc::clone(core.runtime());
        let extend = async move {
            let _core = core;
            extended.await
        };
        Ok(Operation::new(&runtime, extend))
    }

    fn take(&self) -> PyResult<ByteDelivery> {
        self.lock()?.take().ok_or_else(settled)
    }

    fn lock(&self) -> PyResult<MutexGuard<'_, Option<ByteDelivery>>> {
        Ok(self.lease.get()?.delivery.lock().unwrap_or_else(PoisonError::into_inner))
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

    /// Done: the item is gone. `LeaseLostError` if it was somebody else's by now.
    fn ack(&self, py: Python<'_>) -> PyResult<()> {
        self.settling(Settlement::Ack)?.wait(py)
    }

    /// Confirms with the next claim or within 10 ms; does not wait.
    fn ack_soon(&self) -> PyResult<()> {
        self.take()?.ack_soon();
        Ok(())
    }

    /// To the head, one delivery more on its count.
    fn requeue(&self, py: Python<'_>) -> PyResult<()> {
        self.settling(Settlement::Requeue)?.wait(py)
    }

    /// To the head, uncounted: it was never handed to anybody. Does not wait.
    fn give_back(&self) -> PyResult<()> {
        self.take()?.give_back();
        Ok(())
    }

    /// To the dead letters.
    fn reject(&self, py: Python<'_>) -> PyResult<()> {
        self.settling(Settlement::Reject)?.wait(py)
    }

    /// Makes sure that the lease lasts that long from now, even if this process does not.
    fn extend(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        self.extending(seconds)?.wait(py)
    }
}

fn settled() -> PyErr {
    bad_value("this delivery was settled already")
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
