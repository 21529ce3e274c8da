//! Dead letters that are looked at and moved on the calling thread.

use serde::de::DeserializeOwned;

use super::{Bus, Queue};
use crate::error::Result;
use crate::queue::{self, Letter};

/// As [`pymq::DeadLetters`](crate::DeadLetters), waiting.
#[derive(Debug)]
pub struct DeadLetters<T> {
    pub(super) inner: queue::DeadLetters<T>,
    pub(super) bus: Bus,
}

impl<T> DeadLetters<T> {
    /// As [`pymq::DeadLetters::len`](crate::DeadLetters::len).
    ///
    /// # Errors
    /// As there.
    pub fn len(&self) -> Result<usize> {
        self.bus.wait(self.inner.len())
    }

    /// As [`pymq::DeadLetters::is_empty`](crate::DeadLetters::is_empty).
    ///
    /// # Errors
    /// As there.
    pub fn is_empty(&self) -> Result<bool> {
        self.bus.wait(self.inner.is_empty())
    }

    /// As [`pymq::DeadLetters::redrive`](crate::DeadLetters::redrive).
    ///
    /// # Errors
    /// As there.
    pub fn redrive(&self) -> Result<usize> {
        self.bus.wait(self.inner.redrive())
    }

    /// As [`pymq::DeadLetters::redrive_to`](crate::DeadLetters::redrive_to).
    ///
    /// # Errors
    /// As there.
    pub fn redrive_to<U>(&self, other: &Queue<U>) -> Result<usize> {
        self.bus.wait(self.inner.redrive_to(other.asynchronous()))
    }

    /// As [`pymq::DeadLetters::purge`](crate::DeadLetters::purge).
    ///
    /// # Errors
    /// As there.
    pub fn purge(&self) -> Result<usize> {
        self.bus.wait(self.inner.purge())
    }
}

impl<T: DeserializeOwned> DeadLetters<T> {
    /// As [`pymq::DeadLetters::read`](crate::DeadLetters::read).
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, skip: usize, limit: usize) -> Result<Vec<Letter<T>>> {
        self.bus.wait(self.inner.read(skip, limit))
    }

    /// As [`pymq::DeadLetters::redrive_where`](crate::DeadLetters::redrive_where).
    ///
    /// # Errors
    /// As there.
    pub fn redrive_where(&self, choose: impl FnMut(&Letter<T>) -> bool) -> Result<usize> {
        self.bus.wait(self.inner.redrive_where(choose))
    }

    /// As [`pymq::DeadLetters::discard_where`](crate::DeadLetters::discard_where).
    ///
    /// # Errors
    /// As there.
    pub fn discard_where(&self, choose: impl FnMut(&Letter<T>) -> bool) -> Result<usize> {
        self.bus.wait(self.inner.discard_where(choose))
    }
}
