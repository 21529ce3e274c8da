//! The locks in a mapped file, which the system takes from the dead.
//!
//! The invariant: a lock is one word: the number of the thread that has it, and two bits of the system's
//! robust futexes. The system is told of it before it is taken ([`robust`](super::robust)) and marks it
//! when that thread ends. Nothing else of the file is believed, so that a damaged lock is one that
//! nobody gives back. Whoever holds one for life shows by that that it lives.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::futex::{wait, wake};
use super::heap::At;
use super::mapping::Memory;
use super::robust::{Held, announce, retract};
use super::system::{is_thread, thread};

/// Which thread has the lock, whether it died with it, and whether anybody waits and is to be woken
/// when it is given back, or when its owner dies.
const THREAD: u32 = 0x3fff_ffff;
const DIED: u32 = 0x4000_0000;
pub(super) const WAITED_FOR: u32 = 0x8000_0000;

/// How long one who waits for a lock sleeps at a time: whoever was to wake it may be killed before.
const SLICE: Duration = Duration::from_millis(20);

/// What asking for a lock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// It is ours.
    Taken,
    /// It is ours, and its last owner died with it.
    Inherited,
    /// Somebody has it.
    Busy,
}

/// A beacon that is lit. If it is forgotten, it burns until its thread ends.
#[derive(Debug)]
pub(super) struct Light {
    at: At,
    held: Held,
}

/// Whether the thread that has a lock lives, by the lock's word.
pub(super) fn lives(word: u32) -> bool {
    word & THREAD != 0 && word & DIED == 0
}

impl Memory {
    /// Asks for a lock, for so long; not again by the thread that has it.
    pub(super) fn lock(&self, at: At, patience: Duration) -> Lock {
        let Some(word) = self.half(at) else { return Lock::Busy };
        if try_change(word, 0, thread()) { Lock::Taken } else { take(word, patience) }
    }

    /// Gives a lock back, on the thread that took it.
    pub(super) fn unlock(&self, at: At) {
        let Some(word) = self.half(at) else { return retract() };
        let before = word.swap(0, Ordering::SeqCst);
        retract();
        if before & WAITED_FOR != 0 {
            wake(word);
        }
    }

    /// Makes a lock free that nobody who lives has.
    pub(super) fn free_lock(&self, at: At) {
        self.half(at).into_iter().for_each(give_back);
    }

    /// Whether a living thread holds this lock.
    pub(super) fn is_held(&self, at: At) -> bool {
        self.half(at).is_some_and(|word| lives(word.load(Ordering::SeqCst)))
    }

    /// Whether this is the thread that holds this lock, as its number says.
    pub(super) fn is_held_by(&self, at: At, thread: u32) -> bool {
        let word = self.half(at).map_or(0, |word| word.load(Ordering::SeqCst));
        lives(word) && word & THREAD == thread
    }

    /// Whether a lock names an owner that is none, which the system never lets be; where everybody who
    /// uses it numbers threads as we do.
    pub(super) fn is_nobodys(&self, at: At) -> bool {
        self.half(at).is_some_and(|word| {
            let before = word.load(Ordering::SeqCst);
            // Again, since one that ends is marked before it is no thread any more.
            lives(before) && !is_thread(before & THREAD) && word.load(Ordering::SeqCst) == before
        })
    }

    /// Lights a beacon, if no living thread has; this one's from now on.
    pub(super) fn light(&self, at: At) -> Option<Light> {
        let word = self.half(at)?;
        let before = word.load(Ordering::SeqCst);
        if lives(before) {
            return None;
        }
        let held = Held::begin(word);
        if change(word, before, thread()) {
            return Some(Light { at, held });
        }
        held.end();
        None
    }

    /// Puts a beacon out, on the thread that lit it; not where it was taken for dead, and somebody else has
    /// lit it since.
    pub(super) fn put_out(&self, light: Light) {
        self.half(light.at).into_iter().for_each(give_back_own);
        light.held.end();
    }
}

/// Waits for a lock that somebody may have, for so long.
fn take(word: &AtomicU32, patience: Duration) -> Lock {
    let (begun, mut others) = (Instant::now(), 0);
    loop {
        let seen = word.load(Ordering::SeqCst);
        if !lives(seen) {
            if try_change(word, seen, thread() | (seen | others) & WAITED_FOR) {
                return if seen & DIED == 0 { Lock::Taken } else { Lock::Inherited };
            }
            continue;
        }
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Lock::Busy;
        }
        if seen & WAITED_FOR != 0 || change(word, seen, seen | WAITED_FOR) {
            wait(word, seen | WAITED_FOR, left.min(SLICE));
            // Others may sleep there too, and the bit may be gone with the wake.
            others = WAITED_FOR;
        }
    }
}

/// Takes a lock that is free. The system is told only while it is, since it knows owners by numbers, and in
/// another container somebody else may have ours.
fn try_change(word: &AtomicU32, from: u32, to: u32) -> bool {
    if word.load(Ordering::SeqCst) != from {
        return false;
    }
    announce(word);
    let is_ours = change(word, from, to);
    if !is_ours {
        retract();
    }
    is_ours
}

fn give_back(word: &AtomicU32) {
    if word.swap(0, Ordering::SeqCst) & WAITED_FOR != 0 {
        wake(word);
    }
}

fn give_back_own(word: &AtomicU32) {
    let free = |seen: u32| (lives(seen) && seen & THREAD == thread()).then_some(0);
    let before = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, free);
    if before.is_ok_and(|before| before & WAITED_FOR != 0) {
        wake(word);
    }
}

fn change(word: &AtomicU32, from: u32, to: u32) -> bool {
    word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}
