//! Who drives a bus's runtime: its I/O thread or, in a row of short operations, the thread that waits.
//!
//! A hand-over between two threads costs more than what most operations do, so a thread that makes
//! one call after the other drives the runtime itself, as long as nothing else wants to be served
//! meanwhile; and so does one that answers one call after the other, if all that can arrive is for it.
//! Nobody needs to be told of its end: the I/O thread, standing aside, comes back by itself within a
//! tick. It decides who drives; it runs nothing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long the runtime may rest undriven, and how close upon one another operations come that are
/// a row.
const TICK: Duration = Duration::from_millis(1);
/// How long the I/O thread stays when it was called back, so that two threads that work in turns do
/// not send it away and fetch it all the time.
const STAY: Duration = Duration::from_millis(20);

/// Taken by one at a time.
#[derive(Debug)]
pub(crate) struct IoDriver {
    state: Mutex<State>,
    /// Calls the I/O thread back.
    back: Condvar,
    /// Sends it away.
    away: Notify,
    /// Says that it has gone.
    gone: Condvar,
}

#[derive(Debug)]
struct State {
    /// Whether the I/O thread stands aside.
    aside: bool,
    /// Whether a waiting thread drives.
    taken: bool,
    /// How often one did.
    turns: u64,
    /// What needs the I/O thread: operations that wait, the end.
    needs: usize,
    /// From where something may arrive at any time.
    sources: usize,
    /// Whether it is to come back, standing aside.
    called: bool,
    /// When the last operation that somebody waited for was over.
    over: Option<Instant>,
    /// Until when the I/O thread stays whatever happens.
    stay: Option<Instant>,
}

/// The right to drive, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a>(&'a IoDriver);

/// As long as it lives the I/O thread drives.
#[derive(Debug)]
pub(crate) struct Need(Arc<IoDriver>);

/// As long as it lives something may arrive: only who serves all that does may drive for long.
#[derive(Debug)]
pub(crate) struct Expecting(Arc<IoDriver>);

impl IoDriver {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            aside: false,
            taken: false,
            turns: 0,
            needs: 0,
            sources: 0,
            called: false,
            over: None,
            stay: None,
        };
        let (back, gone) = (Condvar::new(), Condvar::new());
        Arc::new(Self { state: Mutex::new(state), back, away: Notify::new(), gone })
    }

    /// The right to drive for the length of an operation, if nobody else needs it.
    pub(crate) fn take(&self) -> Option<Turn<'_>> {
        let mut state = self.lock();
        (state.aside && state.is_free()).then(|| self.begin_turn(&mut state))
    }

    /// The right to drive for whoever serves `sources` sources and waits for what arrives there, if
    /// there are no others; waits a moment for the I/O thread to step aside.
    pub(crate) fn take_to_serve(&self, sources: usize) -> Option<Turn<'_>> {
        let mut state = self.lock();
        let may = |state: &State| state.is_free() && state.sources == sources;
        if !may(&state) || state.stays(Instant::now()) {
            return None;
        }
        if !state.aside {
            self.away.notify_one();
            let waited = self.gone.wait_timeout_while(state, TICK, |state| !state.aside);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        (state.aside && may(&state)).then(|| self.begin_turn(&mut state))
    }

    fn begin_turn(&self, state: &mut State) -> Turn<'_> {
        state.taken = true;
        Turn(self)
    }

    /// Has the I/O thread drive from now on.
    pub(crate) fn need(self: &Arc<Self>) -> Need {
        let mut state = self.lock();
        state.needs += 1;
        self.call_back(&mut state);
        Need(Arc::clone(self))
    }

    /// Notes that from now on something may arrive.
    pub(crate) fn expect(self: &Arc<Self>) -> Expecting {
        let mut state = self.lock();
        state.sources += 1;
        self.call_back(&mut state);
        Expecting(Arc::clone(self))
    }

    /// Has the I/O thread come back, to stay for a while.
    fn call_back(&self, state: &mut State) {
        if state.aside {
            state.called = true;
            state.stay = Some(Instant::now() + STAY);
            self.back.notify_one();
        }
    }

    /// Notes that an operation that began at `begun`, and that the I/O thread did, is over; if it
    /// was one of a row, the thread is not needed for the next.
    pub(crate) fn over(&self, begun: Instant) {
        let now = Instant::now();
        let mut state = self.lock();
        let last = state.over.replace(now);
        let is_row = last.is_some_and(|last| begun.saturating_duration_since(last) < TICK);
        if is_row && !state.stays(now) && !state.aside && state.is_free() && state.sources == 0 {
            self.away.notify_one();
        }
    }

    /// Waits, on the I/O thread, until it may step aside.
    pub(crate) async fn may_step_aside(&self) {
        self.away.notified().await;
    }

    /// Keeps the I/O thread aside until it is needed, or nobody has driven for a tick.
    pub(crate) fn stand_aside(&self) {
        let mut state = self.lock();
        (state.aside, state.called) = (true, false);
        self.gone.notify_all();
        while state.needs == 0 && !state.called {
            let turns = state.turns;
            let waited = self.back.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if !state.taken && state.turns == turns {
                break;
            }
        }
        state.aside = false;
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether nobody drives who waits, and nothing needs the I/O thread to.
    fn is_free(&self) -> bool {
        !self.taken && self.needs == 0
    }

    fn stays(&self, now: Instant) -> bool {
        self.stay.is_some_and(|stay| now < stay)
    }
}

