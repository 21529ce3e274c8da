//! The bell by which a sleeper is woken: no ring is lost, and one that need wake nobody costs no
//! system call.
//!
//! The invariant: one word holds both how often the bell was rung and, in its lowest bit, whether
//! somebody is about to sleep beside it. Every ring changes the word and takes the bit away, and only
//! while the word is what it was does anybody sleep: so a ring that comes late, for what was found long
//! ago, cannot take the bit of a sleeper that goes on sleeping. It knows nothing of memory and system
//! calls: `tests/models` runs it in every order of events.

use crate::sync::{AtomicU32, Ordering};

/// Somebody is about to sleep, or sleeps.
const ASLEEP: u32 = 1;
/// One ring.
const RING: u32 = 2;

/// A bell.
pub(crate) struct Bell<'a>(&'a AtomicU32);

impl<'a> Bell<'a> {
    pub(crate) fn new(word: &'a AtomicU32) -> Self {
        Self(word)
    }

    /// Makes ready to sleep: from now on whoever rings wakes us. Says at which number to sleep, once
    /// it was looked for what others may have put into place before.
    pub(crate) fn drowse(&self) -> u32 {
        self.0.fetch_or(ASLEEP, Ordering::SeqCst) | ASLEEP
    }

    /// Does not sleep after all.
    pub(crate) fn rise(&self) {
        self.0.fetch_and(!ASLEEP, Ordering::SeqCst);
    }

    /// Rings; `wake` is to wake one who sleeps at the number.
    pub(crate) fn ring(&self, wake: impl FnOnce(&AtomicU32)) {
        let mut before = self.0.load(Ordering::SeqCst);
        loop {
            let rung = (before & !ASLEEP).wrapping_add(RING);
            match self.0.compare_exchange(before, rung, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(now) => before = now,
            }
        }
        if before & ASLEEP != 0 {
            wake(self.0);
        }
    }
}
