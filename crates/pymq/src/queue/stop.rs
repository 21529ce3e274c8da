//! How a handle is told to take no more: once, for all its clones, waits and streams.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Default)]
pub(super) struct Stop {
    asked: AtomicBool,
    told: Notify,
}

impl Stop {
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Takes something in, unless the handle was stopped, or until it is.
    ///
    /// # Errors
    /// `Closed` then; and those of `work`, which must be cancel-safe.
    pub(super) async fn unless_asked<T>(
        &self,
        queue: &str,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let mut work = std::pin::pin!(work);
        // What came in the moment of the stop is left to others: dropped, the claim loses nothing.
        let unless_asked = std::future::poll_fn(|context| match self.is_asked() {
            true => Poll::Ready(Err(stopped(queue))),
            false => work.as_mut().poll(context),
        });
        tokio::select! {
            biased;
            result = unless_asked => result,
            () = self.asked() => Err(stopped(queue)),
        }
    }

    async fn asked(&self) {
        let told = self.told.notified();
        tokio::pin!(told);
        // Registered before the look, so that nothing asked in between is missed.
        told.as_mut().enable();
        if !self.is_asked() {
            told.await;
        }
    }
}

fn stopped(queue: &str) -> Error {
    Error::new(ErrorKind::Closed, "get", queue, "this handle was stopped; make a new one")
}
