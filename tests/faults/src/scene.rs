//! The scene of a run: a server of its own, workers, and what lies on the server.
//!
//! The one invariant: two runs share nothing. It looks at the server behind the library's back and
//! knows the library's keys for that.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::check::Left;
use crate::crew::{self, Crew, GUARD, Hand, Kind};
use crate::report::Report;
use crate::server::{Answer, Raw, RedisServer};

/// What a run was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    /// How many items a storm is to see.
    pub(crate) items: u64,
    /// After how long a storm that is not done is given up.
    pub(crate) patience: Duration,
    /// The short version of everything.
    pub(crate) brief: bool,
    pub(crate) python: String,
    pub(crate) original: Option<String>,
    /// The peer of the interoperability tests in Rust.
    pub(crate) peer: Option<String>,
}

/// Keys of users begin so.
pub(crate) const PREFIX: &str = "__eventbus:global:";

/// A server and a crew.
pub(crate) struct Scene {
    pub(crate) server: RedisServer,
    pub(crate) crew: Crew,
    folder: std::path::PathBuf,
}

impl Scene {
    /// Starts the server of a run, with further arguments.
    pub(crate) fn start(run: &str, setting: &Setting, arguments: &[&str]) -> Self {
        let folder = crew::folder(run);
        let crew = Crew::new(folder.clone(), &setting.python, setting.original.as_deref());
        Self { server: RedisServer::start_with(arguments), crew, folder }
    }

    /// Starts a worker that talks to the server directly.
    pub(crate) fn hire(&self, kind: Kind, role: &str, options: &[String]) -> Hand {
        self.crew.hire(kind, role, &self.url(self.server.port()), options)
    }

    /// The address of a port on this machine.
    pub(crate) fn url(&self, port: u16) -> String {
        format!("redis://127.0.0.1:{port}")
    }

    /// The address for a user of the server with these rules, made anew.
    pub(crate) fn admit(&self, user: &str, rules: &[&str]) -> String {
        let words =
            ["ACL", "SETUSER", user, "reset", "on", ">secret", "~*", "allchannels", "+@all"];
        let answer = self.server.raw().run(&[&words[..], rules].concat());
        assert_eq!(answer, Answer::Text(b"OK".to_vec()), "{user}: {rules:?}");
        format!("redis://{user}:secret@127.0.0.1:{}", self.server.port())
    }

    /// Puts numbers behind the library's back.
    pub(crate) fn put(&self, queue: &str, items: impl IntoIterator<Item = u64>) {
        let mut raw = self.server.raw();
        for item in items {
            raw.run(&["LPUSH", &format!("{PREFIX}{queue}"), &item.to_string()]);
        }
    }

    /// How often the server has refused something, whatever it was, but for scripts that it did not
    /// know yet.
    pub(crate) fn refusals(&self) -> usize {
        let text = self.server.raw().run(&["INFO", "errorstats"]).text();
        let lines = text.lines().filter(|line| !line.contains("NOSCRIPT"));
        lines.filter_map(|line| line.split_once("count=")?.1.trim().parse::<usize>().ok()).sum()
    }

    /// What lies on the server.
    pub(crate) fn left(&self, queue: &str) -> Left {
        Self::left_at(&mut self.server.raw(), queue)
    }

    /// What lies on that server.
    pub(crate) fn left_at(server: &mut Raw, queue: &str) -> Left {
        // In one step: an item that is on its way from one list to another must not be in none.
        // A run may have put a key of another type in the place of a list.
        const LOOK: &str = "local function all(key) \
                local kind, found = redis.call('TYPE', key).ok, {} \
                if kind == 'list' then return redis.call('LRANGE', key, 0, -1) end \
                for _, later in ipairs(kind == 'zset' and redis.call('ZRANGE', key, 0, -1) or {}) do \
                    found[#found + 1] = string.match(later, '^[^:]*:(.*)$') end \
                return found end \
            local function every(pattern) local found = {} \
                for _, key in ipairs(redis.call('KEYS', pattern)) do \
                    for _, item in ipairs(all(key)) do found[#found + 1] = item end end \
                return found end \
            return {all(KEYS[1]), every(ARGV[1]), all(KEYS[2]), every(ARGV[2]), all(KEYS[3])}";
        let (list, side) = (format!("{PREFIX}{queue}"), format!("__pymq:{{{PREFIX}{queue}}}"));
        let (later, dead) = (format!("{side}:later"), format!("{side}:dead"));
        let (urgent, held) = (format!("{side}:urgent:*"), format!("{side}:held:*"));
        let words = ["EVAL", LOOK, "3", &list, &later, &dead, &urgent, &held];
        let answer = server.run(&words);
        let Answer::List(lists) = answer else { panic!("the server says {answer:?}") };
        let mut lists = lists.iter().map(|list| match list {
            Answer::List(items) => items.iter().filter_map(number).collect(),
            _ => Vec::new(),
        });
        let mut next = || lists.next().unwrap_or_default();
        let (mut waiting, urgent, later, held, dead) = (next(), next(), next(), next(), next());
        waiting.extend::<Vec<u64>>(urgent);
        Left { waiting, later, held, dead }
    }

    /// Waits until nothing waits, is due later, or is held.
    pub(crate) fn drained(&self, queue: &str) -> Result<(), String> {
        Self::drained_at(&mut self.server.raw(), queue)
    }

    /// The same for that server.
    pub(crate) fn drained_at(server: &mut Raw, queue: &str) -> Result<(), String> {
        let (mut best, mut until) = (usize::MAX, Instant::now() + GUARD);
        loop {
            let left = Self::left_at(server, queue);
            let count = left.unfinished();
            if count == 0 {
                return Ok(());
            }
            if count < best {
                (best, until) = (count, Instant::now() + GUARD);
            }
            if Instant::now() > until {
                return Err(format!("{count} items of {queue:?} stay where they are: {left:?}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends a run: what it wrote is kept if something is wrong.
    pub(crate) fn end(self, report: &mut Report) {
        if report.is_well() {
            crew::tidy(&self.folder);
        } else {
            report.say(format!("histories and logs are in {}", self.folder.display()));
        }
    }
}

/// Waits until something holds that nobody announces.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) -> Result<(), String> {
    let guard = Instant::now() + GUARD;
    while !holds() {
        if Instant::now() > guard {
            return Err(format!("waited in vain until {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn number(stored: &Answer) -> Option<u64> {
    let Answer::Text(bytes) = stored else { return None };
    // The item is the last part of a dead letter.
    let item = bytes.rsplit(|byte| *byte == 0).next()?;
    match serde_json::from_slice(item).ok()? {
        // With something said beside it.
        Value::Object(members) => members.get("__obj")?.as_u64(),
        plain => plain.as_u64(),
    }
}
