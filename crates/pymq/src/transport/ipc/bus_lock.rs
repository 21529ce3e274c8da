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
        let mut step = Step::new(self.0);
        let done = work(&mut step).and_then(|done| step.commit().map(|()| done));
        let dead = std::mem::take(&mut step.dead);
        match &done {
            Ok(_) => {
                if step.relistened {
                    relistened(self.0);
                }
                after.called.append(&mut step.called);
                after.deaths.append(&mut step.deaths);
            }
            Err(_) => step.recover(),
        }
        for slot in dead {
            // Whoever looks next tries again.
            let _ = self.bury(slot, after);
        }
        done
    }

    fn bury(&self, slot: u64, after: &mut Aftermath) -> Result<()> {
        if self.0.is_held(beacon(slot)) {
            return Ok(());
        }
        while self.step(after, |step| peers::unburden(step, slot))? {}
        let posted = self.step(after, |step| {
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

    /// Says that somebody has come or gone, and that others may listen now.
    pub(super) fn moved(&self) {
        relistened(self.0);
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
    relistened(memory);
}

/// Says that others may listen now, or not any more.
fn relistened(memory: &Memory) {
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
