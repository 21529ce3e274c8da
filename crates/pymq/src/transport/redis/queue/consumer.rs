//! A consumer: what this process knows of one queue that it takes items from, with one lease and one
//! policy.
//!
//! The one invariant: everything here changes under one lock, in steps that leave the counts right;
//! what is held is `holds`' to count, who waits the line's. It sends nothing and waits for nothing at
//! the server: the claimer asks it what to do next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::super::dialer::jitter;
use super::super::link::Stage;
use super::super::purpose::Purpose;
use super::super::timing::{LONGEST, ROUND_TRIP, SLICE_AND_WAY};
use super::holds::Holds;
use super::keys::{Epoch, Keys, Place, Policy};
use super::line::{Answer, Line, Ticket, Waiter, Want};
use super::settle::Settling;
use super::told::Told;
use super::{copy, lease_lost};
use crate::error::{Error, Result};
use crate::transport::obituaries::Obituaries;
use crate::transport::{Claimed, QueueSpec, Receipt, SettleOptions, Settlement, Wait};

/// After how long without use a consumer ends.
const IDLE: Duration = Duration::from_secs(60);
/// How long the registration of an epoch that holds nothing is kept for the next claim.
const VACANT: Duration = Duration::from_millis(500);
/// How long what was handed out from what was fetched ahead waits to be told together with more.
const TOGETHER: Duration = Duration::from_millis(1);
/// How many settlements that were done by themselves are remembered, for who asks again.
const REMEMBERED: usize = 1000;

/// One queue's consumer; all local getters with its lease and policy share it.
#[derive(Debug)]
pub(super) struct Consumer {
    keys: Keys,
    lease: Duration,
    /// The number of the next epoch of this process.
    sequence: Arc<AtomicU32>,
    /// Wakes the claimer.
    changed: Notify,
    /// Wakes those who wait for calm, see [`calm`](Self::calm).
    calmed: Notify,
    /// Taken shared while items are moved on the commands' connection, alone while lists are read.
    moving: RwLock<()>,
    state: Mutex<State>,
    stage: watch::Sender<Stage>,
    told: Told,
    obituaries: Arc<Obituaries>,
}

/// What changes.
#[derive(Debug)]
struct State {
    line: Line,
    holds: Holds,
    settlements: Vec<Settling>,
    flush_at: Option<Instant>,
    /// Handed out from what was fetched ahead, which the server has still to be told.
    shown: VecDeque<Receipt>,
    /// When it is told.
    show_at: Option<Instant>,
    /// Refused or not sent, to be tried again.
    put_off: Vec<(Instant, Settling)>,
    /// Sent when the connection was lost.
    uncertain: Vec<Settling>,
    /// Done after whoever asked had been told that they were refused.
    done_alone: VecDeque<(Receipt, Settlement)>,
    /// When the server's list of an epoch is to be compared with what is held.
    doubts: Vec<(Instant, Epoch)>,
    /// The server's clock in ms, and when it was asked.
    clock: Option<(Instant, i64)>,
    /// When the next item for later is due, as far as is known.
    due_at: Option<Instant>,
    /// Whether somebody said that this may have changed.
    due_changed: bool,
    /// Whether this queue has items for later now and then.
    delays: bool,
    /// Whether the server has shown that it lets us claim.
    opened: bool,
    /// Shut down, and nothing is due later.
    shut: bool,
    poked: bool,
    bounded: bool,
    beat_at: Instant,
    reap_at: Instant,
    /// Somebody asked for an item since the last reaping.
    called: bool,
    /// Whether a claim waits at the server.
    at_server: bool,
    /// Whether one has waited there for long.
    waited: bool,
    /// Settlements that are being sent.
    sending: usize,
    /// Why nothing can be claimed just now.
    trouble: Option<Error>,
    used: Instant,
}

/// What the claimer should do next.
pub(super) enum Step {
    Finish,
    Rest(Option<Instant>),
    Aside(Chore),
    Open,
    LineUp,
    Compare(Vec<Epoch>),
    Leave(Vec<Epoch>),
    Claim,
}

/// What is done beside a wait at the server.
pub(super) enum Chore {
    Settle(Vec<Settling>),
    /// Has the server note what was handed out.
    Show(Vec<Receipt>),
    /// Prolongs the leases of epochs.
    Beat(Vec<Epoch>),
    Reap,
}

