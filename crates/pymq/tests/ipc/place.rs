//! Where a bus of these tests lies, and the processes on it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pymq::{Bus, Error};

use crate::shared::Directory;

/// What tells a child what it is, and where the bus lies.
pub(crate) const ROLE: &str = "PYMQ_IPC_ROLE";
pub(crate) const PLACE: &str = "PYMQ_IPC_PLACE";
pub(crate) const NUMBER: &str = "PYMQ_IPC_NUMBER";

/// A bus, in a directory of the test's own.
pub(crate) struct Place(Directory);

impl Place {
    pub(crate) fn new() -> Self {
        Self(Directory::new())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn url(&self) -> String {
        self.0.url()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path().join("bus")
    }

    pub(crate) async fn bus(&self) -> Bus {
        Bus::connect(&self.url()).await.expect("the bus can be joined")
    }

    pub(crate) async fn refusal(&self) -> Error {
        Bus::connect(&self.url()).await.expect_err("it is refused")
    }

    pub(crate) fn child(&self, role: &str, number: usize) -> Peer {
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_child", "--ignored", "--nocapture", "--quiet"])
            .env(ROLE, role)
            .env(PLACE, self.url())
            .env(NUMBER, number.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let written = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                written.lock().expect("no panic").push(line);
            }
        });
        Peer { process, lines, reader: Some(reader) }
    }
}

/// A child; killed when it is dropped.
pub(crate) struct Peer {
    pub(crate) process: Child,
    pub(crate) lines: Arc<Mutex<Vec<String>>>,
    pub(crate) reader: Option<JoinHandle<()>>,
}

impl Peer {
    pub(crate) async fn has_said(&self, word: &str) {
        until(word, async || {
            self.lines.lock().expect("no panic").iter().any(|line| line.ends_with(word))
        })
        .await;
    }

    pub(crate) fn failed(&self, operation: &str) -> bool {
        let said = format!("{operation} failed ");
        self.lines.lock().expect("no panic").iter().any(|line| line.starts_with(&said))
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        until("a child to end", async || {
            status = self.process.try_wait().expect("it is a child of ours");
            status.is_some()
        })
        .await;
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        status.expect("it was waited for")
    }

    /// Kills it as `kill -9` does, and says what it had said.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        let ended = self.process.try_wait().expect("it is a child of ours");
        self.process.kill().expect("it is a child of ours");
        self.process.wait().expect("it ends");
        if let Some(reader) = self.reader.take() {
            reader.join().expect("no panic");
        }
        let lines = std::mem::take(&mut *self.lines.lock().expect("no panic"));
        let by_itself = ended.filter(|_| !std::thread::panicking());
        assert!(by_itself.is_none(), "a child ended by itself: {ended:?} {lines:?}");
        lines
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.kill();
        }
    }
}

pub(crate) async fn until(what: &str, mut asked: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !asked().await {
        assert!(begun.elapsed() < Duration::from_secs(180), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether this test may do what only the administrator may.
pub(crate) fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").expect("it is there")) == 0
}
