//! Deliveries as a stream, for loops and combinators.
//!
//! The one invariant: dropping the stream loses nothing; an item that came and was not handed out
//! goes back uncounted. It settles nothing but what cannot be decoded.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_core::Stream;
use futures_core::future::BoxFuture;
use serde::de::DeserializeOwned;

use super::bytes::ByteQueue;
use super::delivery::{ByteDelivery, Delivery, undecodable};
use crate::error::{ErrorKind, Result};
use crate::transport::{Settlement, Wait};

/// The items of a queue as they come, each on lease; see [`Queue::deliveries`](super::Queue::deliveries).
///
/// Polled as a stream and left before something came, it keeps its place in the queue's line: what
/// comes then stays in it until it is polled again or dropped. [`recv`](Self::recv) leaves the line.
#[must_use = "a stream does nothing unless it is read"]
pub struct Deliveries<T> {
    queue: ByteQueue,
    state: Streaming,
    /// When it began to wait, where somebody watches.
    since: Option<Instant>,
    items: PhantomData<fn() -> T>,
}

enum Streaming {
    Idle,
    Claiming(BoxFuture<'static, Result<Option<ByteDelivery>>>),
    Ended,
}

impl<T> Deliveries<T> {
    pub(super) fn new(queue: ByteQueue) -> Self {
        Self { queue, state: Streaming::Idle, since: None, items: PhantomData }
    }
}

impl<T: DeserializeOwned> Deliveries<T> {
    /// The next delivery; `None` when the queue is shut down and empty, the handle that it was made
    /// from stopped, or the bus closed.
    ///
    /// Cancel-safe: a reader that stops waiting leaves the queue's line, and nothing is lost.
    ///
    /// # Errors
    /// `Decode` for an item that is no `T` (it becomes a dead letter), and those of the connection;
    /// either way the next call goes on.
    pub async fn recv(&mut self) -> Option<Result<Delivery<T>>> {
        let waiting = Waiting(self);
        std::future::poll_fn(|context| Pin::new(&mut *waiting.0).poll_next(context)).await
    }

    fn deliver(&mut self, claimed: Result<Option<ByteDelivery>>) -> Option<Result<Delivery<T>>> {
        let claimed = claimed.and_then(|claimed| claimed.ok_or_else(|| self.queue.empty()));
        Some(match claimed {
            Err(error) if matches!(error.kind(), ErrorKind::ShutDown | ErrorKind::Closed) => {
                self.state = Streaming::Ended;
                return None;
            }
            Err(error) => Err(error),
            Ok(bytes) => match Delivery::<T>::decode(self.queue.name(), bytes) {
                Ok(delivery) => {
                    let (observers, since) = (self.queue.observers(), self.since.take());
                    observers.received(self.queue.name(), since, &[delivery.received()]);
                    Ok(if since.is_some() { delivery.observed_by(observers) } else { delivery })
                }
                Err(refused) => {
                    let (bytes, error) = *refused;
                    bytes.settle_soon(Settlement::Reject, undecodable(&error));
                    Err(error)
                }
            },
        })
    }
}

/// Gives the place in the queue's line up when nobody waits any more: an item that came there would
/// lie with nobody.
struct Waiting<'a, T>(&'a mut Deliveries<T>);

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        if matches!(self.0.state, Streaming::Claiming(_)) {
            self.0.state = Streaming::Idle;
        }
    }
}

impl<T: DeserializeOwned> Stream for Deliveries<T> {
    type Item = Result<Delivery<T>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut self.state {
                Streaming::Ended => return Poll::Ready(None),
                Streaming::Idle => {
                    self.since = self.queue.observers().waits();
                    let queue = self.queue.clone();
                    let claim = async move { queue.claim(Wait::Forever).await };
                    self.state = Streaming::Claiming(Box::pin(claim));
                }
                Streaming::Claiming(claim) => {
                    let claimed = ready!(claim.as_mut().poll(context));
                    self.state = Streaming::Idle;
                    return Poll::Ready(self.deliver(claimed));
                }
            }
        }
    }
}

impl<T> fmt::Debug for Deliveries<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Deliveries").field(&self.queue.name()).finish()
    }
}
