//! Deliveries: items on lease, and how a lease ends.
//!
//! The one invariant: a delivery is settled exactly once, by its holder or by being dropped, which
//! gives the item back; dropping works on any thread, with or without a runtime. It does not know
//! how a lease is kept alive: transports do that.

use std::fmt::Display;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::origin::Origin;
use crate::codec;
use crate::error::{Error, Result};
use crate::telemetry::{self, Observed, Observers, Operation, Received, Verb};
use crate::transport::{Claimed, Failure, Reason, Receipt, SettleOptions, Settlement};
use crate::wire::Metadata;

/// An item on lease. Dropping it gives the item back, on any thread; so does losing its process.
///
/// At least once: an item whose delivery is not acknowledged comes back, to the head of the queue
/// and counted, until it becomes a dead letter.
#[derive(Debug)]
#[must_use = "dropping a delivery gives its item back; ack it when it is done"]
pub struct Delivery<T> {
    item: T,
    metadata: Metadata,
    bytes: ByteDelivery,
}

impl<T> Delivery<T> {
    /// The item.
    pub fn item(&self) -> &T {
        &self.item
    }

    /// How often it was handed out, this time included.
    pub fn deliveries(&self) -> u32 {
        self.bytes.deliveries()
    }

    /// What its sender said beside it: headers, an identity, the time of sending; empty where it said
    /// nothing.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The name of the queue that it came from, without the namespace.
    pub fn queue(&self) -> &str {
        &self.bytes.origin.name
    }

    /// It, as observers of the bus are told of it.
    pub(super) fn received(&self) -> Received<'_> {
        Received::new(&self.metadata, Some(self.bytes.deliveries()))
    }

    /// The item by value, and the lease that is still to be settled.
    pub fn into_parts(self) -> (T, ByteDelivery) {
        (self.item, self.bytes)
    }

    /// Done: the item is gone.
    ///
    /// # Errors
    /// `LeaseLost` if it belongs to somebody else by now, and those of the connection; after
    /// `Connection` and `Ambiguous`, and where the server refused, it is done by itself once the server
    /// can be asked and if the lease lasts.
    pub async fn ack(self) -> Result<()> {
        self.bytes.settle(Settlement::Ack).await
    }

    /// Done, and nobody waits for it: confirmed with the next claim or within 10 ms, on any thread.
    /// A lease that was lost is logged. Says whether that will be done: `false` where the bus was closed
    /// before, so that the item goes back.
    pub fn ack_soon(self) -> bool {
        self.bytes.ack_soon()
    }

    /// Gives the item back to the head of the queue, one delivery more on its count.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn requeue(self) -> Result<()> {
        self.bytes.settle(Settlement::Requeue).await
    }

    /// Gives the item back to come again after `delay`, one delivery more on its count, behind those
    /// that wait then.
    ///
    /// # Errors
    /// `Unsupported` where the transport knows no later, and as [`ack`](Self::ack).
    pub async fn requeue_after(self, delay: Duration) -> Result<()> {
        let later = SettleOptions::default().delay(delay);
        self.bytes.settle_with(Settlement::Requeue, later).await
    }

    /// Gives the item up: it becomes a dead letter.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn reject(self) -> Result<()> {
        self.bytes.settle(Settlement::Reject).await
    }

    /// Gives the item up for a reason, which is kept with the dead letter.
    ///
    /// # Errors
    /// As [`ack`](Self::ack).
    pub async fn reject_because(self, reason: impl Display) -> Result<()> {
        let failure = Failure::new(Reason::Rejected).error("", &reason.to_string()).origin(here());
        let options = SettleOptions::default().failure(failure);
        self.bytes.settle_with(Settlement::Reject, options).await
    }

    /// Makes sure that the lease lasts for `duration` from now, even if this process does not.
    ///
    /// A living process keeps its leases by itself; this is for work that others should not begin
    /// again too soon, whatever happens here. It never shortens a lease.
    ///
    /// # Errors
    /// `LeaseLost` if it belongs to somebody else by now, and those of the connection; after `Ambiguous`
    /// it may be done, and asking once more does no harm.
    pub async fn extend(&self, duration: Duration) -> Result<()> {
        self.bytes.extend(duration).await
    }
}

