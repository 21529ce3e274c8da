//! What people would use instead: `benches/python/rivals.py`, in an environment of its own.
//!
//! Each library takes part in the works that it does. One that cannot be started takes no part, and
//! the run goes on: what is measured here is this library.

use std::io::{self, Write as _};
use std::process::Command;

use crate::Outcome;
use crate::options::Options;
use crate::python::Peer;
use crate::round::Side;
use crate::worker::Worker;

pub(crate) const REDIS_PY: &str = "redis-py";
pub(crate) const FASTSTREAM: &str = "FastStream";
pub(crate) const CELERY: &str = "Celery";
pub(crate) const TASKIQ: &str = "taskiq";
pub(crate) const RPYC: &str = "RPyC";

/// Who does what, in `rivals.py`.
const WORKS: &[(&str, &[&str])] = &[
    (REDIS_PY, &["publish", "put", "get", "receive"]),
    (FASTSTREAM, &["call", "publish", "receive"]),
    (CELERY, &["call", "put"]),
    (TASKIQ, &["call", "put"]),
    (RPYC, &["call"]),
];

/// The libraries that do a work.
pub(crate) struct Rivals(Vec<(&'static str, Peer)>);

impl Rivals {
    /// Starts a process of each, and for a call one that answers it.
    pub(crate) fn at(work: &'static str, options: &Options) -> Outcome<Self> {
        let mut rivals = Vec::new();
        for (name, _) in WORKS.iter().filter(|(_, works)| works.contains(&work)) {
            match start(name, work, options) {
                Ok(peer) => rivals.extend(peer.map(|peer| (*name, peer))),
                Err(error) => writeln!(io::stderr(), "{name} takes no part in {work}: {error}")?,
            }
        }
        Ok(Self(rivals))
    }

    /// Their alternatives of the work.
    pub(crate) fn sides(&mut self, work: &'static str) -> impl Iterator<Item = Side<'_>> {
        self.0.iter_mut().map(move |(name, peer)| peer.side(name, work))
    }
}

fn start(name: &str, work: &str, options: &Options) -> Outcome<Option<Peer>> {
    let Some(python) = &options.rivals else { return Ok(None) };
    let process = |part| {
        let program = options.workers.join("rivals.py");
        Worker::start(Command::new(python).arg(program).args([&options.redis, name, part]))
    };
    let provider = if work == "call" { Some(process("provide")?) } else { None };
    Ok(Some(Peer::new(process("measure")?, provider)))
}
