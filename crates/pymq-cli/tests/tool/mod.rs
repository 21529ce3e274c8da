//! The program as its users run it: words in, a code and two streams out.
//!
//! The one invariant: nothing runs for longer than a minute, and no process outlives its test.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test binary uses its own part of this module"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

#[path = "../../../pymq/tests/server/mod.rs"]
pub mod server;

const GUARD: Duration = Duration::from_secs(180);

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ended {
    /// The standard output of a command that succeeded.
    #[track_caller]
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// The lines of one that succeeded, as JSON.
    #[track_caller]
    pub fn objects(self) -> Vec<serde_json::Value> {
        let lines = self.done();
        let read = |line| serde_json::from_str(line).expect("each line is an object");
        lines.lines().map(read).collect()
    }

    /// The sentence of one that ended with a code.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self.err
    }
}

/// The program, told which bus.
pub fn pymq(url: &str, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pymq"));
    command.args(words).env("PYMQ_URL", url).env("PYMQ_CONFIG", "/nowhere/config.toml");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
pub fn run(url: &str, words: &[&str]) -> Ended {
    finish(pymq(url, words).spawn().expect("it starts"))
}

/// The same with an input.
pub fn run_with(url: &str, words: &[&str], input: &str) -> Ended {
    let mut child = pymq(url, words).stdin(Stdio::piped()).spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // One that has ended already does not read.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    finish(child)
}

/// Waits for a command that runs.
pub fn finish(mut child: Child) -> Ended {
    let err = child.stderr.take().expect("it is piped");
    let out = child.stdout.take();
    let (err, out) = (reading(err), out.map(reading));
    let code = wait(&mut child);
    let text = |read: std::thread::JoinHandle<String>| read.join().expect("it reads to the end");
    Ended { code, err: text(err), out: out.map(text).unwrap_or_default() }
}

fn reading(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("a pipe can be read");
        String::from_utf8(bytes).expect("the program writes UTF-8")
    })
}

fn wait(child: &mut Child) -> Option<i32> {
    let (ended, watched) = mpsc::channel::<()>();
    let id = child.id().to_string();
    let guard = std::thread::spawn(move || {
        let hangs = watched.recv_timeout(GUARD) == Err(mpsc::RecvTimeoutError::Timeout);
        // An error says that it has ended in this moment.
        let _ = hangs.then(|| Command::new("kill").args(["-KILL", &id]).status());
        hangs
    });
    let status = child.wait().expect("a child can be waited for");
    drop(ended);
    assert!(!guard.join().expect("it only waits"), "the command hangs");
    status.code()
}

/// A command that runs until its test ends it.
pub struct Running {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(url: &str, words: &[&str]) -> Self {
        let mut child = pymq(url, words).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, lines }
    }

    /// Its next line.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("the program writes UTF-8");
        line.trim_end().to_owned()
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let done = Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(done.expect("kill(1) is there").success());
    }

    /// Waits for its end.
    pub fn end(&mut self) -> Ended {
        let err = reading(self.child.stderr.take().expect("it is piped"));
        let code = wait(&mut self.child);
        let mut out = String::new();
        self.lines.read_to_string(&mut out).expect("the program writes UTF-8");
        Ended { code, out, err: err.join().expect("it reads to the end") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + GUARD;
    while !so() {
        assert!(Instant::now() < deadline, "not so: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until somebody subscribes to a topic, or provides a function.
pub fn until_listed(url: &str, name: &str) {
    until(name, || {
        let listed = run(url, &["ls", "--json"]).objects();
        listed.iter().any(|thing| thing["name"] == name)
    });
}
