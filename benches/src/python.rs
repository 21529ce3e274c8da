//! What is measured in Python: the programs in `benches/python`, which run in this library's
//! environment and in the original's alike.
//!
//! Both speak to the same server under names of their own. A side whose environment is not there
//! takes no part, and neither do the table's rows about it.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::round::{Side, Unit, Work};
use crate::worker::Worker;
use crate::{ORIGINAL, Outcome, PYTHON};

pub(crate) const ENCODE: &str = "encode a typed event";
pub(crate) const DECODE: &str = "decode a typed event";
pub(crate) const IMPORT: &str = "import";

/// A Python and the library in it.
pub(crate) struct Environment<'a> {
    python: &'a Path,
    /// What its channels and queues begin with.
    name: &'static str,
}

impl<'a> Environment<'a> {
    /// This library's.
    pub(crate) fn ours(options: &'a Options) -> Option<Self> {
        Some(Self { python: options.python.as_deref()?, name: "benches.ours" })
    }

    /// The original's.
    pub(crate) fn original(options: &'a Options) -> Option<Self> {
        Some(Self { python: options.original.as_deref()?, name: "benches.original" })
    }

    fn start(&self, options: &Options, program: &str, arguments: &[&str]) -> Outcome<Worker> {
        let program = options.workers.join(program);
        Worker::start(Command::new(self.python).arg(program).args(arguments))
    }

    /// A process that is on the bus and does works that it is told.
    pub(crate) fn peer(&self, options: &Options) -> Outcome<Peer> {
        let peer = self.start(options, "peer.py", &[&options.redis, self.name, "measure"])?;
        Ok(Peer { peer, _provider: None })
    }

    /// A peer, and a second process whose function it may call.
    pub(crate) fn caller(&self, options: &Options) -> Outcome<Peer> {
        let provider = self.start(options, "peer.py", &[&options.redis, self.name, "provide"])?;
        Ok(Peer { _provider: Some(provider), ..self.peer(options)? })
    }
}

/// A process in Python that calls another one on a bus without a server.
pub(crate) fn local_caller(options: &Options, url: &str) -> Outcome<Option<Peer>> {
    let Some(ours) = Environment::ours(options) else { return Ok(None) };
    let provider = ours.start(options, "local.py", &[url, "provide"])?;
    let peer = ours.start(options, "local.py", &[url, "measure"])?;
    Ok(Some(Peer { peer, _provider: Some(provider) }))
}

/// A Python process on the bus.
pub(crate) struct Peer {
    peer: Worker,
    _provider: Option<Worker>,
}

impl Peer {
    pub(crate) fn new(peer: Worker, provider: Option<Worker>) -> Self {
        Self { peer, _provider: provider }
    }

    /// Its alternative of a work.
    pub(crate) fn side<'a>(&'a mut self, name: &'static str, work: &'static str) -> Side<'a> {
        Side::new(name, move |span| self.peer.measure(work, span))
    }
}

/// The codec and the import; what concerns a bus is with the bus's other works.
pub(crate) fn measure(options: &Options) -> Outcome<Vec<Work>> {
    let (Some(ours), original) = (Environment::ours(options), Environment::original(options))
    else {
        return Ok(Vec::new());
    };
    let mut works = Vec::new();
    for (name, work) in [(ENCODE, "encode"), (DECODE, "decode")] {
        let mut codec = ours.start(options, "codec.py", &["pymq"])?;
        let mut limit = ours.start(options, "codec.py", &["msgspec"])?;
        let theirs = original.as_ref();
        let mut theirs =
            theirs.map(|theirs| theirs.start(options, "codec.py", &["original"])).transpose()?;
        let mut sides = vec![
            Side::new("msgspec", |span| limit.measure(work, span)),
            Side::new(PYTHON, |span| codec.measure(work, span)),
        ];
        let theirs = theirs.as_mut();
        sides.extend(
            theirs.map(|theirs| Side::new(ORIGINAL, move |span| theirs.measure(work, span))),
        );
        works.push(Work::measure(name, Unit::Microseconds, options.pace, sides)?);
    }
    let mut sides = vec![import(PYTHON, ours.python)];
    sides.extend(original.map(|theirs| import(ORIGINAL, theirs.python)));
    works.push(Work::measure(IMPORT, Unit::Microseconds, options.pace, sides)?);
    Ok(works)
}

/// How long a new interpreter takes to import all that a user of Redis imports.
fn import<'a>(name: &'static str, python: &'a Path) -> Side<'a> {
    Side::new(name, move |_: Duration| {
        let imported = "import pymq, pymq.provider.redis";
        Ok(run(python, imported)? - run(python, "pass")?)
    })
}

fn run(python: &Path, program: &str) -> Outcome<f64> {
    let begin = Instant::now();
    let status = Command::new(python).args(["-c", program]).stdin(Stdio::null()).status()?;
    let time = begin.elapsed();
    if !status.success() {
        return Err(format!("{}: {program}: {status}", python.display()).into());
    }
    Ok(time.as_secs_f64() * 1e6)
}
