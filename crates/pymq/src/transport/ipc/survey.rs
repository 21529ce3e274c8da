//! The buses of this machine as their files tell: who is on them, what lies there, what was left.
//!
//! The invariant: looking joins nothing and makes nothing, and what is cleaned away is nobody's: places
//! of the dead, files that nobody finished, and buses on which nobody is and nothing lies.

use std::path::PathBuf;

use super::bus_directory::BusDirectory;
use super::bus_lock::{Aftermath, BusLock, PATIENCE, held};
use super::heap::{At, Heap};
use super::layout::{PEERS, QUEUES, beacon, process};
use super::mapping::Memory;
use super::peers::{self, Step};
use super::shelves;
use crate::error::{Error, Result};

/// A bus, see [`look`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Its address.
    pub address: String,
    /// Its directory.
    pub directory: PathBuf,
    /// How much memory its file takes, in bytes.
    pub bytes: u64,
    /// The connections on it that live, and those whose death nobody has noticed yet.
    pub living: Vec<Member>,
    /// See [`living`](Self::living).
    pub dead: Vec<Member>,
    /// The queues on which anything lies.
    pub queues: usize,
    /// The items on them: those that wait, are due later, or are held.
    pub items: usize,
    /// And their dead letters.
    pub dead_letters: usize,
    /// How many files there are that somebody was killed in the middle of making.
    pub unfinished: usize,
    /// Why it cannot be looked at, where it cannot: then nothing else is known.
    pub refused: Option<String>,
}

/// A connection on a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// Its process.
    pub process: u32,
    /// How many items it holds.
    pub holds: usize,
}

impl Found {
    fn at(place: &BusDirectory) -> Self {
        Self {
            address: place.address(),
            directory: place.directory().to_owned(),
            bytes: 0,
            living: Vec::new(),
            dead: Vec::new(),
            queues: 0,
            items: 0,
            dead_letters: 0,
            unfinished: place.unfinished().len(),
            refused: None,
        }
    }

    /// Whether there is anything to clean away.
    pub fn has_leftovers(&self) -> bool {
        let unused = self.living.is_empty()
            && (self.items, self.dead_letters) == (0, 0)
            && self.refused.is_none();
        unused || !self.dead.is_empty() || self.unfinished > 0
    }

    /// What is so, in a sentence.
    pub fn words(&self) -> String {
        if let Some(why) = &self.refused {
            return why.clone();
        }
        let Self { bytes, living, dead, queues, items, dead_letters, unfinished, .. } = self;
        let (kibibytes, living, dead) = (bytes / 1024, living.len(), dead.len());
        format!(
            "{kibibytes} KiB; {living} connections, {dead} of the dead; {items} items and \
             {dead_letters} dead letters in {queues} queues; {unfinished} unfinished files"
        )
    }

    fn read(&mut self, memory: &Memory) {
        let heap = Heap::new(memory);
        self.bytes = memory.used();
        for peer in PEERS.records(&heap) {
            let (slot, holds) = (peers::slot(&heap, peer), peers::leases(peer).len(&heap));
            let number = u32::try_from(heap.get(process(slot))).unwrap_or_default();
            let member = Member { process: number, holds: counted(holds) };
            let lives = memory.is_held(beacon(slot));
            if lives { &mut self.living } else { &mut self.dead }.push(member);
        }
        for queue in QUEUES.records(&heap) {
            let (items, letters) = shelves::content(&heap, queue);
            self.queues += usize::from((items, letters) != (0, 0));
            self.items = self.items.saturating_add(counted(items));
            self.dead_letters = self.dead_letters.saturating_add(counted(letters));
        }
    }
}

fn counted(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The buses of this user under `/dev/shm`, by their addresses. Those in directories of their own are
/// not among them: nobody keeps a list of these.
///
/// # Errors
/// `Config` where the directory of all is not ours alone, `Connection` if it cannot be read.
pub fn buses() -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for place in BusDirectory::all()? {
        match seen(&place) {
            Ok(Some(bus)) => found.push(bus),
            Ok(None) => {}
            Err(error) => found.push(refused(&place, &error)),
        }
    }
    found.sort_by(|one, other| one.address.cmp(&other.address));
    Ok(found)
}

/// The bus of that address; `None` where there is none.
///
/// # Errors
/// Those of [`Ipc::connect`](super::Ipc::connect).
pub fn look(address: &str) -> Result<Option<Found>> {
    seen(&BusDirectory::of(address)?)
}

/// Cleans away what was left on the bus of that address, as whoever joins it does too: what the dead
/// held goes back to its queues, and a bus on which nobody is and nothing lies is deleted. Says what is
/// there afterwards; `None` where there is no bus, or none any more.
///
/// Items that nobody comes for are no leftovers: to throw them away, purge their queues or delete the
/// directory.
///
/// # Errors
/// Those of [`Ipc::connect`](super::Ipc::connect).
pub fn clean(address: &str) -> Result<Option<Found>> {
    let place = BusDirectory::of(address)?;
    place.clear();
    if let Some(memory) = place.existing()? {
        let Some(turn) = BusLock::take(&memory, PATIENCE) else {
            return Err(held(&memory, "clean", address));
        };
        if !memory.is_deleted() {
            bury(&turn)?;
            if turn.clear(&mut Aftermath::default())? {
                place.delete(&memory);
            }
        }
    } else {
        place.leave();
    }
    seen(&place)
}

/// Ends what hangs on the lives of the dead, and wakes those whom that concerns.
fn bury(turn: &BusLock<'_>) -> Result<()> {
    let mut after = Aftermath::default();
    turn.step(&mut after, |step: &mut Step<'_>| {
        let peers: Vec<At> = PEERS.records(step).collect();
        for peer in peers {
            step.lives(peer);
        }
        Ok(())
    })?;
    peers::ring(turn.memory(), &after.called);
    Ok(())
}

fn seen(place: &BusDirectory) -> Result<Option<Found>> {
    let mut found = Found::at(place);
    let Some(memory) = place.existing()? else {
        return Ok((found.unfinished > 0).then_some(found));
    };
    let Some(turn) = BusLock::take(&memory, PATIENCE) else {
        return Err(held(&memory, "look at", &found.address));
    };
    found.read(&memory);
    drop(turn);
    memory.check()?;
    Ok(Some(found))
}

fn refused(place: &BusDirectory, error: &Error) -> Found {
    Found { refused: Some(error.to_string()), ..Found::at(place) }
}
