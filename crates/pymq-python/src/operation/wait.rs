//! How a Python thread waits: without the GIL, and with an ear for Ctrl-C.
//!
//! Signals are handled by Python's main thread only, and only while it runs Python; so it comes up
//! every 50 ms to look. Every other thread sleeps until there is something for it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::error::bad_value;

const SLICE: Duration = Duration::from_millis(50);

/// Calls `attempt` without the GIL, each time with the moment until which it may wait, until it
/// gives something or `deadline` has passed.
///
/// # Errors
/// What a signal handler raised; then nothing that `attempt` gave is lost, because it gave nothing.
pub(crate) fn in_slices<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut attempt: impl FnMut(Option<Instant>) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let mut slice = Some(SLICE);
    loop {
        let end = slice.map(|slice| Instant::now() + slice);
        let until = end.into_iter().chain(deadline).min();
        if let Some(given) = py.detach(|| attempt(until)) {
            return Ok(Some(given));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(None);
        }
        // Asked only here, since most waits are over within their first slice.
        slice = is_main_thread().then_some(SLICE);
        if slice.is_some() {
            py.check_signals()?;
        }
    }
}

/// Waits on the calling thread for a future that somebody else drives; `None` when the time is up.
pub(crate) fn park<F: Future + Unpin>(future: &mut F, until: Option<Instant>) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut context) {
            return Some(output);
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            None => thread::park(),
            Some(Duration::ZERO) => return None,
            Some(left) => thread::park_timeout(left),
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Whether this is the thread on which Python handles signals: the process's first one, in a forked
/// child its only one. The system is asked and not Python, whose code must not run here: a daemon
/// thread could be ended in the middle of it. Where there is no answer, coming up does no harm.
pub(crate) fn is_main_thread() -> bool {
    std::fs::read_link("/proc/thread-self")
        .map_or(true, |link| link.file_name() == Some(std::process::id().to_string().as_ref()))
}

/// A length of time from Python, in seconds; `None` is without end, and so is what no clock holds.
///
/// # Errors
/// `ValueError` for a negative number and for NaN.
pub(crate) fn timeout(seconds: Option<f64>) -> PyResult<Option<Duration>> {
    match seconds {
        Some(seconds) if seconds.is_nan() || seconds < 0.0 => {
            Err(bad_value("'timeout' must be a non-negative number of seconds"))
        }
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds).ok()),
        None => Ok(None),
    }
}

/// The moment at which a length of time that begins now is over.
pub(crate) fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// A length of time that a clock holds, or none.
pub(crate) fn length_or_none(seconds: f64, why: &'static str) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| bad_value(why))
}

/// A length of time that a clock holds and that is more than nothing.
pub(crate) fn length(seconds: f64, why: &'static str) -> PyResult<Duration> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err(bad_value(why)),
    }
}
