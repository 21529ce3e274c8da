//! What is asked of the system beside memory: clocks, users, processes.

#![allow(unsafe_code, reason = "the standard library does not ask for these")]

use std::cell::Cell;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// A length of time as the system reads it.
pub(super) fn timespec(length: Duration) -> libc::timespec {
    // `time_t` is not named: for musl that is deprecated. 68 years are for ever.
    let seconds = i32::try_from(length.as_secs()).unwrap_or(i32::MAX);
    libc::timespec { tv_sec: seconds.into(), tv_nsec: length.subsec_nanos().into() }
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

/// Makes a pipe with a name, for our user alone.
pub(super) fn make_pipe(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a string that ends with a zero, and lives until the call is over.
    match unsafe { libc::mkfifo(path.as_ptr(), 0o600) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether a process of that number lives.
pub(super) fn lives(process: u32) -> bool {
    let Ok(process) = libc::pid_t::try_from(process) else { return false };
    // SAFETY: signal 0 is none.
    let answer = unsafe { libc::kill(process, 0) };
    answer == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
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

/// The number of this thread, which is asked for once: for every operation a system call would cost
/// more than the operation.
pub(super) fn thread() -> u32 {
    thread_local! {
        static KNOWN: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    }
    let (known, process) = KNOWN.get();
    if known != 0 && process == forks() {
        return known;
    }
    // SAFETY: it takes nothing and cannot fail.
    let number = unsafe { libc::syscall(libc::SYS_gettid) };
    let number = u32::try_from(number).unwrap_or_default();
    KNOWN.set((number, forks()));
    number
}

/// The number of this process; asked for once, too.
pub(super) fn process() -> u32 {
    static KNOWN: AtomicU64 = AtomicU64::new(0);
    let known = KNOWN.load(Ordering::Relaxed);
    let (number, process) = (known as u32, (known >> 32) as u32);
    if number != 0 && process == forks() {
        return number;
    }
    let number = std::process::id();
    KNOWN.store(u64::from(forks()) << 32 | u64::from(number), Ordering::Relaxed);
    number
}

/// Whether a thread of that number lives, of whichever process.
pub(super) fn is_thread(number: u32) -> bool {
    lives(number)
}

/// In which space processes and threads are numbered: containers have several. 0 where nobody tells.
pub(super) fn numbering() -> u64 {
    fs::metadata("/proc/self/ns/pid").map_or(0, |space| space.ino())
}
