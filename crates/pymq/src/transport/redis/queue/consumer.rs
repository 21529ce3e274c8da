//! A consumer: what this process knows of one queue that it takes items from.
//!
//! The one invariant: `held` counts what the server holds for the current epoch and somebody here
//! has or is about to get; what the server holds beyond that are items whose reply was lost. It
//! sends nothing: the claimer and the keeper do.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, RwLock, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::super::link::Stage;
use super::super::purpose::Purpose;
use super::keys::Keys;
use super::settlement::Settling;
use super::state::{Calm, State, Waiter};
use super::ticket::{Answer, Place, Ticket};
use super::{lease_lost, shut_down_error};
use crate::error::Error;
use crate::transport::{Claimed, QueueSpec, Wait};

/// One queue's consumer; all local getters share it.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) keys: Keys,
    /// Wakes the claimer.
    pub(super) changed: Notify,
    /// Wakes those who wait for calm, see [`calm`](Self::calm).
    pub(super) calmed: Notify,
    /// Taken shared while items are moved on the commands' connection, alone by a reconciliation.
    pub(super) moving: RwLock<()>,
    state: Mutex<State>,
    stage: watch::Sender<Stage>,
}

impl Consumer {
    pub(super) fn new(keys: Keys, epoch: u64, spec: &QueueSpec) -> Self {
        Self {
            keys,
            changed: Notify::new(),
            calmed: Notify::new(),
            moving: RwLock::default(),
            state: Mutex::new(State::new(epoch, spec)),
            stage: watch::Sender::new(Stage::Open),
        }
    }

