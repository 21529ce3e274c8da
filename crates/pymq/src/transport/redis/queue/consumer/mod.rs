//! A consumer: the state of one queue that this process takes items from, with one lease and one policy.
//!
//! The one invariant: everything here changes under one lock, in steps that leave the counts right.
//! `epochs` counts the items that are held, and `getters` has those that wait. A consumer sends nothing and
//! waits for nothing at the server: its claimer asks it what to do next.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, watch};
use tokio::time::{Instant, timeout_at};

use super::super::core::Stage;
use super::super::timing::{LONGEST, ROUND_TRIP};
use super::copy;
use super::epochs::Epochs;
use super::getters::Getters;
use super::keys::{Epoch, Keys, Policy};
use super::log_once::LogOnce;
use super::orphans::Looked;
use super::pending_settlement::PendingSettlement;
use crate::error::Error;
use crate::transport::dead_letter_log::DeadLetterLog;
use crate::transport::{QueueSpec, Receipt};

mod due;
mod enqueue;
mod extensions;
mod held;
mod outstanding;
mod settle;
mod steps;

pub(super) use self::extensions::OpenExtension;
pub(super) use self::steps::{Chore, Step};

use self::extensions::Extension;
use self::outstanding::Outstanding;

/// After how long without use a consumer ends.
const IDLE: Duration = Duration::from_secs(60);
/// The registration of an epoch that holds nothing is kept for so long, for the next claim.
const VACANT: Duration = Duration::from_millis(500);
/// How long a handed-out item that was fetched ahead waits before the server is told, so that several are
/// told at once.
const TOGETHER: Duration = Duration::from_millis(1);

/// One queue's consumer; all local getters with its lease and policy share it.
#[derive(Debug)]
pub(super) struct Consumer {
    keys: Keys,
    lease: Duration,
    /// The number of the next epoch of this process.
    sequence: Arc<AtomicU32>,
    /// Wakes the claimer.
    changed: Notify,
    /// Wakes callers of [`calm`](Self::calm).
    calmed: Notify,
    /// Taken shared while items are moved on the commands' connection, alone while lists are read.
    moving: Arc<RwLock<()>>,
    /// Held while a lease is extended.
    extending: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    stage: watch::Sender<Stage>,
    log_once: LogOnce,
    looked: Looked,
    dead_letter_log: Arc<DeadLetterLog>,
}

/// The part that changes.
#[derive(Debug)]
struct State {
    getters: Getters,
    epochs: Epochs,
    outstanding: Outstanding,
    /// Items whose leases are being extended.
    extensions: Vec<Extension>,
    /// Handed out from what was fetched ahead, which the server has still to be told.
    shown: VecDeque<Receipt>,
    /// The moment at which it is told.
    show_at: Option<Instant>,
    /// The moments at which the server's lists of epochs are to be compared with what is held.
    doubts: Vec<(Instant, Epoch)>,
    /// The server's clock in ms, and when it was asked.
    clock: Option<(Instant, i64)>,
    /// The moment at which the next delayed item is due, as far as is known.
    due_at: Option<Instant>,
    /// A hint said that this may have changed.
    due_changed: bool,
    /// This queue has delayed items now and then.
    delays: bool,
    /// The server has shown that it lets us claim.
    opened: bool,
    /// Shut down, and nothing is due later.
    shut: bool,
    poked: bool,
    bounded: bool,
    /// The items that are held are being given back.
    leaving: bool,
    beat_at: Instant,
    reap_at: Instant,
    /// A getter asked for an item since the last reaping.
    called: bool,
    /// A claim waits at the server.
    at_server: bool,
    /// A claim has waited there for long.
    waited: bool,
    /// The failure that keeps items away just now.
    trouble: Option<Error>,
    used: Instant,
}