impl<T: DeserializeOwned> Delivery<T> {
    /// Decodes an item; one that is no `T` comes back with the reason.
    pub(super) fn decode(
        queue: &str,
        bytes: ByteDelivery,
    ) -> Result<Self, Box<(ByteDelivery, Error)>> {
        match codec::decode_message(queue, bytes.payload()) {
            Ok((item, metadata)) => Ok(Self { item, metadata, bytes }),
            Err(error) => Err(Box::new((bytes, error))),
        }
    }

    /// The same delivery, of whose settlement they are told.
    pub(super) fn observed_by(mut self, observers: &Observers) -> Self {
        self.bytes.observers = Some(observers.clone());
        self
    }

    /// The same delivery, which comes home when it is dropped.
    pub(super) fn homing(self, home: Weak<Home>) -> Self {
        let Self { item, metadata, mut bytes } = self;
        bytes.home = Some(home);
        Self { item, metadata, bytes }
    }
}

/// What is told of an item that could not be decoded.
pub(super) fn undecodable(error: &Error) -> SettleOptions {
    let failure = Failure::new(Reason::Undecodable).error("Decode", error.message());
    SettleOptions::default().failure(failure.origin(here()))
}

/// This process, as `host:process`.
pub(super) fn here() -> String {
    static HOST: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let host = HOST.get_or_init(|| {
        let asked = std::fs::read_to_string("/proc/sys/kernel/hostname");
        // Where Linux's way is not there, what shells say, and what Windows says.
        let said = || ["HOSTNAME", "COMPUTERNAME"].iter().find_map(|name| std::env::var(name).ok());
        asked.ok().or_else(said).unwrap_or_default().trim().to_owned()
    });
    // Asked each time: a forked child is another one.
    format!("{host}:{}", std::process::id())
}

/// Where a delivery returns to when a handler drops it unsettled: the worker decides what becomes of
/// it. Dropped with one inside, as when the handler is cancelled, it gives the item back.
#[derive(Debug, Default)]
pub(super) struct Home(Mutex<Option<ByteDelivery>>);

impl Home {
    /// What came home.
    pub(super) fn take(&self) -> Option<ByteDelivery> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, delivery: ByteDelivery) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(delivery);
    }
}

impl<T> Deref for Delivery<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

/// A claimed item as bytes; see [`Delivery`].
#[derive(Debug)]
#[must_use = "dropping a delivery gives its item back; settle it when it is done"]
pub struct ByteDelivery {
    origin: Origin,
    payload: Bytes,
    deliveries: u32,
    /// Gone once it is settled.
    receipt: Option<Receipt>,
    /// Where it goes when it is dropped; gone with the worker that waits there.
    home: Option<Weak<Home>>,
    /// The observers that are told how its holder settles it.
    observers: Option<Observers>,
}

impl ByteDelivery {
    pub(super) fn new(origin: Origin, claimed: Claimed) -> Self {
        let Claimed { payload, deliveries, receipt } = claimed;
        Self { origin, payload, deliveries, receipt: Some(receipt), home: None, observers: None }
    }

    /// The bytes as they were put, with the metadata that may be in them
    /// ([`Metadata::detach`] takes them apart).
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// As [`Delivery::deliveries`].
    pub fn deliveries(&self) -> u32 {
        self.deliveries
    }

    /// Ends the lease.
    ///
    /// # Errors
    /// As [`Delivery::ack`].
    pub async fn settle(self, how: Settlement) -> Result<()> {
        self.settle_with(how, SettleOptions::default()).await
    }

