//! A leased item as Python holds it, and how its lease ends: once, whoever says it again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use pymq::transport::{SettleOptions, Settlement};
use pymq::{ByteDelivery, Failure, Reason, wire};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::connection::Connection;
use crate::error::PyError;
use crate::metadata::Metadata;
use crate::operation::wait::{length, length_or_none};
use crate::operation::{Operation, Task, nothing};
use crate::this_process::ThisProcess;

/// A leased item; dropped unsettled it goes back to its queue, counted.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Delivery {
    lease: ThisProcess<Arc<Lease>>,
    payload: Bytes,
    deliveries: u32,
}

struct Lease {
    state: Mutex<State>,
    connection: Arc<Connection>,
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
    pub(crate) fn new(delivery: ByteDelivery, connection: &Arc<Connection>) -> Self {
        let (payload, deliveries) = (delivery.payload().clone(), delivery.deliveries());
        let lease =
            Lease { state: Mutex::new(State::Held(delivery)), connection: Arc::clone(connection) };
        Self { lease: ThisProcess::new(Arc::new(lease)), payload, deliveries }
    }

    /// Takes the item out for good.
    pub(crate) fn take(&self) -> PyResult<ByteDelivery> {
        self.lease.get()?.take()
    }

    fn settle_with(&self, how: Settlement, options: SettleOptions) -> PyResult<Operation> {
        let lease = Arc::clone(self.lease.get()?);
        let runtime = Arc::clone(lease.connection.runtime());
        let settle = async move {
            if let Some(delivery) = lease.begin(how)? {
                let settled = delivery.settle_with(how, options).await;
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

    /// What its sender said beside it.
    #[getter]
    fn metadata(&self) -> Option<Metadata> {
        wire::Metadata::detach(self.payload.clone()).0.map(Metadata::from)
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
        self.settle_with(Settlement::Ack, SettleOptions::default())
    }

    /// Confirms with the next claim or within 10 ms; does not wait.
    fn ack_soon(&self) -> PyResult<()> {
        self.take()?.ack_soon();
        Ok(())
    }

    /// One delivery more on its count: to the head, or after a delay in seconds behind the others.
    #[pyo3(signature = (delay=0.0))]
    fn requeue(&self, delay: f64) -> PyResult<Operation> {
        let delay = length_or_none(delay, "'delay' must be a number of seconds from 0")?;
        self.settle_with(Settlement::Requeue, SettleOptions::default().delay(delay))
    }

    /// Its handler failed: it comes again after a delay in seconds, at once where the transport
    /// knows no later, or is a dead letter if there is none.
    fn fail(
        &self,
        delay: Option<f64>,
        error: String,
        words: &str,
        origin: String,
    ) -> PyResult<Operation> {
        let failure = Failure::new(Reason::Failed).error(error, words).origin(origin);
        let options = SettleOptions::default().failure(failure);
        let Some(delay) = delay else { return self.settle_with(Settlement::Reject, options) };
        let delay = length_or_none(delay, "'delay' must be a number of seconds from 0")?;
        let able = self.lease.get()?.connection.bus().capabilities().put_options;
        let delay = if able { delay } else { Duration::ZERO };
        self.settle_with(Settlement::Requeue, options.delay(delay))
    }

    /// To the head, uncounted: it was never handed to anybody. Does not wait.
    pub(crate) fn give_back(&self) -> PyResult<()> {
        self.take()?.give_back();
        Ok(())
    }

    /// To the dead letters, for a reason.
    #[pyo3(signature = (words="", origin=String::new()))]
    fn reject(&self, words: &str, origin: String) -> PyResult<Operation> {
        let failure = Failure::new(Reason::Rejected).error("", words).origin(origin);
        self.settle_with(Settlement::Reject, SettleOptions::default().failure(failure))
    }

    /// Makes sure that the lease lasts that long from now, even if this process does not.
    fn extend(&self, seconds: f64) -> PyResult<Operation> {
        let duration = length(seconds, "'seconds' must be a positive number of seconds")?;
        let lease = Arc::clone(self.lease.get()?);
        let runtime = Arc::clone(lease.connection.runtime());
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
