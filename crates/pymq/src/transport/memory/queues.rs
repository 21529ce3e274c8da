//! The queue operations of a connection, and how they wait.
//!
//! Whoever waits stands in the queue's line, where items and space are dealt out in order; its
//! place is given up when its future is dropped, and what had been dealt to it goes back to the
//! head uncounted. A lease ends with its connection only: who lives in this process lives as long
//! as the broker does, so no lease runs out on a clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::Memory;
use super::queue::Queue;
use super::store::{Aftermath, Bell, Signal, Ticket};
use super::waiters::{Claim, KeepTime, Push};
use crate::error::Result;
use crate::transport::{
    Answer, Claimed, DeadLetter, Letters, Put, PutOptions, QueueSpec, QueueStats, Queues, Receipt,
    SettleOptions, Settlement, Shelf, Wait, answer, pending, refusals,
};

impl Queues for Memory {
    fn push<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Answer<'a, Put> {
        let wait = options.wait;
        match self.push_or_line_up(queue, items, options) {
            Ok(Ok(put)) => answer(Ok(put)),
            Ok(Err(place)) => pending(place.wait_for_space(wait)),
            Err(error) => answer(Err(error)),
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
        pending(async move {
            match self.claim_or_line_up(queue, limit, wait)? {
                Ok(claimed) => Ok(claimed),
                Err(place) => place.wait_for_items(limit, wait).await,
            }
        })
    }

    fn settle<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> Answer<'a, ()> {
        answer(self.change("settle", queue, |found, after| {
            let settled =
                found.is_some_and(|found| found.settle(receipt.number, how, options, after));
            if settled { Ok(()) } else { Err(refusals::lease_lost("settle", &queue.name)) }
        }))
    }

    fn settle_soon(
        &self,
        queue: &Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> bool {
        // At once is soon enough, and nobody waits to hear that the lease was lost: then the item is
        // somebody else's by now.
        let settled = self.change("settle", queue, |found, after| {
            if let Some(found) = found {
                found.settle(receipt.number, how, options, after);
            }
            Ok(())
        });
        settled.is_ok()
    }

    fn show(&self, queue: &Arc<QueueSpec>, receipt: &Receipt) {
        // A bus that is closed holds nothing that could be shown.
        let _ = self.change("show", queue, |found, _| {
            found.into_iter().for_each(|found| found.show(receipt.number));
            Ok(())
        });
    }

    /// Any length is kept without more ado: no lease here runs out on a clock.
    fn extend<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: &'a Receipt,
        _duration: Duration,
    ) -> Answer<'a, ()> {
        answer(self.change("extend", queue, |found, _| {
            let held = found.is_some_and(|found| found.holds(receipt.number));
            if held { Ok(()) } else { Err(refusals::lease_lost("extend", &queue.name)) }
        }))
    }

    fn stats<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, QueueStats> {
        answer(self.change("count", queue, |found, _| {
            Ok(found.map_or(QueueStats::default(), Queue::stats))
        }))
    }

    fn peek<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: Shelf,
        limit: usize,
    ) -> Answer<'a, Vec<Bytes>> {
        answer(self.change("peek", queue, |found, _| {
            Ok(found.map_or(Vec::new(), |found| found.peek(from, limit)))
        }))
    }

    fn purge<'a>(&'a self, queue: &'a Arc<QueueSpec>, shelf: Shelf) -> Answer<'a, usize> {
        answer(self.change("purge", queue, |found, after| {
            Ok(found.map_or(0, |found| found.purge(shelf, after)))
        }))
    }

    fn letters<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        skip: usize,
        limit: usize,
    ) -> Answer<'a, Vec<DeadLetter>> {
        answer(self.change("look at", queue, |found, _| {
            Ok(found.map_or(Vec::new(), |found| found.letters(skip, limit)))
        }))
    }

    fn redrive<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        which: Letters,
        to: &'a Arc<QueueSpec>,
    ) -> Answer<'a, usize> {
        answer(self.broker.queues.with(|state, after| {
            self.check_open("redrive", &queue.name)?;
            let items = state.existing(&queue.name).map(|found| found.exhume(&which));
            let items = items.unwrap_or_default();
            let count = items.len();
            state.queue(&to.name).bring_back(items, to.priorities, after);
            Ok(count)
        }))
    }

    fn discard<'a>(&'a self, queue: &'a Arc<QueueSpec>, which: Letters) -> Answer<'a, usize> {
        answer(self.change("discard", queue, |found, after| {
            let before = after.discarded.len();
            if let Some(found) = found {
                found.discard(&which, after);
            }
            Ok(after.discarded.len() - before)
        }))
    }

    fn shut_down<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, ()> {
        answer(self.broker.queues.with(|state, after| {
            self.check_open("shut down", &queue.name)?;
            state.queue(&queue.name).shut_down(after);
            Ok(())
        }))
    }
}