    /// Ends the lease, with more to say: when the item comes again, or why it is given up.
    ///
    /// # Errors
    /// As [`Delivery::requeue_after`].
    pub async fn settle_with(mut self, how: Settlement, options: SettleOptions) -> Result<()> {
        self.origin.check_runtime(verb(how))?;
        match self.receipt.take() {
            Some(receipt) => {
                let observed = self.observed(how);
                let Origin { transport, spec, .. } = &self.origin;
                let settled = transport.settle(spec, receipt, how, options).await;
                telemetry::ended(observed, 1, self.origin.named(verb(how), settled))
            }
            None => Ok(()),
        }
    }

    /// Confirms with the next claim or within 10 ms; does not wait, works on any thread. As
    /// [`Delivery::ack_soon`] it says whether that will be done.
    pub fn ack_soon(mut self) -> bool {
        self.end_soon(Settlement::Ack, SettleOptions::default())
    }

    /// The same of an item that is given out for good.
    ///
    /// # Errors
    /// `Closed` if the item went back: it is nobody's.
    pub(super) fn taken(mut self) -> Result<()> {
        match self.end_soon(Settlement::Ack, SettleOptions::default()) {
            true => Ok(()),
            false => Err(Error::closed("get", &*self.origin.name)),
        }
    }

    /// Gives the item back to the head of its queue, uncounted: it was never handed to anybody. Does
    /// not wait, works on any thread.
    pub fn give_back(mut self) {
        self.end_soon(Settlement::Return, SettleOptions::default());
    }

    /// Ends the lease as [`settle_with`](Self::settle_with) does, without waiting; works on any
    /// thread.
    pub fn settle_soon(mut self, how: Settlement, options: SettleOptions) {
        self.end_soon(how, options);
    }

    /// As [`Delivery::extend`]; the future does not hold the delivery, which may be settled meanwhile.
    ///
    /// # Errors
    /// As [`Delivery::extend`].
    pub fn extend(&self, duration: Duration) -> impl Future<Output = Result<()>> + Send + use<> {
        let (origin, receipt) = (self.origin.clone(), self.receipt.clone());
        async move {
            match &receipt {
                Some(receipt) => {
                    origin.check_runtime("extend")?;
                    let extended = origin.transport.extend(&origin.spec, receipt, duration).await;
                    origin.named("extend", extended)
                }
                None => Ok(()),
            }
        }
    }

    /// Its settlement, where somebody watches.
    fn observed(&self, how: Settlement) -> Option<Observed> {
        let settles = match how {
            Settlement::Ack => Verb::Ack,
            Settlement::Requeue => Verb::Requeue,
            Settlement::Reject => Verb::Reject,
            // Nobody had it.
            Settlement::Return => return None,
        };
        self.observers.as_ref()?.begin(Operation::new(settles, &self.origin.name))
    }

    fn end_soon(&mut self, how: Settlement, options: SettleOptions) -> bool {
        self.receipt.take().is_none_or(|receipt| {
            let Origin { transport, spec, .. } = &self.origin;
            transport.settle_soon(spec, receipt, how, options)
        })
    }
}

/// What a user calls it.
fn verb(how: Settlement) -> &'static str {
    match how {
        Settlement::Ack => "ack",
        Settlement::Requeue => "requeue",
        Settlement::Return => "give back",
        Settlement::Reject => "reject",
    }
}

impl Drop for ByteDelivery {
    fn drop(&mut self) {
        let home = self.home.take().and_then(|home| home.upgrade());
        if let Some(home) = home
            && let Some(receipt) = self.receipt.take()
        {
            let (origin, payload) = (self.origin.clone(), self.payload.clone());
            home.put(Self {
                origin,
                payload,
                deliveries: self.deliveries,
                receipt: Some(receipt),
                home: None,
                observers: None,
            });
            return;
        }
        self.end_soon(Settlement::Requeue, SettleOptions::default());
    }
}
