//! How the runtime of a connection is woken from another process, without a thread in between.
//!
//! A runtime sleeps on descriptors and not on a word of memory; so beside the file of the bus lies a pipe
//! with a name for each slot, into which whoever leaves post there writes a byte. The invariant: that byte
//! is a hint and no more. What it tells of lies in the file, and where it is lost, where there can be no
//! pipe, or where nobody reads in time, the connection's own thread takes the post.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::heap::Heap;
use super::layout::{MEMBERS, attended, bell, doorbell};
use super::mapping::Memory;
use super::peers;
use super::system::{make_pipe, user};

/// What the pipes of a bus are called, each with the number of its slot behind.
pub(super) const PIPE: &str = "bell-";
/// So many pipes of others a connection keeps open.
const KEPT: usize = 16;
/// From so many pieces of post on the connection's own thread is woken too: its runtime may be busy, and a
/// mailbox holds more than the file.
const MANY: u64 = 64;

/// The ways to the runtimes of all connections, as one of them has them.
pub(super) struct Doorbells {
    directory: PathBuf,
    /// The slot of this connection.
    own: u64,
    /// Wakes the runtime of this connection from within its process.
    pub(super) within: Notify,
    pipes: Mutex<Pipes>,
}

/// The pipes of others that are open, as long as the same are there.
#[derive(Default)]
struct Pipes {
    open: HashMap<u64, File>,
    members: u64,
}

impl Doorbells {
    pub(super) fn new(directory: &Path, own: u64) -> Self {
        let directory = directory.to_owned();
        Self { directory, own, within: Notify::new(), pipes: Mutex::default() }
    }

    /// The pipe of this connection, made where there is none.
    pub(super) fn own_pipe(&self) -> io::Result<File> {
        let path = pipe(&self.directory, self.own);
        match make_pipe(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => open(&path),
        }
    }

    /// Wakes those who got post.
    pub(super) fn ring(&self, memory: &Memory, called: &[u64]) {
        for slot in called {
            if memory.load(attended(*slot)) == 0 || is_behind(memory, *slot) {
                memory.ring(bell(*slot));
            }
            memory.ring_by(doorbell(*slot), || {
                if *slot == self.own {
                    self.within.notify_one();
                } else if !self.write_to(*slot, memory.load(MEMBERS)) {
                    memory.ring(bell(*slot));
                }
            });
        }
    }

    /// Writes a byte into a pipe; says whether that is there to be read.
    fn write_to(&self, slot: u64, members: u64) -> bool {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = pipes.open.len() >= KEPT && !pipes.open.contains_key(&slot);
        if pipes.members != members || is_full {
            pipes.open.clear();
            pipes.members = members;
        }
        let pipe = match pipes.open.entry(slot) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match open(&pipe(&self.directory, slot)) {
                Ok(pipe) => new.insert(pipe),
                Err(_) => return false,
            },
        };
        // What is full is there to be read.
        let full = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        pipe.write_all(&[0]).map_or_else(full, |()| true)
    }
}

#[cfg(test)]
impl Doorbells {
    /// How many pipes of others are open.
    pub(super) fn kept(&self) -> usize {
        self.pipes.lock().unwrap_or_else(PoisonError::into_inner).open.len()
    }
}

/// Whether more post lies for a connection than its runtime should have left.
fn is_behind(memory: &Memory, slot: u64) -> bool {
    let heap = Heap::new(memory);
    let peer = peers::in_slot(&heap, slot);
    peer != 0 && peers::pieces(&heap, peer) >= MANY
}

fn pipe(directory: &Path, slot: u64) -> PathBuf {
    directory.join(format!("{PIPE}{slot}"))
}

/// Opens a pipe, to read and to write: so neither side waits for the other, and no signal comes where
/// nobody reads.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if about.file_type().is_fifo() && about.uid() == user() && about.mode() & 0o077 == 0 {
        Ok(file)
    } else {
        Err(io::Error::other("no pipe of ours"))
    }
}
