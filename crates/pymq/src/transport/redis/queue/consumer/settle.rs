//! Ends the leases of a consumer's items.
//!
//! The one invariant: the caller of a settlement is told how it ended, at the latest when the consumer ends;
//! and a dead letter is logged when the server has it.

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::super::keys::HeldList;
use super::super::pending_settlement::PendingSettlement;
use super::{Consumer, Stage, State};
use crate::error::{Error, Result};
use crate::transport::redis::purpose::Purpose;
use crate::transport::{Receipt, SettleOptions, Settlement, refusals};

impl Consumer {
    /// Ends the lease of an item, at the latest in `within`; gives a receiver of the answer if the caller
    /// `waits`.
    ///
    /// # Errors
    /// `Closed` once the consumer gives back what it holds: then the item goes back as well.
    pub(crate) fn settle(
        &self,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
        within: Duration,
        waits: bool,
    ) -> Result<Option<oneshot::Receiver<Result<()>>>> {
        let mut state = self.lock();
        if self.has_left(&state) {
            return Err(Error::closed("settle", &self.keys.name));
        }
        if let Some(outcome) = state.outstanding.done_alone(&receipt, how) {
            let (reply, answer) = oneshot::channel();
            let purpose = Purpose::change("settle", &self.keys.name);
            // The receiver is ours, and is still there.
            let _ = reply.send(if outcome {
                Ok(())
            } else {
                Err(refusals::lease_lost(purpose.operation, purpose.object))
            });
            return Ok(waits.then_some(answer));
        }
        let (place, other) = state.place_again(&receipt, how);
        let (settling, answer) = if waits {
            let (settling, answer) = PendingSettlement::awaited(receipt, place, how);
            (settling, Some(answer))
        } else {
            (PendingSettlement::silent(receipt, place, how), None)
        };
        let settling = settling.or_in(other).with(options);
        let until = Instant::now() + within;
        let sooner = state.outstanding.add(settling, until);
        drop(state);
        if sooner {
            self.changed.notify_one();
        }
        Ok(answer)
    }

    /// Takes the settlements that wait to be sent, for the first time or again.
    pub(crate) fn take_settlements(&self) -> Vec<PendingSettlement> {
        self.lock().outstanding.take_all()
    }

    /// The same when the consumer ends; if its bus `closes`, what is asked for from here on is too late.
    pub(crate) fn take_last_settlements(&self, closes: bool) -> Vec<PendingSettlement> {
        let mut state = self.lock();
        state.leaving |= closes;
        state.outstanding.take_all()
    }

    /// Notes that settlements begin to be sent.
    pub(crate) fn begin_sending(&self) {
        self.lock().outstanding.begin_sending();
    }

    /// Notes that they were sent.
    pub(crate) fn end_sending(&self) {
        self.lock().outstanding.end_sending();
        self.calmed.notify_waiters();
        self.changed.notify_one();
    }

    /// Notes the server's answer to a settlement that was sent: 0 if its item was not there, else 1 and
    /// how many dead letters were dropped for it.
    pub(crate) fn settled(&self, mut settling: PendingSettlement, answer: usize) {
        let found = answer > 0;
        if !found {
            settling = match settling.elsewhere() {
                Ok(again) => return self.keep_settlement(again, Instant::now()),
                Err(settling) => match self.follow(settling) {
                    Some(settling) => settling,
                    None => return,
                },
            };
        }
        let list = &self.keys.name;
        if found && let Some((deliveries, failure)) = settling.death(self.keys.policy()) {
            self.dead_letter_log.tell(list, deliveries, &failure, answer - 1);
        }
        let mut state = self.lock();
        state.epochs.let_go(settling.place().epoch, settling.stored());
        if found && !settling.delay().is_zero() {
            state.expect(settling.delay());
            self.changed.notify_one();
        }
        if settling.was_refused() {
            let how = settling.how();
            if found {
                tracing::info!(queue = list, "an item is settled that could not be before");
                state.outstanding.remember(settling.into_receipt(), how);
            }
            return;
        }
        // The caller asked again while the first attempt was on its way, and that one did it.
        let alone = state.outstanding.done_alone(settling.receipt(), settling.how());
        let found = found || alone == Some(true);
        drop(state);
        let purpose = Purpose::change("settle", list);
        settling.answer(
            list,
            if found {
                Ok(())
            } else {
                Err(refusals::lease_lost(purpose.operation, purpose.object))
            },
        );
    }

    /// Keeps a settlement that could not be done for another attempt.
    pub(crate) fn keep_settlement(&self, settling: PendingSettlement, until: Instant) {
        let mut state = self.lock();
        if *self.stage.borrow() == Stage::Closed {
            drop(state);
            return settling.answer(&self.keys.name, Err(self.closed_unanswered()));
        }
        state.outstanding.put_off(settling, until);
        drop(state);
        self.changed.notify_one();
    }

    /// Has settlements sent that were to ride with something that was not sent.
    pub(crate) fn put_back(&self, settlements: Vec<PendingSettlement>) {
        self.lock().outstanding.keep(settlements, Instant::now());
        self.changed.notify_one();
    }

    /// Tells callers whose answers were lost that the outcome is not known yet; what is not done is done once
    /// the server can be asked.
    pub(crate) fn tell_uncertain(&self) {
        let mut state = self.lock();
        let purpose = Purpose::change("settle", &self.keys.name);
        let error = purpose.lost("and the server cannot be asked; what is not done is tried on");
        state.outstanding.tell_uncertain(&error);
    }

    /// Notes that settlements were sent and their answers lost.
    pub(crate) fn unsettled(&self, settlements: Vec<PendingSettlement>) {
        for settling in settlements {
            let epoch = settling.place().epoch;
            let mut state = self.lock();
            if *self.stage.borrow() == Stage::Closed {
                drop(state);
                // Nobody looks for them any more.
                settling.answer(&self.keys.name, Err(self.closed_unanswered()));
                continue;
            }
            state.outstanding.note_uncertain(settling);
            drop(state);
            self.doubt(epoch);
        }
    }

    /// What a settlement ends with that was not answered before the bus closed.
    pub(super) fn closed_unanswered(&self) -> Error {
        Purpose::change("settle", &self.keys.name).closed_unanswered()
    }
}

impl State {
    /// The list in which the server has an item that is settled. An earlier settlement of the item that was
    /// refused gives way to the new one.
    pub(super) fn place_again(
        &mut self,
        receipt: &Receipt,
        how: Settlement,
    ) -> (HeldList, Option<HeldList>) {
        match self.outstanding.give_way(receipt) {
            Some(place) => (place, HeldList::of(receipt).ahead.then(|| place.twin())),
            None => self.leave_place(receipt, how),
        }
    }
}
