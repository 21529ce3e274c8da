//! What is asked of the system beside memory: clocks, users, processes.

#![allow(unsafe_code, reason = "the standard library does not ask for these")]

use std::io;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A length of time as the system reads it.
pub(super) fn timespec(length: Duration) -> libc::timespec {
    let seconds = libc::time_t::try_from(length.as_secs()).unwrap_or(libc::time_t::MAX);
    libc::timespec { tv_sec: seconds, tv_nsec: length.subsec_nanos().into() }
}

/// The clock of the system since it was started, in nanoseconds: the same in all processes.
pub(super) fn now() -> u64 {
    clock(libc::CLOCK_BOOTTIME)
}

/// The same without the time during which the machine slept.
pub(super) fn awake() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

fn clock(which: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it writes to our stack.
    unsafe { libc::clock_gettime(which, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The user whose rights we have.
pub(super) fn user() -> u32 {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether a process of that number lives.
pub(super) fn lives(process: u32) -> bool {
    let Ok(process) = libc::pid_t::try_from(process) else { return false };
    // SAFETY: signal 0 is none.
    let answer = unsafe { libc::kill(process, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// What tells the locks of one C library from those of another, which do not work on each other.
pub(super) fn kind_of_locks() -> u64 {
    let library = if cfg!(target_env = "musl") { 2 } else { 1 };
    let order = if cfg!(target_endian = "big") { 2 } else { 1 };
    library << 32
        | order << 24
        | (size_of::<usize>() as u64) << 16
        | size_of::<libc::pthread_mutex_t>() as u64
}

/// How often this process is a fork of one that had asked; a child finds another number than its
/// parent. An atomic, since a system call for every operation would cost more than the operation.
pub(super) fn forks() -> u32 {
    static FORKS: AtomicU32 = AtomicU32::new(0);
    static WATCH: Once = Once::new();
    extern "C" fn forked() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the function does nothing that is forbidden after a fork, and lives for ever.
    WATCH.call_once(|| unsafe {
        libc::pthread_atfork(None, None, Some(forked));
    });
    FORKS.load(Ordering::Relaxed)
}

/// The number of this thread.
pub(super) fn thread() -> u32 {
    // SAFETY: it takes nothing and cannot fail.
    let number = unsafe { libc::syscall(libc::SYS_gettid) };
    u32::try_from(number).unwrap_or_default()
}
