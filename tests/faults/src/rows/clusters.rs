//! Row 15: a cluster of three masters with a replica each, and a node without slots; slots move back and forth,
//! masters give way, are killed, hang and are cut off from the others, all of it stops and starts, and the
//! node without slots is lost, while everybody works.
//!
//! Where this machine makes no network namespaces nobody is cut off, and the report says so.

use std::time::Duration;

use super::everybody::{AT_ONCE, Everybody, SLOWLY, Terms};
use super::offsets::Offsets;
use crate::chance::Chance;
use crate::check::{self, Alone};
use crate::history::now;
use crate::network::Lan;
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting};
use crate::server::clustered::Clustered;
use crate::server::{Place, Raw};

/// Queues whose slots lie on different nodes at first.
const QUEUES: [&str; 2] = ["work", "more"];
/// The queue of those who do not wait for replicas, whose slot does not move.
const ASIDE: &str = "aside";
/// Where events and calls are.
const HOME: &str = "{__pymq}";
/// Every change is in the log before it is answered: a cluster may stop as a whole. A node that a busy machine
/// keeps from answering for a moment is not taken for lost: nothing moves but what is moved here.
const SETTINGS: [&str; 6] =
    ["--appendonly", "yes", "--appendfsync", "always", "--cluster-node-timeout", "5000"];
/// Hosts of the network: seven nodes, of which the last has no slots, those who work and wait for replicas,
/// and those who do not wait.
const HOSTS: usize = 9;
const EMPTY: usize = 6;
const CAREFUL: usize = 7;
const CARELESS: usize = 8;
/// For how long the node without slots is away, on average: others find that out after 5 seconds.
const AWAY: Duration = Duration::from_secs(4);

/// After so many a long run has seen enough: 200 nodes lost, and 1,050 slots moved.
const ROUNDS: u64 = 35;

/// What happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    SlotsMove,
    GivesWay,
    Killed,
    Hangs,
    AllStop,
    EmptyKilled,
    EmptyHangs,
    CutAlone,
    /// With those beside it who do not wait for replicas.
    CutWithClients,
}

impl Fault {
    /// Those that need no network.
    const PLAIN: [Self; 7] = [
        Self::SlotsMove,
        Self::GivesWay,
        Self::Killed,
        Self::Hangs,
        Self::AllStop,
        Self::EmptyKilled,
        Self::EmptyHangs,
    ];
    const CUTS: [Self; 2] = [Self::CutAlone, Self::CutWithClients];

    fn words(self) -> &'static str {
        match self {
            Self::SlotsMove => "slots have moved",
            Self::GivesWay => "a node has given way by hand",
            Self::Killed => "a killed node has been replaced",
            Self::Hangs => "a node that hangs has been replaced",
            Self::AllStop => "a whole cluster is back",
            Self::EmptyKilled => "a node without slots is killed",
            Self::EmptyHangs => "a node without slots hangs",
            Self::CutAlone => "a node that was cut off has been replaced",
            Self::CutWithClients => "a node that was cut off with clients has been replaced",
        }
    }

    fn is_of_the_empty(self) -> bool {
        matches!(self, Self::EmptyKilled | Self::EmptyHangs)
    }
}

/// What a replica had is not lost, calls end, and everybody goes on.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("moving slots", setting, &[]);
    let lan = Lan::make(HOSTS);
    if let Err(why) = &lan {
        report.say(format!("no network namespaces here ({why}); nobody is cut off"));
    }
    if let Err(why) = Storm::new(&scene, lan.ok(), setting).run(setting, &mut report) {
        report.must(false, || why);
    }
    report.enough("slots moved", 6);
    report.enough("nodes lost", 4);
    report.enough("items put", 100);
    scene.end(&mut report);
    report
}

struct Storm {
    // In this order: first those who work end, then what they work on, and the network last.
    careful: Everybody,
    careless: Everybody,
    cluster: Clustered,
    lan: Option<Lan>,
    offsets: Offsets,
    chance: Chance,
    /// The node that is not there.
    away: Option<usize>,
    /// How often each slot moves in a row.
    moves: usize,
}

impl Storm {
    fn new(scene: &Scene, lan: Option<Lan>, setting: &Setting) -> Self {
        let place = |host| lan.as_ref().map_or_else(Place::here, |lan| lan.place(host));
        let places: Vec<_> = (0..CAREFUL).map(place).collect();
        let cluster = Clustered::start_at(&places, &SETTINGS);
        let hire = |host, url: &str, replicas, queues, backlog, name| {
            let (place, unsure) = (place(host), check::unsure_on_a_cluster);
            Everybody::hire(scene, &Terms { place, url, replicas, queues, backlog, name, unsure })
        };
        let careful = hire(CAREFUL, &cluster.url(), 1, &QUEUES[..], AT_ONCE, "news");
        // They are told of the node without slots alone, and find the others by it.
        let careless = hire(CARELESS, &cluster.url_of(EMPTY), 0, &[ASIDE], SLOWLY, ASIDE);
        let offsets = Offsets::of(1, format!("{{{PREFIX}{ASIDE}}}sure"));
        let chance = Chance::new(setting.seed, "moving slots");
        let moves = if setting.brief { 2 } else { 10 };
        Self { careful, careless, cluster, lan, offsets, chance, away: None, moves }
    }

