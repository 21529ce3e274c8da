//! The right to change the memory of a bus, one process at a time.
//!
//! The invariant: the lock of the bus is held for a step and no longer, never while anybody's code
//! runs, and never asked for by who has it. A lock whose owner has died is taken over, and what the
//! owner had begun undone, before anything is read.

use std::time::Duration;

use super::bus_directory::free_locks;
use super::heap::Heap;
use super::layout::{
    GENERATION, HOLDER, KEPT, LOCK, LOG, MEMBERS, NUMBERING, PEERS, QUEUES, SLOTS, beacon,
};
use super::locks::Lock;
use super::mapping::Memory;
use super::peers::{self, Death, Step};
use super::system::{numbering, process};
use super::{addresses, shelves};
use crate::error::{Error, ErrorKind, Result};
use crate::name::shortened;

/// How long an operation that names no time waits for the lock.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// After how long it is asked whether there is anybody at all who has it.
const SUSPICIOUS: Duration = Duration::from_millis(100);

/// The right to change the memory of a bus; ends when it is dropped.
pub(super) struct BusLock<'a>(&'a Memory);

/// What is left to do when the lock is free.
#[derive(Default)]
pub(super) struct Aftermath {
    pub(super) called: Vec<u64>,
    pub(super) deaths: Vec<Death>,
    /// The slots of those who were found dead, each once: one that cannot be buried, or is found again
    /// meanwhile, is left to whoever looks next.
    found: Vec<u64>,
    /// How many of them had their turn.
    buried: usize,
}

impl Aftermath {
    fn note_dead(&mut self, slots: Vec<u64>) {
        for slot in slots {
            if !self.found.contains(&slot) {
                self.found.push(slot);
            }
        }
    }

    fn next_dead(&mut self) -> Option<u64> {
        let slot = self.found.get(self.buried).copied()?;
        self.buried += 1;
        Some(slot)
    }
}

impl<'a> BusLock<'a> {
    /// Waits so long for the lock; `None` if it was not free in time.
    pub(super) fn take(memory: &'a Memory, patience: Duration) -> Option<Self> {
        memory.check().ok()?;
        let lock = match memory.lock(LOCK, patience.min(SUSPICIOUS)) {
            Lock::Busy => {
                let space = memory.load(NUMBERING);
                let is_one_space = space != 0 && space == numbering();
                if is_one_space && memory.is_nobodys(LOCK) {
                    drop(memory.damaged());
                    return None;
                }
                memory.lock(LOCK, patience.saturating_sub(SUSPICIOUS))
            }
            lock => lock,
        };
        match lock {
            Lock::Taken => {}
            Lock::Inherited => undo(memory),
            Lock::Busy => return None,
        }
        let turn = Self(memory);
        // What somebody wrote over the file is not to be changed.
        memory.check_identity().ok()?;
        if memory.load(LOG) != 0 {
            undo(memory);
        }
        memory.store(HOLDER, process().into());
        Some(turn)
    }

    pub(super) fn memory(&self) -> &'a Memory {
        self.0
    }

    /// Does one step, and buries whom it finds dead.
    pub(super) fn step<T>(
        &self,
        after: &mut Aftermath,
        work: impl FnOnce(&mut Step<'_>) -> Result<T>,
    ) -> Result<T> {
        let done = self.only_step(after, work);
        while let Some(slot) = after.next_dead() {
            let _ = self.bury(slot, after);
        }
        done
    }

    /// Does one step, and notes whom it finds dead.
    fn only_step<T>(
        &self,
        after: &mut Aftermath,
        work: impl FnOnce(&mut Step<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut step = Step::new(self.0);
        let done = work(&mut step).and_then(|done| step.commit().map(|()| done));
        after.note_dead(std::mem::take(&mut step.dead));
        match &done {
            Ok(_) => {
                if step.routes_changed {
                    routes_changed(self.0);
                }
                after.called.append(&mut step.called);
                after.deaths.append(&mut step.deaths);
            }
            Err(_) => step.recover(),
        }
        done
    }

    fn bury(&self, slot: u64, after: &mut Aftermath) -> Result<()> {
        if self.0.is_held(beacon(slot)) {
            return Ok(());
        }
        while self.only_step(after, |step| peers::unburden(step, slot))? {}
        let posted = self.only_step(after, |step| {
            peers::leave(step, slot)?;
            Ok(peers::with_post(step))
        })?;
        self.moved();
        // Among them are those whom the dead one did not come to ring.
        after.called.extend(posted);
        // Nobody lights it without the lock of the bus.
        self.0.free_lock(beacon(slot));
        Ok(())
    }

    /// Throws away what has had its time; says whether nothing is left on the bus, and nobody on it.
    pub(super) fn clear(&self, after: &mut Aftermath) -> Result<bool> {
        while self.step(after, |step| Ok(addresses::expire(step)? | shelves::clear(step)?))? {}
        let heap = Heap::new(self.0);
        Ok(PEERS.len(&heap) + QUEUES.len(&heap) + KEPT.len(&heap) == 0)
    }

    /// Says that somebody has come or gone, and that others may have subscribed.
    pub(super) fn moved(&self) {
        routes_changed(self.0);
        self.0.store(MEMBERS, self.0.load(MEMBERS).wrapping_add(1));
    }
}

impl Drop for BusLock<'_> {
    fn drop(&mut self) {
        if self.0.load(LOG) != 0 {
            // A panic came in between.
            undo(self.0);
        }
        self.0.unlock(LOCK);
    }
}