/// One round of claiming.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) epoch: Epoch,
    /// Confirmations that ride along.
    pub(super) acks: Vec<Settling>,
    pub(super) want: Want,
    /// How long to wait for the first; `None` is not at all.
    pub(super) slice: Option<Duration>,
    pub(super) bounded: bool,
    /// Until when the epoch is registered, by the server's clock, if it surely is; else a script
    /// finds out.
    pub(super) lease_end: Option<i64>,
    pub(super) began: Instant,
}

impl Consumer {
    pub(super) fn new(
        keys: Keys,
        sequence: Arc<AtomicU32>,
        obituaries: Arc<Obituaries>,
        spec: &QueueSpec,
    ) -> Self {
        let epoch = next_epoch(&sequence);
        let state = State::new(epoch, spec.priorities);
        Self {
            keys,
            lease: clamped(spec.lease),
            sequence,
            changed: Notify::new(),
            calmed: Notify::new(),
            moving: RwLock::default(),
            state: Mutex::new(state),
            stage: watch::Sender::new(Stage::Open),
            told: Told::default(),
            obituaries,
        }
    }

    /// Whether it is for handles with these options.
    pub(super) fn serves(&self, spec: &QueueSpec) -> bool {
        self.lease == clamped(spec.lease) && self.keys.policy() == Policy::from(spec)
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What the log was told of it.
    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// A panic cannot leave the state half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_epoch(&self) -> Epoch {
        next_epoch(&self.sequence)
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

    /// Returns when it has ended.
    pub(super) async fn finished(&self) {
        let mut stage = self.stage.subscribe();
        // An error is impossible: we hold the sender.
        let _ = stage.wait_for(|stage| *stage == Stage::Closed).await;
    }

    /// Says that it has ended; returns the settlements that came too late.
    pub(super) fn end(&self) -> Vec<Settling> {
        let mut state = self.lock();
        self.stage.send_replace(Stage::Closed);
        state.take_settlements()
    }

    /// Returns when something has changed that the claimer should look at.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Held while items are moved on the commands' connection.
    pub(super) async fn moving(&self) -> RwLockReadGuard<'_, ()> {
        self.moving.read().await
    }

