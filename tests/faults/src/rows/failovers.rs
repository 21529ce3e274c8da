//! Row 15: three sentinels, a master and two replicas; the master is killed, hangs, or gives way by
//! hand, again and again, while everybody works.

use std::time::Duration;

use super::everybody::Everybody;
use crate::check;
use crate::history::now;
use crate::report::Report;
use crate::scene::{Scene, Setting};
use crate::server::watched::Watched;

/// After so many failovers a long run has seen enough.
const ROUNDS: u64 = 210;

/// What happens to a master.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Killed,
    Hangs,
    GivesWay,
}

impl Fault {
    fn words(self) -> &'static str {
        match self {
            Self::Killed => "a master is killed",
            Self::Hangs => "a master hangs",
            Self::GivesWay => "a master gives way by hand",
        }
    }

    /// Does it, and returns when all sentinels name another master; which node it was.
    fn befalls(self, watched: &mut Watched) -> usize {
        let master = watched.master();
        match self {
            Self::Killed => drop(watched.kill_master()),
            Self::Hangs => watched.nodes[master].pause(),
            Self::GivesWay => watched.fail_over(),
        }
        watched.until_moved(master);
        master
    }

    fn heals(self, watched: &mut Watched, node: usize) {
        match self {
            Self::Killed => watched.rejoin(node),
            Self::Hangs => {
                watched.nodes[node].resume();
                watched.demote(node);
            }
            Self::GivesWay => watched.demote(node),
        }
        watched.until_whole();
    }
}

/// What both replicas had is not lost, calls end, and everybody goes on.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("failovers", setting, &[]);
    let mut watched = Watched::start();
    if let Err(why) = fail_over(&scene, &mut watched, setting, &mut report) {
        report.must(false, || why);
    }
    report.enough("failovers", 3);
    report.enough("items put", 100);
    scene.end(&mut report);
    report
}

fn fail_over(
    scene: &Scene,
    watched: &mut Watched,
    setting: &Setting,
    report: &mut Report,
) -> Result<(), String> {
    // What two replicas have is on every server that may be the next master.
    let mut crew = Everybody::hire(scene, &watched.url(), 2, &["work"], check::unsure);
    crew.is_heard(Duration::ZERO, "at first", report)?;
    crew.works(Duration::ZERO, "at first", report)?;
    let rounds = if setting.brief { 3 } else { setting.items.div_ceil(33).min(ROUNDS) };
    for round in 0..rounds {
        let fault = [Fault::GivesWay, Fault::Killed, Fault::Hangs][round as usize % 3];
        let node = fault.befalls(watched);
        report.count("failovers", 1);
        crew.is_heard(now(), fault.words(), report)?;
        fault.heals(watched, node);
        crew.works(now(), "all servers are back", report)?;
    }
    let port = watched.nodes[watched.master()].port();
    crew.finish(|_| port, report)
}
