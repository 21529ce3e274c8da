//! Worker processes: started, killed, stopped, and what they wrote.
//!
//! The one invariant: a worker dies with its [`Hand`], and its history stays. What it does is said
//! in `worker.rs` and `worker.py`, which read the same command line.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::history::{self, Line, What};

/// Nothing takes so long unless it hangs.
pub(crate) const GUARD: Duration = Duration::from_secs(90);

/// Whose library a worker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Rust,
    Python,
    /// The original, from the package index, in an environment of its own.
    Original,
}

impl Kind {
    /// Ours.
    pub(crate) const OURS: [Self; 2] = [Self::Rust, Self::Python];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::Original => "original",
        }
    }
}

/// Where workers come from.
#[derive(Debug)]
pub(crate) struct Crew {
    folder: PathBuf,
    python: String,
    original: Option<String>,
    hired: AtomicUsize,
}

impl Crew {
    /// Workers that write into `folder`.
    pub(crate) fn new(folder: PathBuf, python: &str, original: Option<&str>) -> Self {
        std::fs::create_dir_all(&folder).expect("the temporary folder is writable");
        let original = original.map(str::to_owned);
        Self { folder, python: python.to_owned(), original, hired: AtomicUsize::new(0) }
    }

    /// Whether workers of the original can be had.
    pub(crate) fn has_originals(&self) -> bool {
        self.original.is_some()
    }

    /// A path beside the histories.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Starts a worker; `options` are words like `lease=1.5`.
    pub(crate) fn hire(&self, kind: Kind, role: &str, url: &str, options: &[String]) -> Hand {
        self.hire_through(&[], kind, role, url, options)
    }

    /// Starts a worker by way of another program, e.g. `ip netns exec …`.
    pub(crate) fn hire_through(
        &self,
        way: &[&str],
        kind: Kind,
        role: &str,
        url: &str,
        options: &[String],
    ) -> Hand {
        let number = self.hired.fetch_add(1, Ordering::Relaxed);
        let name = format!("{number}-{}-{role}", kind.name());
        let history = self.folder.join(format!("{name}.history"));
        let log = std::fs::File::create(self.folder.join(format!("{name}.log")));
        let mut words: Vec<String> = way.iter().map(|&word| word.to_owned()).collect();
        words.extend(self.program(kind));
        words.extend([role.to_owned(), url.to_owned(), history.display().to_string()]);
        words.extend_from_slice(options);
        let process = Command::new(&words[0])
            .args(&words[1..])
            // Where a panic is asked for, finding the names of its callers stops a loaded worker for seconds.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log.expect("the folder of histories is writable"))
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", words[0]));
        Hand { kind, name, history, process, fate: Fate::Working, stopped: false }
    }

    fn program(&self, kind: Kind) -> Vec<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/worker.py").to_owned();
        match kind {
            Kind::Rust => {
                let own = std::env::current_exe().expect("this program has a path");
                vec![own.display().to_string(), "worker".to_owned()]
            }
            Kind::Python => vec![self.python.clone(), script],
            Kind::Original => {
                let original = self.original.clone();
                vec![original.expect("asked for only where there are originals"), script]
            }
        }
    }
}

/// How a worker ended, or has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Working,
    Killed,
    Finished,
}

/// What a worker did, from beginning to end.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// Number, kind and role.
    pub(crate) name: String,
    pub(crate) fate: Fate,
    /// It was stopped for a while, so that its leases may have run out.
    pub(crate) stopped: bool,
    pub(crate) lines: Vec<Line>,
}

/// The stories of several.
pub(crate) fn stories<'a>(hands: impl IntoIterator<Item = &'a Hand>) -> Result<Vec<Story>, String> {
    hands.into_iter().map(Hand::story).collect()
}

/// A worker process.
#[derive(Debug)]
pub(crate) struct Hand {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) fate: Fate,
    stopped: bool,
    history: PathBuf,
    process: Child,
}

impl Hand {
    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.fate = Fate::Killed;
        // An error says that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Or a thousand dead ones keep a thousand pipes.
        drop(self.process.stdin.take());
    }

    /// SIGSTOP: it is there and does nothing.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    /// Asks it to end in good order, and waits for that.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        drop(self.process.stdin.take());
        let status = self.ended(GUARD)?;
        self.fate = Fate::Finished;
        if status.success() { Ok(()) } else { Err(self.complaint(&format!("ended with {status}"))) }
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self, within: Duration) -> Result<ExitStatus, String> {
        let until = Instant::now() + within;
        loop {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Ok(status);
            }
            if Instant::now() > until {
                return Err(self.complaint("does not end"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it is still there.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it wrote.
    pub(crate) fn lines(&self) -> Result<Vec<Line>, String> {
        history::read(&self.history)
    }

    /// All of it, for the checker.
    pub(crate) fn story(&self) -> Result<Story, String> {
        let Self { ref name, fate, stopped, .. } = *self;
        Ok(Story { name: name.clone(), fate, stopped, lines: self.lines()? })
    }

    /// Waits for a line.
    pub(crate) fn line(
        &self,
        within: Duration,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<Line, String> {
        let until = Instant::now() + within;
        let mut reader = history::Reader::of(&self.history);
        loop {
            if let Some(line) = reader.next_lines()?.into_iter().find(|line| wanted(line)) {
                return Ok(line);
            }
            if Instant::now() > until {
                return Err(self.complaint("never wrote what was waited for"));
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// How many lines of a kind it wrote.
    pub(crate) fn count(&self, what: What) -> Result<usize, String> {
        Ok(self.lines()?.iter().filter(|line| line.what == what).count())
    }

    /// An error about it, with the end of what it said.
    pub(crate) fn complaint(&self, what: &str) -> String {
        let log = std::fs::read_to_string(self.history.with_extension("log")).unwrap_or_default();
        let from = log.len().saturating_sub(2000);
        let end: String = log.chars().skip(from).collect();
        let last = self.lines().ok().and_then(|lines| lines.last().cloned());
        format!("worker {} {what}; its last line: {last:?}; it said:\n{end}", self.name)
    }

    fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid} works");
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        if self.fate == Fate::Working {
            self.kill();
        }
    }
}

/// The folder of a run, removed when it went well.
pub(crate) fn folder(run: &str) -> PathBuf {
    let name = format!("pymq-faults-{}-{}", std::process::id(), run.replace(' ', "-"));
    std::env::temp_dir().join(name)
}

/// Forgets what a run wrote.
pub(crate) fn tidy(folder: &Path) {
    // Gone already is as good.
    let _ = std::fs::remove_dir_all(folder);
}
