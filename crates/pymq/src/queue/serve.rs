//! One item's way through a handler, and what becomes of it.
//!
//! The one invariant: an item is acknowledged when its handler said so, and comes again as the
//! queue's [`Retry`](super::Retry) says when the handler failed or panicked, unless the handler settled
//! it. Whatever it does not come to, the dropped delivery gives it back at once.

use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::future::FutureExt as _;
use serde::de::DeserializeOwned;

use super::bytes::ByteQueue;
use super::delivery::{ByteDelivery, Delivery, Home, here, undecodable};
use crate::codec::short_type_name;
use crate::telemetry::{self, Observed, Operation, Verb};
use crate::transport::{Failure, Reason, SettleOptions, Settlement};

/// Serves an item with a handler that takes it by value.
pub(super) async fn item<T, E, F>(
    queue: Arc<ByteQueue>,
    delivery: ByteDelivery,
    handler: Arc<impl Fn(T) -> F + Send + Sync + 'static>,
) where
    T: DeserializeOwned + Send + 'static,
    E: Display + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    let Some(decoded) = decoded::<T>(&queue, delivery).await else { return };
    let observed = observed(&queue, &decoded);
    let (item, delivery) = decoded.into_parts();
    let done = outcome(observed, async move { handler(item).await }).await;
    end(&queue, delivery, done).await;
}

/// Serves an item with a handler that takes its delivery, and may settle it.
pub(super) async fn delivery<T, E, F>(
    queue: Arc<ByteQueue>,
    delivery: ByteDelivery,
    handler: Arc<impl Fn(Delivery<T>) -> F + Send + Sync + 'static>,
) where
    T: DeserializeOwned + Send + 'static,
    E: Display + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
{
    let Some(decoded) = decoded::<T>(&queue, delivery).await else { return };
    let observed = observed(&queue, &decoded);
    let home = Arc::new(Home::default());
    let decoded = decoded.observed_by(queue.observers()).homing(Arc::downgrade(&home));
    let done = outcome(observed, async move { handler(decoded).await }).await;
    // Settled, or handed on to somebody who will: then there is nothing to do.
    if let Some(delivery) = home.take() {
        end(&queue, delivery, done).await;
    }
}

async fn decoded<T: DeserializeOwned>(
    queue: &ByteQueue,
    delivery: ByteDelivery,
) -> Option<Delivery<T>> {
    match Delivery::decode(queue.name(), delivery) {
        Ok(decoded) => Some(decoded),
        Err(refused) => {
            let (delivery, error) = *refused;
            settle(queue, delivery, Settlement::Reject, undecodable(&error)).await;
            None
        }
    }
}

/// A handler that begins, where somebody watches.
fn observed<T>(queue: &ByteQueue, delivery: &Delivery<T>) -> Option<Observed> {
    let process = Operation::new(Verb::Process, queue.name());
    queue.observers().begin(process.with(delivery.received()))
}

/// How a handler ended, told to the observers.
async fn outcome<E: Display>(
    observed: Option<Observed>,
    handler: impl Future<Output = Result<(), E>>,
) -> Result<(), Failure> {
    let done =
        run(telemetry::run(observed.as_ref(), AssertUnwindSafe(handler).catch_unwind())).await;
    if let Some(observed) = observed {
        observed.end(1, done.as_ref().err().map(|failure| failure.error.as_str()));
    }
    done
}

/// How a handler ended; one that panicked failed.
async fn run<E: Display>(
    handler: impl Future<Output = std::thread::Result<Result<(), E>>>,
) -> Result<(), Failure> {
    // What the handler shares with others is theirs to mistrust, as after any panic.
    let failed = match handler.await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => match catch_unwind(AssertUnwindSafe(|| error.to_string())) {
            Ok(words) => Failure::new(Reason::Failed).error(short_type_name::<E>(), &words),
            // Its own words cannot be had either.
            Err(_) => Failure::new(Reason::Failed).error(short_type_name::<E>(), ""),
        },
        Err(panic) => Failure::new(Reason::Failed).error("panic", words(&*panic)),
    };
    Err(failed.origin(here()))
}

/// What a panic says, if it is text.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or_default()
}

async fn end(queue: &ByteQueue, delivery: ByteDelivery, done: Result<(), Failure>) {
    let Err(failure) = done else {
        return settle(queue, delivery, Settlement::Ack, SettleOptions::default()).await;
    };
    let deliveries = delivery.deliveries();
    let again = queue.retry_after(deliveries);
    let last = deliveries >= queue.spec().max_deliveries && queue.spec().max_deliveries > 0;
    match again.filter(|_| !last) {
        Some(delay) => tracing::warn!(
            queue = queue.name(), error = failure.words, deliveries, again_after = ?delay,
            "a handler failed"
        ),
        None => tracing::warn!(
            queue = queue.name(),
            error = failure.words,
            deliveries,
            "a handler failed for good"
        ),
    }
    let options = SettleOptions::default().failure(failure);
    match again {
        Some(delay) => settle(queue, delivery, Settlement::Requeue, options.delay(delay)).await,
        None => settle(queue, delivery, Settlement::Reject, options).await,
    }
}

async fn settle(
    queue: &ByteQueue,
    delivery: ByteDelivery,
    how: Settlement,
    options: SettleOptions,
) {
    if let Err(error) = delivery.settle_with(how, options).await {
        tracing::warn!(queue = queue.name(), %error, "an item was not settled");
    }
}
