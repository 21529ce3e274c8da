//! One connection's way to the shared file, and what it does there for itself.
//!
//! The invariant: whoever is stopped while it has the lock of the bus delays others for as long as they
//! are willing to wait. Locks are taken in this order: the post, the bus, what is local.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::heap::{At, Heap};
use super::layout::{GENERATION, KEPT, MEMBERS, PEERS, QUEUES, SLOTS, beacon, beat, bell};
use super::local::{self, Local, Piece};
use super::locks::Lock;
use super::mapping::Memory;
use super::peers::{self, Death, Step};
use super::place::Place;
use super::routes::Routes;
use super::system::{awake, forks, now};
use super::turn::{Aftermath, PATIENCE, Turn, held};
use super::{items, lines, shelves, topics, watches};
use crate::error::{Error, ErrorKind, Result};
use crate::name::shortened;
use crate::transport::obituaries::Obituaries;
use crate::transport::{Answer, Sender, State, StateSetter, answer, pending};

/// How long an operation waits on its thread for the lock, before it lets others use the thread.
const BRIEF: Duration = Duration::from_millis(2);
/// How long a drop, which cannot wait without a thread, does.
const DROPPING: Duration = Duration::from_millis(20);
/// How often a lock that is not free is asked for again.
const AGAIN: Duration = Duration::from_millis(2);
/// How much post is taken at once, in bytes.
const HANDFUL: u64 = 256 << 10;

/// One connection.
pub(super) struct Hub {
    memory: Memory,
    place: Place,
    /// Another number tells that this process is a child of the one that connected.
    forks: u32,
    slot: u64,
    pub(super) peer: At,
    ending: AtomicBool,
    deleted: AtomicBool,
    /// Whether its thread sleeps for longer than one that holds items may.
    dozes: AtomicBool,
    lapsed: AtomicU64,
    /// Held while post is taken and given out, so that it is given out in order.
    post: Mutex<()>,
    local: Mutex<Local>,
    routes: Routes,
    backlog: Mutex<Vec<Job>>,
    obituaries: Arc<Obituaries>,
    pub(super) state: StateSetter,
}

/// What a connection has to do with queues.
pub(super) enum Busy {
    Holding,
    Waiting,
    Idle,
}

/// What waits to be done when the lock is free.
type Job = Box<dyn FnOnce(&Hub) + Send>;

impl Hub {
    /// Joins the bus; on the thread that lives as long as the connection, since its life is what
    /// others see.
    pub(super) fn join(place: Place, state: StateSetter) -> Result<Self> {
        let forks = forks();
        loop {
            let memory = place.open()?;
            let Some(turn) = Turn::take(&memory, PATIENCE) else {
                memory.check()?;
                return Err(held(&memory, "connect", "ipc://"));
            };
            if memory.is_deleted() {
                // Its last user has gone, and taken it along, between our two looks.
                continue;
            }
            let mut after = Aftermath::default();
            // Whoever died without anybody to notice leaves the slot to us.
            turn.step(&mut after, |step| {
                for slot in peers::slots(step) {
                    let peer = peers::in_slot(step, slot);
                    step.lives(peer);
                }
                Ok(())
            })?;
            let slot = free_slot(&memory)?;
            let peer = turn.step(&mut after, |step| peers::join(step, slot));
            let peer = peer.inspect_err(|_| memory.unlock(beacon(slot)))?;
            turn.moved();
            let first = peers::in_ring(&Heap::new(&memory), 0);
            drop(turn);
            // It is to watch over us now.
            peers::ring(&memory, &[first]);
            return Ok(Self {
                memory,
                place,
                forks,
                slot,
                peer,
                ending: AtomicBool::new(false),
                deleted: AtomicBool::new(false),
                dozes: AtomicBool::new(false),
                lapsed: AtomicU64::new(0),
                post: Mutex::default(),
                local: Mutex::default(),
                routes: Routes::default(),
                backlog: Mutex::default(),
                obituaries: Arc::default(),
                state,
            });
        }
    }

    /// Fails once this connection cannot be used any more.
    pub(super) fn check_open(&self, operation: &'static str, object: &str) -> Result<()> {
        if self.ending.load(Ordering::Acquire) {
            return Err(Error::closed(operation, shortened(object)));
        }
        if self.is_parents() {
            let why = "this bus belongs to the parent process; connect a new one after fork";
            return Err(Error::new(ErrorKind::Closed, operation, shortened(object), why));
        }
        if self.deleted.load(Ordering::Relaxed) {
            let why = "the file of this bus was deleted; connect a new one";
            return Err(Error::new(ErrorKind::Connection, operation, shortened(object), why));
        }
        Ok(())
    }

