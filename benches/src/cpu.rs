//! What an operation takes of the processors: on few of them that is the truer figure than a rate.
//!
//! Counted by the system, in this process and those that it started (both ends of a call), and in
//! the server. Where the system does not tell, nothing is said. It knows no work.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;

use serde::Serialize;

/// The server's process, where it is known.
static SERVER: OnceLock<u32> = OnceLock::new();

/// Says which process the server is; the first word counts.
pub(crate) fn server_is(process: u32) {
    let _ = SERVER.set(process);
}

/// Microseconds of processor for one operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Cost {
    /// On this side of the socket, providers included.
    pub(crate) ours: f64,
    /// In the server, where there is one.
    pub(crate) server: f64,
}

/// What had been used when it was started.
pub(crate) struct Meter {
    ours: Option<f64>,
    server: f64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        let server = SERVER.get().and_then(|server| of_process(*server));
        Self { ours: of_all(std::process::id()), server: server.unwrap_or_default() }
    }

    /// What each of so many operations took since.
    pub(crate) fn cost_of(&self, operations: usize) -> Option<Cost> {
        let now = Self::start();
        let each = |used: f64| used / operations as f64;
        (operations > 0).then_some(())?;
        Some(Cost { ours: each(now.ours? - self.ours?), server: each(now.server - self.server) })
    }
}

/// Microseconds used so far by a process and those below it.
fn of_all(first: u32) -> Option<f64> {
    let mut below: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = parent(process) {
            below.entry(parent).or_default().push(process);
        }
    }
    let (mut used, mut left) = (of_process(first)?, below.remove(&first).unwrap_or_default());
    while let Some(process) = left.pop() {
        used += of_process(process).unwrap_or_default();
        left.extend(below.remove(&process).unwrap_or_default());
    }
    Some(used)
}

fn parent(process: u32) -> Option<u32> {
    status(process, 1)
}

/// A field of a process's status; the name in brackets, which may hold anything, is not counted.
fn status<T: std::str::FromStr>(process: u32, field: usize) -> Option<T> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    status.rsplit_once(')')?.1.split_whitespace().nth(field)?.parse().ok()
}

/// Microseconds used so far by a process.
///
/// Of threads that live the system tells nanoseconds, of those that have ended hundredths of a
/// second; what says more has seen more.
fn of_process(process: u32) -> Option<f64> {
    const TICK: f64 = 1e4;
    let threads = fs::read_dir(format!("/proc/{process}/task")).ok()?.flatten();
    let alive = threads.filter_map(|thread| {
        let used = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        used.split_whitespace().next()?.parse::<f64>().ok()
    });
    let alive = alive.sum::<f64>() / 1e3;
    let (user, system): (f64, f64) = (status(process, 11)?, status(process, 12)?);
    Some(alive.max((user + system) * TICK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_and_shared_out() {
        let meter = Meter::start();
        let mut sum = 0_u64;
        while meter.cost_of(1).is_some_and(|cost| cost.ours < 1_000.0) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(meter.cost_of(0).is_none());
        if let (Some(one), Some(ten)) = (meter.cost_of(1), meter.cost_of(10)) {
            assert!(ten.ours < one.ours);
        }
    }
}
