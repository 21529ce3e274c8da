//! The queue operations of a connection over the shared file, and how they wait: see
//! [`shelves`](super::shelves).
//!
//! The invariant: an item that was taken is in the hands of the caller's future when the step is
//! over, with no moment in between at which it could be dropped. A lease lasts as long as its
//! connection lives and runs, or as it was extended to.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::Ipc;
use super::heap::At;
use super::hub::Hub;
use super::peers::Step;
use super::shelves::{self, Claim, Push};
use super::waits::WaitRecord;
use super::{dead_letters, items, waits};
use crate::error::Result;
use crate::transport::{
    Answer, Claimed, DeadLetter, Letters, Put, PutOptions, QueueSpec, QueueStats, Queues, Receipt,
    SettleOptions, Settlement, Shelf, Wait, answer, pending, refusals,
};

/// How long an operation that is not to wait waits for the lock of the bus.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Queues for Ipc {
    fn push<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Answer<'a, Put> {
        let hub = &*self.hub;
        let mut waiter = Waiter::new(hub);
        let first = hub.attempt(Duration::from_millis(2), "push", &queue.name, |step| {
            waiter.push(step, queue, &items, &options)
        });
        match first {
            Ok(Some(Push::Done)) => answer(Ok(Put::Done)),
            Ok(Some(Push::Already)) => answer(Ok(Put::Already)),
            Err(error) => answer(Err(error)),
            Ok(Some(Push::Wait(_)) | None) => {
                pending(async move { wait_for_space(waiter, queue, &items, options).await })
            }
        }
    }

    /// Never ready before it is polled: an answer that holds items, dropped unseen as `select!`
    /// drops the branches it did not come to, would leave them leased for ever.
    fn claim<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        limit: usize,
        wait: Wait,
    ) -> Answer<'a, Vec<Claimed>> {
        pending(wait_for_items(&self.hub, queue, limit, wait))
    }

    fn settle<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> Answer<'a, ()> {
        self.hub.run("settle", &queue.name, move |step| {
            let Some(item) = self.held(receipt.number) else {
                return Err(refusals::lease_lost("settle", &queue.name));
            };
            items::settle(step, item, how, &options)?;
            self.hub.recipients().leases.remove(&receipt.number);
            Ok(())
        })
    }

    fn settle_soon(
        &self,
        queue: &Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> bool {
        let queue = Arc::clone(queue);
        self.hub.soon(move |hub, patience| {
            let settled =
                hub.attempt_while(Hub::check_there, patience, "settle", &queue.name, |step| {
                    let held = hub.recipients().leases.get(&receipt.number).copied();
                    let Some(item) = held else { return Ok(()) };
                    items::settle(step, item, how, &options)?;
                    hub.recipients().leases.remove(&receipt.number);
                    Ok(())
                })?;
            Ok(settled.is_some())
        })
    }

    fn show(&self, queue: &Arc<QueueSpec>, receipt: &Receipt) {
        let (queue, number) = (Arc::clone(queue), receipt.number);
        self.hub.soon(move |hub, patience| {
            let shown = hub.attempt(patience, "show", &queue.name, |step| {
                let held = hub.recipients().leases.get(&number).copied();
                held.map_or(Ok(()), |item| items::show(step, item))
            })?;
            Ok(shown.is_some())
        });
    }

    /// While its process lives a lease lasts anyhow; how long, is for when it does not.
    fn extend<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: &'a Receipt,
        duration: Duration,
    ) -> Answer<'a, ()> {
        self.hub.run("extend", &queue.name, move |step| {
            let Some(item) = self.held(receipt.number) else {
                return Err(refusals::lease_lost("extend", &queue.name));
            };
            items::extend(step, item, duration)
        })
    }

    fn stats<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, QueueStats> {
        pending(async move {
            loop {
                let (stats, more) = self.look("count", queue, shelves::stats).await?;
                if !more {
                    return Ok(stats);
                }
            }
        })
    }

    fn peek<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: Shelf,
        limit: usize,
    ) -> Answer<'a, Vec<Bytes>> {
        self.look("peek", queue, move |step, found| shelves::peek(step, found, from, limit))
    }

    fn purge<'a>(&'a self, queue: &'a Arc<QueueSpec>, shelf: Shelf) -> Answer<'a, usize> {
        self.hub.catch_up();
        let purge = move |step: &mut Step<'_>, found, _| shelves::purge(step, found, shelf);
        pending(self.in_steps("purge", queue, usize::MAX, purge))
    }

    fn letters<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        skip: usize,
        limit: usize,
    ) -> Answer<'a, Vec<DeadLetter>> {
        self.look("look at", queue, move |step, found| {
            Ok(dead_letters::letters(step, found, skip, limit))
        })
    }

    fn redrive<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        which: Letters,
        to: &'a Arc<QueueSpec>,
    ) -> Answer<'a, usize> {
        pending(self.in_steps("redrive", queue, number(&which), move |step, found, most| {
            at_most(&which, most, |which| dead_letters::redrive(step, found, which, to))
        }))
    }

    fn discard<'a>(&'a self, queue: &'a Arc<QueueSpec>, which: Letters) -> Answer<'a, usize> {
        pending(self.in_steps("discard", queue, number(&which), move |step, found, most| {
            at_most(&which, most, |which| dead_letters::discard(step, found, which))
        }))
    }

    fn shut_down<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, ()> {
        self.hub.run("shut down", &queue.name, move |step| shelves::shut_down(step, queue))
    }
}

