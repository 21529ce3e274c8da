//! Whose process an object belongs to.
//!
//! A forked child has copies of its parent's objects, but neither the threads that serve them nor
//! the right to touch their sockets. There, using one is an error that says what to do, and
//! dropping one leaks it: letting it go in good order would change what the parent shares with the
//! child (its epoll set), or wait for a lock that nobody will open again.

use pyo3::PyResult;

use crate::error::PyError;
use crate::process;

/// Something that works in the process it was made in only.
pub(crate) struct ThisProcess<T> {
    process: u32,
    /// There until it is dropped.
    value: Option<T>,
}

impl<T> ThisProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: process::id(), value: Some(value) }
    }

    /// The thing itself.
    ///
    /// # Errors
    /// In another process.
    pub(crate) fn get(&self) -> PyResult<&T> {
        match &self.value {
            Some(value) if !self.is_foreign() => Ok(value),
            _ => Err(PyError::Foreign { process: self.process }.into()),
        }
    }

    /// The process that it was made in.
    pub(crate) fn process(&self) -> u32 {
        self.process
    }

    /// Whether this is a child's copy.
    pub(crate) fn is_foreign(&self) -> bool {
        self.process != process::id()
    }
}

impl<T> Drop for ThisProcess<T> {
    fn drop(&mut self) {
        if self.is_foreign() {
            std::mem::forget(self.value.take());
        }
    }
}
