//! Several sources read as one, in the order of arrival.
//!
//! A source at which something arrives says so once and is put, by the age of its oldest message, among
//! those that have something: all sources are never looked through. The oldest message is taken first,
//! wherever it lies, so that what one program sends over several sources stays in its order. What is
//! here knows no Python: `tests/models` runs it in any order of events.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::door::{Door, Knock};
use super::primitives::{Mutex, MutexGuard, PoisonError};
use super::{Bell, Stamp};

/// What can be read beside others.
pub(crate) trait Source {
    /// What is taken from it.
    type Item;

    /// The stamp of the oldest that is there; `None` when it has ended. While nothing is there, the
    /// waker is kept for what arrives next.
    fn poll_oldest(&self, context: &mut Context<'_>) -> Poll<Option<Stamp>>;

    /// Takes what is there and older than `before`, `limit` at most; never waits.
    fn drain(&self, before: Stamp, limit: usize) -> Vec<Self::Item>;
}

/// Several sources, and those who wait for what arrives at any of them.
pub(crate) struct Merged<S> {
    state: Mutex<State<S>>,
    door: Arc<Door>,
    /// Whether the last reader was given something and has not come back; written under the lock of the
    /// state, or by the one reader there is before it takes.
    in_hand: AtomicBool,
}

struct State<S> {
    /// By number; nothing where a source is still to come.
    attached: HashMap<u64, Option<Attached<S>>>,
    last: u64,
    /// Those that have something, by the stamp of the oldest.
    full: BinaryHeap<Reverse<(Stamp, u64)>>,
    /// Those that have ended and were not told of yet.
    ended: VecDeque<u64>,
}

struct Attached<S> {
    source: Arc<S>,
    waker: Waker,
}

/// One thing taken, and from where.
pub(crate) struct Taken<S: Source> {
    pub(crate) number: u64,
    pub(crate) source: Arc<S>,
    /// `None`: it has ended.
    pub(crate) item: Option<S::Item>,
}

impl<S> Default for Merged<S> {
    fn default() -> Self {
        let state = State {
            attached: HashMap::new(),
            last: 0,
            full: BinaryHeap::new(),
            ended: VecDeque::new(),
        };
        Self { state: Mutex::new(state), door: Arc::default(), in_hand: AtomicBool::new(false) }
    }
}

impl<S: Source> Merged<S> {
    /// The number of a source that is still to come.
    pub(crate) fn reserve(&self) -> u64 {
        self.lock().reserve()
    }

    /// Reads a source from now on, unless its number was given up.
    pub(crate) fn seat(&self, number: u64, source: &Arc<S>) {
        let mut state = self.lock();
        let Some(place) = state.attached.get_mut(&number) else { return };
        let waker = Waker::from(Arc::new(Knock { number, door: Arc::clone(&self.door) }));
        *place = Some(Attached { source: Arc::clone(source), waker });
        drop(state);
        self.door.knock(number);
    }

    /// Stops reading a source; what it had not given yet is gone, unless it is read elsewhere.
    pub(crate) fn detach(&self, number: u64) {
        let detached = self.lock().attached.remove(&number);
        drop(detached);
    }

    /// What was given last was dealt with.
    pub(crate) fn came_back(&self) {
        self.in_hand.store(false, Ordering::Relaxed);
    }

    /// Takes what is there; never waits.
    pub(crate) fn take(&self, limit: usize) -> Vec<Taken<S>> {
        // Drawn before the look at who has knocked: what is older than this has knocked, and so has all
        // that its sender had sent before, wherever that lies. What is newer waits for the next look.
        let horizon = Stamp::horizon();
        let mut state = self.lock();
        for number in self.door.knocked() {
            state.enlist(number);
        }
        let taken = state.take(limit, horizon);
        if !taken.is_empty() {
            self.in_hand.store(true, Ordering::Relaxed);
        }
        let left = !state.full.is_empty() || !state.ended.is_empty();
        self.door.leave(left);
        taken
    }

    /// Takes what is there as soon as there is something, or nothing once it is closed; `None` when
    /// the time is up.
    pub(crate) fn wait(&self, limit: usize, until: Option<Instant>) -> Option<Vec<Taken<S>>> {
        loop {
            let closed = self.door.wait(until)?;
            let taken = self.take(limit);
            if closed || !taken.is_empty() {
                return Some(taken);
            }
        }
    }

    /// Wakes whoever waits; from then on readers are given what is left, and then nothing.
    pub(crate) fn close(&self) {
        self.door.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.door.is_closed()
    }

    /// Whether nothing is there to be taken, and who was given something has come back.
    pub(crate) fn is_idle(&self) -> bool {
        // Taking needs this lock too: nothing is between the door and the hand.
        let _state = self.lock();
        !self.in_hand.load(Ordering::Relaxed) && !self.door.has_something()
    }

    /// How many sources are read here.
    pub(crate) fn seated(&self) -> usize {
        self.lock().attached.values().flatten().count()
    }

    /// Says that there may be something, or that it is closed; until then it wakes who asks last.
    pub(crate) fn poll_open(&self, context: &Context<'_>) -> Poll<()> {
        self.door.poll_open(context)
    }

    /// Nobody asks any more who could be woken.
    pub(crate) fn forget_driver(&self) {
        self.door.forget_driver();
    }

    /// Rings while there is something to take.
    pub(crate) fn bell(&self) -> io::Result<&Bell> {
        self.door.bell()
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Source> State<S> {
    fn reserve(&mut self) -> u64 {
        self.last += 1;
        self.attached.insert(self.last, None);
        self.last
    }

    /// Puts a source in its place among those that have something, or has it knock when it does.
    fn enlist(&mut self, number: u64) {
        let Some(Some(attached)) = self.attached.get(&number) else { return };
        match attached.source.poll_oldest(&mut Context::from_waker(&attached.waker)) {
            Poll::Ready(Some(stamp)) => self.full.push(Reverse((stamp, number))),
            Poll::Ready(None) => self.ended.push_back(number),
            Poll::Pending => {}
        }
    }

    fn take(&mut self, limit: usize, horizon: Stamp) -> Vec<Taken<S>> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && let Some(Reverse((oldest, number))) = self.full.peek().copied()
            && oldest < horizon
        {
            self.full.pop();
            let Some(Some(attached)) = self.attached.get(&number) else { continue };
            let source = Arc::clone(&attached.source);
            // All of this source that is older than the oldest of the others.
            let border =
                self.full.peek().map_or(horizon, |Reverse((stamp, _))| horizon.min(*stamp));
            let items = source.drain(border, limit - taken.len());
            taken.extend(items.into_iter().map(|item| {
                let source = Arc::clone(&source);
                Taken { number, source, item: Some(item) }
            }));
            self.enlist(number);
        }
        while taken.len() < limit
            && let Some(number) = self.ended.pop_front()
        {
            let Some(Some(ended)) = self.attached.remove(&number) else { continue };
            let source = ended.source;
            taken.push(Taken { number, source, item: None });
        }
        taken
    }
}