impl Ipc {
    /// Where the item lies that is leased under that number.
    fn held(&self, number: u64) -> Option<At> {
        self.hub.recipients().leases.get(&number).copied()
    }

    /// Does something with a queue that exists; nothing with one that does not.
    fn look<'a, T: Default + Send + 'a>(
        &'a self,
        operation: &'static str,
        queue: &'a QueueSpec,
        work: impl Fn(&mut Step<'_>, At) -> Result<T> + Send + 'a,
    ) -> Answer<'a, T> {
        self.hub.run(operation, &queue.name, move |step| match shelves::named(step, &queue.name) {
            0 => Ok(T::default()),
            found => work(step, found),
        })
    }
}

impl Ipc {
    /// Does something with `count` items, in as many steps as that takes; says with how many.
    async fn in_steps(
        &self,
        operation: &'static str,
        queue: &QueueSpec,
        count: usize,
        work: impl Fn(&mut Step<'_>, At, usize) -> Result<(usize, bool)> + Send + Sync,
    ) -> Result<usize> {
        let mut done = 0;
        loop {
            let some = self.look(operation, queue, |step, found| work(step, found, count - done));
            let (some, more) = some.await?;
            done += some;
            if !more || done >= count {
                return Ok(done);
            }
        }
    }
}

/// How many dead letters are meant at most.
fn number(which: &Letters) -> usize {
    match which {
        Letters::Oldest(count) => *count,
        Letters::These(_) => usize::MAX,
    }
}

/// Does something with so many of them at most, where they are counted.
fn at_most<T>(which: &Letters, most: usize, work: impl FnOnce(&Letters) -> T) -> T {
    match which {
        Letters::Oldest(_) => work(&Letters::Oldest(most)),
        these @ Letters::These(_) => work(these),
    }
}

/// How long the lock of the bus may keep an operation that waits so long.
fn limit(wait: Wait) -> Option<Duration> {
    match wait {
        Wait::No => Some(AT_ONCE),
        Wait::Until(_) => wait.left(),
        Wait::Forever => None,
    }
}

async fn wait_for_items(
    hub: &Hub,
    queue: &QueueSpec,
    limit_of_items: usize,
    wait: Wait,
) -> Result<Vec<Claimed>> {
    let mut waiter = Waiter::new(hub);
    loop {
        let may_wait = wait.left() != Some(Duration::ZERO);
        let claim = hub
            .insist(limit(wait), "claim", &queue.name, |step| {
                waiter.claim(step, queue, limit_of_items, may_wait)
            })
            .await;
        match claim? {
            Claim::Taken(taken) => {
                hub.hold(taken.iter().map(|(item, claimed)| (claimed.receipt.number, *item)));
                return Ok(taken.into_iter().map(|(_, claimed)| claimed).collect());
            }
            Claim::Empty => return Ok(Vec::new()),
            Claim::Wait(_, due) => {
                hub.note_due(&queue.name, due);
                waiter.called(wait).await;
            }
        }
    }
}

async fn wait_for_space(
    mut waiter: Waiter<'_>,
    queue: &QueueSpec,
    items: &[Bytes],
    mut options: PutOptions,
) -> Result<Put> {
    let wait = options.wait;
    loop {
        if waiter.place.is_some() {
            waiter.called(wait).await;
        }
        if wait.left() == Some(Duration::ZERO) {
            options.wait = Wait::No;
        }
        let pushed = waiter
            .hub
            .insist(limit(wait), "push", &queue.name, |step| {
                waiter.push(step, queue, items, &options)
            })
            .await;
        match pushed? {
            Push::Done => return Ok(Put::Done),
            Push::Already => return Ok(Put::Already),
            Push::Wait(_) => {}
        }
    }
}

/// One who may have to wait at a queue; its place in the line is given up when it is dropped.
struct Waiter<'a> {
    hub: &'a Hub,
    place: Option<WaitRecord>,
    bell: Arc<Notify>,
}

