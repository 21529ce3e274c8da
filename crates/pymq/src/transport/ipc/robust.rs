//! How a thread tells the system which locks it has, so that the system marks them when it ends.
//!
//! The invariant: the system reads a list of each thread's where it lies, when the thread ends however
//! it does. That list is the C library's, which has one place for the lock that is about to be taken
//! or given back; a lock that is held for a moment stays there for that moment, so nothing of the list
//! lies in the shared file, where others could damage it. A lock that is held for life has a list of
//! its own, on a thread of our own.

#![allow(unsafe_code, reason = "the system reads these lists where they lie")]

use std::cell::Cell;
use std::ffi::{c_long, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::system::forks;

/// What the system reads of a thread: its first lock, where a lock's word is as seen from its entry,
/// and the entry of the one that is about to be taken or given back.
#[repr(C)]
struct Head {
    first: *mut c_void,
    offset: c_long,
    pending: *mut c_void,
}

impl Head {
    const EMPTY: Self = Self { first: ptr::null_mut(), offset: 0, pending: ptr::null_mut() };
}

thread_local! {
    /// This thread's list, and in which process it was asked for: a child's threads have none of ours.
    static KNOWN: Cell<(*mut Head, u32)> = const { Cell::new((ptr::null_mut(), 0)) };
}

/// Says that this thread is about to take a lock, or has it; another one that it had said so of before
/// is not watched meanwhile.
pub(super) fn announce(word: &AtomicU32) {
    let head = own();
    // SAFETY: the list of this thread, which alone writes there.
    let offset = unsafe { (*head).offset };
    set_pending(head, word.as_ptr().cast::<c_void>().wrapping_byte_offset(-(offset as isize)));
}

/// Says that this thread has given it back, or does not take it.
pub(super) fn retract() {
    set_pending(own(), ptr::null_mut());
}

fn set_pending(head: *mut Head, entry: *mut c_void) {
    // SAFETY: the list of this thread, which alone writes there. Atomic, so that it is written where it
    // stands in the order of what this thread does, which is the order in which its end is seen.
    unsafe { AtomicPtr::from_ptr(&raw mut (*head).pending) }.store(entry, Ordering::SeqCst);
}

/// This thread's list.
fn own() -> *mut Head {
    let (known, process) = KNOWN.get();
    if !known.is_null() && process == forks() {
        return known;
    }
    let (mut found, mut length) = (ptr::null_mut::<Head>(), 0_usize);
    // SAFETY: it writes to our stack.
    unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut found, &raw mut length) };
    if found.is_null() {
        // A C library that has none until it needs one.
        found = Box::leak(Box::new(Head::EMPTY));
        // SAFETY: ours; an empty list leads to itself.
        unsafe { (*found).first = found.cast() };
        register(found);
    }
    KNOWN.set((found, forks()));
    found
}

fn register(head: *mut Head) {
    // SAFETY: the list outlives its being known to the system, see `Held`.
    unsafe { libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>()) };
}

/// A list with one entry, and the one that it stands in for: as long as this is, the system watches
/// over one lock, on the thread that made it. If it is forgotten, until that ends.
#[derive(Debug)]
pub(super) struct Held {
    list: *mut WithOne,
    replaced: *mut Head,
    of_this_thread: PhantomData<*mut ()>,
}

#[repr(C)]
struct WithOne {
    head: Head,
    entry: *mut c_void,
}

impl Held {
    /// Has the system watch over a lock that this thread takes or has.
    pub(super) fn begin(word: &AtomicU32) -> Self {
        let replaced = own();
        let list = Box::into_raw(Box::new(WithOne { head: Head::EMPTY, entry: ptr::null_mut() }));
        // SAFETY: ours, and known to nobody yet; made of one allocation, which lives until `end`.
        unsafe {
            let entry = &raw mut (*list).entry;
            (*list).head.first = entry.cast();
            (*list).head.offset = word.as_ptr() as c_long - entry as c_long;
            *entry = list.cast();
        }
        stand_in(list.cast(), replaced);
        Self { list, replaced, of_this_thread: PhantomData }
    }

    /// Ends that; the lock was given back.
    pub(super) fn end(self) {
        stand_in(self.replaced, self.list.cast());
        // SAFETY: made in `begin`, and the system does not know it any more.
        drop(unsafe { Box::from_raw(self.list) });
    }
}

/// Puts a list in the place of another one, and with it the lock that this thread has just now.
fn stand_in(head: *mut Head, replaced: *mut Head) {
    // SAFETY: both are lists of this thread, which alone writes there.
    unsafe {
        let pending = (*replaced).pending;
        (*head).pending = match pending.is_null() {
            true => pending,
            false => pending.wrapping_byte_offset(((*replaced).offset - (*head).offset) as isize),
        };
    }
    register(head);
    set_pending(replaced, ptr::null_mut());
    KNOWN.set((head, forks()));
}
