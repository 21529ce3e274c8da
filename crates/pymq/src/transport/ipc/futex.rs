//! How a thread sleeps in a mapped file until another process wakes it, or dies.
//!
//! The invariant: what is slept on are words inside the mapping, which the system compares before it
//! lets us sleep; a wake between a look and the sleep is not lost.

#![allow(unsafe_code, reason = "the standard library sleeps within one process only")]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use super::bell::Bell;
use super::heap::At;
use super::locks::{WAITED_FOR, lives};
use super::mapping::Memory;
use super::system::{awake, timespec};

/// Whether the system lets a thread sleep on several words at once (Linux 5.16), as far as we know.
static SEVERAL: AtomicBool = AtomicBool::new(true);

/// Whether a sleeper is woken when the owner of a lock dies.
pub(super) fn tells_of_deaths() -> bool {
    SEVERAL.load(Ordering::Relaxed)
}

impl Memory {
    /// Makes ready to sleep: from now on whoever rings wakes us. Says what to sleep on.
    pub(super) fn drowse(&self, bell: At) -> u32 {
        self.bell(bell).map_or(0, |bell| bell.drowse())
    }

    /// Does not sleep after all.
    pub(super) fn rise(&self, bell: At) {
        self.bell(bell).into_iter().for_each(|bell| bell.rise());
    }

    /// Rings; a system call only where somebody sleeps.
    pub(super) fn ring(&self, bell: At) {
        self.bell(bell).into_iter().for_each(|bell| bell.ring(wake));
    }

    /// Rings for somebody who sleeps elsewhere, whom `wake` wakes.
    pub(super) fn ring_by(&self, bell: At, wake: impl FnOnce()) {
        if let Some(bell) = self.bell(bell) {
            bell.ring(|_| wake());
        }
    }

    fn bell(&self, at: At) -> Option<Bell<'_>> {
        self.half(at).map(Bell::new)
    }

    /// Sleeps until the bell was rung since, the lock has no living owner any more, or so long. Says
    /// whether the lock has none.
    pub(super) fn sleep(&self, bell: At, since: u32, lock: Option<At>, most: Duration) -> bool {
        let Some(rung) = self.half(bell) else {
            std::thread::sleep(most);
            return false;
        };
        let owner = lock.filter(|_| tells_of_deaths()).and_then(|lock| self.half(lock));
        let Some(owner) = owner else {
            wait(rung, since, most);
            return false;
        };
        let Some(seen) = wait_for(owner) else { return true };
        if !wait_for_either([(rung, since), (owner, seen)], most) {
            SEVERAL.store(false, Ordering::Relaxed);
            wait(rung, since, most);
        }
        !lives(owner.load(Ordering::SeqCst))
    }
}

/// Has the system wake whoever sleeps on a lock's word when the lock is given back or its owner dies.
/// Says what the word is then; `None` where nobody has the lock.
fn wait_for(owner: &AtomicU32) -> Option<u32> {
    let word = owner.load(Ordering::SeqCst);
    if word & WAITED_FOR != 0 {
        return lives(word).then_some(word);
    }
    // As a thread that waits for the lock itself does.
    let marked = |word| lives(word).then_some(word | WAITED_FOR);
    let before = owner.fetch_update(Ordering::SeqCst, Ordering::SeqCst, marked).ok()?;
    Some(before | WAITED_FOR)
}

/// Sleeps while a word is what it was, so long at most.
pub(super) fn wait(word: &AtomicU32, since: u32, most: Duration) {
    let most = timespec(most);
    // SAFETY: the word is inside the mapping, the time on our stack; shared, not private, since other
    // processes ring.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            since,
            &raw const most,
            ptr::null::<u32>(),
            0,
        );
    }
}

/// One word that is slept on, as the system reads it.
#[repr(C)]
struct Waited {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// Sleeps while both words are what they were, so long at most. Says whether the system can do that.
fn wait_for_either(words: [(&AtomicU32, u32); 2], most: Duration) -> bool {
    /// A word of 32 bits, that processes share.
    const SHARED: u32 = 2;
    let words = words.map(|(word, value)| Waited {
        value: value.into(),
        address: word.as_ptr() as u64,
        flags: SHARED,
        reserved: 0,
    });
    // This call wants a moment, not a length.
    let until = timespec(Duration::from_nanos(awake()).saturating_add(most));
    // SAFETY: the words are inside the mapping, what tells of them and the time on our stack.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            words.as_ptr(),
            words.len(),
            0,
            &raw const until,
            libc::CLOCK_MONOTONIC,
        )
    };
    let error = io::Error::last_os_error().raw_os_error();
    woken >= 0 || ![Some(libc::ENOSYS), Some(libc::EPERM), Some(libc::EINVAL)].contains(&error)
}

/// Wakes one who sleeps on a word.
pub(super) fn wake(word: &AtomicU32) {
    // SAFETY: the word is inside the mapping.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}