    /// Whether this process is a fork of the one that connected.
    fn is_parents(&self) -> bool {
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
        self.check_open(operation, object)?;
        let Some(turn) = Turn::take(&self.memory, patience) else {
            return self.memory.check().map(|()| None);
        };
        let (mut after, mut lapsed) = (Aftermath::default(), false);
        // Again, since whoever ends this connection says so before it takes the lock.
        let done = self.check_open(operation, object).and_then(|()| {
            if peers::in_slot(&Heap::new(&self.memory), self.slot) != self.peer {
                let why = "others took this connection for dead; connect a new one";
                return Err(Error::new(ErrorKind::Connection, operation, shortened(object), why));
            }
            lapsed = self.forget_lapsed();
            turn.step(&mut after, work)
        });
        drop(turn);
        if lapsed {
            tracing::warn!("this process did not run for longer than its leases lasted");
        }
        self.see_to(after);
        done.map(Some)
    }

    /// Looks, under the lock, whether leases were taken from us while we did not run.
    fn forget_lapsed(&self) -> bool {
        let heap = Heap::new(&self.memory);
        let lapsed = heap.get(self.peer + peers::LAPSED);
        let news = self.lapsed.swap(lapsed, Ordering::Relaxed) != lapsed;
        if news {
            self.local().leases = items::leases_of(&heap, self.peer);
        }
        news
    }

    fn see_to(&self, after: Aftermath) {
        peers::ring(&self.memory, &after.called);
        for Death { queue, deliveries, failure, dropped } in after.deaths {
            self.obituaries.tell(&queue, deliveries, &failure, dropped);
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
        let tried = self.lock_backlog().is_empty().then(|| work(self, DROPPING));
        match tried {
            Some(Ok(true)) => true,
            // The connection is over, and with it what was to be done.
            Some(Err(_)) => false,
            Some(Ok(false)) | None => {
                let job = move |hub: &Self| drop(work(hub, PATIENCE));
                self.lock_backlog().push(Box::new(job));
                self.memory.ring(bell(self.slot));
                true
            }
        }
    }

    fn lock_backlog(&self) -> MutexGuard<'_, Vec<Job>> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what waited for the lock.
    pub(super) fn catch_up(&self) {
        let jobs = std::mem::take(&mut *self.lock_backlog());
        jobs.into_iter().for_each(|job| job(self));
    }

    pub(super) fn local(&self) -> MutexGuard<'_, Local> {
        local::lock(&self.local)
    }

    /// Who listens to a topic. Under the lock of the bus, where it is not known.
    pub(super) fn route(&self, step: &Step<'_>, topic: &str) -> Arc<[topics::Target]> {
        self.routes.to(topic, self.memory.load(GENERATION), || topics::find(step, topic).into())
    }

    /// Whether it is known, without the lock, that nobody listens to a topic.
    pub(super) fn is_unheard(&self, topic: &str) -> bool {
        self.routes.is_unheard(topic, self.memory.load(GENERATION))
    }