/// Undoes what whoever had the lock has begun.
fn undo(memory: &Memory) {
    Heap::new(memory).recover();
    routes_changed(memory);
}

/// Says that others may have subscribed now, or not any more.
fn routes_changed(memory: &Memory) {
    memory.store(GENERATION, memory.load(GENERATION).wrapping_add(1));
}

/// Puts a file in order that is from an earlier run of the system: nobody lives of whom it knows.
pub(super) fn start_again(memory: &Memory) -> Result<()> {
    undo(memory);
    free_locks(memory);
    let Some(turn) = BusLock::take(memory, PATIENCE) else {
        return Err(held(memory, "connect", ""));
    };
    let mut after = Aftermath::default();
    for slot in 0..SLOTS {
        while turn.step(&mut after, |step| peers::unburden(step, slot))? {}
        turn.step(&mut after, |step| peers::leave(step, slot))?;
    }
    Ok(())
}

/// The error of who has waited for the lock in vain.
pub(super) fn held(memory: &Memory, operation: &'static str, object: &str) -> Error {
    if let Err(damaged) = memory.check() {
        return damaged.of(operation, shortened(object));
    }
    let holder = memory.load(HOLDER);
    let why = format!("process {holder} has the bus and does not go on; continue or end it");
    Error::new(ErrorKind::Connection, operation, shortened(object), why)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use bytes::Bytes;

    use super::super::crash_tests::{bus, step};
    use super::super::heap::At;
    use super::super::items;
    use super::super::layout::LOG_PROVIDED;
    use super::super::shelves::Claim;
    use super::*;
    use crate::transport::{PutOptions, QueueSpec, SettleOptions, Settlement};

    fn put(memory: &Memory, spec: &QueueSpec, length: usize, options: &PutOptions) {
        let item = [Bytes::from(vec![7; length])];
        step(memory, |step| shelves::push(step, 0, spec, &item, options, None));
    }

    fn claim(memory: &Memory, peer: At, spec: &QueueSpec, wait: bool) -> Option<At> {
        match step(memory, |step| shelves::claim(step, peer, spec, 1, wait, None)) {
            Claim::Taken(taken) => taken.first().map(|(item, _)| *item),
            _ => None,
        }
    }

    #[test]
    fn the_dead_who_cannot_be_buried_are_tried_once_each() {
        let memory = bus();
        let seats = [0, 1].map(|slot| step(&memory, |step| peers::join(step, slot)));
        let (mut spec, later) = (QueueSpec::new("queue"), QueueSpec::new("later"));
        (spec.max_deliveries, spec.max_dead_letters) = (1, 1);
        // What each of them holds pushes out a dead letter that is too large for the log.
        put(&memory, &spec, 60 << 20, &PutOptions::new());
        let large = claim(&memory, seats[0], &spec, false).expect("it is there");
        let options = SettleOptions::default();
        step(&memory, |step| items::settle(step, large, Settlement::Reject, &options));
        // And whoever of them goes calls the other one, since the time is to be kept.
        put(&memory, &later, 1, &PutOptions::new().delay(Duration::from_secs(3600)));
        for peer in seats {
            put(&memory, &spec, 1, &PutOptions::new());
            assert!(claim(&memory, peer, &spec, false).is_some());
            assert!(claim(&memory, peer, &later, true).is_none());
        }
        memory.store(LOG_PROVIDED, LOG + 8 + 16 * 5000);
        memory.full.store(true, Ordering::Relaxed);
        let turn = BusLock::take(&memory, PATIENCE).expect("nobody has it");
        let mut after = Aftermath::default();
        turn.step(&mut after, |step| Ok(step.lives(seats[0]))).expect("it is only a look");
        assert_eq!((&after.found[..], after.buried), (&[0, 1][..], 2));
        assert_eq!(peers::slots(&Heap::new(&memory)), [0, 1], "it is what this test is about");
        // Once there is space again, whoever looks next buries them.
        memory.full.store(false, Ordering::Relaxed);
        turn.step(&mut Aftermath::default(), |step| Ok(step.lives(seats[0]))).expect("a look");
        assert!(peers::slots(&Heap::new(&memory)).is_empty());
    }
}
