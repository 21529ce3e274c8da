//! Rows 1, 2, 3, 7, 8, 13, 16 and 32 as storms: everything at once, on a queue under load.

use std::time::Duration;

use crate::report::Report;
use crate::scene::Setting;
use crate::storm::{self, Ack, Fault, Plan};

/// Kills, stops, cut replies and a server that stalls, beside originals that nobody harms.
pub(crate) fn mixed(setting: &Setting) -> Report {
    use Fault::{
        CutReply, KillConnection, KillConsumer, KillProducer, PauseWrites, StopConsumer, StopServer,
    };
    let (kills, cuts) = match setting.brief {
        true => (20, 20),
        // A thousand of each for a million items.
        false => (setting.items / 1000, setting.items / 1000),
    };
    let mut report = storm::run(
        &Plan {
            name: "mixed storm",
            faults: &[
                KillConsumer,
                KillConsumer,
                KillConsumer,
                KillConsumer,
                KillProducer,
                StopConsumer,
                CutReply,
                CutReply,
                CutReply,
                CutReply,
                CutReply,
                KillConnection,
                StopServer,
                PauseWrites,
            ],
            server: &[],
            pace: Duration::from_millis(if setting.brief { 60 } else { 100 }),
            items: setting.items,
            least: &[
                ("consumers killed", kills),
                ("replies cut", cuts),
                ("consumers stopped", kills / 10),
                ("connections killed", kills / 10),
                ("server stops", kills / 20),
            ],
            originals: setting.original.is_some(),
            ack: Ack::Manual,
            rest: Duration::ZERO,
        },
        setting,
    );
    if setting.original.is_none() {
        report.say("without originals: name an interpreter that has one with --original");
    }
    report.enough("redelivered", 1);
    report
}

/// A server that is killed and keeps a log of everything loses nothing that it has confirmed.
pub(crate) fn restarts(setting: &Setting) -> Report {
    let least = if setting.brief { 5 } else { setting.items / 10_000 };
    storm::run(
        &Plan {
            name: "restarts",
            faults: &[Fault::RestartServer, Fault::KillConsumer],
            server: &["--appendonly", "yes", "--appendfsync", "always"],
            pace: Duration::from_millis(500),
            items: setting.items / 4,
            least: &[("server restarts", least.max(5)), ("consumers killed", least.max(5))],
            originals: false,
            ack: Ack::Manual,
            rest: Duration::from_millis(30),
        },
        setting,
    )
}

/// Consumers that take items for good are killed: at most the one that `get` had returned is gone,
/// and what was on its way is not.
pub(crate) fn takers(setting: &Setting) -> Report {
    let kills = if setting.brief { 15 } else { setting.items / 1000 };
    storm::run(
        &Plan {
            name: "takers",
            faults: &[Fault::KillConsumer, Fault::CutReply],
            server: &[],
            pace: Duration::from_millis(80),
            items: setting.items / 2,
            least: &[("consumers killed", kills), ("replies cut", kills)],
            originals: false,
            ack: Ack::Auto,
            rest: Duration::from_millis(20),
        },
        setting,
    )
}

/// Jobs that are put in every way, fail, come again, are given up and brought back, while everybody who
/// has to do with them is killed.
pub(crate) fn jobs(setting: &Setting) -> Report {
    use Fault::{
        CutReply, KillConnection, KillConsumer, KillProducer, KillRedriver, Outage, PauseWrites,
        StopConsumer, StopServer,
    };
    let kills = if setting.brief { 8 } else { setting.items / 200 };
    let mut report = storm::run(
        &Plan {
            name: "jobs",
            faults: &[
                KillConsumer,
                KillConsumer,
                KillConsumer,
                KillConsumer,
                KillProducer,
                KillRedriver,
                StopConsumer,
                CutReply,
                CutReply,
                CutReply,
                CutReply,
                KillConnection,
                StopServer,
                PauseWrites,
                Outage,
            ],
            server: &[],
            pace: Duration::from_millis(if setting.brief { 60 } else { 100 }),
            items: setting.items / 4,
            least: &[
                ("consumers killed", kills),
                ("producers killed", kills / 8),
                ("redrivers killed", kills / 8),
                ("replies cut", kills / 4),
                ("outages of what handlers depend on", kills / 8),
            ],
            originals: false,
            ack: Ack::Worker,
            rest: Duration::from_millis(2),
        },
        setting,
    );
    for what in [
        "items for later that came",
        "retries that came when they should",
        "puts that had been done under their id",
        "dead letters brought back",
        "dead letters read",
    ] {
        // Of a brief run on a slow machine a few are enough to be judged.
        report.enough(what, if setting.brief { 3 } else { 10 });
    }
    report
}