impl Turn<'_> {
    /// Ends it and has the I/O thread come back at once, though not to stay.
    pub(crate) fn give_back(self) {
        let mut state = self.0.lock();
        state.called = true;
        self.0.back.notify_one();
    }

    /// The same, and the I/O thread stays for a while.
    pub(crate) fn give_up(self) {
        self.0.call_back(&mut self.0.lock());
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.taken = false;
        state.turns += 1;
        state.over = Some(Instant::now());
    }
}

impl Drop for Need {
    fn drop(&mut self) {
        self.0.lock().needs -= 1;
    }
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.0.lock().sources -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_a_row(io_driver: &IoDriver) {
        let begun = Instant::now();
        io_driver.over(begun);
        io_driver.over(begun);
    }

    #[test]
    fn the_io_thread_drives_until_it_steps_aside() {
        let io_driver = IoDriver::new();
        assert!(io_driver.take().is_none());
        in_a_row(&io_driver);
        assert!(io_driver.take().is_none(), "it was only asked to");
        io_driver.lock().aside = true;
        let turn = io_driver.take().expect("nobody drives");
        assert!(io_driver.take().is_none(), "one at a time");
        drop(turn);
        assert!(io_driver.take().is_some());
    }

    #[test]
    fn nobody_takes_what_others_need() {
        let io_driver = IoDriver::new();
        io_driver.lock().aside = true;
        let need = io_driver.need();
        assert!(io_driver.take().is_none());
        drop(need);
        assert!(io_driver.take().is_some());
    }

    #[test]
    fn the_io_thread_comes_back_by_itself_and_when_it_is_needed() {
        let io_driver = IoDriver::new();
        io_driver.stand_aside();
        assert!(!io_driver.lock().aside, "nobody drove for a tick");
        let _need = io_driver.need();
        io_driver.stand_aside();
        assert!(!io_driver.lock().aside);
    }

    #[test]
    fn a_row_sends_the_io_thread_away_unless_it_was_just_called_back() {
        let sent_away = |io_driver: &IoDriver| {
            let mut asked = std::pin::pin!(io_driver.may_step_aside());
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            asked.as_mut().poll(&mut context).is_ready()
        };
        let io_driver = IoDriver::new();
        in_a_row(&io_driver);
        assert!(sent_away(&io_driver));
        io_driver.lock().aside = true;
        drop(io_driver.need());
        io_driver.lock().aside = false;
        in_a_row(&io_driver);
        assert!(!sent_away(&io_driver), "it stays for a while");
    }
}