    /// Takes post out and gives it to its mailboxes, up to about `most` bytes, and does `more` in the
    /// same step. Says whether there is still some; `None` if the lock was not free.
    pub(super) fn take_post(
        &self,
        patience: Duration,
        most: u64,
        more: impl FnOnce(&mut Step<'_>) -> Result<()>,
    ) -> Result<Option<bool>> {
        let _in_order = self.post.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pieces = Vec::new();
        let left = self.attempt(patience, "receive", "ipc://", |step| {
            let mut last = (0, Bytes::new());
            peers::take_post(step, self.peer, most, |heap, post| {
                pieces.push(Piece::read(heap, post, &mut last));
            })?;
            more(step)?;
            Ok(peers::has_post(step, self.peer))
        })?;
        if left.is_some() {
            pieces.into_iter().for_each(|piece| piece.give_out(&self.local));
        }
        Ok(left)
    }

    /// Takes what lies there for it, then ends a subscription. Says whether the lock was free.
    pub(super) fn unsubscribe(&self, number: u64, patience: Duration) -> Result<bool> {
        let Some(at) = self.local().subscriptions.get(&number).map(|found| found.at) else {
            return Ok(true);
        };
        let ended = self.take_post(patience, u64::MAX, |step| topics::end(step, at))?;
        if ended.is_some() {
            self.local().subscriptions.remove(&number);
        }
        Ok(ended.is_some())
    }

    /// Ends what is watched over under a number. Says whether the lock was free.
    pub(super) fn unwatch(&self, number: u64, patience: Duration) -> Result<bool> {
        self.local().endings.remove(&number);
        let ended = self
            .attempt(patience, "watch", "ipc://", |step| watches::end(step, self.peer, number))?;
        Ok(ended.is_some())
    }

    /// Notes that something is due at a queue where somebody waits.
    pub(super) fn note_due(&self, queue: &str, due: Option<u64>) {
        let mut local = self.local();
        let Some(due) = due else {
            local.dues.remove(queue);
            return;
        };
        let earlier = local.dues.values().min().is_none_or(|first| due < *first);
        local.dues.insert(queue.into(), due);
        drop(local);
        if earlier {
            self.memory.ring(bell(self.slot));
        }
    }

    /// Sleeps until somebody rings, something is due, whoever is in the slot `over` is gone, or `most`
    /// has passed; not if there is work, or others are there than `members` says. Says whether the one
    /// in that slot is gone.
    pub(super) fn sleep(&self, most: Duration, members: u64, over: Option<u64>) -> bool {
        let (memory, bell) = (&self.memory, bell(self.slot));
        let since = memory.drowse(bell);
        let work = peers::has_post(&Heap::new(memory), self.peer)
            || !self.lock_backlog().is_empty()
            || self.members() != members
            || self.is_ending();
        if work {
            memory.rise(bell);
            return false;
        }
        let due = self.local().dues.values().min().copied();
        let left = due.map(|due| Duration::from_nanos(due.saturating_sub(now())));
        let most = left.map_or(most, |left| left.min(most));
        memory.sleep(bell, since, over.map(beacon), most)
    }

    /// Says that its thread sleeps for long from now on, or does not; what was so before.
    pub(super) fn doze(&self, dozes: bool) -> bool {
        self.dozes.swap(dozes, Ordering::SeqCst)
    }

    /// Shows that it runs, where its thread does not do so often enough for one that takes items; in the
    /// step that takes them.
    pub(super) fn show_life(&self) {
        if self.dozes.load(Ordering::SeqCst) {
            self.memory.store(beat(self.slot), awake());
        }
    }

    /// Notes that it holds items: from now on its thread shows that it runs.
    pub(super) fn hold(&self, items: impl IntoIterator<Item = (u64, At)>) {
        self.local().leases.extend(items);
        if self.doze(false) {
            self.memory.ring(bell(self.slot));
        }
    }

    pub(super) fn busy(&self) -> Busy {
        let local = self.local();
        match (local.leases.is_empty(), local.bells.is_empty()) {
            (false, _) => Busy::Holding,
            (true, false) => Busy::Waiting,
            (true, true) => Busy::Idle,
        }
    }

    /// A number that changes when somebody comes or goes.
    pub(super) fn members(&self) -> u64 {
        self.memory.load(MEMBERS)
    }

    /// Lines up what is due by now, where somebody of ours waits for it.
    pub(super) fn ripen(&self) {
        let now = now();
        let mut local = self.local();
        let due: Vec<Box<str>> = local
            .dues
            .iter()
            .filter(|(_, due)| **due <= now)
            .map(|(queue, _)| queue.clone())
            .collect();
        local.dues.retain(|_, due| *due > now);
        drop(local);
        for queue in due {
            let next = self.attempt(BRIEF, "claim", &queue, |step| {
                let found = shelves::named(step, &queue);
                if found == 0 {
                    return Ok(None);
                }
                shelves::ripen(step, found)?;
                Ok(shelves::next_due(step, found))
            });
            match next {
                Ok(Some(Some(next))) => self.note_due(&queue, Some(next)),
                // The lock was not free; soon.
                Ok(None) => self.note_due(&queue, Some(now + 1_000_000)),
                _ => {}
            }
        }
    }

    /// Looks who has died, and after those who wait: what makes up for every bell that nobody heard.
    /// Says in which slot the one is whom this connection watches over; `None` if the lock was not free.
    pub(super) fn look_around(&self) -> Option<Option<u64>> {
        self.memory.store(beat(self.slot), awake());
        if self.memory.is_deleted() && !self.deleted.swap(true, Ordering::Relaxed) {
            self.state.set(State::away("the file of this bus was deleted"));
            self.wake_all();
        }
        let looked = self.attempt(BRIEF, "tick", "ipc://", |step| {
            for slot in peers::slots(step) {
                let peer = peers::in_slot(step, slot);
                if peer != self.peer && step.lives(peer) {
                    peers::look_whether_it_runs(step, slot)?;
                }
            }
            super::addresses::expire(step)?;
            step.cool()?;
            lines::look_after(step, self.peer)?;
            let before = peers::in_ring(step, self.peer);
            Ok((before != self.slot).then_some(before))
        });
        looked.unwrap_or_else(|error| {
            tracing::debug!(%error, "a look at the other connections failed");
            Some(None)
        })
    }

    /// Takes what is in the post now. Says whether there was any left.
    pub(super) fn receive(&self) -> bool {
        self.take_post(BRIEF, HANDFUL, |_| Ok(())).is_ok_and(|left| left == Some(true))
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
            self.memory.ring(bell(self.slot));
        }
    }

