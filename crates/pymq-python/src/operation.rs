//! An operation on a bus, before it is decided who waits for it.
//!
//! A thread waits for it here; an event loop hands it to [`Completions`](crate::completions). One
//! that takes long runs on the bus's I/O thread, and a wait that is broken off ends it there, without
//! losing what it held.

use std::sync::Arc;
use std::time::Instant;

use pyo3::prelude::*;
use tokio::task::JoinHandle;

use crate::error::PyError;
use crate::runtime::{Begun, Runtime, Work};
use crate::wait;

/// What becomes of an operation when nobody waits for it any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abandoned {
    /// It is given up.
    Ends,
    /// It runs to its end: half a settlement would leave an item leased.
    GoesOn,
}

/// Something to be done on the runtime of a bus.
pub(crate) struct Operation<T> {
    runtime: Arc<Runtime>,
    work: Work<pymq::Result<T>>,
    abandoned: Abandoned,
}

impl<T: Send + 'static> Operation<T> {
    pub(crate) fn new(
        runtime: &Arc<Runtime>,
        work: impl Future<Output = pymq::Result<T>> + Send + 'static,
    ) -> Self {
        let (runtime, work) = (Arc::clone(runtime), Box::pin(work));
        Self { runtime, work, abandoned: Abandoned::Ends }
    }

    /// The same operation, but not given up once it has begun.
    pub(crate) fn goes_on(self) -> Self {
        Self { abandoned: Abandoned::GoesOn, ..self }
    }

    /// Does it, waiting on the calling thread.
    pub(crate) fn wait(self, py: Python<'_>) -> PyResult<T> {
        let Self { runtime, work, abandoned } = self;
        let begun = Instant::now();
        let mut progress = runtime.begin(work);
        if let Begun::Waits(work) = progress {
            // Letting go of the GIL for nothing could cost another thread's whole turn.
            progress = match runtime.turn() {
                Some(turn) => py.detach(|| runtime.drive(turn, work)),
                None => Begun::Waits(work),
            };
        }
        let task = match progress {
            Begun::Done(result) => return Ok(result.map_err(PyError::Library)?),
            Begun::Closed => return Err(PyError::Closed.into()),
            Begun::Waits(work) => runtime.spawn(work),
        };
        let mut waited = Waited { task, abandoned };
        match wait::in_slices(py, None, |until| wait::park(&mut waited.task, until))? {
            Some(Ok(result)) => {
                runtime.over(begun);
                Ok(result.map_err(PyError::Library)?)
            }
            Some(Err(error)) if error.is_panic() => Err(PyError::Panicked.into()),
            // The runtime ended under it.
            Some(Err(_)) | None => Err(PyError::Closed.into()),
        }
    }

    /// Takes it apart, for whoever begins it elsewhere.
    pub(crate) fn into_parts(self) -> (Arc<Runtime>, Work<pymq::Result<T>>, Abandoned) {
        (self.runtime, self.work, self.abandoned)
    }
}

/// A task that a thread waits for; a result that comes after the wait was broken off is dropped with
/// it, as an unseen result.
struct Waited<T> {
    task: JoinHandle<T>,
    abandoned: Abandoned,
}

impl<T> Drop for Waited<T> {
    fn drop(&mut self) {
        if self.abandoned == Abandoned::Ends {
            self.task.abort();
        }
    }
}
