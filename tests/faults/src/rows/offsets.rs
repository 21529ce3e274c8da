//! What a failed master had and its successor has not, by the servers' own offsets.
//!
//! The one invariant: everything that was done before the last [`sure`](Offsets::sure) is at every replica,
//! by their own word; so whoever is master next has it.

use std::time::Duration;

use crate::check::Alone;
use crate::history::now;
use crate::report::Report;
use crate::scene::until;
use crate::server::{Answer, Raw};

/// The history of one master after the other.
pub(super) struct Offsets {
    /// How many replicas a master has.
    replicas: u32,
    /// A key that lies there.
    key: String,
    sure: Sure,
    alone: Alone,
}

/// A moment whose past is at all replicas.
#[derive(Default)]
struct Sure {
    at: Duration,
    history: String,
    offset: i64,
}

impl Offsets {
    /// Those of a master with so many replicas that has a slot of that key.
    pub(super) fn of(replicas: u32, key: String) -> Self {
        Self { replicas, key, sure: Sure::default(), alone: Alone::default() }
    }

    /// Has all replicas take what was done until now.
    pub(super) fn sure(&mut self, master: impl Fn() -> Raw) -> Result<(), String> {
        let replicas = self.replicas.to_string();
        // One that is no master any more refuses, and the next one is asked.
        until("all replicas have what their master did", || {
            let (mut master, at) = (master(), now());
            let standing = Standing::of(&mut master);
            master.run(&["SET", &self.key, "sure"]);
            let confirmed = match master.run(&["WAIT", &replicas, "5000"]) {
                Answer::Number(confirmed) => confirmed,
                _ => 0,
            };
            let all = confirmed >= i64::from(self.replicas);
            if all {
                if !self.sure.history.is_empty() && self.sure.history != standing.history {
                    self.alone.add(self.sure.at, at);
                }
                self.sure = Sure { at, history: standing.history, offset: standing.offset };
            }
            all
        })
    }

    /// What a failed master has by now that its successor, one of the others, has not: it goes when they meet.
    pub(super) fn goes(
        failed: &mut Raw,
        others: impl IntoIterator<Item = Raw>,
        report: &mut Report,
    ) {
        let failed = Standing::of(failed);
        let mut others = others.into_iter().map(|mut other| Standing::of(&mut other));
        if let Some(successor) = others.find(|other| other.before == failed.history) {
            let bytes = usize::try_from(failed.offset + 1 - successor.from).unwrap_or(0);
            report.count("bytes that cut-off masters alone had in the end", bytes);
        }
    }

    /// Looks whether there is another master, now that whoever it was before follows it.
    pub(super) fn settle(&mut self, master: &mut Raw, report: &mut Report) {
        let (standing, sure) = (Standing::of(master), &self.sure);
        if standing.history == sure.history {
            return;
        }
        self.alone.add(sure.at, now());
        if standing.before == sure.history {
            report.must(standing.from > sure.offset, || {
                let (had, from) = (sure.offset, standing.from);
                format!("a replica that had confirmed {had} became the master at {from}")
            });
        }
    }

    /// When masters confirmed what their successors may not have.
    pub(super) fn alone(&self) -> &Alone {
        &self.alone
    }
}

/// What a server says about its replication.
struct Standing {
    history: String,
    offset: i64,
    /// The history before, and the first offset that is not part of it.
    before: String,
    from: i64,
}

impl Standing {
    fn of(server: &mut Raw) -> Self {
        let info = server.run(&["INFO", "replication"]).text();
        let word = |name: &str| {
            let mut words = info.lines().filter_map(|line| line.split_once(':'));
            let found = words.find(|(key, _)| *key == name);
            found.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let number = |name: &str| word(name).parse().unwrap_or(0);
        Self {
            history: word("master_replid"),
            offset: number("master_repl_offset"),
            before: word("master_replid2"),
            from: number("second_repl_offset"),
        }
    }
}
