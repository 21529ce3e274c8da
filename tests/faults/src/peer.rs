//! A peer of the interoperability tests, which does one thing after the other as it is told.
//!
//! The one invariant: one command, one answer, or an error that says what the peer said. The lines
//! are those of `tests/interop/peer.py`; the peer in Rust speaks them too.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use serde_json::{Value, json};

use crate::crew::{GUARD, Kind};

/// A process that obeys.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
    number: u64,
}

impl Peer {
    /// Starts one; `program` is the peer in Rust, or the interpreter of the one in Python.
    pub(crate) fn start(kind: Kind, program: &str, url: &str) -> Result<Self, String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../interop/peer.py");
        let mut command = Command::new(program);
        if kind != Kind::Rust {
            command.arg(script);
        }
        let process = command
            .args([url, "peer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut process = process.map_err(|error| format!("{program}: {error}"))?;
        let (Some(orders), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(format!("{program} has no pipes"));
        };
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let peer = Self { process, orders, answers, number: 0 };
        peer.next()?;
        Ok(peer)
    }

    /// Sends a command; its answer is the next that [`finish`](Self::finish) gives.
    pub(crate) fn begin(&mut self, mut command: Value) -> Result<(), String> {
        self.number += 1;
        command["id"] = json!(self.number);
        writeln!(self.orders, "{command}").map_err(|error| format!("a peer is gone: {error}"))
    }

    /// Waits for the answer: what came, or the class of the error. The outer error is a hang.
    pub(crate) fn finish(&mut self) -> Result<Result<Value, String>, String> {
        let answer = self.next()?;
        match answer["error"][0].as_str() {
            Some(class) => Ok(Err(class.to_owned())),
            None => Ok(Ok(answer["value"].clone())),
        }
    }

    /// Does a command.
    pub(crate) fn run(&mut self, command: Value) -> Result<Result<Value, String>, String> {
        self.begin(command)?;
        self.finish()
    }

    fn next(&self) -> Result<Value, String> {
        let line = self.answers.recv_timeout(GUARD);
        let line = line.map_err(|error| format!("a peer gives no answer: {error}"))?;
        serde_json::from_str(&line).map_err(|error| format!("{line:?}: {error}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