    fn wake_all(&self) {
        let bells: Vec<_> = self.local().bells.values().cloned().collect();
        bells.iter().for_each(|bell| bell.notify_one());
    }

    /// Ends what this process keeps, and leaves the bus. When nothing is left on it, it is deleted.
    pub(super) fn leave(&self) {
        let local = std::mem::take(&mut *self.local());
        local.subscriptions.values().for_each(|subscribed| subscribed.sender.close());
        local.seats.values().for_each(Sender::close);
        local.bells.values().for_each(|bell| bell.notify_one());
        // Without the lock it is as if we had been killed, which others will see to.
        if let Some(turn) = Turn::take(&self.memory, PATIENCE) {
            let mut after = Aftermath::default();
            let gives_back = |step: &mut Step<'_>| match peers::in_slot(step, self.slot) {
                own if own == self.peer => peers::give_back(step, self.slot),
                _ => Ok(false),
            };
            while turn.step(&mut after, gives_back).is_ok_and(|more| more) {}
            let left = turn.step(&mut after, |step| {
                if peers::in_slot(step, self.slot) == self.peer {
                    peers::leave(step, self.slot)?;
                }
                super::addresses::expire(step)?;
                shelves::clear(step)?;
                Ok(PEERS.len(step) + QUEUES.len(step) + KEPT.len(step) == 0)
            });
            if left.as_ref().is_ok_and(|unused| *unused) {
                self.place.delete();
            }
            turn.moved();
            self.memory.unlock(beacon(self.slot));
            drop(turn);
            self.see_to(after);
        }
        self.state.set(State::Closed);
    }
}

/// A slot in which nobody is, its beacon lit by this thread.
fn free_slot(memory: &Memory) -> Result<u64> {
    let heap = Heap::new(memory);
    for slot in (0..SLOTS).filter(|slot| peers::in_slot(&heap, *slot) == 0) {
        match memory.lock(beacon(slot), Duration::ZERO) {
            Lock::Taken => return Ok(slot),
            Lock::Inherited => {
                memory.mend(beacon(slot));
                return Ok(slot);
            }
            Lock::Broken => {
                let made = memory.make_lock(beacon(slot)).is_ok();
                if made && memory.lock(beacon(slot), Duration::ZERO) == Lock::Taken {
                    return Ok(slot);
                }
            }
            Lock::Busy => {}
        }
    }
    Err(peers::full())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::super::Ipc;
    use super::*;
    use crate::transport::{Events, QueueSpec, Queues, Transport, Wait};

    #[tokio::test]
    async fn whoever_stops_with_the_lock_delays_others_within_their_timeouts_only() {
        let directory = format!("/dev/shm/pymq-held-{}", std::process::id());
        let url = format!("ipc://{directory}");
        let stopped = Ipc::connect(&url).await.expect("a bus");
        let other = Ipc::connect(&url).await.expect("a bus");
        let queue = Arc::new(QueueSpec::new("queue"));
        let (held, holds) = mpsc::channel();
        let (go_on, told) = mpsc::channel::<()>();
        let hub = Arc::clone(&stopped.hub);
        let thread = std::thread::spawn(move || {
            let turn = Turn::take(&hub.memory, PATIENCE).expect("the lock is free soon");
            held.send(()).expect("somebody waits");
            let _ = told.recv();
            drop(turn);
        });
        holds.recv().expect("it has the lock");
        let wait = Wait::at_most(Duration::from_millis(50));
        let late = other.claim(&queue, 1, wait).await.expect_err("nothing can be known");
        assert_eq!(late.kind(), ErrorKind::Connection);
        let own = format!("process {} has the bus", std::process::id());
        assert!(late.message().starts_with(&own), "{late}");
        let full = other.push(&queue, vec![Bytes::new()], Wait::No.into()).await;
        assert_eq!(full.expect_err("it cannot be put").kind(), ErrorKind::Connection);
        // What waits as long as it takes goes on when the other does.
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                let put = other.push(&queue, vec![Bytes::new()], Wait::Forever.into()).await;
                put.map(|_| other)
            }
        });
        tokio::task::yield_now().await;
        go_on.send(()).expect("it waits");
        let other = waiting.await.expect("no panic").expect("it was put");
        thread.join().expect("no panic");
        assert_eq!(other.stats(&queue).await.expect("stats").waiting, 1);
        assert_eq!(other.publish("topic", Bytes::new()).await.expect("published"), Some(0));
        let (one, two) = tokio::join!(stopped.close(), other.close());
        one.and(two).expect("closed");
        std::fs::remove_dir_all(directory).expect("it is there");
    }
}
