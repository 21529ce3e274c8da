//! The examples do what they say, in memory and between processes.
#![cfg(feature = "redis")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use server::RedisServer;

mod server;
#[cfg(all(feature = "ipc", target_os = "linux"))]
#[path = "place/shared.rs"]
mod shared;

/// Cargo builds the examples before the tests, beside them.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let program = target.join("examples").join(name);
    assert!(program.exists(), "{} is missing; run `cargo build --examples`", program.display());
    program
}

/// Runs an example to its end; gives the lines that it printed.
fn shown(name: &str, words: &[&str]) -> Vec<String> {
    let output = Command::new(program(name)).args(words).output().expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {errors}");
    let text = String::from_utf8(output.stdout).expect("examples print UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// An example that is talked to while it runs; killed with the test.
struct Talking {
    process: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
}

impl Talking {
    fn start(name: &str, words: &[&str]) -> Self {
        let mut process = Command::new(program(name))
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it runs");
        let from = BufReader::new(process.stdout.take().expect("it is piped"));
        let to = process.stdin.take();
        Self { process, to, from }
    }

    fn say(&mut self, line: &str) {
        let to = self.to.as_mut().expect("it still listens");
        writeln!(to, "{line}").expect("it reads");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("it writes UTF-8");
        line.trim_end().to_owned()
    }

    /// Says no more, and waits for its end.
    fn leave(mut self) {
        drop(self.to.take());
        assert!(self.process.wait().expect("it ends").success());
    }
}

impl Drop for Talking {
    fn drop(&mut self) {
        // It may have ended already, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn the_tour_shows_all_three_ways() {
    let ways: Vec<String> = shown("tour", &[])
        .iter()
        .map(|line| line.split("  ").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        ways,
        ["event", "pattern", "queue", "queue", "call", "call", "call all product(3, 5) = 15"]
    );
}

#[test]
fn in_memory_a_parrot_answers_in_the_chat() {
    let mut alone = Talking::start("chat", &[]);
    alone.say("anybody?");
    assert_eq!(alone.hear(), "(2 here)");
    assert_eq!(alone.hear(), "chat.lobby parrot: anybody?");
    alone.leave();
}

#[test]
fn people_in_two_processes_hear_each_other() {
    let server = RedisServer::start();
    let mut ann = Talking::start("chat", &["ann", &server.url()]);
    ann.say("anybody?");
    assert_eq!(ann.hear(), "(1 here)");
    let mut bob = Talking::start("chat", &["bob", &server.url()]);
    bob.say("/kitchen hello");
    assert_eq!(bob.hear(), "(2 here)");
    assert_eq!(ann.hear(), "chat.kitchen bob: hello");
    bob.leave();
    ann.leave();
}

#[test]
fn the_jobs_of_a_dropped_worker_are_done_by_others() {
    assert_all_jobs_done(&shown("work_queue", &[]));
}

#[test]
fn the_jobs_of_a_killed_process_are_done_by_others() {
    let server = RedisServer::start();
    assert_all_jobs_done(&shown("work_queue", &[&server.url()]));
}

#[cfg(all(feature = "ipc", target_os = "linux"))]
#[test]
fn the_jobs_of_a_killed_process_are_done_by_others_without_a_server() {
    let place = shared::Directory::new();
    assert_all_jobs_done(&shown("work_queue", &[&place.url()]));
}

#[cfg(all(feature = "ipc", target_os = "linux"))]
#[test]
fn people_in_two_processes_hear_each_other_without_a_server() {
    let place = shared::Directory::new();
    let mut ann = Talking::start("chat", &["ann", &place.url()]);
    ann.say("anybody?");
    assert_eq!(ann.hear(), "(1 here)");
    let mut bob = Talking::start("chat", &["bob", &place.url()]);
    bob.say("/kitchen hello");
    assert_eq!(bob.hear(), "(2 here)");
    assert_eq!(ann.hear(), "chat.kitchen bob: hello");
    bob.leave();
    ann.leave();
}

#[test]
fn a_supervisor_learns_how_the_bus_is_and_prometheus_what_it_did() {
    let server = RedisServer::start();
    let mut service = Talking::start("health", &[&server.url()]);
    let shown = service.hear();
    let host = shown.split('/').nth(2).expect("an address").to_owned();
    let ask = |path: &str| -> String {
        let mut stream = std::net::TcpStream::connect(&host).expect("it listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: here\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it writes UTF-8");
        answer
    };
    assert!(ask("/ready").starts_with("HTTP/1.1 200 OK"));
    let metrics = ask("/metrics");
    assert!(metrics.contains("pymq_queue_items{queue=\"jobs\",state=\"waiting\"} 1"), "{metrics}");
    assert!(ask("/else").starts_with("HTTP/1.1 404"));
    drop(server);
    while !ask("/ready").starts_with("HTTP/1.1 503") {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // It answers all the same: that the bus is away is what is scraped.
    assert!(ask("/metrics").contains("pymq_connected 0"));
}

fn assert_all_jobs_done(shown: &[String]) {
    let words: Vec<&str> = shown[0].split(' ').collect();
    let ["worker", killed, "has", "begun", "job", job, "and", "is", "killed"] = words[..] else {
        panic!("nobody was killed: {shown:?}");
    };
    let last = shown.last().expect("it printed more");
    assert!(last.starts_with(&format!("all 12 jobs are done; job {job} by worker ")), "{shown:?}");
    // Unless it was quicker than its killer.
    let quicker = shown.contains(&format!("worker {killed} has done job {job}"));
    assert!(quicker || !last.ends_with(&format!(" {killed}")), "{shown:?}");
}

#[test]
fn calculators_answer_one_by_one_and_all_together() {
    let in_memory = shown("calculator", &[]);
    assert_eq!(in_memory.last().map(String::as_str), Some("2 calculators have answered 3 calls"));

    let server = RedisServer::start();
    let mut serving = [(); 3].map(|()| Talking::start("calculator", &["serve", &server.url()]));
    for calculator in &mut serving {
        assert_eq!(calculator.hear(), "serving");
    }
    let mut between_processes = shown("calculator", &[&server.url()]);
    assert_eq!(between_processes.pop().as_deref(), Some("3 calculators have answered 3 calls"));
    assert_eq!(between_processes, in_memory[..3]);
}