    /// A panic cannot leave the state half-changed, so a poisoned lock is as good as any.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        *self.stage.borrow() == Stage::Open
    }

    /// Tells it to end.
    pub(super) fn close(&self) {
        self.stage.send_modify(|stage| *stage = (*stage).max(Stage::Closing));
        self.changed.notify_one();
    }

    pub(super) async fn closing(&self) {
        let mut stage = self.stage.subscribe();
        // An error is impossible: we hold the sender.
        let _ = stage.wait_for(|stage| *stage > Stage::Open).await;
    }

    /// Ends it if it has long been of no use; under the lock, as getters come in.
    pub(super) fn retire_if_idle(&self, after: Duration) {
        let state = self.lock();
        if state.is_idle() && state.used.elapsed() > after {
            self.close();
        }
    }

    /// Says that it has ended; returns the settlements that came too late.
    pub(super) fn end(&self) -> Vec<Settling> {
        let mut state = self.lock();
        self.stage.send_replace(Stage::Closed);
        state.take_settlements()
    }

    /// Returns when it has ended.
    pub(super) async fn finished(&self) {
        let mut stage = self.stage.subscribe();
        // An error is impossible: we hold the sender.
        let _ = stage.wait_for(|stage| *stage == Stage::Closed).await;
    }

    /// Returns when nothing of a kind is under way; or after a moment, since a server may not
    /// answer.
    pub(super) async fn calm(&self, of: Calm) {
        let until = Instant::now() + Duration::from_millis(200);
        loop {
            let mut told = std::pin::pin!(self.calmed.notified());
            // In the line first, then looked: or the news could come in between.
            told.as_mut().enable();
            if self.lock().is_calm(of) || timeout_at(until, told).await.is_err() {
                return;
            }
        }
    }

    /// Notes that the claim at the server is over.
    pub(super) fn end_round(&self) {
        self.lock().at_server = false;
        self.calmed.notify_waiters();
    }

    /// Notes that settlements begin to be sent.
    pub(super) fn begin_sending(&self) {
        self.lock().sending += 1;
    }

    /// Notes that they were sent.
    pub(super) fn end_sending(&self) {
        self.lock().sending -= 1;
        self.calmed.notify_waiters();
    }

    /// Makes the claimer look whether the queue was shut down.
    pub(super) fn poke(&self) {
        self.lock().poked = true;
        self.changed.notify_one();
    }

    /// Puts somebody in the line; `None` when the consumer has retired.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        spec: &QueueSpec,
        limit: usize,
        wait: Wait,
    ) -> Option<Ticket> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        if !self.is_open() {
            return None;
        }
        state.adopt(spec);
        state.waiters.push_back(Waiter { limit, wait, reply });
        drop(state);
        self.changed.notify_one();
        Some(Ticket { consumer: Arc::clone(self), answer, place: Place::InLine })
    }

    /// A ticket whose answer the caller gives himself, through [`answer`](Self::answer).
    pub(super) fn ticket(
        self: &Arc<Self>,
        spec: &QueueSpec,
    ) -> Option<(Ticket, oneshot::Sender<Answer>)> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        if !self.is_open() {
            return None;
        }
        state.adopt(spec);
        drop(state);
        let ticket = Ticket { consumer: Arc::clone(self), answer, place: Place::Apart };
        Some((ticket, reply))
    }

    pub(super) fn answer(&self, reply: oneshot::Sender<Answer>, answer: Answer) {
        let mut state = self.lock();
        if let Err(Ok(unwanted)) = reply.send(answer) {
            state.give_back(unwanted);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// Ends a lease, at the latest in `within`.
    pub(super) fn settle(&self, settling: Settling, within: Duration) {
        let mut state = self.lock();
        if *self.stage.borrow() == Stage::Closed {
            return settling.answer(&self.keys.list, Err(Error::closed("settle", &self.keys.list)));
        }
        let until = Instant::now() + within;
        let sooner = state.flush_at.is_none_or(|at| until < at);
        state.flush_at = if sooner { Some(until) } else { state.flush_at };
        state.settlements.push(settling);
        drop(state);
        if sooner {
            self.changed.notify_one();
        }
    }

    pub(super) fn note_extension(&self, epoch: u64, until: Option<Instant>) {
        let mut state = self.lock();
        if state.epoch == epoch {
            state.extended = state.extended.max(until);
        }
    }

    /// Gives items that have just been claimed to those who wait, in their order.
    pub(super) fn distribute(&self, epoch: u64, items: Vec<Bytes>) {
        let mut state = self.lock();
        let mut claimed: VecDeque<Claimed> =
            items.into_iter().map(|stored| state.take_over(stored, epoch)).collect();
        while !claimed.is_empty() {
            let Some(waiter) = state.waiters.pop_front() else { break };
            let portion: Vec<_> = claimed.drain(..waiter.limit.min(claimed.len())).collect();
            if let Err(Ok(unwanted)) = waiter.reply.send(Ok(portion)) {
                state.gone -= 1;
                unwanted.into_iter().rev().for_each(|item| claimed.push_front(item));
            }
        }
        state.give_back(claimed.into());
    }

    /// Returns items that nobody here may have.
    pub(super) fn give_back(&self, epoch: u64, items: Vec<Bytes>) {
        let mut state = self.lock();
        let claimed = items.into_iter().map(|stored| state.take_over(stored, epoch)).collect();
        state.give_back(claimed);
    }

    /// Notes an item as held, for somebody apart from the line.
    pub(super) fn take_over(&self, stored: Bytes, epoch: u64) -> Claimed {
        self.lock().take_over(stored, epoch)
    }

    /// Fails everybody in the line.
    pub(super) fn fail_all(&self, error: impl Fn() -> Error) {
        let mut state = self.lock();
        state.gone = 0;
        for waiter in std::mem::take(&mut state.waiters) {
            // Whoever asked may have stopped waiting.
            let _ = waiter.reply.send(Err(error()));
        }
    }

    /// Everybody learns that the queue is empty and shut down.
    pub(super) fn fail_as_shut_down(&self) {
        let purpose = Purpose::change("get", &self.keys.list);
        self.fail_all(|| shut_down_error(&purpose));
    }

    /// Notes the server's answer to a settlement that was sent.
    pub(super) fn settled(&self, settling: Settling, found: bool) {
        let mut state = self.lock();
        state.let_go(&settling.receipt);
        drop(state);
        let purpose = Purpose::change("settle", &self.keys.list);
        settling.answer(&self.keys.list, if found { Ok(()) } else { Err(lease_lost(&purpose)) });
    }

    /// Notes that settlements were sent and their answers lost.
    pub(super) fn unsettled(&self, settlements: Vec<Settling>) {
        let mut state = self.lock();
        state.uncertain.extend(settlements);
        state.reconcile_at = Some(Instant::now());
        drop(state);
        self.changed.notify_one();
    }
}
