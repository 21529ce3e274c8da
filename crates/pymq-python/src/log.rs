//! The native log on its way to Python's logger `pymq`.
//!
//! The one invariant: whoever logs never waits and never meets Python. A record goes into a bounded
//! queue; a Python thread fetches it from there, for as long as any bus has its I/O thread. What
//! does not fit is counted, and told as one record.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as Values};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

/// How many records wait at most.
const MOST: usize = 1000;
/// The longest text of a field, in bytes; what the log says of an object is shorter.
const LONGEST: usize = 2000;

/// A record as Python takes it: level, target, message, fields, seconds since 1970.
type Line = (u8, &'static str, String, Vec<(&'static str, String)>, f64);

/// The levels as Python numbers them.
const fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// What Python's logger takes at least; less is not even written down.
static LEVEL: AtomicU8 = AtomicU8::new(20);

/// What waits to be fetched, by process: a forked child has its own, since its parent's may have
/// been locked by a thread that the child does not have. Children of children deeper than this have
/// no log of ours.
static WAITING: [OnceLock<Waiting>; 16] = [const { OnceLock::new() }; 16];

struct Waiting {
    process: u32,
    lines: Mutex<Lines>,
    news: Condvar,
}

#[derive(Default)]
struct Lines {
    queue: VecDeque<Line>,
    /// How many did not fit.
    lost: usize,
    /// How many buses have their I/O thread.
    open: usize,
}

impl Waiting {
    /// This process's.
    fn here() -> Option<&'static Self> {
        let process = std::process::id();
        let fresh = || Self { process, lines: Mutex::default(), news: Condvar::new() };
        let mut known = WAITING.iter().map(|waiting| waiting.get_or_init(fresh));
        known.find(|waiting| waiting.process == process)
    }

    /// A panic cannot leave the lines half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bus has its I/O thread, as long as this lives: what it says is fetched.
pub(crate) struct Speaking(Option<&'static Waiting>);

impl Speaking {
    pub(crate) fn begin() -> Self {
        let waiting = Waiting::here();
        if let Some(waiting) = waiting {
            waiting.lock().open += 1;
        }
        Self(waiting)
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        if let Some(waiting) = self.0.filter(|waiting| waiting.process == std::process::id()) {
            waiting.lock().open -= 1;
            waiting.news.notify_all();
        }
    }
}

/// Waits for records, if it may, and takes them; `None` when there is nobody left who could say
/// anything.
#[pyfunction]
pub(crate) fn take_log(py: Python<'_>, wait: bool) -> Option<Vec<Line>> {
    let waiting = Waiting::here()?;
    py.detach(|| {
        let mut lines = waiting.lock();
        while wait && lines.queue.is_empty() && lines.open > 0 {
            lines = waiting.news.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        let mut taken: Vec<Line> = lines.queue.drain(..).collect();
        if let lost @ 1.. = std::mem::take(&mut lines.lost) {
            let message = format!("{lost} records of the log were lost: too many at a time");
            taken.push((number(Level::WARN), "pymq", message, Vec::new(), now()));
        }
        (!taken.is_empty() || lines.open > 0).then_some(taken)
    })
}

/// Something is about to speak, until this is dropped: a bus that connects.
#[pyclass(frozen, module = "pymq._pymq")]
pub(crate) struct Listening {
    _speaking: Speaking,
}

#[pymethods]
impl Listening {
    #[new]
    fn new() -> Self {
        Self { _speaking: Speaking::begin() }
    }
}

/// Whether any bus has its I/O thread, or something is still to be told.
#[pyfunction]
pub(crate) fn speaks() -> bool {
    Waiting::here().is_some_and(|waiting| {
        let lines = waiting.lock();
        lines.open > 0 || !lines.queue.is_empty()
    })
}

/// Says what Python's logger takes at least, as Python numbers levels.
#[pyfunction]
pub(crate) fn set_log_level(level: u8) {
    LEVEL.store(level, Ordering::Relaxed);
}

/// Begins to listen to the library. A second interpreter of this process shares the first one's.
pub(crate) fn listen() {
    let _ = tracing::subscriber::set_global_default(Listener);
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Writes records down.
struct Listener;

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.is_event() && metadata.target().starts_with("pymq");
        ours && number(*metadata.level()) >= LEVEL.load(Ordering::Relaxed)
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // What is wanted changes with the level of Python's logger.
        if metadata.is_event() { Interest::sometimes() } else { Interest::never() }
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let mut text = Text { message: String::new(), fields: Vec::new() };
        event.record(&mut text);
        let level = number(*metadata.level());
        let line = (level, metadata.target(), text.message, text.fields, now());
        let Some(waiting) = Waiting::here() else { return };
        let mut lines = waiting.lock();
        if lines.queue.len() < MOST {
            lines.queue.push_back(line);
        } else {
            lines.lost += 1;
        }
        drop(lines);
        waiting.news.notify_all();
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Values<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The texts of an event.
struct Text {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, shortened(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, shortened(format!("{value:?}")));
    }
}

impl Text {
    fn add(&mut self, field: &Field, text: String) {
        if field.name() == "message" {
            self.message = text;
        } else {
            self.fields.push((field.name(), text));
        }
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}