    fn run(mut self, setting: &Setting, report: &mut Report) -> Result<(), String> {
        for crew in [&self.careful, &self.careless] {
            crew.is_heard(Duration::ZERO, "at first", report)?;
            crew.works(Duration::ZERO, "at first", report)?;
        }
        let mut faults = Fault::PLAIN.to_vec();
        if self.lan.is_some() {
            faults.extend(Fault::CUTS);
        }
        let rounds = if setting.brief { 1 } else { setting.items.div_ceil(166).min(ROUNDS) };
        for round in 0..rounds as usize {
            self.chance.shuffle(&mut faults);
            for fault in &faults {
                self.suffer(*fault, round, report)?;
            }
        }
        let Self { careful, careless, cluster, offsets, .. } = &mut self;
        let server = |queue: &str| server(cluster, queue);
        careful.finish(server, &Alone::default(), report)?;
        careless.finish(server, offsets.alone(), report)
    }

    fn suffer(&mut self, fault: Fault, round: usize, report: &mut Report) -> Result<(), String> {
        let Self { cluster, offsets, .. } = self;
        offsets.sure(|| server(cluster, ASIDE))?;
        let begun = now();
        self.befalls(fault, round, report)?;
        let (moment, words) = (now(), fault.words());
        report.count(words, 1);
        report.count("nodes lost", usize::from(fault != Fault::SlotsMove));
        self.careful.is_heard(moment, words, report)?;
        if fault == Fault::CutWithClients {
            // For as long as it did not know that it was cut off.
            report.count("puts that a cut-off node took", self.careless.put_since(begun)?);
        } else {
            self.careless.is_heard(moment, words, report)?;
        }
        if fault.is_of_the_empty() {
            self.careful.works(moment, words, report)?;
            self.careless.works(moment, words, report)?;
            std::thread::sleep(self.chance.around(AWAY));
        }
        self.heals(fault, report)?;
        let moment = now();
        self.careful.works(moment, words, report)?;
        let words = match fault {
            Fault::CutWithClients => "clients that were cut off from a cluster are back",
            _ => words,
        };
        self.careless.works(moment, words, report)?;
        if fault == Fault::CutWithClients {
            self.careless.is_heard(moment, words, report)?;
        }
        Ok(())
    }

    /// Does it, and returns when every slot has a node again.
    fn befalls(&mut self, fault: Fault, round: usize, report: &mut Report) -> Result<(), String> {
        // In turns: the node of events and calls, and one that has only queues.
        let key = match fault {
            Fault::CutWithClients => key_of(ASIDE),
            _ => [HOME.to_owned(), key_of(QUEUES[0])][round % 2].clone(),
        };
        let slot = self.cluster.slot_of(&key);
        let master = match fault.is_of_the_empty() {
            true => EMPTY,
            false => self.cluster.owner(slot),
        };
        let node = &mut self.cluster.nodes[master];
        match fault {
            Fault::SlotsMove => {
                self.move_slots(report);
                return Ok(());
            }
            Fault::AllStop => {
                self.cluster.stop_and_start();
                return Ok(());
            }
            Fault::GivesWay => self.cluster.fail_over(master),
            Fault::Killed | Fault::EmptyKilled => node.kill(),
            Fault::Hangs | Fault::EmptyHangs => node.pause(),
            Fault::CutAlone => self.cut_off(&[master])?,
            Fault::CutWithClients => self.cut_off(&[master, CARELESS])?,
        }
        self.away = Some(master);
        if master != EMPTY {
            self.cluster.until_moved(slot, master);
        }
        Ok(())
    }

    fn heals(&mut self, fault: Fault, report: &mut Report) -> Result<(), String> {
        if let Some(away) = self.away.take() {
            let node = &mut self.cluster.nodes[away];
            match fault {
                Fault::Killed | Fault::EmptyKilled => node.restart(),
                Fault::Hangs | Fault::EmptyHangs => node.resume(),
                Fault::CutWithClients => {
                    let others = (0..EMPTY).filter(|other| *other != away);
                    let others = others.map(|other| self.cluster.raw(other));
                    Offsets::goes(&mut self.cluster.raw(away), others, report);
                }
                _ => {}
            }
        }
        if let Some(lan) = &self.lan {
            lan.join()?;
        }
        self.cluster.until_whole();
        self.offsets.settle(&mut server(&self.cluster, ASIDE), report);
        Ok(())
    }

    /// Those of the queues, with what is leased in them, and that of events and calls.
    fn move_slots(&self, report: &mut Report) {
        let keys = QUEUES.iter().map(|queue| key_of(queue));
        let keys: Vec<_> = keys.chain([HOME.to_owned()]).collect();
        for _ in 0..self.moves {
            for key in &keys {
                let slot = self.cluster.slot_of(key);
                let mut masters = self.cluster.masters();
                masters.retain(|master| *master != EMPTY);
                let owner = self.cluster.owner(slot);
                let at = masters.iter().position(|master| *master == owner).unwrap_or(0);
                self.cluster.move_slot(slot, masters[(at + 1) % masters.len()]);
                report.count("slots moved", 1);
            }
        }
    }

    fn cut_off(&self, hosts: &[usize]) -> Result<(), String> {
        self.lan.as_ref().map_or(Ok(()), |lan| lan.cut_off(hosts))
    }
}

fn key_of(queue: &str) -> String {
    format!("{PREFIX}{queue}")
}

/// The node that has a queue.
fn server(cluster: &Clustered, queue: &str) -> Raw {
    cluster.raw(cluster.owner(cluster.slot_of(&key_of(queue))))
}
