//! Queues of bytes, and how items are claimed from them.
//!
//! A claim whose result nobody takes gives its items back uncounted; a delivery that somebody took
//! and dropped goes back counted.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use pymq::transport::{SettleOptions, Settlement, Shelf, Wait};
use pymq::{ByteDelivery, ByteQueue, ErrorKind, Put};
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::connection::Connection;
use crate::error::{PyError, bad_value};
use crate::operation::wait;
use crate::operation::{Finish, Operation, Task, finish, nothing};
pub(crate) use crate::queue::async_getter::{AsyncGetter, AsyncServing, Taking, aio_get_from};
pub(crate) use crate::queue::dead_letter::Letter;
use crate::queue::dead_letter::Which;
pub(crate) use crate::queue::delivery::Delivery;
pub(crate) use crate::queue::getter::{Getter, Serving, offer_from};
pub(crate) use crate::queue::last_step::LastStep;
pub(crate) use crate::queue::open_items::OpenItems;
use crate::queue::open_items::{Done, Held};
use crate::queue::options::Said;
pub(crate) use crate::queue::telemetry::watch_items;
use crate::this_process::ThisProcess;

pub(crate) mod async_getter;
pub(crate) mod dead_letter;
pub(crate) mod delivery;
pub(crate) mod getter;
pub(crate) mod handover;
pub(crate) mod last_step;
pub(crate) mod open_items;
pub(crate) mod options;
pub(crate) mod telemetry;

/// A queue of bytes with this handle's options.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Queue {
    handle: ThisProcess<Handle>,
    name: String,
}

#[derive(Clone)]
struct Handle {
    queue: ByteQueue,
    /// The same queue with the bound that holds now, for what is put.
    bounded: Arc<Mutex<ByteQueue>>,
    connection: Arc<Connection>,
}

impl Queue {
    pub(crate) fn new(
        connection: &Arc<Connection>,
        name: &str,
        said: Said<'_, '_>,
    ) -> PyResult<Self> {
        let queue = options::of_queue(connection.bus().byte_queue(name), said)?;
        // Whoever only puts has nothing to fetch ahead.
        let bounded = Arc::new(Mutex::new(queue.clone().prefetch(1)));
        let handle = Handle { queue, bounded, connection: Arc::clone(connection) };
        Ok(Self { handle: ThisProcess::new(handle), name: name.to_owned() })
    }

