//! Histories of a bell: those who ring, and one who sleeps beside it until there is nothing more to come.
//!
//! A sleeper that is not woken is a deadlock, which ends the model.

use std::collections::VecDeque;
use std::sync::Arc;

use shuttle::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use shuttle::sync::{Condvar, Mutex};
use shuttle::thread;

use crate::bell::Bell;

/// What the system does: whoever sleeps at a number does so only if it is still what was seen.
#[derive(Default)]
struct System {
    /// How many sleep, and how many of them are to wake.
    sleepers: Mutex<(usize, usize)>,
    woken: Condvar,
    calls: AtomicUsize,
}

impl System {
    fn sleep(&self, word: &AtomicU32, seen: u32) {
        let mut sleepers = self.sleepers.lock().expect("nobody panics here");
        if word.load(Ordering::SeqCst) != seen {
            return;
        }
        sleepers.0 += 1;
        while sleepers.1 == 0 {
            sleepers = self.woken.wait(sleepers).expect("nobody panics here");
        }
        *sleepers = (sleepers.0 - 1, sleepers.1 - 1);
    }

    fn wake(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut sleepers = self.sleepers.lock().expect("nobody panics here");
        if sleepers.1 < sleepers.0 {
            sleepers.1 += 1;
            self.woken.notify_one();
        }
    }
}

/// A connection's post and its bell, as they lie in the file.
#[derive(Default)]
struct Shared {
    rung: AtomicU32,
    system: System,
    post: Mutex<VecDeque<u8>>,
}

impl Shared {
    fn bell(&self) -> Bell<'_> {
        Bell::new(&self.rung)
    }

    fn leave(&self, piece: u8) {
        self.post.lock().expect("nobody panics here").push_back(piece);
    }

    fn ring(&self) {
        self.bell().ring(|_| self.system.wake());
    }

    fn take(&self) -> VecDeque<u8> {
        std::mem::take(&mut *self.post.lock().expect("nobody panics here"))
    }

    fn has_post(&self) -> bool {
        !self.post.lock().expect("nobody panics here").is_empty()
    }

    /// What the thread of a connection does, until so many pieces have come.
    fn receive(&self, count: usize) -> Vec<u8> {
        let mut received = Vec::new();
        loop {
            received.extend(self.take());
            if received.len() == count {
                return received;
            }
            let since = self.bell().drowse();
            if self.has_post() {
                self.bell().rise();
                continue;
            }
            self.system.sleep(&self.rung, since);
        }
    }
}

fn writer(shared: &Arc<Shared>, pieces: [u8; 2]) -> thread::JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        for piece in pieces {
            shared.leave(piece);
            shared.ring();
        }
    })
}

/// Two leave post and ring while the reader falls asleep and wakes: it gets everything.
pub fn no_ring_is_lost() {
    let shared = Arc::new(Shared::default());
    let writers = [[1, 2], [11, 12]].map(|pieces| writer(&shared, pieces));
    let mut received = shared.receive(4);
    writers.into_iter().for_each(|writer| writer.join().expect("a writer does not panic"));
    received.sort_unstable();
    assert_eq!(received, [1, 2, 11, 12]);
}

/// One leaves post and is killed before it rings; whoever buries it rings for everybody that has post.
pub fn whoever_buries_rings_for_the_dead() {
    let shared = Arc::new(Shared::default());
    let reading = Arc::clone(&shared);
    let reader = thread::spawn(move || reading.receive(3));
    let other = writer(&shared, [11, 12]);
    let killed = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || shared.leave(1))
    };
    killed.join().expect("it is only as if it was killed");
    if shared.has_post() {
        shared.ring();
    }
    assert_eq!(reader.join().expect("the reader does not panic").len(), 3);
    other.join().expect("a writer does not panic");
}

/// The system is asked to wake no more often than somebody was about to sleep.
pub fn a_ring_that_need_wake_nobody_costs_no_call() {
    let shared = Arc::new(Shared::default());
    let writers = [[1, 2], [11, 12]].map(|pieces| writer(&shared, pieces));
    let mut drowsed = 0;
    while shared.take().is_empty() {
        let since = shared.bell().drowse();
        drowsed += 1;
        if shared.has_post() {
            shared.bell().rise();
        } else {
            shared.system.sleep(&shared.rung, since);
        }
    }
    writers.into_iter().for_each(|writer| writer.join().expect("a writer does not panic"));
    assert!(shared.system.calls.load(Ordering::SeqCst) <= drowsed);
}

/// What the bell asks of a sleeper is needed: one that looks before it says that it falls asleep is not
/// woken, sooner or later.
pub fn whoever_looks_too_early_sleeps_for_ever() {
    let shared = Arc::new(Shared::default());
    let writers = [writer(&shared, [1, 2])];
    let mut received = 0;
    while received < 2 {
        received += shared.take().len();
        if received < 2 && !shared.has_post() {
            let since = shared.bell().drowse();
            shared.system.sleep(&shared.rung, since);
        }
    }
    writers.into_iter().for_each(|writer| writer.join().expect("a writer does not panic"));
}
