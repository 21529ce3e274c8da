//! The bell by which a sleeper is woken: no ring is lost, and one that need wake nobody costs no
//! system call.
//!
//! The invariant: whoever rings has put into place before what the sleeper is to find, and the
//! sleeper looks for it between [`drowse`](Bell::drowse) and its sleep. So either the sleeper finds
//! it, or the number on which it sleeps has changed, or whoever rings sees that it sleeps. It knows
//! nothing of memory and system calls: `tests/models` runs it in every order of events.

use crate::sync::{AtomicU32, Ordering};

/// A bell: how often it was rung, and whether somebody sleeps beside it.
pub(crate) struct Bell<'a> {
    rung: &'a AtomicU32,
    asleep: &'a AtomicU32,
}

impl<'a> Bell<'a> {
    pub(crate) fn new(rung: &'a AtomicU32, asleep: &'a AtomicU32) -> Self {
        Self { rung, asleep }
    }

    /// Makes ready to sleep: from now on whoever rings wakes us. Says at which number to sleep.
    pub(crate) fn drowse(&self) -> u32 {
        // Before the look that follows, as a ring is behind what it tells of: of these two and the
        // two of `ring`, one sees the other.
        self.asleep.store(1, Ordering::SeqCst);
        self.rung.load(Ordering::SeqCst)
    }

    /// Does not sleep after all.
    pub(crate) fn rise(&self) {
        self.asleep.store(0, Ordering::SeqCst);
    }

    /// Rings; `wake` is to wake one who sleeps at the number.
    pub(crate) fn ring(&self, wake: impl FnOnce(&AtomicU32)) {
        self.rung.fetch_add(1, Ordering::SeqCst);
        if self.asleep.swap(0, Ordering::SeqCst) == 1 {
            wake(self.rung);
        }
    }
}