impl Memory {
    /// Does `work` on a queue that exists, or on none.
    fn change<T>(
        &self,
        operation: &'static str,
        queue: &QueueSpec,
        work: impl FnOnce(Option<&mut Queue>, &mut Aftermath) -> Result<T>,
    ) -> Result<T> {
        self.broker.queues.with(|state, after| {
            self.check_open(operation, &queue.name)?;
            work(state.existing(&queue.name), after)
        })
    }

    /// Pushes, or takes a place in the line of those who wait for space.
    fn push_or_line_up<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Result<Result<Put, Waiting<'a>>> {
        self.broker.queues.with(|state, after| {
            self.check_open("push", &queue.name)?;
            let found = state.queue(&queue.name);
            match found.push(queue, items, options, after)? {
                Push::Done => Ok(Ok(Put::Done)),
                Push::Already => Ok(Ok(Put::Already)),
                Push::Wait(parcel) => Ok(Err(Waiting::take(self, queue, |bell| {
                    found.wait_for_space(self.id, queue.maxsize, parcel, bell)
                }))),
            }
        })
    }

    /// Takes items, or a place in the line of those who wait for some.
    fn claim_or_line_up<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        limit: usize,
        wait: Wait,
    ) -> Result<Result<Vec<Claimed>, Waiting<'a>>> {
        self.broker.queues.with(|state, after| {
            self.check_open("claim", &queue.name)?;
            let found = state.queue(&queue.name);
            match found.claim(self.id, queue, limit, after)? {
                Claim::Taken(claimed) => Ok(Ok(claimed)),
                Claim::Empty if wait == Wait::No => Ok(Ok(Vec::new())),
                Claim::Empty => Ok(Err(Waiting::take(self, queue, |bell| {
                    found.wait_for_items(self.id, limit.max(queue.prefetch), bell, after)
                }))),
            }
        })
    }
}

/// A place in the line of those who wait at a queue; dropping it gives it up.
struct Waiting<'a> {
    memory: &'a Memory,
    queue: &'a QueueSpec,
    ticket: Ticket,
    bell: oneshot::Receiver<Result<Signal>>,
}

/// What ended a wait.
enum Woken {
    Rung(Result<Signal>),
    /// An item is due.
    Due,
    TimeUp,
}

impl<'a> Waiting<'a> {
    fn take(
        memory: &'a Memory,
        queue: &'a QueueSpec,
        line_up: impl FnOnce(Bell) -> Ticket,
    ) -> Self {
        let (ring, bell) = oneshot::channel();
        Self { memory, queue, ticket: line_up(ring), bell }
    }

    async fn wait_for_items(mut self, limit: usize, wait: Wait) -> Result<Vec<Claimed>> {
        let mut due = None;
        loop {
            match self.woken(wait, due).await {
                Woken::TimeUp => break,
                Woken::Rung(turn) => match turn? {
                    Signal::Come | Signal::Already => break,
                    Signal::KeepTime => {}
                },
                Woken::Due => {}
            }
            match self.watch()? {
                KeepTime::Until(next) => due = next,
                KeepTime::Over => break,
            }
        }
        // Even when the time was up first: what was dealt out by now is ours.
        let Self { memory, queue, ticket, .. } = &self;
        memory.change("claim", queue, |found, _| {
            let dealt = found.map(|found| found.collect(memory.id, queue, *ticket, limit));
            Ok(dealt.unwrap_or_default())
        })
    }

    /// Lines up what is due, and stays in the line under a new bell.
    fn watch(&mut self) -> Result<KeepTime> {
        let (ring, bell) = oneshot::channel();
        self.bell = bell;
        let Self { memory, queue, ticket, .. } = &self;
        memory.change("claim", queue, |found, after| match found {
            Some(found) => found.watch(*ticket, ring, after),
            None => Ok(KeepTime::Over),
        })
    }

    async fn wait_for_space(mut self, wait: Wait) -> Result<Put> {
        if let Woken::Rung(turn) = self.woken(wait, None).await {
            return turn.map(put);
        }
        let Self { memory, queue, ticket, .. } = &self;
        let waited = memory.change("push", queue, |found, after| {
            Ok(found.is_some_and(|found| found.give_up(*ticket, after)))
        })?;
        if waited {
            return Err(refusals::full(&queue.name, queue.maxsize));
        }
        // Not in the line any more: its turn came in this very moment, and the bell is about to ring.
        match self.woken(Wait::Forever, None).await {
            Woken::Rung(turn) => turn.map(put),
            Woken::Due | Woken::TimeUp => Ok(Put::Done),
        }
    }