impl Consumer {
    pub(super) fn new(
        keys: Keys,
        sequence: Arc<AtomicU32>,
        dead_letter_log: Arc<DeadLetterLog>,
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
            moving: Arc::default(),
            extending: tokio::sync::Mutex::default(),
            state: Mutex::new(state),
            stage: watch::Sender::new(Stage::Open),
            log_once: LogOnce::default(),
            looked: Looked::default(),
            dead_letter_log,
        }
    }

    /// Whether it serves handles with these options.
    pub(super) fn serves(&self, spec: &QueueSpec) -> bool {
        self.lease == clamped(spec.lease) && self.keys.policy() == Policy::from(spec)
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Says what the log may be told of this queue.
    pub(super) fn log_once(&self) -> &LogOnce {
        &self.log_once
    }

    /// Where it has looked for what was left with nobody.
    pub(super) fn looked(&self) -> &Looked {
        &self.looked
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

    /// Whether what is held is being given back, or was.
    pub(super) fn is_leaving(&self) -> bool {
        self.has_left(&self.lock())
    }

    fn has_left(&self, state: &State) -> bool {
        state.leaving || *self.stage.borrow() == Stage::Closed
    }

    /// Says that it has ended; returns the settlements that came too late.
    pub(super) fn end(&self) -> Vec<PendingSettlement> {
        let mut state = self.lock();
        self.stage.send_replace(Stage::Closed);
        state.outstanding.tell_uncertain(&self.closed_unanswered());
        state.outstanding.take_all()
    }

    /// Returns when something has changed that the claimer should look at.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Held while items are moved on the commands' connection.
    pub(super) async fn moving(&self) -> RwLockReadGuard<'_, ()> {
        self.moving.read().await
    }

    /// The same for the claimer, which need not wait: nobody else keeps things still.
    pub(super) fn moving_at_once(&self) -> OwnedRwLockReadGuard<()> {
        let moving = Arc::clone(&self.moving).try_read_owned();
        moving.expect("only the claimer keeps things still, and does nothing else meanwhile")
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
            // Listen first, then look: the news could come in between.
            told.as_mut().enable();
            if self.lock().is_calm() || timeout_at(until, told).await.is_err() {
                return;
            }
        }
    }

    /// Whether the server has said what there is, for a getter whose time is up; an answer that is on its way
    /// gets a moment of grace. A server that says nothing is no empty queue.
    pub(super) async fn has_answered(&self) -> bool {
        let until = Instant::now() + ROUND_TRIP;
        loop {
            let mut told = std::pin::pin!(self.calmed.notified());
            // Listen first, then look: the news could come in between.
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
}

impl State {
    fn new(epoch: Epoch, priorities: bool) -> Self {
        let now = Instant::now();
        Self {
            getters: Getters::default(),
            epochs: Epochs::new(epoch, priorities),
            outstanding: Outstanding::default(),
            extensions: Vec::new(),
            shown: VecDeque::new(),
            show_at: None,
            doubts: Vec::new(),
            clock: None,
            due_at: None,
            due_changed: false,
            delays: false,
            opened: false,
            shut: false,
            poked: false,
            bounded: false,
            leaving: false,
            beat_at: now,
            reap_at: now,
            called: false,
            at_server: false,
            waited: false,
            trouble: None,
            used: now,
        }
    }

    fn is_calm(&self) -> bool {
        !self.claims_for_nobody() && !self.outstanding.are_being_sent()
    }

    fn has_answered(&self) -> bool {
        self.trouble.is_some() || self.opened && !self.claims_for_nobody()
    }

    fn claims_for_nobody(&self) -> bool {
        self.at_server && self.getters.nobody_waits()
    }
}

fn next_epoch(sequence: &AtomicU32) -> Epoch {
    Epoch::new(sequence.fetch_add(1, Ordering::Relaxed))
}

/// A lease that clocks can hold; one of nothing would be over before it begins.
fn clamped(lease: Duration) -> Duration {
    lease.clamp(Duration::from_millis(1), LONGEST)
}
