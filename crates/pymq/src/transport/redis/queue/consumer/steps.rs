//! Decides what a consumer's claimer does next.
//!
//! The one invariant: what becomes due while the claimer waits at the server is not put off until the
//! wait is over; and a consumer that holds nothing and serves nobody sends nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::super::getters::Want;
use super::super::keys::Epoch;
use super::super::pending_settlement::PendingSettlement;
use super::super::round::Round;
use super::{Consumer, IDLE, Stage, State, VACANT};
use crate::transport::Receipt;
use crate::transport::redis::dialer::jitter;
use crate::transport::redis::timing::SLICE_AND_WAY;

/// The next step of the claimer.
pub(crate) enum Step {
    Finish,
    Rest(Option<Instant>),
    Aside(Chore),
    Open,
    LineUp,
    Compare(Vec<Epoch>),
    Leave,
    Claim,
}

/// Work that is done beside a wait at the server.
pub(crate) enum Chore {
    Settle(Vec<PendingSettlement>),
    /// Has the server note what was handed out.
    Show(Vec<Receipt>),
    /// Prolongs the leases of epochs.
    Beat(Vec<Epoch>),
    Reap,
}

impl Consumer {
    pub(crate) fn step(&self) -> Step {
        let open = self.is_open();
        let mut state = self.lock();
        let step = state.step(Instant::now(), open, self.lease);
        // A consumer without work ends by itself, so that a program that looks into many queues keeps
        // nothing of them.
        if matches!(step, Step::Finish) && open {
            // Under the lock, as getters come in: none finds it open any more.
            self.stage.send_modify(|stage| *stage = (*stage).max(Stage::Closing));
        }
        step
    }

    /// The chore that is due beside a wait at the server, and whether the wait should end.
    pub(crate) fn beside(&self, epoch: Option<Epoch>) -> (Option<Chore>, bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let chore = state.chore(now, self.lease);
        let moved_on = epoch.is_some_and(|epoch| epoch != state.epochs.current());
        let elsewhere = state.getters.nobody_waits() || state.poked || moved_on;
        let out = elsewhere || state.doubts_due(now) || state.is_due(now);
        (chore, out || !self.is_open())
    }

    /// The epochs whose lists are to be compared, now or later, for when there is no later.
    pub(crate) fn take_last_doubts(&self) -> Vec<Epoch> {
        self.lock().take_doubts(Instant::now() + SLICE_AND_WAY)
    }

    /// The moment at which the next chore is due.
    pub(crate) fn beside_at(&self) -> Option<Instant> {
        let state = self.lock();
        state.chore_at().into_iter().chain(state.doubts_at()).chain(state.due_at).min()
    }

    /// The next round for the getters that wait; `None` when none waits any more. A round that only `looks` does
    /// not wait at the server.
    pub(crate) fn round(&self, most: Duration, looks: bool) -> Option<Round> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.getters.nobody_waits() || state.poked {
            return None;
        }
        let (want, longest) = state.getters.wants(now);
        let due = state.due_at.map(|due| due.saturating_duration_since(now));
        let most = due.map_or(most, |due| due.min(most)).max(Duration::from_millis(1));
        let slice = longest.clamp(Duration::from_millis(1), most);
        let slice = (!state.shut && !looks).then_some(slice);
        state.at_server = true;
        let round = self.begin_round(&mut state, now, want, slice);
        state.waited |= round.waits_long();
        Some(round)
    }

    /// A round for one getter that does not wait.
    pub(crate) fn round_apart(&self, want: Want) -> Round {
        self.begin_round(&mut self.lock(), Instant::now(), want, None)
    }

    fn begin_round(
        &self,
        state: &mut State,
        began: Instant,
        want: Want,
        slice: Option<Duration>,
    ) -> Round {
        if state.epochs.is_full() {
            state.epochs.turn_to(self.next_epoch());
        }
        let epoch = state.epochs.current();
        if want.ahead > 0 {
            state.epochs.fetch_ahead(epoch);
        }
        let lease_end = state.lease_end(epoch, began, slice.unwrap_or_default(), self.lease);
        Round {
            epoch,
            acks: state.outstanding.take_acks(),
            want,
            lists: state.epochs.lists(&[epoch]),
            slice,
            bounded: state.bounded,
            lease_end,
            began,
        }
    }

    /// Notes that the claim at the server is over.
    pub(crate) fn end_round(&self) {
        self.lock().at_server = false;
        self.calmed.notify_waiters();
    }
}