impl<'a> Waiter<'a> {
    fn new(hub: &'a Hub) -> Self {
        Self { hub, place: None, bell: Arc::default() }
    }

    fn claim(
        &mut self,
        step: &mut Step<'_>,
        queue: &QueueSpec,
        limit: usize,
        may_wait: bool,
    ) -> Result<Claim> {
        self.hub.show_life();
        let claim = shelves::claim(step, self.hub.peer, queue, limit, may_wait, self.place)?;
        match &claim {
            Claim::Wait(place, _) => self.line_up(*place),
            Claim::Taken(_) | Claim::Empty => self.step_out(),
        }
        Ok(claim)
    }

    fn push(
        &mut self,
        step: &mut Step<'_>,
        queue: &QueueSpec,
        items: &[Bytes],
        options: &PutOptions,
    ) -> Result<Push> {
        let push = shelves::push(step, self.hub.peer, queue, items, options, self.place)?;
        match &push {
            Push::Wait(place) => self.line_up(*place),
            Push::Done | Push::Already => self.step_out(),
        }
        Ok(push)
    }

    /// Notes the place before the step is over, so that no call is missed.
    fn line_up(&mut self, place: WaitRecord) {
        self.hub.recipients().bells.insert(place.ticket, Arc::clone(&self.bell));
        self.place = Some(place);
    }

    fn step_out(&mut self) {
        if let Some(place) = self.place.take() {
            self.hub.recipients().bells.remove(&place.ticket);
        }
    }

    /// Waits until it is called, or the time is up.
    async fn called(&self, wait: Wait) {
        match wait {
            Wait::No => {}
            Wait::Until(deadline) => {
                // Either way it is tried once more.
                let _ = timeout_at(deadline, self.bell.notified()).await;
            }
            Wait::Forever => self.bell.notified().await,
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let Some(place) = self.place.take().filter(|_| !self.hub.is_parents()) else { return };
        self.hub.recipients().bells.remove(&place.ticket);
        self.hub.soon(move |hub, patience| {
            let left = hub
                .attempt(patience, "wait", "ipc://", |step| waits::stop_waiting(step, place.at))?;
            Ok(left.is_some())
        });
    }
}
