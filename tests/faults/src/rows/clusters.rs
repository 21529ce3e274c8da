//! Row 15: a cluster of three masters with a replica each; slots move back and forth, masters give way, are
//! killed and hang, and all of it stops and starts, while everybody works.

use std::time::Duration;

use super::everybody::Everybody;
use crate::check;
use crate::history::now;
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting};
use crate::server::clustered::Clustered;

/// Queues whose slots lie on different nodes at first.
const QUEUES: [&str; 2] = ["work", "more"];
/// Where events and calls are.
const HOME: &str = "{__pymq}";
/// Every change is in the log before it is answered: a cluster may stop as a whole. A node that a busy machine
/// keeps from answering for a moment is not taken for lost: nothing moves but what is moved here.
const SETTINGS: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "always", "--cluster-node-timeout", "5000"];

/// After so many a long run has seen enough: 200 nodes lost, and 1,050 slots moved.
const ROUNDS: u64 = 50;

/// What happens to a cluster.
#[derive(Clone, Copy, Debug)]
enum Fault {
    SlotsMove,
    GivesWay,
    Killed,
    Hangs,
    AllStop,
}

impl Fault {
    const ALL: [Self; 5] =
        [Self::SlotsMove, Self::GivesWay, Self::Killed, Self::Hangs, Self::AllStop];

    fn words(self) -> &'static str {
        match self {
            Self::SlotsMove => "slots have moved",
            Self::GivesWay => "a node has given way by hand",
            Self::Killed => "a killed node has been replaced",
            Self::Hangs => "a node that hangs has been replaced",
            Self::AllStop => "a whole cluster is back",
        }
    }

    /// Does it, and returns when every slot has a node again.
    fn befalls(self, storm: &mut Storm<'_>, round: usize) {
        let cluster = &mut storm.cluster;
        match self {
            Self::SlotsMove => return storm.move_slots(),
            Self::AllStop => return cluster.stop_and_start(),
            Self::GivesWay | Self::Killed | Self::Hangs => {}
        }
        // In turns: the node of events and calls, and one that has only queues.
        let key = [HOME.to_owned(), format!("{PREFIX}{}", QUEUES[0])];
        let slot = cluster.slot_of(&key[round % 2]);
        let master = cluster.owner(slot);
        match self {
            Self::Killed => cluster.nodes[master].kill(),
            Self::Hangs => cluster.nodes[master].pause(),
            _ => cluster.fail_over(master),
        }
        cluster.until_moved(slot, master);
        storm.away = Some(master);
    }

    fn heals(self, storm: &mut Storm<'_>) {
        if let Some(node) = storm.away.take() {
            match self {
                Self::Killed => storm.cluster.nodes[node].restart(),
                Self::Hangs => storm.cluster.nodes[node].resume(),
                _ => {}
            }
        }
        storm.cluster.until_whole();
    }
}

struct Storm<'a> {
    cluster: Clustered,
    /// The node that is not there.
    away: Option<usize>,
    /// How often each slot moves in a row.
    moves: usize,
    report: &'a mut Report,
}

impl Storm<'_> {
    /// Those of the queues, with what is leased in them, and that of events and calls.
    fn move_slots(&mut self) {
        let keys = QUEUES.iter().map(|queue| format!("{PREFIX}{queue}"));
        let keys: Vec<_> = keys.chain([HOME.to_owned()]).collect();
        for _ in 0..self.moves {
            for key in &keys {
                let slot = self.cluster.slot_of(key);
                let masters = self.cluster.masters();
                let owner = self.cluster.owner(slot);
                let at = masters.iter().position(|master| *master == owner).unwrap_or(0);
                self.cluster.move_slot(slot, masters[(at + 1) % masters.len()]);
                self.report.count("slots moved", 1);
            }
        }
    }
}

/// What a replica had is not lost, calls end, and everybody goes on.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("moving slots", setting, &[]);
    if let Err(why) = storm(&scene, setting, &mut report) {
        report.must(false, || why);
    }
    report.enough("slots moved", 6);
    report.enough("nodes lost", 4);
    report.enough("items put", 100);
    scene.end(&mut report);
    report
}

fn storm(scene: &Scene, setting: &Setting, report: &mut Report) -> Result<(), String> {
    let cluster = Clustered::start_with(6, &SETTINGS);
    let mut crew = Everybody::hire(scene, &cluster.url(), 1, &QUEUES, check::unsure_on_a_cluster);
    crew.is_heard(Duration::ZERO, "at first", report)?;
    crew.works(Duration::ZERO, "at first", report)?;
    let rounds = if setting.brief { 1 } else { setting.items.div_ceil(166).min(ROUNDS) };
    let moves = if setting.brief { 2 } else { 7 };
    let mut storm = Storm { cluster, away: None, moves, report };
    for round in 0..rounds as usize {
        for fault in Fault::ALL {
            fault.befalls(&mut storm, round);
            if !matches!(fault, Fault::SlotsMove) {
                storm.report.count("nodes lost", 1);
            }
            crew.is_heard(now(), fault.words(), storm.report)?;
            fault.heals(&mut storm);
            crew.works(now(), fault.words(), storm.report)?;
        }
    }
    let Storm { cluster, report, .. } = storm;
    let port = |queue: &str| {
        let slot = cluster.slot_of(&format!("{PREFIX}{queue}"));
        cluster.nodes[cluster.owner(slot)].port()
    };
    crew.finish(port, report)
}