    /// Claims up to `limit` items, waiting for the first one only; none if none came. It is the first
    /// of one queue.
    pub(crate) fn claiming(
        &self,
        limit: usize,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Task<(usize, Claimed)>> {
        let wait = waiting(block, timeout)?;
        let Handle { queue, connection, .. } = self.handle.get()?.clone();
        let runtime = Arc::clone(connection.runtime());
        let claim = async move {
            let deliveries = queue.claim_many(limit, wait).await?;
            Ok((0, Claimed { deliveries, connection }))
        };
        Ok(Task::new(&runtime, claim))
    }

    /// Claims an item from the first of some queues of one bus that has one, and says from which.
    pub(crate) fn claiming_any(
        queues: &[&Self],
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Task<(usize, Claimed)>> {
        let wait = waiting(block, timeout)?;
        let handles = queues.iter().map(|queue| queue.handle.get().cloned());
        let handles = handles.collect::<PyResult<Vec<_>>>()?;
        let Some(connection) = handles.first().map(|first| Arc::clone(&first.connection)) else {
            return Err(bad_value("there is no queue to get from; name one or more"));
        };
        if handles.iter().any(|handle| !Arc::ptr_eq(&handle.connection, &connection)) {
            return Err(bad_value("get_from takes from queues of one bus; take all from the same"));
        }
        let runtime = Arc::clone(connection.runtime());
        let claim = async move {
            let queues: Vec<_> = handles.into_iter().map(|handle| handle.queue).collect();
            let claimed = ByteQueue::claim_any(&queues, wait).await?;
            let (which, deliveries) = claimed.map_or((0, Vec::new()), |(w, one)| (w, vec![one]));
            Ok((which, Claimed { deliveries, connection }))
        };
        Ok(Task::new(&runtime, claim))
    }

    /// What is in this hand comes from here.
    pub(crate) fn settles(&self, held: &Held) -> PyResult<()> {
        let Handle { queue, connection, .. } = self.handle.get()?;
        held.settle_at(connection, queue.spec().lease);
        Ok(())
    }

    /// Settles an item that was taken out of a hand.
    pub(crate) fn settling(
        &self,
        delivery: ByteDelivery,
        how: Settlement,
        options: SettleOptions,
    ) -> PyResult<Task<()>> {
        let connection = Arc::clone(&self.handle.get()?.connection);
        let runtime = Arc::clone(connection.runtime());
        let settle = async move {
            let _connection = connection;
            Ok(delivery.settle_with(how, options).await?)
        };
        Ok(Task::new(&runtime, settle).goes_on())
    }

    /// What an operation on the queue gives; the bus lives as long as it is under way.
    fn operation<T, F>(&self, work: impl FnOnce(ByteQueue) -> F) -> PyResult<Operation>
    where
        T: for<'py> IntoPyObject<'py> + Send + 'static,
        F: Future<Output = pymq::Result<T>> + Send + 'static,
    {
        self.finishing(|queue| {
            let work = work(queue);
            async move { Ok(finish(work.await?)) }
        })
    }

    /// One that gives nothing.
    fn command<F>(&self, work: impl FnOnce(ByteQueue) -> F) -> PyResult<Operation>
    where
        F: Future<Output = pymq::Result<()>> + Send + 'static,
    {
        self.finishing(|queue| {
            let work = work(queue);
            async move { work.await.map(|()| nothing()) }
        })
    }

    fn finishing<F>(&self, work: impl FnOnce(ByteQueue) -> F) -> PyResult<Operation>
    where
        F: Future<Output = pymq::Result<Finish>> + Send + 'static,
    {
        let Handle { queue, connection, .. } = self.handle.get()?.clone();
        let (runtime, work) = (Arc::clone(connection.runtime()), work(queue));
        let work = async move {
            let _connection = connection;
            work.await.map_err(PyError::Library)
        };
        Ok(Operation::new(Task::new(&runtime, work)))
    }
}

#[pymethods]
impl Queue {
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// Appends items, all in one step; `queue.Full` if there was no space in time. Says whether it
    /// did: not, if they were put before under the same id.
    #[pyo3(signature = (items, block, timeout, **options))]
    fn put(
        &self,
        items: Vec<Bound<'_, PyBytes>>,
        block: bool,
        timeout: Option<f64>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Operation> {
        let options = options::of_put(waiting(block, timeout)?, options)?;
        let items = items.iter().map(|item| Bytes::copy_from_slice(item.as_bytes())).collect();
        let bounded = Arc::clone(&self.handle.get()?.bounded);
        self.operation(|_| async move {
            let queue = bounded.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Ok(queue.put(items, options).await? == Put::Done)
        })
    }

    /// Takes up to `limit` items on lease, waiting for the first one only; none if none came.
    #[pyo3(signature = (limit, block, timeout))]
    fn claim(&self, limit: usize, block: bool, timeout: Option<f64>) -> PyResult<Operation> {
        Ok(Operation::new(
            self.claiming(limit, block, timeout)?.then(|(_, claimed)| finish(claimed)),
        ))
    }

    /// Waiting, leased, dead, due later; for how many seconds the oldest has waited and how many
    /// consumers there are, where that is known.
    fn stats(&self) -> PyResult<Operation> {
        self.operation(|queue| async move {
            let stats = queue.stats().await?;
            let oldest = stats.oldest.map(|oldest| oldest.as_secs_f64());
            Ok((stats.waiting, stats.leased, stats.dead, stats.delayed, oldest, stats.consumers))
        })
    }

    /// Waiting, leased, dead, due later, for who asks for nothing else.
    fn counts(&self) -> PyResult<Operation> {
        self.operation(|queue| async move {
            let stats = queue.counts().await?;
            Ok((stats.waiting, stats.leased, stats.dead, stats.delayed))
        })
    }

    /// Waits until nothing waits and nothing is leased, anywhere.
    fn join(&self) -> PyResult<Operation> {
        self.command(|queue| async move { queue.join().await })
    }

    /// Items from the head, left where they are: of those that wait, or of the dead letters.
    fn peek(&self, dead: bool, limit: usize) -> PyResult<Operation> {
        self.finishing(|queue| async move {
            let items = queue.peek(shelf(dead), limit).await?;
            let finish: Finish = Box::new(move |py| {
                let items = items.iter().map(|item| PyBytes::new(py, item));
                Ok(PyList::new(py, items.collect::<Vec<_>>())?.into_any().unbind())
            });
            Ok(finish)
        })
    }

    /// Deletes what waits, or the dead letters; lifts a shutdown. Says how many.
    fn purge(&self, dead: bool) -> PyResult<Operation> {
        self.operation(|queue| async move { queue.purge(shelf(dead)).await })
    }

    /// Dead letters after the `skip` oldest, oldest first, left where they are.
    fn letters(&self, skip: usize, limit: usize) -> PyResult<Operation> {
        self.operation(|queue| async move {
            let letters = queue.letters(skip, limit).await?;
            Ok(letters.into_iter().map(Letter::from).collect::<Vec<_>>())
        })
    }

    /// Moves dead letters, these or the oldest, back to the queue or to another one; says how many.
    #[pyo3(signature = (which, to=None))]
    fn redrive(&self, which: Which<'_>, to: Option<&Self>) -> PyResult<Operation> {
        let to = to.map(|to| to.handle.get()).transpose()?.map(|to| to.queue.clone());
        let which = which.letters();
        self.operation(|queue| async move { queue.redrive(which, to.as_ref()).await })
    }

    /// Deletes dead letters, these or the oldest; says how many.
    fn discard(&self, which: Which<'_>) -> PyResult<Operation> {
        let which = which.letters();
        self.operation(|queue| async move { queue.discard(which).await })
    }

    /// Shuts the queue down for everyone.
    fn shut_down(&self) -> PyResult<Operation> {
        self.command(|queue| async move { queue.shut_down().await })
    }

    /// How many items were fetched ahead and not claimed yet.
    fn fetched_ahead(&self) -> PyResult<usize> {
        Ok(self.handle.get()?.queue.fetched_ahead())
    }

    /// Another bound, for what is put from now on.
    fn bound(&self, maxsize: i64) -> PyResult<()> {
        let maxsize = usize::try_from(maxsize).unwrap_or(0);
        let bounded = &self.handle.get()?.bounded;
        let mut queue = bounded.lock().unwrap_or_else(PoisonError::into_inner);
        *queue = queue.clone().with(|spec| spec.maxsize = maxsize);
        Ok(())
    }

    /// Returns what was fetched ahead, uncounted. Does not wait.
    fn give_back(&self) -> PyResult<()> {
        self.handle.get()?.queue.give_back();
        Ok(())
    }

    /// Takes nothing more from now on: what waits for an item ends with `ClosedError`, and what was
    /// fetched ahead goes back. Does not wait.
    fn stop(&self) -> PyResult<()> {
        self.handle.get()?.queue.stop();
        Ok(())
    }

    #[getter]
    fn stopped(&self) -> PyResult<bool> {
        Ok(self.handle.get()?.queue.is_stopped())
    }

    /// Confirms the item that an owner did, as `Getter.task_done` does. When its end is known to the
    /// owner, that is to be said by `OpenItems.task_ended`.
    fn task_done(&self, hand: &OpenItems, owner: u64) -> PyResult<Operation> {
        let connection = Arc::clone(&self.handle.get()?.connection);
        let (runtime, held) = (Arc::clone(connection.runtime()), Arc::clone(hand.held()?));
        let confirm = async move {
            let _connection = connection;
            if let Done::Item(delivery) = held.done(owner).ok_or(PyError::NothingOpen)? {
                held.set_interrupted(owner, true);
                delivery.settle(Settlement::Ack).await?;
            }
            Ok(nothing())
        };
        Ok(Operation::new(Task::new(&runtime, confirm).goes_on()))
    }

    /// Requeues what is in hand, the newest first, and returns what was fetched ahead.
    fn let_go(&self, hand: &OpenItems) -> PyResult<Operation> {
        let Handle { queue, connection, .. } = self.handle.get()?.clone();
        let (runtime, held) = (Arc::clone(connection.runtime()), Arc::clone(hand.held()?));
        let let_go = async move {
            let _connection = connection;
            queue.give_back();
            for delivery in held.clear().into_iter().rev() {
                match delivery.settle(Settlement::Requeue).await {
                    Err(error) if error.kind() != ErrorKind::LeaseLost => return Err(error.into()),
                    // What belongs to others by now need not be given back.
                    Ok(()) | Err(_) => {}
                }
            }
            Ok(nothing())
        };
        Ok(Operation::new(Task::new(&runtime, let_go).goes_on()))
    }
}

/// Deliveries on their way to Python. Those that do not get there were handed to nobody.
pub(crate) struct Claimed {
    deliveries: Vec<ByteDelivery>,
    connection: Arc<Connection>,
}

impl Claimed {
    pub(crate) fn deliveries(&self) -> &[ByteDelivery] {
        &self.deliveries
    }

    /// Takes one out, to be settled apart from the others.
    pub(crate) fn remove(&mut self, place: usize) -> ByteDelivery {
        self.deliveries.remove(place)
    }

    /// They are handed to somebody.
    pub(crate) fn into_deliveries(mut self) -> Vec<ByteDelivery> {
        std::mem::take(&mut self.deliveries)
    }

    /// The first one as Python's; whoever drops that unsettled had it.
    pub(crate) fn into_delivery(mut self) -> Option<Delivery> {
        let delivery = self.deliveries.pop()?;
        Some(Delivery::new(delivery, &self.connection))
    }
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
        let handed =
            deliveries.into_iter().map(|delivery| Delivery::new(delivery, &self.connection));
        handed.collect::<Vec<_>>().into_bound_py_any(py)
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
