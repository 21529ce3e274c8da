//! What reading one message has cost, and what is known of it so far.
//!
//! A message is somebody else's: what it asks for is bounded by its size. Questions that a message
//! may ask again and again (what a tag means, whether an alternative of a union fits a part) are
//! answered once; and while it is read, signals are seen to and other threads get their turn.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::decode::Chosen;
use super::fault::{Fault, Result};
use super::node::Node;
use super::plan::Plan;

/// As many values are read between two looks at signals: about a millisecond.
const A_WHILE: u32 = 8192;
/// How long this thread reads before others get their turn. A thread that waits for the GIL insists
/// on it after 5 ms (`sys.setswitchinterval`), and begins anew whenever the GIL was free for a
/// moment; so it is let go of more seldom than that.
const A_TURN: Duration = Duration::from_millis(10);

/// A part of a message under a union: the part, the union, and what the tags say.
pub(super) type Question = (usize, *const Plan, *const Node, Chosen);

#[derive(Debug, Default)]
pub(super) struct Work {
    values: Cell<u32>,
    pauses: Cell<u64>,
    /// Since when this thread has read.
    turn: Cell<Option<Instant>>,
    /// What came of a part that a union was asked about before; `None` where nothing fitted.
    readings: RefCell<HashMap<Question, Option<Py<PyAny>>>>,
    unresolved: RefCell<HashSet<String>>,
    told: RefCell<HashSet<String>>,
}

impl Work {
    /// Counts a value; after a while it lets signals be handled and other threads run.
    #[inline]
    pub(super) fn step(&self, py: Python<'_>) -> Result<()> {
        let values = self.values.get() + 1;
        self.values.set(values);
        if values < A_WHILE { Ok(()) } else { self.pause(py) }
    }

    #[cold]
    fn pause(&self, py: Python<'_>) -> Result<()> {
        self.values.set(0);
        self.pauses.set(self.pauses.get() + 1);
        let now = Instant::now();
        let since = self.turn.get().unwrap_or(now);
        let is_over = now.duration_since(since) >= A_TURN;
        if is_over {
            py.detach(|| {});
        }
        self.turn.set(Some(if is_over { Instant::now() } else { since }));
        py.check_signals().map_err(Fault::signal)
    }

    /// The values that were looked at, some of them several times.
    pub(super) fn steps(&self) -> u64 {
        self.pauses.get() * u64::from(A_WHILE) + u64::from(self.values.get())
    }

    pub(super) fn reading(&self, py: Python<'_>, at: &Question) -> Option<Option<Py<PyAny>>> {
        let readings = self.readings.borrow();
        let reading = readings.get(at)?;
        Some(reading.as_ref().map(|value| value.clone_ref(py)))
    }

    pub(super) fn keep_reading(&self, at: Question, reading: Option<Py<PyAny>>) {
        self.readings.borrow_mut().insert(at, reading);
    }

    /// To be called before the parts that were asked about are gone: others may take their places.
    pub(super) fn forget_readings(&self) {
        // Dropped afterwards, as that may run code.
        let _readings = self.readings.take();
    }

    pub(super) fn is_unresolved(&self, tag: &str) -> bool {
        self.unresolved.borrow().contains(tag)
    }

    pub(super) fn note_unresolved(&self, tag: &str) {
        self.unresolved.borrow_mut().insert(tag.to_owned());
    }

    /// Is this the first time that the tag is told?
    pub(super) fn tells(&self, tag: &str) -> bool {
        !self.told.borrow().contains(tag) && self.told.borrow_mut().insert(tag.to_owned())
    }
}