    /// Held while nothing may be moved there.
    pub(super) async fn still(&self) -> RwLockWriteGuard<'_, ()> {
        self.moving.write().await
    }

    /// Returns when nothing is under way that nobody waits for: a claim, for somebody who left, or a
    /// settlement; or after a moment, since a server may not answer.
    pub(super) async fn calm(&self) {
        let until = Instant::now() + Duration::from_millis(200);
        loop {
            let mut told = std::pin::pin!(self.calmed.notified());
            // In the line first, then looked: or the news could come in between.
            told.as_mut().enable();
            if self.lock().is_calm() || timeout_at(until, told).await.is_err() {
                return;
            }
        }
    }

    /// Whether the server has said what there is for somebody whose time is up; a moment of grace is
    /// given to an answer that is on its way. A server that says nothing is no empty queue.
    pub(super) async fn has_answered(&self) -> bool {
        let until = Instant::now() + ROUND_TRIP;
        loop {
            let mut told = std::pin::pin!(self.calmed.notified());
            // In the line first, then looked: or the news could come in between.
            told.as_mut().enable();
            if self.lock().has_answered() {
                return true;
            }
            if timeout_at(until, told).await.is_err() {
                return false;
            }
        }
    }

    /// Makes the claimer look whether the queue was shut down, or something is due sooner.
    pub(super) fn poke(&self) {
        let mut state = self.lock();
        state.poked = true;
        state.due_changed = true;
        drop(state);
        self.changed.notify_one();
    }

    // ---- items for later ----

    /// Notes in what time the next item is due, and whether nothing can come any more.
    pub(super) fn note_due(&self, next: Option<Duration>, over: bool) {
        let mut state = self.lock();
        state.due_at = next.and_then(|next| Instant::now().checked_add(next));
        state.delays |= next.is_some();
        state.shut = over;
    }

    /// Notes that an item was put that is due in some time.
    pub(super) fn expect(&self, delay: Duration) {
        self.lock().expect(delay);
        self.changed.notify_one();
    }

    /// Notes what a claim that came back empty was told: twice 1 if the queue is shut down, 1 more if
    /// something is due later. Returns whether nothing can come any more.
    pub(super) fn note_flags(&self, flags: i64) -> bool {
        let mut state = self.lock();
        state.shut = flags == 2;
        state.due_changed |= flags % 2 == 1 && state.due_at.is_none();
        state.shut
    }

    /// Whether something may be due that nobody has lined up.
    pub(super) fn is_due(&self) -> bool {
        self.lock().is_due(Instant::now())
    }

    /// Whether this queue has items for later now and then.
    pub(super) fn knows_delays(&self) -> bool {
        self.lock().delays
    }

    pub(super) fn begin_lining_up(&self) {
        self.lock().due_changed = false;
    }

    // ---- who waits ----

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
        state.call(spec);
        state.line.join(Waiter { want: Want::of(spec, limit), wait, reply });
        drop(state);
        self.changed.notify_one();
        Some(Ticket::in_line(Arc::clone(self), answer))
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
        state.call(spec);
        let reaps = state.reap_at <= Instant::now();
        drop(state);
        if reaps {
            self.changed.notify_one();
        }
        Some((Ticket::apart(Arc::clone(self), answer), reply))
    }

    pub(super) fn answer(&self, reply: oneshot::Sender<Answer>, answer: Answer) {
        let mut state = self.lock();
        if let Err(Ok(unwanted)) = reply.send(answer) {
            state.give_back(unwanted);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Takes the answer of somebody who leaves: either he sees it here, or none is given any more.
    pub(super) fn leave_line(
        &self,
        answer: &mut oneshot::Receiver<Answer>,
        in_line: bool,
    ) -> Option<Answer> {
        let mut state = self.lock();
        answer.close();
        let last = answer.try_recv().ok();
        if last.is_none() && in_line && state.line.leave() {
            self.changed.notify_one();
        }
        last
    }

    /// Why nothing could be claimed until now, for somebody whose time is up.
    pub(super) fn trouble(&self) -> Option<Error> {
        self.lock().trouble.as_ref().map(|error| copy(error, "get"))
    }

    /// Notes why nothing can be claimed; says whether that is news.
    pub(super) fn set_trouble(&self, error: &Error) -> bool {
        let news = self.lock().trouble.replace(copy(error, "get")).is_none();
        self.calmed.notify_waiters();
        news
    }

    /// Notes that claims get through.
    pub(super) fn clear_trouble(&self) -> bool {
        self.lock().trouble.take().is_some()
    }

    /// Fails everybody in the line.
    pub(super) fn fail_all(&self, error: impl Fn() -> Error) {
        let mut state = self.lock();
        state.line.fail_all(error);
    }

    // ---- what to do next ----

    pub(super) fn step(&self) -> Step {
        let open = self.is_open();
        let mut state = self.lock();
        let step = state.step(Instant::now(), open, self.lease);
        if matches!(step, Step::Finish) && open {
            // Under the lock, as getters come in: none finds it open any more.
            self.stage.send_modify(|stage| *stage = (*stage).max(Stage::Closing));
        }
        step
    }

    /// What is due beside a wait at the server, and whether the wait should end.
    pub(super) fn beside(&self, epoch: Option<Epoch>) -> (Option<Chore>, bool) {
        let now = Instant::now();
        let mut state = self.lock();
        let chore = state.chore(now, self.lease);
        let moved_on = epoch.is_some_and(|epoch| epoch != state.holds.current());
        let elsewhere = state.line.nobody_waits() || state.poked || moved_on;
        let out = elsewhere || state.doubts_due(now) || state.is_due(now);
        (chore, out || !self.is_open())
    }

    /// When the next thing is due that is done beside a wait.
    pub(super) fn beside_at(&self) -> Option<Instant> {
        let state = self.lock();
        state.chore_at().into_iter().chain(state.doubts_at()).chain(state.due_at).min()
    }

    /// The next round for those in the line; `None` when nobody is any more. One that only looks does not
    /// wait.
    pub(super) fn round(&self, most: Duration, looks: bool) -> Option<Round> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.line.nobody_waits() || state.poked {
            return None;
        }
        let (want, longest) = state.line.wants(now);
        let due = state.due_at.map(|due| due.saturating_duration_since(now));
        let most = due.map_or(most, |due| due.min(most)).max(Duration::from_millis(1));
        let slice = longest.clamp(Duration::from_millis(1), most);
        let slice = (!state.shut && !looks).then_some(slice);
        state.at_server = true;
        let round = self.begin_round(&mut state, now, want, slice);
        state.waited |= round.waits_long();
        Some(round)
    }

    /// A round for one getter who does not wait.
    pub(super) fn round_apart(&self, want: Want) -> Round {
        self.begin_round(&mut self.lock(), Instant::now(), want, None)
    }

    fn begin_round(
        &self,
        state: &mut State,
        began: Instant,
        want: Want,
        slice: Option<Duration>,
    ) -> Round {
        if state.holds.is_full() {
            state.holds.turn_to(self.next_epoch());
        }
        let epoch = state.holds.current();
        if want.ahead > 0 {
            state.holds.fetch_ahead(epoch);
        }
        let lease_end = state.lease_end(epoch, began, slice.unwrap_or_default(), self.lease);
        Round {
            epoch,
            acks: state.take_acks(),
            want,
            slice,
            bounded: state.bounded,
            lease_end,
            began,
        }
    }

    /// Notes that the claim at the server is over.
    pub(super) fn end_round(&self) {
        self.lock().at_server = false;
        self.calmed.notify_waiters();
    }

    // ---- what the server said ----

    /// Whether the server may count it among those who wait.
    pub(super) fn has_waited(&self) -> bool {
        self.lock().waited
    }

    pub(super) fn is_opened(&self) -> bool {
        self.lock().opened
    }

    /// Every epoch that the server may know of, oldest first.
    pub(super) fn all_epochs(&self) -> Vec<Epoch> {
        self.lock().holds.all()
    }

    /// The lists of epochs that may be at the server.
    pub(super) fn places(&self, epochs: &[Epoch]) -> Vec<Place> {
        self.lock().holds.places(epochs)
    }

    /// Notes that the server has forgotten epochs that hold nothing.
    pub(super) fn forget(&self, epochs: &[Epoch]) {
        self.lock().holds.forget(epochs);
    }

    pub(super) fn current(&self) -> Epoch {
        self.lock().holds.current()
    }

    /// When the lease of something that is held was last renewed, of several the longest ago.
    pub(super) fn oldest_heartbeat(&self) -> Option<Instant> {
        self.lock().holds.oldest_kept()
    }

    pub(super) fn owns(&self, epoch: Epoch) -> bool {
        self.lock().holds.owns(epoch)
    }

    /// Notes the server's clock.
    pub(super) fn note_server(&self, sent: Instant, clock: i64) {
        let mut state = self.lock();
        state.clock = Some((sent, clock));
        if !std::mem::replace(&mut state.opened, true) {
            self.calmed.notify_waiters();
        }
    }

    /// Notes that an epoch is registered since something that was sent at a moment.
    pub(super) fn note_kept(&self, epoch: Epoch, sent: Instant) {
        self.lock().holds.keep(epoch, sent);
    }

    /// Notes that nobody knows whether an epoch is registered.
    pub(super) fn note_doubt(&self, epoch: Epoch) {
        self.lock().holds.doubt(epoch);
    }

    /// Whether an item that was taken by something that was sent at a moment is surely ours still.
    pub(super) fn is_sure(&self, epoch: Epoch) -> bool {
        let until = self.lock().holds.sure_until(epoch, self.lease);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes that what was sent for an epoch may have been done, now or by a ghost in a moment.
    pub(super) fn doubt(&self, epoch: Epoch) {
        let now = Instant::now();
        let mut state = self.lock();
        state.holds.doubt(epoch);
        state.doubts.extend([(now, epoch), (now + SLICE_AND_WAY, epoch)]);
        drop(state);
        self.changed.notify_one();
    }

    /// Has the list of an epoch read, since the answer of a claim is too old to be believed.
    pub(super) fn look_at(&self, epoch: Epoch) {
        self.lock().doubts.push((Instant::now(), epoch));
    }

    /// Notes that an epoch of ours was over when something was sent; says how many items that cost.
    pub(super) fn lose(&self, epoch: Epoch, sent: Instant) -> usize {
        let mut state = self.lock();
        let Some(lost) = state.holds.lose(epoch, sent) else {
            state.doubts.push((Instant::now(), epoch));
            return 0;
        };
        if epoch == state.holds.current() {
            // Receipts of it are somebody else's business; the same name must not come again.
            let next = self.next_epoch();
            state.holds.turn_to(next);
        }
        let uncertain = std::mem::take(&mut state.uncertain);
        let (late, others) =
            uncertain.into_iter().partition(|settling| settling.place().epoch == epoch);
        state.uncertain = others;
        drop(state);
        self.changed.notify_one();
        let late: Vec<Settling> = late;
        for settling in late {
            self.settled(settling, 0);
        }
        lost
    }

    /// Compares what the server holds in the lists of an epoch with what is known here; returns what
    /// nobody here has heard of.
    pub(super) fn compare(
        &self,
        epoch: Epoch,
        server: Vec<(Place, Vec<Bytes>)>,
    ) -> Vec<(Place, Bytes)> {
        let mut state = self.lock();
        let uncertain = std::mem::take(&mut state.uncertain);
        let (here, others) =
            uncertain.into_iter().partition(|settling| settling.place().epoch == epoch);
        state.uncertain = others;
        let (done, again, unknown) = state.holds.compare(epoch, server, here);
        state.keep(again, Instant::now());
        drop(state);
        for settling in done {
            self.settled(settling, 1);
        }
        unknown
    }

    // ---- items ----

    /// Gives items that have just been claimed to those who wait, in their order.
    pub(super) fn distribute(&self, items: Vec<(Place, Bytes)>) {
        let mut state = self.lock();
        let claimed = state.take(items, self.lease);
        let left = state.line.serve(claimed.into());
        state.give_back(left);
    }

    /// Notes items as held, for somebody apart from the line.
    pub(super) fn take_over(&self, items: Vec<(Place, Bytes)>) -> Vec<Claimed> {
        self.lock().take(items, self.lease)
    }

    /// Notes that items are handed out now; those that were fetched ahead count from here on. The
    /// server is told in a moment, unless they are settled before: then it need not know.
    pub(super) fn show<'a>(&self, receipts: impl IntoIterator<Item = &'a Receipt>) {
        let ahead = |receipt: &&Receipt| Place::of(receipt).ahead;
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

    /// What was handed out and the server has still to be told.
    pub(super) fn take_shown(&self) -> Vec<Receipt> {
        self.lock().take_shown()
    }

    /// Returns items that nobody here may have.
    pub(super) fn give_back(&self, items: Vec<(Place, Bytes)>) {
        let mut state = self.lock();
        let claimed = state.take(items, self.lease);
        state.give_back(claimed);
        drop(state);
        self.changed.notify_one();
    }

    /// Returns items that somebody got and did not want.
    pub(super) fn return_unwanted(&self, items: Vec<Claimed>) {
        self.lock().give_back(items);
        self.changed.notify_one();
    }

    /// Where the server has the item of a receipt.
    pub(super) fn place(&self, receipt: &Receipt) -> Place {
        self.lock().holds.place(receipt)
    }

    /// The epoch into which an item goes whose lease is to last for `duration`, if that is another one.
    pub(super) fn epoch_for(&self, receipt: &Receipt, duration: Duration) -> Option<Epoch> {
        let alone = self.place(receipt) != Place::of(receipt);
        (!alone && duration > self.lease).then(|| self.next_epoch())
    }

    /// Notes that the lease of an item lasts until a moment.
    pub(super) fn note_extension(&self, receipt: &Receipt, to: Epoch, until: Option<Instant>) {
        self.lock().holds.extend(receipt, to, until);
    }

    // ---- settlements ----

    /// Ends the lease of an item, at the latest in `within`; the answer is sent to whoever waits.
    pub(super) fn settle(
        &self,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
        within: Duration,
        waits: bool,
    ) -> Option<oneshot::Receiver<Result<()>>> {
        let mut state = self.lock();
        if *self.stage.borrow() == Stage::Closed {
            let (reply, answer) = oneshot::channel();
            // Nobody but us has the other end.
            let _ = reply.send(Err(Error::closed("settle", &self.keys.list)));
            return waits.then_some(answer);
        }
        if let Some(outcome) = state.done_alone(&receipt, how) {
            let (reply, answer) = oneshot::channel();
            let purpose = Purpose::change("settle", &self.keys.list);
            // Nobody but us has the other end.
            let _ = reply.send(if outcome { Ok(()) } else { Err(lease_lost(&purpose)) });
            return waits.then_some(answer);
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
        let sooner = state.flush_at.is_none_or(|at| until < at);
        state.flush_at = if sooner { Some(until) } else { state.flush_at };
        state.settlements.push(settling);
        drop(state);
        if sooner {
            self.changed.notify_one();
        }
        answer
    }

    /// Settlements that wait for company or for another attempt.
    pub(super) fn take_settlements(&self) -> Vec<Settling> {
        self.lock().take_settlements()
    }

    /// Notes that settlements begin to be sent.
    pub(super) fn begin_sending(&self) {
        self.lock().sending += 1;
    }

    /// Notes that they were sent.
    pub(super) fn end_sending(&self) {
        self.lock().sending -= 1;
        self.calmed.notify_waiters();
        self.changed.notify_one();
    }

    /// Notes the server's answer to a settlement that was sent: 0 if its item was not there, else 1 and
    /// how many dead letters were dropped for it.
    pub(super) fn settled(&self, mut settling: Settling, answer: usize) {
        let found = answer > 0;
        if !found {
            settling = match settling.elsewhere() {
                Ok(again) => return self.keep_settlement(again, Instant::now()),
                Err(settling) => settling,
            };
        }
        let mut state = self.lock();
        state.holds.let_go(settling.place().epoch, settling.stored());
        if found && !settling.delay().is_zero() {
            state.expect(settling.delay());
            self.changed.notify_one();
        }
        let list = &self.keys.list;
        if found && let Some((deliveries, failure)) = settling.death(self.keys.policy()) {
            self.obituaries.tell(list, deliveries, &failure, answer - 1);
        }
        if settling.was_refused() {
            if found {
                tracing::info!(queue = list, "an item is settled that could not be before");
            }
            let how = settling.how();
            return state.remember(settling.into_receipt(), how, found);
        }
        // Asked again while the first attempt was on its way: that one did it.
        let found = found || state.done_alone(settling.receipt(), settling.how()) == Some(true);
        drop(state);
        let purpose = Purpose::change("settle", list);
        settling.answer(list, if found { Ok(()) } else { Err(lease_lost(&purpose)) });
    }

    /// Keeps a settlement that could not be done for another attempt.
    pub(super) fn keep_settlement(&self, settling: Settling, until: Instant) {
        self.lock().put_off.push((until, settling));
        self.changed.notify_one();
    }

    /// Has settlements sent that were to ride with something that was not sent.
    pub(super) fn put_back(&self, settlements: Vec<Settling>) {
        self.lock().keep(settlements, Instant::now());
        self.changed.notify_one();
    }

    /// Tells those who wait for settlements whose answers were lost that nobody knows yet; what is not
    /// done is done once the server can be asked.
    pub(super) fn tell_uncertain(&self) {
        let mut state = self.lock();
        let purpose = Purpose::change("settle", &self.keys.list);
        let error = purpose.lost("and the server cannot be asked; what is not done is tried on");
        let uncertain = std::mem::take(&mut state.uncertain);
        state.uncertain = uncertain.into_iter().map(|settling| settling.tell(&error)).collect();
    }

    /// Notes that settlements were sent and their answers lost.
    pub(super) fn unsettled(&self, settlements: Vec<Settling>) {
        for settling in settlements {
            let epoch = settling.place().epoch;
            self.lock().uncertain.push(settling);
            self.doubt(epoch);
        }
    }
}

impl State {
    fn new(epoch: Epoch, priorities: bool) -> Self {
        let now = Instant::now();
        Self {
            line: Line::default(),
            holds: Holds::new(epoch, priorities),
            settlements: Vec::new(),
            flush_at: None,
            shown: VecDeque::new(),
            show_at: None,
            put_off: Vec::new(),
            uncertain: Vec::new(),
            done_alone: VecDeque::new(),
            doubts: Vec::new(),
            clock: None,
            due_at: None,
            due_changed: false,
            delays: false,
            opened: false,
            shut: false,
            poked: false,
            bounded: false,
            beat_at: now,
            reap_at: now,
            called: false,
            at_server: false,
            waited: false,
            sending: 0,
            trouble: None,
            used: now,
        }
    }

    /// Notes that an item is due in some time.
    fn expect(&mut self, delay: Duration) {
        self.delays = true;
        let due = Instant::now().checked_add(delay);
        self.due_at = self.due_at.into_iter().chain(due).min();
    }

    /// Notes that somebody asks for an item.
    fn call(&mut self, spec: &QueueSpec) {
        self.bounded |= spec.maxsize > 0;
        self.called = true;
        self.used = Instant::now();
    }

    /// What to do next.
    fn step(&mut self, now: Instant, open: bool, lease: Duration) -> Step {
        if !open {
            return Step::Finish;
        }
        self.poked = false;
        if let Some(chore) = self.chore(now, lease) {
            return Step::Aside(chore);
        }
        if self.doubts_due(now) {
            return Step::Compare(self.take_doubts(now));
        }
        let waits = !self.line.nobody_waits();
        if waits && !self.opened {
            return Step::Open;
        }
        if waits && self.is_due(now) {
            return Step::LineUp;
        }
        if self.holds.has_vacant() && self.vacant_at() <= now && !self.at_server {
            return Step::Leave(self.holds.vacant());
        }
        if waits {
            return Step::Claim;
        }
        if self.is_idle() && self.used + IDLE <= now {
            return Step::Finish;
        }
        Step::Rest(self.rest_until())
    }

    fn rest_until(&self) -> Option<Instant> {
        let vacant = self.holds.has_vacant().then(|| self.vacant_at());
        let idle = self.is_idle().then(|| self.used + IDLE);
        self.chore_at().into_iter().chain(self.doubts_at()).chain(vacant).chain(idle).min()
    }

    fn vacant_at(&self) -> Instant {
        self.used + VACANT
    }

    fn is_idle(&self) -> bool {
        self.line.nobody_waits()
            && self.holds.is_empty()
            && self.settlements.is_empty()
            && self.put_off.is_empty()
            && self.uncertain.is_empty()
            && self.doubts.is_empty()
            && !self.holds.has_vacant()
    }

    /// What is due and done beside everything else.
    fn chore(&mut self, now: Instant, lease: Duration) -> Option<Chore> {
        let due = self.due(now);
        if !due.is_empty() {
            return Some(Chore::Settle(due));
        }
        if self.show_at.is_some_and(|at| at <= now) {
            let shown = self.take_shown();
            if !shown.is_empty() {
                return Some(Chore::Show(shown));
            }
        }
        let period = || now + jitter(lease / 4, lease / 3);
        if !self.holds.is_empty() && self.beat_at <= now {
            self.beat_at = period();
            return Some(Chore::Beat(self.holds.occupied()));
        }
        if self.reaps() && self.reap_at <= now {
            self.reap_at = period();
            self.called = false;
            return Some(Chore::Reap);
        }
        None
    }

    fn chore_at(&self) -> Option<Instant> {
        let put_off = self.put_off.iter().map(|(at, _)| *at).min();
        let beat = (!self.holds.is_empty()).then_some(self.beat_at);
        let reap = self.reaps().then_some(self.reap_at);
        self.flush_at.into_iter().chain(self.show_at).chain(put_off).chain(beat).chain(reap).min()
    }

    /// Whether this consumer looks after others: who holds nothing and serves nobody costs nothing.
    fn reaps(&self) -> bool {
        self.called || !self.line.nobody_waits() || !self.holds.is_empty()
    }

    fn doubts_at(&self) -> Option<Instant> {
        self.doubts.iter().map(|(at, _)| *at).min()
    }

    fn doubts_due(&self, now: Instant) -> bool {
        self.doubts.iter().any(|(at, _)| *at <= now)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due_changed || self.due_at.is_some_and(|due| due <= now)
    }

    fn take_doubts(&mut self, now: Instant) -> Vec<Epoch> {
        let mut due: Vec<_> =
            self.doubts.iter().filter(|(at, _)| *at <= now).map(|(_, epoch)| *epoch).collect();
        self.doubts.retain(|(at, _)| *at > now);
        due.sort_unstable();
        due.dedup();
        due
    }

    fn has_answered(&self) -> bool {
        self.trouble.is_some() || self.opened && !self.claims_for_nobody()
    }

    fn is_calm(&self) -> bool {
        !self.claims_for_nobody() && self.sending == 0
    }

    fn claims_for_nobody(&self) -> bool {
        self.at_server && self.line.nobody_waits()
    }

    /// Until when the lease of an epoch should last that takes something in a round, if the epoch is
    /// surely registered: then the round writes that down only for a server that forgot it.
    fn lease_end(
        &self,
        epoch: Epoch,
        now: Instant,
        slice: Duration,
        lease: Duration,
    ) -> Option<i64> {
        let kept = self.holds.kept(epoch)?;
        let (asked, clock) = self.clock?;
        if now.saturating_duration_since(kept) > lease / 2 {
            return None;
        }
        let ahead = now.saturating_duration_since(asked) + slice + lease;
        Some(clock.saturating_add(i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX)))
    }

    fn take(&mut self, items: Vec<(Place, Bytes)>, lease: Duration) -> Vec<Claimed> {
        if self.holds.is_empty() {
            self.beat_at = Instant::now() + jitter(lease / 4, lease / 3);
        }
        self.used = Instant::now();
        items.into_iter().map(|(place, stored)| self.holds.take(place, stored)).collect()
    }

    /// Returns items that nobody got, newest first, so that the oldest is at the head again.
    fn give_back(&mut self, items: Vec<Claimed>) {
        if items.is_empty() {
            return;
        }
        for Claimed { receipt, .. } in items.into_iter().rev() {
            let (place, other) = self.leave_place(&receipt, Settlement::Return);
            let settling = Settling::silent(receipt, place, Settlement::Return).or_in(other);
            self.settlements.push(settling);
        }
        self.flush_at = Some(Instant::now());
    }

    /// The settlements whose time has come; those that could ride with the next claim do.
    fn due(&mut self, now: Instant) -> Vec<Settling> {
        let mut due = Vec::new();
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            due.append(&mut self.settlements);
        }
        if self.put_off.iter().any(|(at, _)| *at <= now) {
            let (ready, later) =
                std::mem::take(&mut self.put_off).into_iter().partition(|(at, _)| *at <= now);
            self.put_off = later;
            let ready: Vec<(Instant, Settling)> = ready;
            due.extend(ready.into_iter().map(|(_, settling)| settling));
        }
        due
    }

    fn take_settlements(&mut self) -> Vec<Settling> {
        self.flush_at = None;
        let mut all = std::mem::take(&mut self.settlements);
        all.extend(std::mem::take(&mut self.put_off).into_iter().map(|(_, settling)| settling));
        all
    }

    /// The confirmations that ride with a claim.
    fn take_acks(&mut self) -> Vec<Settling> {
        let all = std::mem::take(&mut self.settlements);
        let is_ack = |settling: &Settling| settling.how() == Settlement::Ack;
        let (acks, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_ack);
        if others.is_empty() {
            self.flush_at = None;
        }
        self.settlements = others;
        acks
    }

    /// Puts settlements back that were not sent.
    fn keep(&mut self, settlements: Vec<Settling>, until: Instant) {
        if !settlements.is_empty() {
            self.settlements.extend(settlements);
            self.flush_at = Some(self.flush_at.map_or(until, |at| at.min(until)));
        }
    }

    /// Where the server has the item of a receipt that is settled; a settlement of it that was
    /// refused before gives way to the new one.
    fn place_again(&mut self, receipt: &Receipt, how: Settlement) -> (Place, Option<Place>) {
        let before = self.put_off.iter().position(|(_, settling)| settling.is_left_of(receipt));
        match before {
            Some(before) => {
                let place = self.put_off.swap_remove(before).1.place();
                (place, Place::of(receipt).ahead.then(|| place.twin()))
            }
            None => self.leave_place(receipt, how),
        }
    }

    /// In which list the server has the item of a receipt that is settled, and in which else it may.
    fn leave_place(&mut self, receipt: &Receipt, how: Settlement) -> (Place, Option<Place>) {
        let place = self.holds.leave_place(receipt);
        if !place.ahead {
            return (place, None);
        }
        let untold = self.shown.iter().position(|shown| shown == receipt);
        let untold = untold.and_then(|untold| self.shown.remove(untold)).is_some();
        // What is returned was shown to nobody, most often; the rest was.
        let place = if untold || how == Settlement::Return { place } else { place.twin() };
        (place, Some(place.twin()))
    }

    fn take_shown(&mut self) -> Vec<Receipt> {
        self.show_at = None;
        std::mem::take(&mut self.shown).into()
    }

    fn remember(&mut self, receipt: Receipt, how: Settlement, found: bool) {
        if !found {
            return;
        }
        if self.done_alone.len() >= REMEMBERED {
            self.done_alone.pop_front();
        }
        self.done_alone.push_back((receipt, how));
    }

    /// Whether that was done by itself meanwhile: `Some(false)` if it ended in another way.
    fn done_alone(&mut self, receipt: &Receipt, how: Settlement) -> Option<bool> {
        let place = self.done_alone.iter().position(|(done, _)| done == receipt)?;
        self.done_alone.remove(place).map(|(_, done)| done == how)
    }
}

fn next_epoch(sequence: &AtomicU32) -> Epoch {
    Epoch::new(sequence.fetch_add(1, Ordering::Relaxed))
}

/// A lease that clocks can hold; one of nothing would be over before it begins.
fn clamped(lease: Duration) -> Duration {
    lease.clamp(Duration::from_millis(1), LONGEST)
}
