//! Which process this is, without asking the system each time: every use of an object looks.
//!
//! The number is kept until the process forks; the child asks again. Where the system cannot tell us of
//! forks it is asked always.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// This process's number; 0 while it is not known.
static KNOWN: AtomicU32 = AtomicU32::new(0);
/// Whether a fork makes it unknown.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// This process's number.
pub(crate) fn id() -> u32 {
    match KNOWN.load(Ordering::Relaxed) {
        0 if WATCHED.load(Ordering::Acquire) => {
            let id = process::id();
            KNOWN.store(id, Ordering::Relaxed);
            id
        }
        0 => process::id(),
        id => id,
    }
}

/// Begins to watch for forks, once, when the module is made: before there is anything that looks.
pub(crate) fn watch_forks() {
    if !WATCHED.load(Ordering::Relaxed) {
        WATCHED.store(platform::watch(), Ordering::Release);
    }
}

#[cfg(unix)]
mod platform {
    use std::ffi::c_int;
    use std::sync::atomic::Ordering;

    type Handler = Option<extern "C" fn()>;

    #[allow(unsafe_code)] // A function of the system; the handler is argued below.
    unsafe extern "C" {
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> c_int;
    }

    /// Whether the system will tell.
    #[allow(unsafe_code)]
    pub(super) fn watch() -> bool {
        // SAFETY: the handler may be called at any time: it only stores a number, which needs no lock.
        unsafe { pthread_atfork(None, None, Some(forget)) == 0 }
    }

    /// Runs in a child before `fork` returns there; one store is all it does.
    extern "C" fn forget() {
        super::KNOWN.store(0, Ordering::Relaxed);
    }
}

#[cfg(not(unix))]
mod platform {
    /// A process that cannot fork keeps its number.
    pub(super) fn watch() -> bool {
        true
    }
}
