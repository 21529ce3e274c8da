//! The scene of a run without a server: a bus of its own in a folder in memory, workers, and what lies
//! on the bus.
//!
//! The one invariant: two runs share nothing. It looks at the bus as any process does, through the
//! library: there is no server behind it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pymq::transport::Shelf;
use pymq::{Bus, QueueStats, Result};
use tokio::runtime::Runtime;

use crate::check::Left;
use crate::crew::{self, Crew, GUARD, Hand, Kind};
use crate::report::Report;
use crate::scene::Setting;

/// A bus and a crew.
pub(crate) struct Local {
    pub(crate) crew: Crew,
    runtime: Runtime,
    place: PathBuf,
    folder: PathBuf,
}

impl Local {
    /// A bus in the memory of this machine.
    pub(crate) fn start(run: &str, setting: &Setting) -> Self {
        let name = run.replace(' ', "-");
        let place = format!("/dev/shm/pymq-faults-{}-{name}", std::process::id());
        Self::start_at(place.into(), run, setting)
    }

    /// A bus in a folder.
    pub(crate) fn start_at(place: PathBuf, run: &str, setting: &Setting) -> Self {
        let folder = crew::folder(run);
        let crew = Crew::new(folder.clone(), &setting.python, None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { crew, runtime: runtime.expect("a runtime of one thread"), place, folder }
    }

    pub(crate) fn url(&self) -> String {
        format!("ipc://{}", self.place.display())
    }

    pub(crate) fn hire(&self, kind: Kind, role: &str, options: &[String]) -> Hand {
        self.crew.hire(kind, role, &self.url(), options)
    }

    /// Waits for something on a bus.
    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// A connection.
    pub(crate) fn join(&self) -> std::result::Result<Bus, String> {
        self.run(Bus::connect(&self.url())).map_err(|error| error.to_string())
    }

    /// Joins the bus for one piece of work.
    pub(crate) fn on_bus<T>(&self, work: impl AsyncFnOnce(&Bus) -> Result<T>) -> Result<T> {
        self.run(async {
            let bus = Bus::connect(&self.url()).await?;
            let done = work(&bus).await;
            bus.close().await?;
            done
        })
    }

    fn stats(&self, queue: &str) -> Result<QueueStats> {
        self.on_bus(async |bus| bus.byte_queue(queue).stats().await)
    }

    /// What lies on the bus. What is held has no name there; it is to be none.
    pub(crate) fn left(&self, queue: &str) -> Result<Left> {
        self.on_bus(async |bus| {
            let queue = bus.byte_queue(queue);
            let waiting = queue.peek(Shelf::Waiting, usize::MAX).await?;
            let later = queue.peek(Shelf::Delayed, usize::MAX).await?;
            let dead = queue.peek(Shelf::Dead, usize::MAX).await?;
            let (waiting, later, dead) = (numbers(&waiting), numbers(&later), numbers(&dead));
            Ok(Left { waiting, later, held: Vec::new(), dead })
        })
    }

    /// Waits until nothing waits and nothing is held.
    pub(crate) fn drained(&self, queue: &str) -> std::result::Result<(), String> {
        let (mut best, mut until) = (usize::MAX, Instant::now() + GUARD);
        loop {
            let stats = self.stats(queue).map_err(|error| error.to_string())?;
            let count = stats.unfinished();
            if count == 0 {
                return Ok(());
            }
            if count < best {
                (best, until) = (count, Instant::now() + GUARD);
            }
            if Instant::now() > until {
                return Err(format!("{count} items of {queue:?} stay where they are: {stats:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends a run: what it wrote is kept if something is wrong.
    pub(crate) fn end(self, report: &mut Report) {
        if report.is_well() {
            crew::tidy(&self.folder);
            crew::tidy(&self.place);
        } else {
            let (folder, place) = (self.folder.display(), self.place.display());
            report.say(format!("histories and logs are in {folder}, the bus in {place}"));
        }
    }
}

fn numbers(items: &[Bytes]) -> Vec<u64> {
    let number = |item: &Bytes| std::str::from_utf8(item).ok()?.trim().parse().ok();
    // What is no number was put by nobody, which the checker says of this one.
    items.iter().map(|item| number(item).unwrap_or(u64::MAX)).collect()
}
