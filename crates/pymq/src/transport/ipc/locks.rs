//! The locks in a mapped file, which the system takes from the dead.
//!
//! The invariant: a lock lies where [`make_lock`](Memory::make_lock) made one, and is given back by the
//! thread that took it. Whoever holds one for life shows by that that it lives.

#![allow(unsafe_code, reason = "locks between processes cannot be had without")]

use std::ffi::c_int;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, SystemTime};

use super::heap::At;
use super::mapping::Memory;
use super::system::{thread, timespec};

/// What asking for a lock came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lock {
    /// It is ours.
    Taken,
    /// It is ours, and its last owner died with it.
    Inherited,
    /// Somebody has it.
    Busy,
    /// Its owner died, and whoever found out gave it up for good.
    Broken,
}

impl Memory {
    fn mutex(&self, at: At) -> Option<*mut libc::pthread_mutex_t> {
        let place = self.place(at, size_of::<libc::pthread_mutex_t>() as u64);
        place.map(|place| place.cast().as_ptr())
    }

    /// Makes a lock anew that nobody holds or asks for.
    pub(super) fn make_lock(&self, at: At) -> io::Result<()> {
        let Some(mutex) = self.mutex(at) else { return Err(io::ErrorKind::InvalidInput.into()) };
        init(mutex)
    }

    /// Asks for a lock, for so long; not again by the thread that has it.
    pub(super) fn lock(&self, at: At, patience: Duration) -> Lock {
        let Some(mutex) = self.mutex(at) else { return Lock::Broken };
        // SAFETY: inside the mapping; a lock lies there since the file was made (`make_lock`).
        match understood(unsafe { libc::pthread_mutex_trylock(mutex) }) {
            Lock::Busy if !patience.is_zero() => {}
            other => return other,
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let until = timespec(since.saturating_add(patience));
        // SAFETY: as above; the time is on our stack.
        understood(unsafe { libc::pthread_mutex_timedlock(mutex, &raw const until) })
    }

    /// Says that what the dead owner of a lock left is right again.
    pub(super) fn mend(&self, at: At) {
        if let Some(mutex) = self.mutex(at) {
            // SAFETY: as in `lock`.
            unsafe { libc::pthread_mutex_consistent(mutex) };
        }
    }

    /// Gives a lock back, on the thread that took it. One that was inherited and not mended is
    /// broken from then on.
    pub(super) fn unlock(&self, at: At) {
        if let Some(mutex) = self.mutex(at) {
            // SAFETY: as in `lock`; the caller has it.
            unsafe { libc::pthread_mutex_unlock(mutex) };
        }
    }

    /// Whether a living thread holds this lock. One whose owner has died is free from then on.
    pub(super) fn is_held(&self, at: At) -> bool {
        match self.lock(at, Duration::ZERO) {
            Lock::Busy => true,
            Lock::Broken => false,
            // Mended, since a lock that is given back broken may look held to whoever asks next.
            Lock::Taken | Lock::Inherited => {
                self.mend(at);
                self.unlock(at);
                false
            }
        }
    }

    /// The word of a lock that tells the system who has it: the number of a thread, and above it
    /// whether somebody waits and whether it died.
    pub(super) fn owner(&self, at: At) -> Option<&AtomicU32> {
        self.half(at + (*OWNER.get_or_init(owner_in_lock))?)
    }
}

/// Makes a lock that processes share and that outlives its owner, where nobody uses one.
fn init(mutex: *mut libc::pthread_mutex_t) -> io::Result<()> {
    let tell = |error| if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) };
    let mut attributes = std::mem::MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the attributes are initialised before they are used and destroyed once; the place of the
    // lock is memory of ours or inside the mapping, aligned, and the caller says that nobody uses it.
    unsafe {
        tell(libc::pthread_mutexattr_init(attributes))?;
        let shared = libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED);
        let robust = libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST);
        let made = tell(shared).and_then(|()| tell(robust)).and_then(|()| {
            std::ptr::write_bytes(mutex, 0, 1);
            tell(libc::pthread_mutex_init(mutex, attributes))
        });
        libc::pthread_mutexattr_destroy(attributes);
        made
    }
}

fn understood(answer: c_int) -> Lock {
    match answer {
        0 => Lock::Taken,
        libc::EOWNERDEAD => Lock::Inherited,
        libc::EBUSY | libc::ETIMEDOUT => Lock::Busy,
        _ => Lock::Broken,
    }
}

/// Where in a lock the word lies that the system reads: what it means is the system's, where it lies
/// the C library's own.
static OWNER: OnceLock<Option<u64>> = OnceLock::new();

/// Finds that place: the first word that becomes this thread's number when a lock is taken.
fn owner_in_lock() -> Option<u64> {
    const WORDS: usize = size_of::<libc::pthread_mutex_t>() / 4;
    let mut lock = [0_u64; WORDS.div_ceil(2)];
    let mutex = lock.as_mut_ptr().cast::<libc::pthread_mutex_t>();
    init(mutex).ok()?;
    let read = |place: usize| {
        // SAFETY: a word of the lock, which lies on our stack and which nobody else knows.
        unsafe { mutex.cast::<u32>().add(place).read_volatile() }
    };
    let before: Vec<u32> = (0..WORDS).map(read).collect();
    // SAFETY: made above, and known to nobody else.
    let taken = unsafe { libc::pthread_mutex_trylock(mutex) } == 0;
    let own = thread();
    let place = (0..WORDS).find(|place| before[*place] == 0 && read(*place) == own);
    // SAFETY: as above; given back by the thread that took it, before it is destroyed.
    unsafe {
        libc::pthread_mutex_unlock(mutex);
        libc::pthread_mutex_destroy(mutex);
    }
    place.filter(|_| taken).map(|place| 4 * place as u64)
}
