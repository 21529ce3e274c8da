//! A mapped file of shared words. What is unsafe in this transport is here, in [`sigbus`](super::sigbus),
//! in [`robust`](super::robust), in [`futex`](super::futex) and in [`system`](super::system).
//!
//! The invariant: every place that it is asked for lies inside the mapping and inside the file, and
//! nothing is ever mapped anew at another address while a [`Memory`] lives; so a stray place is an
//! error, told by [`check`](Memory::check), and no signal. From the first one on nothing of the file is
//! believed any more: what is read is 0, what is written goes nowhere, and whatever goes from place to
//! place comes to its end. References into the mapping are never made, only atomic accesses and copies,
//! since other processes write there. It knows nothing of what the words mean.

#![allow(unsafe_code, reason = "shared memory cannot be had without; each block says why it holds")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::heap::At;
use super::layout::{ARENA, IDENTITY_AT, LOG, LOG_PROVIDED, MAGIC, MAGIC_AT, ROOT};
use super::sigbus::Watched;
use crate::error::{Error, ErrorKind, Result};

/// How much of the address space a bus takes at most, and at least: that much it can grow to.
const LARGEST_RESERVE: usize = 64 << 30;
const SMALLEST_RESERVE: usize = 1 << 30;

/// A file of shared words.
#[derive(Debug)]
pub(super) struct Memory {
    file: File,
    base: NonNull<u8>,
    reserved: usize,
    watched: &'static Watched,
    /// Which file it was when it was opened.
    identity: AtomicU64,
    #[cfg(test)]
    pub(super) left: std::sync::atomic::AtomicI64,
    /// No more space is there, for a test.
    #[cfg(test)]
    pub(super) full: std::sync::atomic::AtomicBool,
}

