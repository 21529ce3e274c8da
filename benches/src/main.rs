//! The table of speed: what is measured, in which order, and what is to be reached.
//!
//! `make bench` runs it with a server and environments of its own; see `scripts/bench`. Figures are
//! ratios of one run, and none of them fails the run.
use std::error::Error;
use std::io::{self, Write as _};

use serde::Serialize;
use tokio::runtime::{Builder, Runtime};

mod calls;
mod count;
mod cpu;
mod events;
mod growth;
mod ipc;
mod memory;
mod options;
mod plot;
mod python;
mod queues;
mod raw;
mod rivals;
mod round;
mod sample;
mod table;
mod worker;

use options::{Options, Role};
use round::Work;
use table::Mark::{AtLeast, AtMost, Unset};
use table::{Line, Row};

use ipc::limits::{FUTEX, SOCKET};

/// What goes wrong here ends the run and is told to its reader.
type Outcome<T> = Result<T, Box<dyn Error>>;
/// Measures works that belong together.
type Measure = fn(&Options) -> Outcome<Vec<Work>>;

/// This library in Rust.
const OURS: &str = "pymq";
/// This library in Python.
const PYTHON: &str = "pymq in Python";
/// The original, which is in Python.
const ORIGINAL: &str = "original";
/// The same commands by a hand-written blocking client.
const RAW: &str = "raw";

/// What is measured, by the names that `--only` takes.
const WORKS: &[(&str, Measure)] = &[
    ("calls", calls::measure),
    ("events", events::measure),
    ("queues", queues::measure),
    ("ipc", ipc::measure),
    ("memory", memory::measure),
    ("python", python::measure),
    ("growth", growth::measure),
];

/// What is to be reached.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    Row("Rust call, p50 / raw two-hop", calls::ONE, OURS, RAW, AtMost(1.25)),
    Row("Rust calls, 64 in flight / raw", calls::MANY, OURS, RAW, AtLeast(0.85)),
    Row("Rust publish, 64 tasks / raw of 256", events::PUBLISH, "64 tasks", RAW, AtLeast(0.65)),
    Row("Rust publish, 1,000 at once / raw of 256", events::PUBLISH, "at once", RAW, AtLeast(0.9)),
    Row("Rust receive / raw", events::RECEIVE, OURS, RAW, AtLeast(0.4)),
    Row("queue get+ack / raw BRPOP", queues::GET, OURS, RAW, AtLeast(0.9)),
    Row("queue claim, ack awaited / raw BRPOP", queues::GET, "claim, ack", RAW, Unset),
    Row("queue put / raw LPUSH", queues::PUT, OURS, RAW, Unset),
    Row("queue put for later / put", queues::PUT, "for later", OURS, Unset),
    Row("queue put with an id / put", queues::PUT, "with an id", OURS, Unset),
    Row("ipc: call, p50 / futex", ipc::CALL, OURS, FUTEX, AtMost(1.3)),
    Row("ipc: call of a waiting thread, p50 / futex", ipc::CALL, ipc::WAITING, FUTEX, AtMost(1.3)),
    Row("ipc: call, p99 / futex", ipc::LATE, OURS, FUTEX, AtMost(1.6)),
    Row("ipc: call, p50 / socket", ipc::CALL, OURS, SOCKET, AtMost(1.0)),
    Row("ipc: call from Python, p50 / futex", ipc::CALL, PYTHON, FUTEX, AtMost(3.0)),
    Row("ipc: event for who sleeps / futex as seldom", ipc::events::SLEEPING, OURS, FUTEX, AtMost(2.0)),
    Row("ipc: 64 B received / socket", ipc::events::SMALL, OURS, SOCKET, AtLeast(2.0)),
    Row("ipc: 64 B, by each of four / socket", ipc::events::SMALL, ipc::events::OF_FOUR, SOCKET, AtLeast(0.35)),
    Row("ipc: 64 KiB received / socket", ipc::events::LARGE, OURS, SOCKET, AtLeast(0.8)),
    Row("ipc: 64 KiB, by each of four / socket", ipc::events::LARGE, ipc::events::OF_FOUR, SOCKET, AtLeast(0.2)),
    Row("ipc: items, one to one / socket", ipc::queues::ITEMS, OURS, SOCKET, AtLeast(2.5)),
    Row("ipc: items, four to four / socket", ipc::queues::ITEMS, ipc::queues::FOUR, SOCKET, AtLeast(2.0)),
    Row("memory publish → receive / broadcast", memory::EVENT, OURS, "broadcast", AtLeast(0.8)),
    Row("message, 10,000 topics, others idle / one", memory::TOPICS, "others idle", "one", AtMost(1.3)),
    Row("message, 10,000 topics, in turns / one", memory::TOPICS, "in turns", "one", AtMost(1.3)),
    Row("message, 1,000 patterns, in turns / one", memory::PATTERNS, "many", "one", AtMost(1.3)),
    Row("call, 1,000 callers, in turns / one", memory::CALLERS, "many", "one", AtMost(1.3)),
    Row("put, get with 1,000,000 items / one", memory::BACKLOG, "many", "one", AtMost(1.3)),
    Row("Redis: message, 10,000 topics, in turns / one", growth::TOPICS, "10000", "1", AtMost(1.3)),
    Row("Redis: message, 10,000 idle / one", growth::IDLE, "10000", "1", AtMost(1.3)),
    Row("Redis: put, get with 1,000,000 items / one", growth::ITEMS, "1000000", "1", AtMost(1.3)),
    Row("Redis: put, get with 10,000 idle queues / one", growth::QUEUES, "10000", "1", AtMost(1.3)),
    Row("Python call, p50 / raw two-hop", calls::ONE, PYTHON, RAW, AtMost(1.4)),
    Row("Python call, p50 / original", calls::ONE, PYTHON, ORIGINAL, AtMost(0.067)),
    Row("Python calls, 8 threads / original", calls::THREADS, PYTHON, ORIGINAL, AtLeast(60.0)),
    Row("Python typed events received / original", events::TYPED, PYTHON, ORIGINAL, AtLeast(60.0)),
    Row("Python publish, one by one / original", events::PUBLISH_ONE, PYTHON, ORIGINAL, AtLeast(4.0)),
    Row("Python put / original", queues::PUT, PYTHON, ORIGINAL, AtLeast(4.0)),
    Row("Python get / original", queues::GET, PYTHON, ORIGINAL, AtLeast(4.0)),
    Row("Python publish, one by one / redis-py", events::PUBLISH_ONE, PYTHON, rivals::REDIS_PY, Unset),
    Row("Python publish, one by one / FastStream", events::PUBLISH_ONE, PYTHON, rivals::FASTSTREAM, Unset),
    Row("Python call, p50 / FastStream", calls::ONE, PYTHON, rivals::FASTSTREAM, Unset),
    Row("Python call, p50 / RPyC", calls::ONE, PYTHON, rivals::RPYC, Unset),
    Row("Python call, p50 / Celery", calls::ONE, PYTHON, rivals::CELERY, Unset),
    Row("Python call, p50 / taskiq", calls::ONE, PYTHON, rivals::TASKIQ, Unset),
    Row("Python put / redis-py", queues::PUT, PYTHON, rivals::REDIS_PY, Unset),
    Row("Python put / Celery", queues::PUT, PYTHON, rivals::CELERY, Unset),
    Row("Python put / taskiq", queues::PUT, PYTHON, rivals::TASKIQ, Unset),
    Row("Python get / redis-py", queues::GET, PYTHON, rivals::REDIS_PY, Unset),
    Row("encode a typed event / msgspec Struct", python::ENCODE, PYTHON, "msgspec", AtMost(1.6)),
    Row("decode a typed event / msgspec Struct", python::DECODE, PYTHON, "msgspec", AtMost(1.6)),
    Row("import / original", python::IMPORT, PYTHON, ORIGINAL, Unset),
];

