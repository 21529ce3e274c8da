//! The settlements of a consumer that are on their way.
//!
//! The one invariant: each is in exactly one of four states. It waits to be sent with others, or waits for
//! another attempt, or is being sent, or is uncertain because its answer was lost.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::super::keys::{Epoch, HeldList};
use super::super::pending_settlement::PendingSettlement;
use crate::error::Error;
use crate::transport::{Receipt, Settlement};

/// The most settlements that are remembered after they were done by themselves, for a caller that asks
/// again.
const REMEMBERED: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// They wait to be sent with others.
    waiting: Vec<PendingSettlement>,
    /// The latest moment at which they are sent.
    flush_at: Option<Instant>,
    /// Refused or not sent, to be tried again.
    put_off: Vec<(Instant, PendingSettlement)>,
    /// Sent when the connection was lost.
    uncertain: Vec<PendingSettlement>,
    /// Done after their callers had been told that they were refused.
    done_alone: VecDeque<(Receipt, Settlement)>,
    /// The number of batches that are being sent.
    sending: usize,
}

impl Outstanding {
    /// Whether there is none to be sent or to be looked for.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.put_off.is_empty() && self.uncertain.is_empty()
    }

    /// Adds one that is sent at a moment at the latest; says whether that is sooner than all others.
    pub(super) fn add(&mut self, settling: PendingSettlement, until: Instant) -> bool {
        let sooner = self.flush_at.is_none_or(|at| until < at);
        self.keep(vec![settling], until);
        sooner
    }

    /// Keeps some that are sent at a moment at the latest.
    pub(super) fn keep(&mut self, settlements: Vec<PendingSettlement>, until: Instant) {
        if !settlements.is_empty() {
            self.waiting.extend(settlements);
            self.flush_at = Some(self.flush_at.map_or(until, |at| at.min(until)));
        }
    }

    /// Keeps one that could not be done for another attempt.
    pub(super) fn put_off(&mut self, settling: PendingSettlement, until: Instant) {
        self.put_off.push((until, settling));
    }

    /// The moment at which the next is to be sent.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let put_off = self.put_off.iter().map(|(at, _)| *at).min();
        self.flush_at.into_iter().chain(put_off).min()
    }

    /// Takes those whose time has come; those that could ride with the next claim do.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<PendingSettlement> {
        let mut due = Vec::new();
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            due.append(&mut self.waiting);
        }
        let ready = self.put_off.extract_if(.., |(at, _)| *at <= now);
        due.extend(ready.map(|(_, settling)| settling));
        due
    }

    /// Takes all that wait.
    pub(super) fn take_all(&mut self) -> Vec<PendingSettlement> {
        self.flush_at = None;
        let mut all = std::mem::take(&mut self.waiting);
        all.extend(self.put_off.drain(..).map(|(_, settling)| settling));
        all
    }

    /// Takes the confirmations that ride with a claim.
    pub(super) fn take_acks(&mut self) -> Vec<PendingSettlement> {
        let all = std::mem::take(&mut self.waiting);
        let is_ack = |settling: &PendingSettlement| settling.how() == Settlement::Ack;
        let (acks, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_ack);
        if others.is_empty() {
            self.flush_at = None;
        }
        self.waiting = others;
        acks
    }

    /// Takes the one of that receipt that was refused before, for another that is asked for now; says
    /// where its item is.
    pub(super) fn give_way(&mut self, receipt: &Receipt) -> Option<HeldList> {
        let before = self.put_off.iter().position(|(_, settling)| settling.is_left_of(receipt))?;
        Some(self.put_off.swap_remove(before).1.place())
    }

    /// Notes one whose answer was lost.
    pub(super) fn note_uncertain(&mut self, settling: PendingSettlement) {
        self.uncertain.push(settling);
    }

    /// Tells a failure to the callers of uncertain settlements, which stay uncertain.
    pub(super) fn tell_uncertain(&mut self, error: &Error) {
        let uncertain = std::mem::take(&mut self.uncertain);
        self.uncertain = uncertain.into_iter().map(|settling| settling.tell(error)).collect();
    }

    /// Takes those of an epoch whose answers were lost.
    pub(super) fn take_uncertain(&mut self, epoch: Epoch) -> Vec<PendingSettlement> {
        self.uncertain.extract_if(.., |settling| settling.place().epoch == epoch).collect()
    }

    /// Notes one that was done by itself.
    pub(super) fn remember(&mut self, receipt: Receipt, how: Settlement) {
        if self.done_alone.len() >= REMEMBERED {
            self.done_alone.pop_front();
        }
        self.done_alone.push_back((receipt, how));
    }

    /// Whether that was done by itself meanwhile: `Some(false)` if it ended in another way.
    pub(super) fn done_alone(&mut self, receipt: &Receipt, how: Settlement) -> Option<bool> {
        let place = self.done_alone.iter().position(|(done, _)| done == receipt)?;
        self.done_alone.remove(place).map(|(_, done)| done == how)
    }

    pub(super) fn begin_sending(&mut self) {
        self.sending += 1;
    }

    pub(super) fn end_sending(&mut self) {
        self.sending -= 1;
    }

    pub(super) fn are_being_sent(&self) -> bool {
        self.sending > 0
    }
}
