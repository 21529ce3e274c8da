//! One connection's way to the shared file, and what it does there for itself.
//!
//! The invariant: whoever is stopped while it has the lock of the bus delays others for as long as they
//! are willing to wait. Locks are taken in this order: the post, the bus, the connection's recipients.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::bus_directory::BusDirectory;
use super::bus_lock::{Aftermath, BusLock, PATIENCE, held};
use super::doorbell::Doorbells;
use super::heap::{At, Heap};
use super::layout::{GENERATION, beacon, bell};
use super::mapping::Memory;
use super::peers::{self, Death, Step};
use super::recipients::{self, Recipients};
use super::routes::Routes;
use super::system::forks;
use super::{items, topics, watches};
use crate::error::{Error, ErrorKind, Result};
use crate::name::shortened;
use crate::transport::dead_letter_log::DeadLetterLog;
use crate::transport::{Answer, StateSetter, answer, pending};

mod listener;
mod membership;
mod post;
mod vigil;

pub(super) use listener::listen;
pub(super) use vigil::Busy;

/// How long an operation waits on its thread for the lock, before it lets others use the thread.
const BRIEF: Duration = Duration::from_millis(2);
/// How long a drop, which cannot wait without a thread, does.
const DROPPING: Duration = Duration::from_millis(20);
/// How often a lock that is not free is asked for again.
const AGAIN: Duration = Duration::from_millis(2);

const TAKEN_FOR_DEAD: &str = "others took this connection for dead";

/// One connection.
pub(super) struct Hub {
    memory: Memory,
    place: BusDirectory,
    /// Another number tells that this process is a child of the one that connected.
    forks: u32,
    slot: u64,
    pub(super) peer: At,
    /// The thread by whose life others see that this connection lives.
    thread: u32,
    ending: AtomicBool,
    /// Why it is no connection any more, once that has turned out.
    lost: OnceLock<&'static str>,
    /// Whether its thread sleeps for longer than one that holds items may.
    dozes: AtomicBool,
    lapsed: AtomicU64,
    /// Whether the runtime of the program takes the post; else the thread does.
    attended: AtomicBool,
    doorbells: Doorbells,
    /// Held while post is taken and given out, so that it is given out in order.
    post: Mutex<()>,
    recipients: Mutex<Recipients>,
    routes: Routes,
    backlog: Mutex<Backlog>,
    /// Held while what waited for the lock is done.
    catching_up: Mutex<()>,
    dead_letter_log: Arc<DeadLetterLog>,
    pub(super) state: StateSetter,
}

/// What waits to be done when the lock is free; says whether it was.
type Job = Box<dyn Fn(&Hub) -> Result<bool> + Send>;

/// What waits to be done when the lock is free.
#[derive(Default)]
struct Backlog {
    jobs: Vec<Job>,
    /// The connection leaves: nothing is taken in any more.
    over: bool,
}

impl Hub {
    /// Fails once this connection cannot be used any more.
    pub(super) fn check_open(&self, operation: &'static str, object: &str) -> Result<()> {
        if self.ending.load(Ordering::Acquire) {
            return Err(Error::closed(operation, shortened(object)));
        }
        self.check_there(operation, object)
    }

    /// The same for what may still be done while it ends: what [`soon`](Self::soon) does, which alone is
    /// sure to come before the connection leaves.
    pub(super) fn check_there(&self, operation: &'static str, object: &str) -> Result<()> {
        if self.is_parents() {
            let why = "this bus belongs to the parent process; connect a new one after fork";
            return Err(Error::new(ErrorKind::Closed, operation, shortened(object), why));
        }
        self.memory.check().map_err(|error| error.of(operation, shortened(object)))?;
        if let Some(why) = self.lost.get() {
            let why = format!("{why}; connect a new one");
            return Err(Error::new(ErrorKind::Connection, operation, shortened(object), why));
        }
        Ok(())
    }

    /// Whether this process is a fork of the one that connected.
    pub(super) fn is_parents(&self) -> bool {
        forks() != self.forks
    }

