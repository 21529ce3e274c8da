//! The items that a consumer holds: noted when the server gives them, handed to getters, given back.
//!
//! The one invariant: where a reply was lost, the server's list is read to find out what it had taken for
//! us, and items that no getter wants are given back.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::super::keys::{Epoch, HeldList};
use super::super::pending_settlement::PendingSettlement;
use super::{Consumer, State, TOGETHER};
use crate::transport::redis::dialer::jitter;
use crate::transport::redis::timing::SLICE_AND_WAY;
use crate::transport::{Claimed, Receipt, Settlement};

impl Consumer {
    /// Whether the server may count it among those who wait.
    pub(crate) fn has_waited(&self) -> bool {
        self.lock().waited
    }

    pub(crate) fn is_opened(&self) -> bool {
        self.lock().opened
    }

    /// Every epoch that the server may know of, oldest first.
    pub(crate) fn all_epochs(&self) -> Vec<Epoch> {
        self.lock().epochs.all()
    }

    /// The lists of epochs that may be at the server.
    pub(crate) fn lists(&self, epochs: &[Epoch]) -> Vec<HeldList> {
        self.lock().epochs.lists(epochs)
    }

    /// Takes out the epochs that may be registered and hold nothing: the server is to forget them.
    pub(crate) fn take_vacant(&self) -> Vec<Epoch> {
        self.lock().epochs.vacant()
    }

    /// Notes that the server has forgotten epochs that hold nothing.
    pub(crate) fn forget(&self, epochs: &[Epoch]) {
        self.lock().epochs.forget(epochs);
    }

    pub(crate) fn current(&self) -> Epoch {
        self.lock().epochs.current()
    }

    /// The last renewal of the lease that was renewed the longest ago, of those that hold something.
    pub(crate) fn oldest_heartbeat(&self) -> Option<Instant> {
        self.lock().epochs.oldest_kept()
    }

    pub(crate) fn owns(&self, epoch: Epoch) -> bool {
        self.lock().epochs.owns(epoch)
    }

    /// Notes the server's clock.
    pub(crate) fn note_server(&self, sent: Instant, clock: i64) {
        let mut state = self.lock();
        state.clock = Some((sent, clock));
        if !std::mem::replace(&mut state.opened, true) {
            self.calmed.notify_waiters();
        }
    }

    /// Notes that an epoch is registered since something that was sent at a moment.
    pub(crate) fn note_kept(&self, epoch: Epoch, sent: Instant) {
        self.lock().epochs.keep(epoch, sent);
    }

    /// Notes that it is not known whether an epoch is registered.
    pub(crate) fn note_doubt(&self, epoch: Epoch) {
        self.lock().epochs.doubt(epoch);
    }

    /// Whether an item that was taken by something that was sent at a moment is surely ours still.
    pub(crate) fn is_sure(&self, epoch: Epoch) -> bool {
        let until = self.lock().epochs.sure_until(epoch, self.lease);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes that what was sent for an epoch may have been done, now or by a ghost in a moment.
    pub(crate) fn doubt(&self, epoch: Epoch) {
        let now = Instant::now();
        let mut state = self.lock();
        state.epochs.doubt(epoch);
        state.doubts.extend([(now, epoch), (now + SLICE_AND_WAY, epoch)]);
        drop(state);
        self.changed.notify_one();
    }

    /// Has the list of an epoch read, since the answer of a claim is too old to be believed.
    pub(crate) fn look_at(&self, epoch: Epoch) {
        self.lock().doubts.push((Instant::now(), epoch));
    }

    /// The same for every epoch whose lease we may prolong.
    pub(in super::super) fn look_at_all(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        if !state.opened {
            return;
        }
        let all = state.epochs.all().into_iter().chain([state.epochs.current()]);
        let all: Vec<_> = all.map(|epoch| (now, epoch)).collect();
        state.doubts.extend(all);
    }

    /// Notes that an epoch of ours was over when something was sent; says how many items that cost.
    pub(crate) fn lose(&self, epoch: Epoch, sent: Instant) -> usize {
        let mut state = self.lock();
        let Some(lost) = state.epochs.lose(epoch, sent) else {
            state.doubts.push((Instant::now(), epoch));
            return 0;
        };
        if epoch == state.epochs.current() {
            // Receipts of it are somebody else's business; the same name must not come again.
            let next = self.next_epoch();
            state.epochs.turn_to(next);
        }
        let late = state.outstanding.take_uncertain(epoch);
        drop(state);
        self.changed.notify_one();
        for settling in late {
            self.settled(settling, 0);
        }
        lost
    }

    /// Compares what the server holds in the lists of an epoch with what is known here; returns what
    /// nobody here has heard of.
    pub(crate) fn compare(
        &self,
        epoch: Epoch,
        server: Vec<(HeldList, Vec<Bytes>)>,
    ) -> Vec<(HeldList, Bytes)> {
        let mut state = self.lock();
        let here = state.outstanding.take_uncertain(epoch);
        let (done, again, unknown) = state.epochs.compare(epoch, server, here);
        state.outstanding.keep(again, Instant::now());
        drop(state);
        for settling in done {
            self.settled(settling, 1);
        }
        unknown
    }

    /// Gives items that have just been claimed to the getters that wait, in their order.
    pub(crate) fn distribute(&self, items: Vec<(HeldList, Bytes)>) {
        let mut state = self.lock();
        let claimed = state.take(items, self.lease);
        let left = state.getters.serve(claimed.into());
        state.give_back(left);
    }

    /// Notes items as held, for a getter that does not wait with the others.
    pub(crate) fn take_over(&self, items: Vec<(HeldList, Bytes)>) -> Vec<Claimed> {
        self.lock().take(items, self.lease)
    }

    /// Notes that items are handed out now; those that were fetched ahead count from here on. The
    /// server is told in a moment, unless they are settled before: then it need not know.
    pub(crate) fn show<'a>(&self, receipts: impl IntoIterator<Item = &'a Receipt>) {
        let ahead = |receipt: &&Receipt| HeldList::of(receipt).ahead;
        let mut receipts = receipts.into_iter().filter(ahead).peekable();
        if receipts.peek().is_none() {
            return;
        }
        let mut state = self.lock();
        state.shown.extend(receipts.cloned());
        let news = state.show_at.is_none();
        state.show_at.get_or_insert_with(|| Instant::now() + TOGETHER);
        drop(state);
        if news {
            self.changed.notify_one();
        }
    }

