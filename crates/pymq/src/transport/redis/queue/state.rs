//! The state of a consumer: the line, the epoch, what is held, what is still to be told.
//!
//! The one invariant: everything here changes under the consumer's lock, in steps that leave the
//! counts right. It sends nothing and waits for nothing; the claimer asks it what to do next.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::timing::SLICE;
use super::settlement::Settling;
use super::ticket::Answer;
use super::unmarked;
use crate::transport::{Claimed, QueueSpec, Receipt, Settlement, Wait};

/// The most items that one round asks for on behalf of several getters.
const BATCH: usize = 128;
/// The most that it asks for on behalf of the first in line: what one claim gets at most.
pub(super) const LARGEST: usize = 1000;

/// What changes.
#[derive(Debug)]
pub(super) struct State {
    pub(super) waiters: VecDeque<Waiter>,
    /// How many of `waiters` nobody waits for any more.
    pub(super) gone: usize,
    pub(super) settlements: Vec<Settling>,
    pub(super) flush_at: Option<Instant>,
    /// Sent when the connection was lost.
    pub(super) uncertain: Vec<Settling>,
    pub(super) epoch: u64,
    /// The epoch before, until it is registered as dead.
    pub(super) previous: Option<u64>,
    pub(super) registered: bool,
    /// When the last heartbeat that was answered was sent.
    pub(super) beaten: Instant,
    pub(super) lease: Duration,
    pub(super) extended: Option<Instant>,
    pub(super) max_deliveries: u32,
    pub(super) bounded: bool,
    pub(super) held: HashMap<Bytes, usize>,
    /// When the server's list is to be compared with `held`.
    pub(super) reconcile_at: Option<Instant>,
    /// When that is to be done once more, because a lost command may still take something.
    pub(super) look_again_at: Option<Instant>,
    pub(super) shut: bool,
    pub(super) poked: bool,
    /// Whether a claim waits at the server.
    pub(super) at_server: bool,
    /// Settlements that are being sent.
    pub(super) sending: usize,
    pub(super) used: Instant,
}

/// Somebody in the line.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) limit: usize,
    pub(super) wait: Wait,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What may be under way although nobody waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calm {
    /// A claim, for somebody who left.
    Claims,
    /// That, or a settlement.
    Everything,
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

impl State {
    pub(super) fn new(epoch: u64, spec: &QueueSpec) -> Self {
        let now = Instant::now();
        Self {
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
            at_server: false,
            sending: 0,
            used: now,
        }
    }

    /// What a getter's options mean for all: the longest lease is the safest.
    pub(super) fn adopt(&mut self, spec: &QueueSpec) {
        if spec.lease > self.lease {
            self.lease = spec.lease;
            // The server has the shorter one; a heartbeat is due.
            self.beaten = self.beaten.checked_sub(spec.lease).unwrap_or(self.beaten);
        }
        self.max_deliveries = spec.max_deliveries;
        self.bounded |= spec.maxsize > 0;
        self.used = Instant::now();
    }

    pub(super) fn take_over(&mut self, stored: Bytes, epoch: u64) -> Claimed {
        let (payload, marks) = unmarked(&stored);
        if epoch == self.epoch {
            *self.held.entry(stored.clone()).or_default() += 1;
        }
        let receipt = Receipt { stored, number: epoch };
        Claimed { payload, deliveries: marks.saturating_add(1), receipt }
    }

    pub(super) fn let_go(&mut self, receipt: &Receipt) {
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

    pub(super) fn nobody_waits(&self) -> bool {
        self.gone >= self.waiters.len()
    }

    pub(super) fn is_calm(&self, of: Calm) -> bool {
        let claiming = self.at_server && self.nobody_waits();
        let settling = self.sending > 0 && of == Calm::Everything;
        !claiming && !settling
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
        self.at_server = true;
        let acks = self.take_acks();
        let (mut want, mut most, mut longest) = (0, BATCH, Duration::ZERO);
        for waiter in self.waiters.iter().filter(|waiter| !waiter.reply.is_closed()) {
            if want == 0 {
                most = waiter.limit.clamp(BATCH, LARGEST);
            }
            want += waiter.limit.min(most);
            let left = match waiter.wait {
                Wait::Until(until) => until.saturating_duration_since(now),
                Wait::No | Wait::Forever => SLICE,
            };
            longest = longest.max(left);
            if want >= most && longest >= SLICE {
                break;
            }
        }
        // Zero would wait for ever.
        let slice = longest.clamp(Duration::from_millis(1), SLICE);
        Order {
            epoch: self.epoch,
            acks,
            want: want.clamp(1, most),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A consumer that was given `held`, with acknowledgements of `uncertain` whose answers were lost.
    fn state(held: &[&'static str], uncertain: &[&'static str]) -> State {
        let spec = QueueSpec::new("q");
        let mut state = State::new(7, &spec);
        for item in held {
            state.take_over(Bytes::from_static(item.as_bytes()), 7);
        }
        state.uncertain = uncertain
            .iter()
            .map(|item| {
                let receipt = Receipt { stored: Bytes::from_static(item.as_bytes()), number: 7 };
                Settling::silent(receipt, Settlement::Ack, &spec)
            })
            .collect();
        state
    }

    /// How many settlements were done, how many are sent again, and what nobody had heard of.
    fn reconcile(mut state: State, server: &[&'static str]) -> (usize, usize, Vec<Bytes>) {
        let server = server.iter().map(|item| Bytes::from_static(item.as_bytes())).collect();
        let (done, unknown) = state.reconcile(server);
        (done.len(), state.settlements.len(), unknown)
    }

    #[test]
    fn an_acknowledgement_was_done_exactly_when_the_item_is_gone() {
        assert_eq!(reconcile(state(&["a"], &["a"]), &[]), (1, 0, vec![]));
        assert_eq!(reconcile(state(&["a"], &["a"]), &["a"]), (0, 1, vec![]));
    }

    #[test]
    fn of_equal_items_as_many_were_acknowledged_as_are_missing() {
        let held = ["same", "same", "same"];
        assert_eq!(reconcile(state(&held, &["same", "same"]), &["same", "same"]), (1, 1, vec![]));
        assert_eq!(reconcile(state(&held, &["same", "same"]), &["same"]), (2, 0, vec![]));
    }

    #[test]
    fn what_nobody_here_has_heard_of_is_found_oldest_first() {
        // The server's list has the newest first.
        let found = reconcile(state(&["known"], &[]), &["newer", "known", "older"]);
        assert_eq!(found, (0, 0, vec![Bytes::from("older"), Bytes::from("newer")]));
    }

    #[test]
    fn who_leaves_the_line_is_not_asked_for() {
        let mut state = State::new(1, &QueueSpec::new("q"));
        let wait = Wait::Forever;
        let (reply, answer) = oneshot::channel();
        state.waiters.push_back(Waiter { limit: 3, wait, reply });
        let (reply, _patient) = oneshot::channel();
        state.waiters.push_back(Waiter { limit: 2, wait, reply });
        assert_eq!(state.order(Instant::now()).want, 5);
        drop(answer);
        assert!(!state.count_gone());
        assert_eq!(state.order(Instant::now()).want, 2);
    }
}
