//! Items that are due later, as far as a consumer knows of them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Consumer, State};

impl Consumer {
    /// Notes in what time the next item is due, and whether nothing can come any more.
    pub(crate) fn note_due(&self, next: Option<Duration>, over: bool) {
        let mut state = self.lock();
        state.due_at = next.and_then(|next| Instant::now().checked_add(next));
        state.delays |= next.is_some();
        state.shut = over;
    }

    /// Notes that an item was put that is due in some time.
    pub(crate) fn expect(&self, delay: Duration) {
        self.lock().expect(delay);
        self.changed.notify_one();
    }

    /// Notes what a claim that came back empty was told: twice 1 if the queue is shut down, 1 more if
    /// something is due later. Returns whether nothing can come any more.
    pub(crate) fn note_flags(&self, flags: i64) -> bool {
        let mut state = self.lock();
        state.shut = flags == 2;
        state.due_changed |= flags % 2 == 1 && state.due_at.is_none();
        state.shut
    }

    /// Whether something may be due that nobody has lined up.
    pub(crate) fn is_due(&self) -> bool {
        self.lock().is_due(Instant::now())
    }

    /// Whether this queue has items for later now and then.
    pub(crate) fn knows_delays(&self) -> bool {
        self.lock().delays
    }

    pub(crate) fn begin_lining_up(&self) {
        self.lock().due_changed = false;
    }
}

impl State {
    /// Notes that an item is due in some time.
    pub(super) fn expect(&mut self, delay: Duration) {
        self.delays = true;
        let due = Instant::now().checked_add(delay);
        self.due_at = self.due_at.into_iter().chain(due).min();
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_changed || self.due_at.is_some_and(|due| due <= now)
    }
}