impl State {
    /// Decides the next step.
    pub(super) fn step(&mut self, now: Instant, open: bool, lease: Duration) -> Step {
        if !open {
            return Step::Finish;
        }
        self.poked = false;
        // Chores come first: settlements, then heartbeats, then the items of dead consumers.
        if let Some(chore) = self.chore(now, lease) {
            return Step::Aside(chore);
        }
        // Before the next claim, whose items would be taken for those of the lost reply.
        if self.doubts_due(now) {
            return Step::Compare(self.take_doubts(now));
        }
        let waits = !self.getters.nobody_waits();
        if waits && !self.opened {
            return Step::Open;
        }
        if waits && self.is_due(now) {
            return Step::LineUp;
        }
        if self.epochs.has_vacant() && self.vacant_at() <= now && !self.at_server {
            return Step::Leave;
        }
        if waits {
            return Step::Claim;
        }
        if self.is_idle() && self.used + IDLE <= now {
            return Step::Finish;
        }
        Step::Rest(self.rest_until())
    }

    pub(super) fn rest_until(&self) -> Option<Instant> {
        let vacant = self.epochs.has_vacant().then(|| self.vacant_at());
        let idle = self.is_idle().then(|| self.used + IDLE);
        self.chore_at().into_iter().chain(self.doubts_at()).chain(vacant).chain(idle).min()
    }

    pub(super) fn vacant_at(&self) -> Instant {
        self.used + VACANT
    }

    pub(super) fn is_idle(&self) -> bool {
        self.getters.nobody_waits()
            && self.epochs.is_empty()
            && self.outstanding.is_empty()
            && self.doubts.is_empty()
            && !self.epochs.has_vacant()
    }

    /// The chore that is due now.
    pub(super) fn chore(&mut self, now: Instant, lease: Duration) -> Option<Chore> {
        let due = self.outstanding.take_due(now);
        if !due.is_empty() {
            return Some(Chore::Settle(due));
        }
        if self.show_at.is_some_and(|at| at <= now) {
            let shown = self.take_shown();
            if !shown.is_empty() {
                return Some(Chore::Show(shown));
            }
        }
        // Three times at least within a lease, so that two beats may be lost; at random, so that many
        // consumers do not ask at once.
        let period = || now + jitter(lease / 4, lease / 3);
        if !self.epochs.is_empty() && self.beat_at <= now {
            self.beat_at = period();
            return Some(Chore::Beat(self.epochs.occupied()));
        }
        if self.reaps() && self.reap_at <= now {
            self.reap_at = period();
            self.called = false;
            return Some(Chore::Reap);
        }
        None
    }

    pub(super) fn chore_at(&self) -> Option<Instant> {
        let beat = (!self.epochs.is_empty()).then_some(self.beat_at);
        let reap = self.reaps().then_some(self.reap_at);
        self.outstanding.next_at().into_iter().chain(self.show_at).chain(beat).chain(reap).min()
    }

    /// Whether this consumer reaps what others left. One that holds nothing and serves nobody costs nothing.
    pub(super) fn reaps(&self) -> bool {
        self.called || !self.getters.nobody_waits() || !self.epochs.is_empty()
    }

    pub(super) fn doubts_at(&self) -> Option<Instant> {
        self.doubts.iter().map(|(at, _)| *at).min()
    }

    pub(super) fn doubts_due(&self, now: Instant) -> bool {
        self.doubts.iter().any(|(at, _)| *at <= now)
    }

    pub(super) fn take_doubts(&mut self, now: Instant) -> Vec<Epoch> {
        let mut due: Vec<_> =
            self.doubts.iter().filter(|(at, _)| *at <= now).map(|(_, epoch)| *epoch).collect();
        self.doubts.retain(|(at, _)| *at > now);
        due.sort_unstable();
        due.dedup();
        due
    }

    /// Until when the lease of an epoch should last that takes something in a round, if the epoch is
    /// surely registered: then the round writes that down only for a server that forgot it.
    pub(super) fn lease_end(
        &self,
        epoch: Epoch,
        now: Instant,
        slice: Duration,
        lease: Duration,
    ) -> Option<i64> {
        let kept = self.epochs.kept(epoch)?;
        let (asked, clock) = self.clock?;
        if now.saturating_duration_since(kept) > lease / 2 {
            return None;
        }
        // By the server's clock: ours may be set, and differs from those of other consumers.
        let ahead = now.saturating_duration_since(asked) + slice + lease;
        Some(clock.saturating_add(i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX)))
    }
}
