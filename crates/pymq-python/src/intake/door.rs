//! The door of an intake: sources knock when they have something, and a reader waits until one does.
//!
//! Readers are threads that wait, event loops that watch a descriptor, or a thread that drives the
//! runtime meanwhile. It knows sources by their numbers only.

use std::io;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use super::Bell;
use super::primitives::{Condvar, Mutex, MutexGuard, PoisonError};

/// Where sources say that they have something, and where readers wait for one to say so.
#[derive(Default)]
pub(crate) struct Door {
    state: Mutex<AtDoor>,
    opened: Condvar,
    bell: OnceLock<Bell>,
}

#[derive(Default)]
struct AtDoor {
    knocked: Vec<u64>,
    /// Whether the last one who took something left something.
    left: bool,
    closed: bool,
    ringing: bool,
    /// Wakes a reader that drives instead of waiting here.
    driver: Option<Waker>,
}

impl AtDoor {
    fn is_open(&self) -> bool {
        self.closed || self.has_something()
    }

    fn has_something(&self) -> bool {
        self.left || !self.knocked.is_empty()
    }
}

impl Door {
    /// A source has something.
    pub(crate) fn knock(&self, number: u64) {
        let mut state = self.lock();
        state.knocked.push(number);
        self.open(state);
    }

    /// Those that have knocked since this was last asked.
    pub(crate) fn knocked(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().knocked)
    }

    pub(crate) fn has_something(&self) -> bool {
        self.lock().has_something()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// From now on nobody waits.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        self.ring(&mut state);
        let driver = state.driver.take();
        drop(state);
        self.opened.notify_all();
        driver.into_iter().for_each(Waker::wake);
    }

    /// Notes whether something was left for the next one.
    pub(crate) fn leave(&self, left: bool) {
        let mut state = self.lock();
        state.left = left;
        if state.is_open() {
            return self.open(state);
        }
        if std::mem::take(&mut state.ringing) {
            self.bell.get().into_iter().for_each(Bell::hush);
        }
    }

    fn open(&self, mut state: MutexGuard<'_, AtDoor>) {
        self.ring(&mut state);
        let driver = state.driver.take();
        drop(state);
        // A reader that drives is as good as one that waits.
        match driver {
            Some(driver) => driver.wake(),
            None => self.opened.notify_one(),
        }
    }

    /// Says that there may be something, or that it is closed.
    pub(crate) fn poll_open(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_open() {
            return Poll::Ready(());
        }
        state.driver = Some(context.waker().clone());
        Poll::Pending
    }

    /// Nobody drives any more who could be woken.
    pub(crate) fn forget_driver(&self) {
        self.lock().driver = None;
    }

    fn ring(&self, state: &mut AtDoor) {
        if let Some(bell) = self.bell.get()
            && !std::mem::replace(&mut state.ringing, true)
        {
            bell.ring();
        }
    }

    /// Waits until there may be something; says whether it is closed. `None` when the time is up.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Option<bool> {
        let mut state = self.lock();
        while !state.is_open() {
            let waited = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                None => self.opened.wait(state),
                Some(left) if left.is_zero() => return None,
                Some(left) => self
                    .opened
                    .wait_timeout(state, left)
                    .map(|(state, _)| state)
                    .map_err(|poisoned| PoisonError::new(poisoned.into_inner().0)),
            };
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Some(state.closed)
    }

    /// The descriptor, made when it is asked for first.
    pub(crate) fn bell(&self) -> io::Result<&Bell> {
        if let Some(bell) = self.bell.get() {
            return Ok(bell);
        }
        let made = Bell::new()?;
        let mut state = self.lock();
        let bell = self.bell.get_or_init(|| made);
        if state.is_open() {
            self.ring(&mut state);
        }
        Ok(bell)
    }

    fn lock(&self) -> MutexGuard<'_, AtDoor> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source's waker. It knows the door only, so that a mailbox which keeps it keeps no source.
pub(crate) struct Knock {
    pub(crate) number: u64,
    pub(crate) door: Arc<Door>,
}

impl Wake for Knock {
    fn wake(self: Arc<Self>) {
        self.door.knock(self.number);
    }
}
