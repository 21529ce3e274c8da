//! How a consumer ends the leases of its items.
//!
//! The one invariant: whoever asked for a settlement is told how it ended, at the latest when the consumer
//! ends; and a dead letter is told in the log when the server has it.

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::super::keys::Place;
use super::super::settle::Settling;
use super::{Consumer, Stage, State};
use crate::error::{Error, Result};
use crate::transport::redis::purpose::Purpose;
use crate::transport::{Receipt, SettleOptions, Settlement, refusals};

impl Consumer {
    /// Ends the lease of an item, at the latest in `within`; the answer is sent to whoever waits.
    ///
    /// # Errors
    /// `Closed` once the consumer gives back what it holds: then the item goes back as well.
    pub(in super::super) fn settle(
        &self,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
        within: Duration,
        waits: bool,
    ) -> Result<Option<oneshot::Receiver<Result<()>>>> {
        let mut state = self.lock();
        if state.leaving || *self.stage.borrow() == Stage::Closed {
            return Err(Error::closed("settle", &self.keys.name));
        }
        if let Some(outcome) = state.settlements.done_alone(&receipt, how) {
            let (reply, answer) = oneshot::channel();
            let purpose = Purpose::change("settle", &self.keys.name);
            // Nobody but us has the other end.
            let _ = reply.send(if outcome {
                Ok(())
            } else {
                Err(refusals::lease_lost(purpose.operation, purpose.object))
            });
            return Ok(waits.then_some(answer));
        }
        let (place, other) = state.place_again(&receipt, how);
        let (settling, answer) = if waits {
            let (settling, answer) = Settling::awaited(receipt, place, how);
            (settling, Some(answer))
        } else {
            (Settling::silent(receipt, place, how), None)
        };
        let settling = settling.or_in(other).with(options);
        let until = Instant::now() + within;
        let sooner = state.settlements.add(settling, until);
        drop(state);
        if sooner {
            self.changed.notify_one();
        }
        Ok(answer)
    }

    /// Settlements that wait for company or for another attempt.
    pub(in super::super) fn take_settlements(&self) -> Vec<Settling> {
        self.lock().settlements.take_all()
    }

    /// The same when the consumer ends; if its bus `closes`, what is asked for from here on is too late.
    pub(in super::super) fn take_last_settlements(&self, closes: bool) -> Vec<Settling> {
        let mut state = self.lock();
        state.leaving |= closes;
        state.settlements.take_all()
    }

    /// Notes that settlements begin to be sent.
    pub(in super::super) fn begin_sending(&self) {
        self.lock().settlements.begin_sending();
    }

    /// Notes that they were sent.
    pub(in super::super) fn end_sending(&self) {
        self.lock().settlements.end_sending();
        self.calmed.notify_waiters();
        self.changed.notify_one();
    }

    /// Notes the server's answer to a settlement that was sent: 0 if its item was not there, else 1 and
    /// how many dead letters were dropped for it.
    pub(in super::super) fn settled(&self, mut settling: Settling, answer: usize) {
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
            self.obituaries.tell(list, deliveries, &failure, answer - 1);
        }
        let mut state = self.lock();
        state.holds.let_go(settling.place().epoch, settling.stored());
        if found && !settling.delay().is_zero() {
            state.expect(settling.delay());
            self.changed.notify_one();
        }
        if settling.was_refused() {
            let how = settling.how();
            if found {
                tracing::info!(queue = list, "an item is settled that could not be before");
                state.settlements.remember(settling.into_receipt(), how);
            }
            return;
        }
        // Asked again while the first attempt was on its way: that one did it.
        let alone = state.settlements.done_alone(settling.receipt(), settling.how());
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
    pub(in super::super) fn keep_settlement(&self, settling: Settling, until: Instant) {
        self.lock().settlements.put_off(settling, until);
        self.changed.notify_one();
    }

    /// Has settlements sent that were to ride with something that was not sent.
    pub(in super::super) fn put_back(&self, settlements: Vec<Settling>) {
        self.lock().settlements.keep(settlements, Instant::now());
        self.changed.notify_one();
    }

    /// Tells those who wait for settlements whose answers were lost that nobody knows yet; what is not
    /// done is done once the server can be asked.
    pub(in super::super) fn tell_uncertain(&self) {
        let mut state = self.lock();
        let purpose = Purpose::change("settle", &self.keys.name);
        let error = purpose.lost("and the server cannot be asked; what is not done is tried on");
        state.settlements.tell_uncertain(&error);
    }

    /// Notes that settlements were sent and their answers lost.
    pub(in super::super) fn unsettled(&self, settlements: Vec<Settling>) {
        for settling in settlements {
            let epoch = settling.place().epoch;
            self.lock().settlements.note_uncertain(settling);
            self.doubt(epoch);
        }
    }
}

impl State {
    /// Where the server has the item of a receipt that is settled; a settlement of it that was
    /// refused before gives way to the new one.
    pub(super) fn place_again(
        &mut self,
        receipt: &Receipt,
        how: Settlement,
    ) -> (Place, Option<Place>) {
        match self.settlements.give_way(receipt) {
            Some(place) => (place, Place::of(receipt).ahead.then(|| place.twin())),
            None => self.leave_place(receipt, how),
        }
    }
}
