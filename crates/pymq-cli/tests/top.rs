//! The live view, in a real terminal (tmux) where there is one, and as objects for programs.

use std::process::Command;

use tool::server::RedisServer;
use tool::{Running, run, until, until_listed};

mod tool;

/// A terminal of 80 columns and 24 rows.
struct Terminal(String);

impl Terminal {
    /// Nothing where tmux is not there.
    fn start(url: &str) -> Option<Self> {
        let socket = format!("pymq-top-{}", std::process::id());
        let terminal = Self(socket);
        let program = env!("CARGO_BIN_EXE_pymq");
        let command = format!("PYMQ_URL={url} {program} top --every 0.2; echo ended with $?; cat");
        let words = ["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", &command];
        let started = terminal.tmux(&words).is_some();
        started.then_some(terminal)
    }

    fn tmux(&self, words: &[&str]) -> Option<String> {
        let asked = Command::new("tmux").args(["-L", &self.0]).args(words).output().ok()?;
        asked.status.success().then(|| String::from_utf8_lossy(&asked.stdout).into_owned())
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).unwrap_or_default()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]).expect("the terminal is there");
    }

    #[track_caller]
    fn shows(&self, what: &str) {
        until(what, || self.screen().contains(what));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn faults_are_seen_on_the_screen_and_dead_letters_come_back_from_there() {
    let server = RedisServer::start();
    let url = server.url();
    let dead = "__pymq:{__eventbus:global:graves}:dead";
    for number in 0..500 {
        server.raw().run(&["LPUSH", dead, &number.to_string()]);
    }
    run(&url, &["put", "stuck", "1", "2", "3"]).done();
    let serve = Running::start(&url, &["serve", "hangs", "--", "cat"]);
    until_listed(&url, "hangs");
    serve.signal("STOP");
    server.raw().run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    // As a subscriber of the original: a client of whatever library.
    let mut old = server.raw();
    old.run(&["SUBSCRIBE", "__eventbus:global:news"]);
    // Where there is no tmux, no terminal can be had to try it in.
    let Some(terminal) = Terminal::start(&url) else { return };
    terminal.shows("1 NOT ANSWERING");
    for alarm in [
        "! function hangs: 1 provider does not answer",
        "! queue stuck: 3 items wait, and nobody takes any",
        "! queue graves: 500 dead letters",
        "! maxmemory-policy: allkeys-lru: a full server deletes whole queues",
        "! persistence: none",
        "! old peers: a client that is not of this library waits",
    ] {
        terminal.shows(alarm);
    }
    // In one look, which must not have come while it was drawn.
    until("all is listed and fits", || {
        let screen = terminal.screen();
        screen.lines().any(|line| line.starts_with("graves") && line.contains(" 500 "))
            && screen.lines().all(|line| line.chars().count() <= 80)
            && screen.lines().last().is_some_and(|line| line.starts_with("q quit"))
    });
    terminal.press("Enter");
    terminal.shows("queue graves");
    terminal.press("x");
    terminal.press("r");
    terminal.shows("move the dead letters of graves back? y/n");
    terminal.press("y");
    terminal.shows("moved 500 items into graves");
    assert_eq!(server.raw().run(&["LLEN", dead]).number(), 0);
    for key in ["/", "s", "t", "u", "Enter"] {
        terminal.press(key);
    }
    until("only what fits is listed", || {
        let screen = terminal.screen();
        screen.contains("stuck") && !screen.contains("graves") && screen.contains("/stu")
    });
    terminal.press("Space");
    terminal.shows("PAUSED");
    terminal.press("Space");
    // What is resized is drawn anew.
    for (columns, rows) in [("30", "8"), ("200", "50"), ("80", "24")] {
        terminal.tmux(&["resize-window", "-x", columns, "-y", rows]).expect("it is resized");
        until("it fits", || {
            let screen = terminal.screen();
            let (columns, rows): (usize, usize) = (parsed(columns), parsed(rows));
            screen.lines().count() <= rows
                && screen.lines().all(|line| line.chars().count() <= columns)
                && screen.lines().next().is_some_and(|line| line.starts_with("pymq top"))
        });
    }
    serve.signal("KILL");
    terminal.shows("! function hangs: nobody provides it any more");
    terminal.press("q");
    terminal.shows("ended with 0");
}

#[test]
fn calls_are_timed_when_they_pass_and_not_when_it_is_looked() {
    let server = RedisServer::start();
    let url = server.url();
    let _serve = Running::start(&url, &["serve", "shop.echo", "--", "sleep 0.02; cat"]);
    until_listed(&url, "shop.echo");
    let mut top = Running::start(&url, &["top", "--json", "--every", "1"]);
    until("it listens", || server.raw().run(&["PUBSUB", "NUMPAT"]).number() >= 2);
    run(&url, &["call", "shop.echo", "1"]).done();
    let took = loop {
        let thing: serde_json::Value = serde_json::from_str(&top.line()).expect("an object");
        if let Some(took) = thing["p50"].as_f64() {
            break took;
        }
    };
    assert!(took >= 0.02, "{took}");
}

fn parsed(number: &str) -> usize {
    number.parse().expect("a number")
}

#[test]
fn programs_get_one_object_for_each_thing_and_look() {
    let server = RedisServer::start();
    let url = server.url();
    run(&url, &["put", "jobs", "1", "2"]).done();
    let _serve = Running::start(&url, &["serve", "shop.echo", "--", "cat"]);
    until_listed(&url, "shop.echo");
    let seen = run(&url, &["top", "--json", "-n", "2", "--every", "0.1"]).objects();
    let named = |name: &str| seen.iter().filter(|thing| thing["name"] == name).count();
    assert_eq!((named("jobs"), named("shop.echo")), (2, 2), "{seen:?}");
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let said = run("memory://", &["top"]).failed(2);
    assert!(said.contains("top draws on a terminal"), "{said}");
}
