//! Queues: the original's lists, with leases beside them. `docs/redis-queues.md` draws the protocol.
//!
//! The one invariant: an item is at any moment in one list at least: waiting, held by one epoch, or
//! dead. Moves between them are single commands, or scripts that push before they take, so that
//! whoever dies wherever, and whatever is refused, loses nothing.
//!
//! The spaces before an item tell how often it was delivered, one for each time it came back:
//! every JSON decoder skips them, the original's too. An item that is put with spaces of its own
//! before it comes out without them, counted accordingly.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::keys::HeldList;
use self::roster::{consumer, holder, running_holder};
use super::purpose::Purpose;
use super::{Core, Redis};
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{
    Answer, Claimed, DeadLetter, Letters, Put, PutOptions, QueueSpec, QueueStats, Queues, Receipt,
    SettleOptions, Settlement, Shelf, Wait, pending,
};

mod claimer;
mod compare;
mod consumer;
mod dead_letters;
mod epochs;
mod extend;
mod getters;
mod give_back;
mod item;
mod keys;
mod last_words;
mod lease;
mod letter_format;
mod line_up;
mod log_once;
mod orphans;
mod pending_settlement;
mod push;
mod roster;
mod round;
mod scripts;
mod send_settlements;
mod shelves;
mod show;
mod ticket;
mod try_claim;

pub(super) use self::keys::{key_in_slot, of_side_key, side_key};
pub(super) use self::roster::Roster;

/// A confirmation waits for others to be sent with for so long at most.
const COMPANY: Duration = Duration::from_millis(10);

impl Redis {
    /// The connections to where a queue is.
    pub(super) fn of(&self, operation: &'static str, queue: &QueueSpec) -> Result<Arc<Core>> {
        self.cores.of(operation, &queue.name)
    }
}

impl Queues for Redis {
    fn push<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Answer<'a, Put> {
        pending(async move { push::push(&*self.of("put", queue)?, queue, items, options).await })
    }

    fn claim<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        limit: usize,
        wait: Wait,
    ) -> Answer<'a, Vec<Claimed>> {
        pending(async move { claim(&self.of("get", queue)?, queue, limit, wait).await })
    }

    fn settle<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> Answer<'a, ()> {
        pending(
            async move { settle(&self.of("settle", queue)?, queue, receipt, how, options).await },
        )
    }

    fn settle_soon(
        &self,
        queue: &Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> bool {
        // The consumer that holds it knows best whether it is too late, even while the connection is closed.
        let Some(core) = self.cores.holding(&queue.name) else { return false };
        let holder = holder(&core, queue, &receipt, &Purpose::change("settle", &queue.name));
        holder.is_ok_and(|one| one.settle(receipt, how, options, COMPANY, false).is_ok())
    }

    fn show(&self, queue: &Arc<QueueSpec>, receipt: &Receipt) {
        if HeldList::of(receipt).ahead
            && let Ok(core) = self.of("show", queue)
            && let Some(holder) = running_holder(&core, queue, receipt)
        {
            holder.show([receipt]);
        }
    }

    fn extend<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: &'a Receipt,
        duration: Duration,
    ) -> Answer<'a, ()> {
        pending(async move {
            extend::extend(&self.of("extend", queue)?, queue, receipt, duration).await
        })
    }

    fn stats<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, QueueStats> {
        pending(async move { shelves::stats(&*self.of("count", queue)?, queue).await })
    }

    fn peek<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: Shelf,
        limit: usize,
    ) -> Answer<'a, Vec<Bytes>> {
        pending(async move { shelves::peek(&*self.of("peek", queue)?, queue, from, limit).await })
    }

    fn purge<'a>(&'a self, queue: &'a Arc<QueueSpec>, shelf: Shelf) -> Answer<'a, usize> {
        pending(async move { shelves::purge(&*self.of("purge", queue)?, queue, shelf).await })
    }

    fn letters<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        skip: usize,
        limit: usize,
    ) -> Answer<'a, Vec<DeadLetter>> {
        pending(
            async move { dead_letters::look(&*self.of("look", queue)?, queue, skip, limit).await },
        )
    }

    fn redrive<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        which: Letters,
        to: &'a Arc<QueueSpec>,
    ) -> Answer<'a, usize> {
        pending(async move {
            let (core, there) = (self.of("redrive", queue)?, self.of("redrive", to)?);
            if !Arc::ptr_eq(&core, &there) {
                return dead_letters::carry((&core, queue), which, (&there, to)).await;
            }
            dead_letters::redrive(&core, queue, which, to).await
        })
    }

    fn discard<'a>(&'a self, queue: &'a Arc<QueueSpec>, which: Letters) -> Answer<'a, usize> {
        pending(
            async move { dead_letters::discard(&*self.of("discard", queue)?, queue, which).await },
        )
    }

    fn shut_down<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, ()> {
        pending(async move { shelves::shut_down(&*self.of("shut down", queue)?, queue).await })
    }
}

async fn claim(
    core: &Arc<Core>,
    spec: &QueueSpec,
    limit: usize,
    wait: Wait,
) -> Result<Vec<Claimed>> {
    let purpose = Purpose::change("claim", &spec.name);
    if limit == 0 {
        return Ok(Vec::new());
    }
    // A deadline that is past already still asks once.
    let wait = if wait.left() == Some(Duration::ZERO) { Wait::No } else { wait };
    loop {
        let consumer = consumer(core, spec, &purpose)?;
        let ticket = match wait {
            Wait::No => try_claim::try_claim(core, &consumer, spec, limit),
            _ => consumer.enqueue(spec, limit, wait),
        };
        // None: it retired just now, for want of use; the next one will do.
        if let Some(mut ticket) = ticket {
            let items = ticket.wait(wait).await.unwrap_or_else(|| Err(purpose.closed()))?;
            if spec.prefetch > 1 {
                consumer.show(items.iter().take(limit).map(|item| &item.receipt));
            }
            // Only a server that is there can say that the queue is empty.
            return if items.is_empty() {
                core.connected(&purpose).map(|()| items)
            } else {
                Ok(items)
            };
        }
    }
}

async fn settle(
    core: &Arc<Core>,
    spec: &QueueSpec,
    receipt: Receipt,
    how: Settlement,
    options: SettleOptions,
) -> Result<()> {
    let purpose = Purpose::change("settle", &spec.name);
    core.check(&purpose)?;
    if let Some(what) = options.lacking(super::ABLE) {
        return Err(lacking(&purpose, what));
    }
    let holder = holder(core, spec, &receipt, &purpose)?;
    match holder.settle(receipt, how, options, Duration::ZERO, true)? {
        Some(settled) => settled.await.unwrap_or_else(|_| Err(purpose.closed_unanswered())),
        None => Err(purpose.closed()),
    }
}

/// The error for something that this transport cannot do yet.
fn lacking(purpose: &Purpose<'_>, what: &str) -> Error {
    purpose.error(ErrorKind::Unsupported, format!("redis:// has no {what} yet"))
}

/// The same failure, for another caller that is to be told of it.
fn copy(error: &Error, operation: &'static str) -> Error {
    let copy = Error::new(error.kind(), operation, error.object(), error.message().to_owned());
    if error.is_retryable() { copy.that_passes() } else { copy }
}
