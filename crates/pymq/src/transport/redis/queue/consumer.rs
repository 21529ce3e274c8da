//! A consumer: what this process knows of one queue that it takes items from.
//!
//! The one invariant: `held` counts what the server holds for the current epoch and somebody here
//! has or is about to get; what the server holds beyond that are items whose reply was lost. It
//! sends nothing: the claimer and the keeper do.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, RwLock, oneshot, watch};
use tokio::time::Instant;

use super::super::inbox::SLICE;
use super::super::link::{Purpose, Stage};
use super::keys::Keys;
use super::settlement::Settling;
use super::ticket::{Answer, Place, Ticket};
use super::{lease_lost, shut_down_error, unmarked};
use crate::error::Error;
use crate::transport::{Claimed, QueueSpec, Receipt, Settlement, Wait};

/// The most items that one round asks for.
const BATCH: usize = 128;

/// One queue's consumer; all local getters share it.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) keys: Keys,
    /// Wakes the claimer.
    pub(super) changed: Notify,
    /// Taken shared while items are moved on the commands' connection, alone by a reconciliation.
    pub(super) moving: RwLock<()>,
    state: Mutex<State>,
    stage: watch::Sender<Stage>,
}

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    waiters: VecDeque<Waiter>,
    /// How many of `waiters` nobody waits for any more.
    gone: usize,
    settlements: Vec<Settling>,
    flush_at: Option<Instant>,
    /// Sent when the connection was lost.
    uncertain: Vec<Settling>,
    pub(super) epoch: u64,
    /// The epoch before, until it is registered as dead.
    pub(super) previous: Option<u64>,
    pub(super) registered: bool,
    /// When the last heartbeat that was answered was sent.
    pub(super) beaten: Instant,
    pub(super) lease: Duration,
    extended: Option<Instant>,
    pub(super) max_deliveries: u32,
    pub(super) bounded: bool,
    held: HashMap<Bytes, usize>,
    /// When the server's list is to be compared with `held`.
    pub(super) reconcile_at: Option<Instant>,
    /// When that is to be done once more, because a lost command may still take something.
    pub(super) look_again_at: Option<Instant>,
    pub(super) shut: bool,
    poked: bool,
    pub(super) used: Instant,
}

#[derive(Debug)]
struct Waiter {
    limit: usize,
    wait: Wait,
    reply: oneshot::Sender<Answer>,
}

/// What the claimer should do next.
pub(super) enum Step {
    Finish,
    Rest(Option<Instant>),
    Settle(Vec<Settling>),
    Register,
    Reconcile,
    Beat,
    Claim,
}

/// One round of claiming.
pub(super) struct Order {
    pub(super) epoch: u64,
    pub(super) acks: Vec<Settling>,
    pub(super) want: usize,
    /// How long to wait for the first; `None` is not at all.
    pub(super) slice: Option<Duration>,
    pub(super) bounded: bool,
}