    /// Takes the items that were handed out and that the server has still to be told of.
    pub(crate) fn take_shown(&self) -> Vec<Receipt> {
        self.lock().take_shown()
    }

    /// Gives back items that no getter here may have.
    pub(crate) fn give_back(&self, items: Vec<(HeldList, Bytes)>) {
        let mut state = self.lock();
        let claimed = state.take(items, self.lease);
        state.give_back(claimed);
        drop(state);
        self.changed.notify_one();
    }

    /// Gives back items that a getter got and did not want.
    pub(crate) fn return_unwanted(&self, items: Vec<Claimed>) {
        self.lock().give_back(items);
        self.changed.notify_one();
    }

    /// The list in which the server has the item of a receipt.
    pub(crate) fn place(&self, receipt: &Receipt) -> HeldList {
        self.lock().epochs.place(receipt)
    }

    /// The epoch into which an item goes whose lease is to last for `duration`, if that is another one.
    pub(crate) fn epoch_for(&self, receipt: &Receipt, duration: Duration) -> Option<Epoch> {
        let alone = self.place(receipt) != HeldList::of(receipt);
        (!alone && duration > self.lease).then(|| self.next_epoch())
    }

    /// Notes that the lease of an item lasts until a moment, in the second of these epochs.
    pub(crate) fn note_extension(
        &self,
        receipt: &Receipt,
        (from, to): (Epoch, Epoch),
        until: Option<Instant>,
    ) {
        self.lock().epochs.extend(receipt, from, to, until);
    }
}

impl State {
    pub(super) fn take(&mut self, items: Vec<(HeldList, Bytes)>, lease: Duration) -> Vec<Claimed> {
        if self.epochs.is_empty() {
            self.beat_at = Instant::now() + jitter(lease / 4, lease / 3);
        }
        self.used = Instant::now();
        items.into_iter().map(|(place, stored)| self.epochs.take(place, stored)).collect()
    }

    /// Returns items that nobody got, newest first, so that the oldest is at the head again.
    pub(super) fn give_back(&mut self, items: Vec<Claimed>) {
        let mut settlements = Vec::with_capacity(items.len());
        for Claimed { receipt, .. } in items.into_iter().rev() {
            let (place, other) = self.leave_place(&receipt, Settlement::Return);
            let settling = PendingSettlement::silent(receipt, place, Settlement::Return);
            settlements.push(settling.or_in(other));
        }
        self.outstanding.keep(settlements, Instant::now());
    }

    /// In which list the server has the item of a receipt that is settled, and in which else it may.
    pub(super) fn leave_place(
        &mut self,
        receipt: &Receipt,
        how: Settlement,
    ) -> (HeldList, Option<HeldList>) {
        let place = self.epochs.leave_place(receipt);
        if !place.ahead {
            return (place, None);
        }
        let untold = self.shown.iter().position(|shown| shown == receipt);
        let untold = untold.and_then(|untold| self.shown.remove(untold)).is_some();
        // An item that is returned was most often not shown; any other was.
        let place = if untold || how == Settlement::Return { place } else { place.twin() };
        (place, Some(place.twin()))
    }

    pub(super) fn take_shown(&mut self) -> Vec<Receipt> {
        self.show_at = None;
        std::mem::take(&mut self.shown).into()
    }
}
