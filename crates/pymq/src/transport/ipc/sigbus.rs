//! What becomes of an access to a mapped file that somebody has cut short meanwhile: an error, told
//! by [`Memory::check`](super::mapping::Memory::check), where the system would end the process (`SIGBUS`).
//!
//! The invariant: what we do in the signal is for accesses inside of our mappings alone, and leaves them
//! on memory of the process's own, so that they come to an end; every other signal goes where it went
//! before. A mapping is in the list as long as it is, and places in the list are never freed.

#![allow(unsafe_code, reason = "signals cannot be handled without")]

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, OnceLock, PoisonError};

/// What the system does not divide; one that has larger pages rounds by itself.
const PAGE: usize = 4096;

/// A mapping, and what is known of the state of its file.
#[derive(Debug, Default)]
pub(super) struct Watched {
    /// Where it begins; 0 where this place is free.
    base: AtomicUsize,
    length: AtomicUsize,
    /// How long the file is, as far as we know; none of a damaged one is believed.
    pub(super) size: AtomicU64,
    damaged: AtomicBool,
    next: AtomicPtr<Watched>,
}

static FIRST: AtomicPtr<Watched> = AtomicPtr::new(ptr::null_mut());
/// Places that are free again.
static FREE: Mutex<Vec<&'static Watched>> = Mutex::new(Vec::new());
/// What handled the signal before us.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

impl Watched {
    /// Watches over a mapping, which must be given up before it ends.
    pub(super) fn begin(base: usize, length: usize, size: u64) -> &'static Self {
        handle();
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let watched = free.unwrap_or_else(|| Box::leak(Box::default()));
        watched.size.store(size, Ordering::Relaxed);
        watched.damaged.store(false, Ordering::Relaxed);
        watched.length.store(length, Ordering::Relaxed);
        watched.base.store(base, Ordering::Release);
        if free.is_none() {
            let this = ptr::from_ref(watched).cast_mut();
            let link = |first| {
                watched.next.store(first, Ordering::Relaxed);
                Some(this)
            };
            // It always links.
            let _ = FIRST.fetch_update(Ordering::AcqRel, Ordering::Acquire, link);
        }
        watched
    }

    pub(super) fn end(&'static self) {
        self.base.store(0, Ordering::Release);
        FREE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
    }

    /// Notes that what lies in the file makes no sense, or does not lie there any more.
    pub(super) fn damage(&self) {
        self.damaged.store(true, Ordering::SeqCst);
        self.size.store(0, Ordering::SeqCst);
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The mapping in which an address lies.
    fn with(address: usize) -> Option<&'static Self> {
        let mut next = FIRST.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or a place of the list, which lives for ever.
            let watched = unsafe { next.as_ref() }?;
            let base = watched.base.load(Ordering::Acquire);
            let inside = base..base.saturating_add(watched.length.load(Ordering::Relaxed));
            if base != 0 && inside.contains(&address) {
                return Some(watched);
            }
            next = watched.next.load(Ordering::Relaxed);
        }
    }
}

/// Handles the signal, from the first mapping on.
fn handle() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut before = MaybeUninit::uninit();
        // SAFETY: the handler does what one may do; what was there before is written to our stack.
        unsafe {
            if libc::sigaction(libc::SIGBUS, ptr::null(), before.as_mut_ptr()) != 0 {
                return;
            }
            let _ = BEFORE.set(before.assume_init());
            let mut ours: libc::sigaction = std::mem::zeroed();
            ours.sa_sigaction = on_signal as *const () as usize;
            ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
            libc::sigemptyset(&raw mut ours.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut());
        }
    });
}

/// Runs inside a signal: it allocates nothing and takes no lock.
extern "C" fn on_signal(signal: c_int, about: *mut libc::siginfo_t, context: *mut c_void) {
    /// An address without memory, as against a signal that somebody sent.
    const NO_MEMORY: c_int = 2;
    // SAFETY: the system's words about this signal, of which an address is part for this kind.
    let (kind, address) = unsafe { ((*about).si_code, (*about).si_addr() as usize) };
    if kind == NO_MEMORY
        && let Some(watched) = Watched::with(address)
        && put_memory_at(address / PAGE * PAGE)
    {
        watched.damage();
        return;
    }
    pass_on(signal, about, context);
}

/// Puts zeros of this process's own in the place of a page.
fn put_memory_at(page: usize) -> bool {
    let how = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: a page of a mapping of ours that has no memory: whoever reads there has been told so by
    // this signal, and no other. The call leaves `errno` alone where it succeeds.
    let mapped = unsafe {
        let both = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(page as *mut c_void, PAGE, both, how, -1, 0)
    };
    mapped != libc::MAP_FAILED
}

/// Does what would have been done without us.
fn pass_on(signal: c_int, about: *mut libc::siginfo_t, context: *mut c_void) {
    let before = BEFORE.get();
    let handler = before.map_or(libc::SIG_DFL, |before| before.sa_sigaction);
    // SAFETY: the system's words about this signal.
    let is_sent = unsafe { (*about).si_code } <= 0;
    match handler {
        libc::SIG_IGN if is_sent => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: as before us. The access that failed is tried again and ends the process; a signal
            // that was sent is sent once more.
            unsafe {
                libc::signal(signal, libc::SIG_DFL);
                if is_sent {
                    libc::raise(signal);
                }
            }
        }
        handler => {
            let with_details = before.is_some_and(|before| before.sa_flags & libc::SA_SIGINFO != 0);
            // SAFETY: what the program had put there, called as it asked to be.
            unsafe {
                if with_details {
                    type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                    std::mem::transmute::<usize, Handler>(handler)(signal, about, context);
                } else {
                    std::mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal);
                }
            }
        }
    }
}