// SAFETY: the mapping lives as long as the value, and every access to it is atomic, or a copy whose
// place the lock of the bus guards, from whichever thread.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps `file`, as much of it as there is now and as it may grow to.
    pub(super) fn map(file: File) -> io::Result<Self> {
        let mut reserved = LARGEST_RESERVE;
        let base = loop {
            // SAFETY: a new mapping at an address of the system's choice touches no other memory. It
            // may be longer than the file: what is behind its end is not accessed (`place`).
            let base = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    reserved,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED | libc::MAP_NORESERVE,
                    file.as_raw_fd(),
                    0,
                )
            };
            if base != libc::MAP_FAILED {
                break base;
            }
            let error = io::Error::last_os_error();
            if reserved <= SMALLEST_RESERVE || error.raw_os_error() != Some(libc::ENOMEM) {
                return Err(error);
            }
            reserved /= 2;
        };
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        let mapped = Self {
            file,
            base,
            reserved,
            watched: Watched::begin(base.addr().get(), reserved, 0),
            identity: AtomicU64::new(0),
            #[cfg(test)]
            left: std::sync::atomic::AtomicI64::new(i64::MAX),
            #[cfg(test)]
            full: std::sync::atomic::AtomicBool::new(false),
        };
        // Only now, so that where it fails the mapping goes.
        mapped.watched.size.store(mapped.file.metadata()?.len(), Ordering::Relaxed);
        Ok(mapped)
    }

    /// Where `length` bytes at `at` lie; `None` where the file does not have them.
    fn place(&self, at: At, length: u64) -> Option<NonNull<u8>> {
        let end = at.saturating_add(length);
        if end > self.size() && !self.has_grown_to(end) {
            return None;
        }
        let at = usize::try_from(at).ok()?;
        // SAFETY: `at` is within the file, thus within the mapping, which is one object.
        Some(unsafe { self.base.add(at) })
    }

    /// Whether another process has made the file so long; else the place is a stray one.
    #[cold]
    fn has_grown_to(&self, end: At) -> bool {
        if self.is_damaged() {
            return false;
        }
        let size = self.file.metadata().map_or(0, |file| file.len());
        if end > size || end > self.reserved as u64 {
            self.watched.damage();
            return false;
        }
        self.believe(size);
        !self.is_damaged()
    }

    /// Notes how long the file is; it only grows.
    fn believe(&self, size: u64) {
        self.watched.size.fetch_max(size, Ordering::SeqCst);
        if self.is_damaged() {
            self.watched.damage();
        }
    }

    /// Whether a word can lie there.
    pub(super) fn holds(&self, at: At) -> bool {
        self.word(at).is_some()
    }

    fn word(&self, at: At) -> Option<&AtomicU64> {
        let place = self.place(at, 8).filter(|_| at.is_multiple_of(8));
        if place.is_none() {
            self.watched.damage();
        }
        // SAFETY: inside the mapping, aligned (it begins with a page), and alive as long as `self`;
        // all processes access words atomically.
        place.map(|place| unsafe { AtomicU64::from_ptr(place.cast().as_ptr()) })
    }

    /// A half of a word of the header: a lock or a bell. It is there in a damaged file too, so that locks
    /// are given back.
    pub(super) fn half(&self, at: At) -> Option<&AtomicU32> {
        let offset = usize::try_from(at).ok().filter(|_| at + 4 <= ROOT && at.is_multiple_of(4))?;
        // SAFETY: every file is longer than that when it is opened, and `sigbus` sees to one that is cut
        // short; aligned, and alive as long as `self`. Locks and bells are only ever accessed by halves.
        Some(unsafe { AtomicU32::from_ptr(self.base.add(offset).cast().as_ptr()) })
    }

    pub(super) fn load(&self, at: At) -> u64 {
        self.word(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    /// Stores a word. Stores are seen in their order: what a process that is killed has stored before
    /// is there, and nothing that it would have stored after.
    pub(super) fn store(&self, at: At, value: u64) {
        self.step();
        if let Some(word) = self.word(at) {
            word.store(value, Ordering::Release);
        }
    }

    /// A killed process is, for a test, one that panics at its next store.
    #[cfg(test)]
    fn step(&self) {
        assert!(self.left.fetch_sub(1, Ordering::Relaxed) > 0, "killed");
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self, reason = "tests count here")]
    fn step(&self) {}

    pub(super) fn read(&self, at: At, into: &mut [u8]) {
        if let Some(place) = self.place(at, into.len() as u64) {
            // SAFETY: inside the mapping, and `into` is memory of our own. Whoever reads bytes holds
            // the lock of the bus, under which alone they are written.
            unsafe { copy(place.as_ptr(), into.as_mut_ptr(), into.len()) }
        }
    }

    pub(super) fn write(&self, at: At, from: &[u8]) {
        self.step();
        if let Some(place) = self.place(at, from.len() as u64) {
            // SAFETY: as in `read`.
            unsafe { copy(from.as_ptr(), place.as_ptr(), from.len()) }
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.watched.size.load(Ordering::Relaxed)
    }

    /// How much memory the file takes.
    pub(super) fn used(&self) -> u64 {
        self.file.metadata().map_or(0, |file| file.blocks().saturating_mul(512))
    }

    /// The error of what makes no sense, which from now on every use of it is.
    #[cold]
    pub(super) fn damaged(&self) -> Error {
        self.watched.damage();
        let why = "the shared file is damaged; end the programs that use it and delete it";
        Error::new(ErrorKind::Connection, "use", "ipc://", why)
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.watched.is_damaged()
    }

    /// Fails once a place was asked for that does not exist, or what lies here made no sense.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_damaged() { Err(self.damaged()) } else { Ok(()) }
    }

    /// Takes it for the file that it is now.
    pub(super) fn know(&self) {
        self.identity.store(self.load(IDENTITY_AT), Ordering::Relaxed);
    }

    /// Fails if this is not the file any more that it was.
    pub(super) fn check_identity(&self) -> Result<()> {
        let same = self.load(IDENTITY_AT) == self.identity.load(Ordering::Relaxed);
        if same && self.load(MAGIC_AT) == MAGIC { Ok(()) } else { Err(self.damaged()) }
    }

    /// Sees to it that the file has memory from `from` up to `upto`: to write where it has none would
    /// be answered with a signal.
    pub(super) fn provide(&self, from: At, upto: At) -> Result<()> {
        self.allocate(from, upto).map_err(|error| {
            let full = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG, libc::ENOMEM];
            if error.raw_os_error().is_some_and(|number| full.contains(&number)) {
                let why = "no space is left where the bus lies; take items out, or make room there";
                return Error::new(ErrorKind::Server, "grow", "ipc://", why).that_passes();
            }
            Error::new(ErrorKind::Server, "grow", "ipc://", error.to_string())
        })
    }

    fn allocate(&self, from: At, upto: At) -> io::Result<()> {
        if upto > self.reserved as u64 || upto < from {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        #[cfg(test)]
        if self.full.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let bad = |_| io::Error::from_raw_os_error(libc::EFBIG);
        let begin = libc::off_t::try_from(from).map_err(bad)?;
        let length = libc::off_t::try_from(upto - from).map_err(bad)?;
        loop {
            // SAFETY: a system call on a descriptor of ours that takes no pointers.
            match unsafe { libc::posix_fallocate(self.file.as_raw_fd(), begin, length) } {
                0 => break,
                libc::EINTR => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        }
        self.believe(upto);
        Ok(())
    }

    /// Gives memory back to the system; what was in it is zeros.
    pub(super) fn release(&self, from: At, upto: At) {
        let range = libc::off_t::try_from(from).ok().zip(libc::off_t::try_from(upto - from).ok());
        let Some((begin, length)) = range else { return };
        let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a system call on a descriptor of ours that takes no pointers. Where it fails, the
        // memory stays, which does no harm.
        unsafe { libc::fallocate(self.file.as_raw_fd(), how, begin, length) };
    }

    /// Up to where the log may be written to.
    pub(super) fn log_end(&self) -> At {
        let end = self.load(LOG_PROVIDED);
        if (LOG..=ARENA).contains(&end) {
            return end;
        }
        self.watched.damage();
        LOG
    }

    pub(super) fn provide_log(&self, upto: At) -> Result<()> {
        if upto <= self.log_end() || upto >= ARENA {
            let why = "so much at once does not fit; do it in several steps";
            return Err(Error::new(ErrorKind::Server, "change", "ipc://", why));
        }
        self.provide(LOG, upto)?;
        self.store(LOG_PROVIDED, upto);
        Ok(())
    }

    /// Gives back what an empty log has above so much.
    pub(super) fn shorten_log(&self, most: u64) {
        let end = self.log_end();
        if end > LOG + most && end < ARENA {
            self.store(LOG_PROVIDED, LOG + most);
            self.release(LOG + most, end);
        }
    }

    /// Gives back what a deleted file has for records. It is mapped, and so would take its memory, as long as
    /// a handle of a closed bus is kept.
    pub(super) fn vacate(&self) {
        self.shorten_log(0);
        let end = self.size();
        if end > ARENA {
            self.release(ARENA, end);
        }
    }

    /// Whether the file has no name any more.
    pub(super) fn is_deleted(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    /// Whether it is what lies at that path.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let Ok(own) = self.file.metadata() else { return true };
        path.symlink_metadata().map_or_else(
            |error| error.kind() != io::ErrorKind::NotFound,
            |there| (own.dev(), own.ino()) == (there.dev(), there.ino()),
        )
    }

    /// Looks whether somebody has cut the file short.
    pub(super) fn measure(&self) {
        if self.file.metadata().is_ok_and(|file| file.len() < self.size()) {
            self.watched.damage();
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.watched.end();
        // SAFETY: the mapping is ours, no reference into it outlives `self`, and its last user has
        // given back what locks it held.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.reserved) };
    }
}

/// Copies bytes, in portions: more at once the C library copies by an instruction that takes twenty times
/// as long on some processors (AMD's Zen 3) where both places begin nearly alike within their pages.
///
/// # Safety
/// Both are so long, and do not overlap.
unsafe fn copy(from: *const u8, to: *mut u8, length: usize) {
    const PORTION: usize = 2048;
    for begin in (0..length).step_by(PORTION) {
        // SAFETY: within what the caller has.
        unsafe {
            let (from, to) = (from.add(begin), to.add(begin));
            std::ptr::copy_nonoverlapping(from, to, PORTION.min(length - begin));
        }
    }
}