fn main() -> Outcome<()> {
    let options = match Role::from_arguments(std::env::args().skip(1))? {
        Role::Measure(options) => options,
        Role::ProvideRaw { address } => return calls::provide_raw(&address),
        Role::Provide { url } => return calls::provide(&url),
        Role::Publish { how } => return ipc::events::take_part(&how),
        Role::Work { work, url } => return ipc::queues::take_part(&work, &url),
        Role::Socket { work, path } => return ipc::limits::serve(&work, &path),
        Role::Weigh { what } => return worker::answer(|| memory::weigh(&what)),
        Role::Count { work, times, url } => return count::run(&work, times, &url),
    };
    if let Some(server) = options.server {
        cpu::server_is(server);
    }
    let mut works = Vec::new();
    for (name, measure) in WORKS {
        if options.wants(name) {
            writeln!(io::stderr(), "measuring {name} …")?;
            works.extend(measure(&options)?);
        }
    }
    works.retain(|work| !work.sides.is_empty());
    let lines: Vec<Line> = ROWS.iter().filter_map(|row| row.line(&works)).collect();
    write!(io::stdout(), "{}", table::text(&lines, &works))?;
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&Report::new(&options, &lines, &works))?)?;
    }
    if let Some(folder) = &options.plots {
        std::fs::write(folder.join("speed.svg"), plot::marks(&lines))?;
        if let Some(growth) = plot::growth(&works) {
            std::fs::write(folder.join("growth.svg"), growth)?;
        }
    }
    Ok(())
}

/// A run, as a program reads it.
#[derive(Serialize)]
struct Report<'a> {
    rounds: usize,
    /// How long each side was measured in a round, in seconds.
    span: f64,
    processors: usize,
    lines: &'a [Line],
    works: &'a [Work],
}

impl<'a> Report<'a> {
    fn new(options: &Options, lines: &'a [Line], works: &'a [Work]) -> Self {
        Self {
            rounds: options.pace.rounds,
            span: options.pace.span.as_secs_f64(),
            processors: std::thread::available_parallelism().map_or(0, Into::into),
            lines,
            works,
        }
    }
}

/// A runtime of one thread: more of them cost hand-offs, and on few processors much more than that.
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
