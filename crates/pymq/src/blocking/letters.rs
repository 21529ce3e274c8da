//! Dead letters that are looked at and moved on the calling thread.

use serde::de::DeserializeOwned;

use super::mirror::waiting;
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
    waiting! {
        DeadLetters:
        fn len(&self) -> Result<usize>;
        fn is_empty(&self) -> Result<bool>;
        fn redrive(&self) -> Result<usize>;
    }

    /// As [`pymq::DeadLetters::redrive_to`](crate::DeadLetters::redrive_to).
    ///
    /// # Errors
    /// Those of [`pymq::DeadLetters::redrive_to`](crate::DeadLetters::redrive_to).
    pub fn redrive_to<U>(&self, other: &Queue<U>) -> Result<usize> {
        self.bus.wait(self.inner.redrive_to(other.asynchronous()))
    }

    waiting! {
        DeadLetters:
        fn purge(&self) -> Result<usize>;
    }
}

impl<T: DeserializeOwned> DeadLetters<T> {
    waiting! {
        DeadLetters:
        fn read(&self, skip: usize, limit: usize) -> Result<Vec<Letter<T>>>;
        fn redrive_where(&self, choose: impl FnMut(&Letter<T>) -> bool) -> Result<usize>;
        fn discard_where(&self, choose: impl FnMut(&Letter<T>) -> bool) -> Result<usize>;
    }
}
