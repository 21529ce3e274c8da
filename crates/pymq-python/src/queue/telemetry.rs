//! Whether somebody watches what programs get, and telling them.
//!
//! The one invariant: where nobody does, no Python runs for it. It is told before an item is handed
//! over, so that what is raised meanwhile finds the item ours.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyString};

use crate::metadata::Metadata;
use crate::queue::Claimed;

static WATCHED: AtomicBool = AtomicBool::new(false);
/// `pymq._telemetry.got`
static GOT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Says whether `pymq._telemetry.got` is to be told of what queues give.
#[pyfunction]
pub(crate) fn watch_items(watch: bool) {
    WATCHED.store(watch, Ordering::Release);
}

/// The moment at which a program begins to wait, where it is of interest.
pub(crate) fn waits() -> Option<Instant> {
    WATCHED.load(Ordering::Acquire).then(Instant::now)
}

/// Tells that these items are about to be handed over, for which the program waits since then.
///
/// # Errors
/// What a signal handler raises meanwhile.
pub(crate) fn tell(
    py: Python<'_>,
    queue: &Py<PyString>,
    since: Option<Instant>,
    claimed: &Claimed,
) -> PyResult<()> {
    let Some(since) = since else { return Ok(()) };
    let messages = PyList::empty(py);
    for delivery in claimed.deliveries() {
        let metadata = Metadata::of(delivery);
        messages.append((metadata, delivery.deliveries()))?;
    }
    let got = GOT.import(py, "pymq._telemetry", "got")?;
    got.call1((queue, since.elapsed().as_secs_f64(), messages)).map(drop)
}