    /// Waits for the bell, or until the time is up or an item due, whichever comes first.
    async fn woken(&mut self, wait: Wait, due: Option<Instant>) -> Woken {
        let until = match wait {
            Wait::No => return self.bell.try_recv().map_or(Woken::TimeUp, Woken::Rung),
            Wait::Until(deadline) => Some(deadline),
            Wait::Forever => None,
        };
        let rung = match due.into_iter().chain(until).min() {
            None => (&mut self.bell).await,
            Some(end) => match timeout_at(end, &mut self.bell).await {
                Ok(rung) => rung,
                Err(_) if due == Some(end) => return Woken::Due,
                Err(_) => return Woken::TimeUp,
            },
        };
        // A bell that is thrown away unrung belongs to a queue that nobody can ring for again.
        let closed = || refusals::closed("wait", &self.queue.name);
        Woken::Rung(rung.unwrap_or_else(|_| Err(closed())))
    }
}

/// What the turn of a push says.
fn put(turn: Signal) -> Put {
    if turn == Signal::Already { Put::Already } else { Put::Done }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.memory.broker.queues.with(|state, after| {
            if let Some(found) = state.existing(&self.queue.name) {
                found.give_up(self.ticket, after);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::FutureExt;

    use super::*;
    use crate::error::ErrorKind;

    fn memory() -> Memory {
        Memory::connect("memory://").expect("a memory address")
    }

    fn queue(maxsize: usize) -> Arc<QueueSpec> {
        Arc::new(QueueSpec { maxsize, ..QueueSpec::new("queue") })
    }

    fn waits<T>(future: &mut Answer<'_, T>) -> bool {
        future.now_or_never().is_none()
    }

    fn done<T>(future: Answer<'_, T>) -> Result<T> {
        future.now_or_never().expect("it need not wait")
    }

    fn payloads(claimed: Vec<Claimed>) -> Vec<Bytes> {
        claimed.into_iter().map(|item| item.payload).collect()
    }

    #[test]
    fn items_are_dealt_in_the_order_in_which_claims_came() {
        let (memory, queue) = (memory(), queue(0));
        let mut first = memory.claim(&queue, 2, Wait::Forever);
        let mut gone = memory.claim(&queue, 2, Wait::Forever);
        let mut last = memory.claim(&queue, 2, Wait::Forever);
        assert!(waits(&mut first) && waits(&mut gone) && waits(&mut last));
        drop(gone);
        let items = ["a", "b", "c"].map(Bytes::from).to_vec();
        done(memory.push(&queue, items, Wait::No.into())).expect("there is space");
        assert_eq!(payloads(done(last).expect("an item came")), ["c"]);
        assert_eq!(payloads(done(first).expect("items came")), ["a", "b"]);
    }

    #[test]
    fn who_waits_for_space_is_not_overtaken_by_who_could_wait_too() {
        let (memory, queue) = (memory(), queue(2));
        let push = |items: &[&'static str], wait| {
            memory.push(
                &queue,
                items.iter().copied().map(Bytes::from).collect(),
                PutOptions::from(wait),
            )
        };
        done(push(&["a"], Wait::No)).expect("there is space");
        let mut large = push(&["b", "c"], Wait::Forever);
        let mut small = push(&["d"], Wait::Forever);
        assert!(waits(&mut large) && waits(&mut small));
        let claim =
            || payloads(done(memory.claim(&queue, 1, Wait::No)).expect("an open connection"));
        assert_eq!(claim(), ["a"]);
        done(large).expect("its turn came");
        assert!(waits(&mut small));
        assert_eq!(claim(), ["b"]);
        done(small).expect("its turn came");
        assert_eq!((claim(), claim()), (vec!["c".into()], vec!["d".into()]));
    }

    #[test]
    fn who_gives_up_lets_the_next_in_line_pass() {
        let (memory, queue) = (memory(), queue(2));
        let push = |count| memory.push(&queue, vec![Bytes::new(); count], PutOptions::new());
        done(push(1)).expect("there is space");
        let (mut large, mut small) = (push(2), push(1));
        assert!(waits(&mut large) && waits(&mut small));
        drop(large);
        done(small).expect("its turn came");
    }

    #[test]
    fn a_push_that_could_never_fit_is_refused_at_once() {
        let (memory, queue) = (memory(), queue(2));
        let refused = done(memory.push(&queue, vec![Bytes::new(); 3], PutOptions::new()));
        let error = refused.expect_err("three items do not fit into two places");
        assert_eq!(error.kind(), ErrorKind::Config);
    }

    #[test]
    fn items_dealt_to_a_closed_connection_go_back_uncounted() {
        let one = Memory::connect("memory://dealt").expect("a memory address");
        let other = Memory::connect("memory://dealt").expect("a memory address");
        let queue = queue(0);
        let mut claim = one.claim(&queue, 1, Wait::Forever);
        assert!(waits(&mut claim));
        done(other.push(&queue, vec![Bytes::from("a")], Wait::No.into())).expect("there is space");
        one.end();
        let error = done(claim).expect_err("its connection is closed");
        assert_eq!(error.kind(), ErrorKind::Closed);
        let claimed = done(other.claim(&queue, 1, Wait::No)).expect("an open connection");
        assert_eq!(claimed[0].deliveries, 1);
    }
}