impl Consumer {
    pub(super) fn new(keys: Keys, epoch: u64, spec: &QueueSpec) -> Self {
        let now = Instant::now();
        let state = State {
            waiters: VecDeque::new(),
            gone: 0,
            settlements: Vec::new(),
            flush_at: None,
            uncertain: Vec::new(),
            epoch,
            previous: None,
            registered: false,
            beaten: now,
            lease: spec.lease.max(Duration::from_millis(1)),
            extended: None,
            max_deliveries: spec.max_deliveries,
            bounded: false,
            held: HashMap::new(),
            reconcile_at: None,
            look_again_at: None,
            shut: false,
            poked: false,
            used: now,
        };
        Self {
            keys,
            changed: Notify::new(),
            moving: RwLock::default(),
            state: Mutex::new(state),
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

impl State {
    /// What a getter's options mean for all: the longest lease is the safest.
    fn adopt(&mut self, spec: &QueueSpec) {
        if spec.lease > self.lease {
            self.lease = spec.lease;
            // The server has the shorter one; a heartbeat is due.
            self.beaten = self.beaten.checked_sub(spec.lease).unwrap_or(self.beaten);
        }
        self.max_deliveries = spec.max_deliveries;
        self.bounded |= spec.maxsize > 0;
        self.used = Instant::now();
    }

    fn take_over(&mut self, stored: Bytes, epoch: u64) -> Claimed {
        let (payload, marks) = unmarked(&stored);
        if epoch == self.epoch {
            *self.held.entry(stored.clone()).or_default() += 1;
        }
        let receipt = Receipt { stored, number: epoch };
        Claimed { payload, deliveries: marks.saturating_add(1), receipt }
    }

    fn let_go(&mut self, receipt: &Receipt) {
        if receipt.number == self.epoch
            && let Some(count) = self.held.get_mut(&receipt.stored)
        {
            *count -= 1;
            if *count == 0 {
                self.held.remove(&receipt.stored);
            }
        }
    }

    /// Returns items that nobody got, newest first, so that the oldest is at the head again.
    pub(super) fn give_back(&mut self, items: Vec<Claimed>) {
        if items.is_empty() {
            return;
        }
        let receipts = items.into_iter().rev().map(|item| item.receipt);
        self.settlements.extend(receipts.map(Settling::unclaimed));
        self.flush_at = Some(Instant::now());
    }

    /// Notes that somebody left the line; says whether nobody is in it any more.
    pub(super) fn count_gone(&mut self) -> bool {
        self.gone += usize::from(!self.waiters.is_empty());
        // Behind one who waits for ever, those who left would pile up.
        if self.gone > 32 && self.gone > self.waiters.len() / 2 {
            self.waiters.retain(|waiter| !waiter.reply.is_closed());
            self.gone = 0;
        }
        self.nobody_waits()
    }

    fn nobody_waits(&self) -> bool {
        self.gone >= self.waiters.len()
    }

    /// What to do next.
    pub(super) fn step(&mut self, now: Instant, open: bool) -> Step {
        if !open {
            return Step::Finish;
        }
        self.poked = false;
        if let Some(batch) = self.due(now) {
            return Step::Settle(batch);
        }
        let reconcile = self.reconcile_at.is_some_and(|at| at <= now);
        if self.nobody_waits() && !reconcile {
            return Step::Rest(self.flush_at.into_iter().chain(self.reconcile_at).min());
        }
        if !self.registered {
            Step::Register
        } else if reconcile {
            Step::Reconcile
        } else if self.is_stale() {
            Step::Beat
        } else {
            Step::Claim
        }
    }

    /// The settlements whose time has come; those that could ride with the next claim do.
    pub(super) fn due(&mut self, now: Instant) -> Option<Vec<Settling>> {
        let due = self.flush_at.is_some_and(|at| at <= now);
        due.then(|| self.take_settlements())
    }

    pub(super) fn take_settlements(&mut self) -> Vec<Settling> {
        self.flush_at = None;
        std::mem::take(&mut self.settlements)
    }

    pub(super) fn flush_at(&self) -> Option<Instant> {
        self.flush_at
    }

    /// Whether a wait at the server should be ended.
    pub(super) fn wants_out(&self, epoch: u64, now: Instant) -> bool {
        self.nobody_waits()
            || self.poked
            || self.epoch != epoch
            || self.reconcile_at.is_some_and(|at| at <= now)
    }

    /// The next round.
    pub(super) fn order(&mut self, now: Instant) -> Order {
        let acks = self.take_acks();
        let (mut want, mut longest) = (0, Duration::ZERO);
        for waiter in self.waiters.iter().filter(|waiter| !waiter.reply.is_closed()) {
            want += waiter.limit.min(BATCH);
            let left = match waiter.wait {
                Wait::Until(until) => until.saturating_duration_since(now),
                Wait::No | Wait::Forever => SLICE,
            };
            longest = longest.max(left);
            if want >= BATCH && longest >= SLICE {
                break;
            }
        }
        // Zero would wait for ever.
        let slice = longest.clamp(Duration::from_millis(1), SLICE);
        Order {
            epoch: self.epoch,
            acks,
            want: want.clamp(1, BATCH),
            slice: (!self.shut).then_some(slice),
            bounded: self.bounded,
        }
    }

    /// The confirmations that ride with a claim.
    pub(super) fn take_acks(&mut self) -> Vec<Settling> {
        let all = std::mem::take(&mut self.settlements);
        let is_ack = |settling: &Settling| settling.how == Settlement::Ack;
        let (acks, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_ack);
        if others.is_empty() {
            self.flush_at = None;
        }
        self.settlements = others;
        acks
    }

    /// Whether a heartbeat should come before the next claim.
    pub(super) fn is_stale(&self) -> bool {
        self.beaten.elapsed() > self.lease / 2
    }

    /// Whether the lease may have run out.
    pub(super) fn is_expired(&self) -> bool {
        self.beaten.elapsed() > self.lease
    }

    /// Puts settlements back that were not sent.
    pub(super) fn keep(&mut self, settlements: Vec<Settling>, until: Instant) {
        if !settlements.is_empty() {
            self.settlements.extend(settlements);
            self.flush_at = Some(self.flush_at.map_or(until, |at| at.min(until)));
        }
    }

    /// How long the lease should last from now.
    pub(super) fn lease_left(&self) -> Duration {
        let extended = self.extended.map(|at| at.saturating_duration_since(Instant::now()));
        self.lease.max(extended.unwrap_or_default())
    }

    /// Begins a new epoch: what the old one held belongs to others, or soon will. Returns the
    /// settlements that are too late.
    pub(super) fn renew(&mut self, epoch: u64) -> Vec<Settling> {
        self.previous = self.registered.then_some(self.epoch).or(self.previous);
        self.epoch = epoch;
        self.registered = false;
        self.extended = None;
        self.reconcile_at = None;
        self.held.clear();
        std::mem::take(&mut self.uncertain)
    }

    pub(super) fn held_count(&self) -> usize {
        self.held.values().sum()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.nobody_waits()
            && self.held.is_empty()
            && self.settlements.is_empty()
            && self.uncertain.is_empty()
            && self.reconcile_at.is_none()
    }

    /// Compares with what the server holds, newest first: which settlements had been done, and
    /// which items nobody here has heard of. Those that had not been done are to be sent again.
    pub(super) fn reconcile(&mut self, server: Vec<Bytes>) -> (Vec<Settling>, Vec<Bytes>) {
        let mut there: HashMap<&Bytes, usize> = HashMap::new();
        for stored in &server {
            *there.entry(stored).or_default() += 1;
        }
        let mut done = Vec::new();
        let mut again = Vec::new();
        let mut missing: HashMap<Bytes, usize> = HashMap::new();
        for settling in std::mem::take(&mut self.uncertain) {
            let stored = &settling.receipt.stored;
            let here = self.held.get(stored).copied().unwrap_or_default();
            let gone = missing.entry(stored.clone()).or_default();
            let on_server = there.get(stored).copied().unwrap_or_default();
            if settling.receipt.number == self.epoch && on_server + *gone < here {
                *gone += 1;
                done.push(settling);
            } else {
                again.push(settling);
            }
        }
        self.keep(again, Instant::now());
        let mut known = self.held.clone();
        let mut unknown = Vec::new();
        for stored in server.into_iter().rev() {
            match known.get_mut(&stored) {
                Some(count) if *count > 0 => *count -= 1,
                _ => unknown.push(stored),
            }
        }
        (done, unknown)
    }
}
