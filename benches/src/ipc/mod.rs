//! Processes of one machine without a server, beside what the system takes at least.
//!
//! Every figure stands beside a raw limit of the same run ([`limits`]): two processes that wake each
//! other by a word of memory, or by a socket, and do nothing else. Those know no queue, no names, no
//! second subscriber and no death.

use std::path::PathBuf;

use pymq::{Bus, blocking};
use tokio::runtime::Runtime;

use crate::options::Options;
use crate::python::local_caller;
use crate::round::{Side, Unit, Work, late_time, middle_time, rate};
use crate::sample::text;
use crate::worker::Worker;
use crate::{OURS, Outcome, PYTHON, runtime};

pub(crate) mod events;
pub(crate) mod limits;
pub(crate) mod lives;
pub(crate) mod queues;

pub(crate) const CALL: &str = "without a server: call, one at a time";
pub(crate) const LATE: &str = "without a server: the slowest call of a hundred";
pub(crate) const NOBODY: &str = "without a server: publish to nobody";
/// The caller is a thread that waits, of a program without a runtime.
pub(crate) const WAITING: &str = "a thread that waits";

const FUNCTION: &str = "benches.echo";

/// A folder for the bus and what the raw limits share, which goes with the measurement.
pub(crate) struct Folder(PathBuf);

impl Folder {
    fn new() -> Outcome<Self> {
        let path = PathBuf::from(format!("/dev/shm/pymq-benches-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        // As a bus wants its directory.
        let own = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&path, own)?;
        Ok(Self(path))
    }

    fn url(&self) -> String {
        format!("ipc://{}", self.0.display())
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It is in memory, and ends with the machine at the latest.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// All of it.
pub(crate) fn measure(options: &Options) -> Outcome<Vec<Work>> {
    if !cfg!(target_os = "linux") {
        return Ok(Vec::new());
    }
    let folder = Folder::new()?;
    let url = folder.url();
    let runtime = runtime()?;
    let bus = runtime.block_on(Bus::connect(&url))?;
    let mut works = calls(options, &folder, &runtime, &bus)?;
    works.extend(events::measure(options, &folder, &runtime, &bus)?);
    works.extend(queues::measure(options, &folder, &runtime, &bus)?);
    works.push(publish_to_nobody(options, &runtime, &bus)?);
    works.extend(lives::measure(options, &folder, &runtime, &bus)?);
    Ok(works)
}

fn calls(options: &Options, folder: &Folder, runtime: &Runtime, bus: &Bus) -> Outcome<Vec<Work>> {
    let url = folder.url();
    let _provider = Worker::own(&["provide", &url])?;
    let (stub, text) = (bus.stub::<(String,), String>(FUNCTION), text());
    let waiting = blocking::Bus::connect(&url)?;
    let waiting = waiting.stub::<(String,), String>(FUNCTION);
    let mut python = local_caller(options, &url)?;
    let mut futex = limits::Futexes::new(&folder.path("futexes"))?;
    let mut socket = limits::packets(&folder.path("echo"), "echo", 64)?;
    let works = [
        (CALL, (|span, once| middle_time(span, once)) as limits::Timed),
        (LATE, late_time as limits::Timed),
    ];
    let mut measured = Vec::new();
    for (name, timed) in works {
        let mut sides = vec![
            Side::new(limits::FUTEX, |span| timed(span, &mut || futex.exchange())),
            Side::new(limits::SOCKET, |span| timed(span, &mut || socket.exchange())),
            Side::new(OURS, |span| {
                timed(span, &mut || Ok(runtime.block_on(stub.call((text.clone(),))).map(drop)?))
            }),
            Side::new(WAITING, |span| {
                timed(span, &mut || Ok(waiting.call((text.clone(),)).map(drop)?))
            }),
        ];
        if name == CALL {
            sides.extend(python.as_mut().map(|python| python.side(PYTHON, "call")));
        }
        measured.push(Work::measure(name, Unit::Microseconds, options.pace, sides)?);
    }
    Ok(measured)
}

fn publish_to_nobody(options: &Options, runtime: &Runtime, bus: &Bus) -> Outcome<Work> {
    let (topic, text) = (bus.topic::<String>("benches.nobody"), text());
    let ours = Side::new(OURS, |span| {
        rate(span, || {
            runtime.block_on(async {
                for _ in 0..1000 {
                    topic.publish(&text).await?;
                }
                Ok(1000)
            })
        })
    });
    Work::measure(NOBODY, Unit::PerSecond, options.pace, vec![ours])
}