    /// Does one step, waiting so long for the lock; `None` if it was not free.
    pub(super) fn attempt<T>(
        &self,
        patience: Duration,
        operation: &'static str,
        object: &str,
        work: impl FnOnce(&mut Step<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        self.attempt_while(Self::check_open, patience, operation, object, work)
    }

    /// The same for as long as `check` allows it.
    pub(super) fn attempt_while<T>(
        &self,
        check: impl Fn(&Self, &'static str, &str) -> Result<()>,
        patience: Duration,
        operation: &'static str,
        object: &str,
        work: impl FnOnce(&mut Step<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        check(self, operation, object)?;
        let Some(turn) = BusLock::take(&self.memory, patience) else {
            let damaged = |error: Error| error.of(operation, shortened(object));
            return self.memory.check().map(|()| None).map_err(damaged);
        };
        let (mut after, mut lapsed, mut unseated) = (Aftermath::default(), false, false);
        // Again, since whoever ends this connection says so before it takes the lock.
        let done = check(self, operation, object).and_then(|()| {
            unseated = !self.is_seated();
            if unseated {
                let why = format!("{TAKEN_FOR_DEAD}; connect a new one");
                return Err(Error::new(ErrorKind::Connection, operation, shortened(object), why));
            }
            lapsed = self.forget_lapsed();
            turn.step(&mut after, work)
        });
        drop(turn);
        if unseated {
            self.lose(TAKEN_FOR_DEAD);
        }
        if lapsed {
            tracing::warn!("this process did not run for longer than its leases lasted");
        }
        self.see_to(after);
        let of_this = |error: Error| match self.memory.is_damaged() {
            true => error.of(operation, shortened(object)),
            false => error,
        };
        done.map(Some).map_err(of_this)
    }

    /// Whether this connection is still the one in its slot, under the lock. Its record's place alone does
    /// not tell: it may be another one's by now.
    fn is_seated(&self) -> bool {
        self.memory.is_held_by(beacon(self.slot), self.thread)
            && peers::in_slot(&Heap::new(&self.memory), self.slot) == self.peer
    }

    /// Looks, under the lock, whether leases were taken from us while we did not run.
    fn forget_lapsed(&self) -> bool {
        let heap = Heap::new(&self.memory);
        let lapsed = heap.get(self.peer + peers::LAPSED);
        let news = self.lapsed.swap(lapsed, Ordering::Relaxed) != lapsed;
        if news {
            self.recipients().leases = items::leases_of(&heap, self.peer);
        }
        news
    }

    fn see_to(&self, after: Aftermath) {
        self.doorbells.ring(&self.memory, &after.called);
        for Death { queue, deliveries, failure, dropped } in after.deaths {
            self.dead_letter_log.tell(&queue, deliveries, &failure, dropped);
        }
    }

    /// Does one step, at once where the lock is free.
    pub(super) fn run<'a, T: Send + 'a>(
        &'a self,
        operation: &'static str,
        object: &'a str,
        mut work: impl FnMut(&mut Step<'_>) -> Result<T> + Send + 'a,
    ) -> Answer<'a, T> {
        match self.attempt(BRIEF, operation, object, &mut work) {
            Ok(Some(done)) => answer(Ok(done)),
            Ok(None) => {
                pending(async move { self.insist(Some(PATIENCE), operation, object, work).await })
            }
            Err(error) => answer(Err(error)),
        }
    }

    /// Does one step, however long the lock takes, up to a limit if there is one.
    pub(super) async fn insist<T>(
        &self,
        limit: Option<Duration>,
        operation: &'static str,
        object: &str,
        mut work: impl FnMut(&mut Step<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let begun = Instant::now();
        let mut patience = BRIEF;
        loop {
            if let Some(done) = self.attempt(patience, operation, object, &mut work)? {
                return Ok(done);
            }
            if limit.is_some_and(|limit| begun.elapsed() >= limit) {
                return Err(held(&self.memory, operation, object));
            }
            tokio::time::sleep(AGAIN).await;
            patience = Duration::ZERO;
        }
    }

    /// Does something that nobody waits for: now, or as soon as the lock is free. Says whether that will
    /// be, if the connection lasts.
    pub(super) fn soon(
        &self,
        work: impl Fn(&Self, Duration) -> Result<bool> + Send + 'static,
    ) -> bool {
        // In a child others may hold what is locked here, who are not there.
        if self.is_parents() {
            return false;
        }
        let mut backlog = self.lock_backlog();
        if backlog.over {
            return false;
        }
        let tried = backlog.jobs.is_empty().then(|| work(self, DROPPING));
        match tried {
            Some(Ok(true)) => true,
            // The connection is over, and with it what was to be done.
            Some(Err(_)) => false,
            Some(Ok(false)) | None => {
                backlog.jobs.push(Box::new(move |hub: &Self| work(hub, PATIENCE)));
                self.memory.ring(bell(self.slot));
                true
            }
        }
    }

    fn lock_backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what waited for the lock; from the first on for which it is not free even now, it goes on
    /// waiting.
    pub(super) fn catch_up(&self) {
        let _one = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        let mut jobs = std::mem::take(&mut self.lock_backlog().jobs);
        let late = jobs.iter().position(|job| matches!(job(self), Ok(false)));
        jobs.drain(..late.unwrap_or(jobs.len()));
        let mut backlog = self.lock_backlog();
        jobs.append(&mut backlog.jobs);
        backlog.jobs = jobs;
    }

    /// Does what still waits for the lock, before the connection leaves; takes in nothing from then on.
    fn finish_backlog(&self) {
        let _one = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        let mut late = false;
        loop {
            let mut backlog = self.lock_backlog();
            // Without the lock it is as if we had been killed.
            backlog.over = late || backlog.jobs.is_empty();
            let jobs = std::mem::take(&mut backlog.jobs);
            if backlog.over {
                return;
            }
            drop(backlog);
            late = jobs.iter().any(|job| matches!(job(self), Ok(false)));
        }
    }

    pub(super) fn recipients(&self) -> MutexGuard<'_, Recipients> {
        recipients::lock(&self.recipients)
    }

    /// Who subscribes to a topic. Under the lock of the bus, where it is not known.
    pub(super) fn route(&self, step: &Step<'_>, topic: &str) -> Arc<[topics::Target]> {
        self.routes.to(topic, self.memory.load(GENERATION), || topics::find(step, topic).into())
    }

    /// Whether it is known, without the lock, that nobody subscribes to a topic.
    pub(super) fn is_unheard(&self, topic: &str) -> bool {
        self.routes.is_unheard(topic, self.memory.load(GENERATION))
    }

    /// Ends what is watched over under a number. Says whether the lock was free.
    pub(super) fn unwatch(&self, number: u64, patience: Duration) -> Result<bool> {
        self.recipients().endings.remove(&number);
        let ended = self
            .attempt(patience, "watch", "ipc://", |step| watches::end(step, self.peer, number))?;
        Ok(ended.is_some())
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Begins the end; the thread of the connection does the rest.
    pub(super) fn end(&self) {
        if self.is_parents() {
            return;
        }
        if !self.ending.swap(true, Ordering::AcqRel) {
            self.wake_all();
            self.doorbells.within.notify_one();
            self.memory.ring(bell(self.slot));
        }
    }

    fn wake_all(&self) {
        let bells: Vec<_> = self.recipients().bells.values().cloned().collect();
        bells.iter().for_each(|bell| bell.notify_one());
    }
}
