//! Row 15: three sentinels, a master and two replicas; the master is killed, hangs, gives way by hand, or is
//! cut off from the others, and so are a sentinel and clients, again and again, while everybody works.
//!
//! Where this machine makes no network namespaces nobody is cut off, and the report says so; nor is anybody in
//! a brief run.

use std::time::Duration;

use super::everybody::{AT_ONCE, Everybody, SLOWLY, Terms};
use super::offsets::Offsets;
use crate::chance::Chance;
use crate::check::{self, Alone};
use crate::history::now;
use crate::network::Lan;
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting};
use crate::server::watched::Watched;
use crate::server::{Place, Raw};

/// After so many rounds a long run has seen enough: 200 failovers and more.
const ROUNDS: u64 = 245;
/// Hosts of the network: three servers, three sentinels, those who work and wait for replicas, and those who
/// do not wait.
const HOSTS: usize = 8;
const SENTINELS: usize = 3;
const CAREFUL: usize = 6;
const CARELESS: usize = 7;
/// For how long clients are cut off, on average.
const CUT: Duration = Duration::from_secs(4);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    GivesWay,
    Killed,
    Hangs,
    /// With those beside it who do not wait for replicas: it goes on serving them.
    CutWithClients,
    CutAlone,
    /// A sentinel, and the master is killed meanwhile.
    SentinelCut,
    ClientsCut,
}

impl Fault {
    /// Those that need no network.
    const PLAIN: [Self; 3] = [Self::GivesWay, Self::Killed, Self::Hangs];
    const CUTS: [Self; 4] =
        [Self::CutWithClients, Self::CutAlone, Self::SentinelCut, Self::ClientsCut];

    fn words(self) -> &'static str {
        match self {
            Self::GivesWay => "a master gives way by hand",
            Self::Killed => "a master is killed",
            Self::Hangs => "a master hangs",
            Self::CutWithClients => "a master is cut off with clients",
            Self::CutAlone => "a master is cut off",
            Self::SentinelCut => "a sentinel is cut off, and a master is killed",
            Self::ClientsCut => "clients are cut off",
        }
    }
}

/// What both replicas had is not lost, calls end, and everybody goes on.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("failovers", setting, &[]);
    let lan = match setting.brief {
        true => None,
        false => Lan::make(HOSTS)
            .map_err(|why| {
                report.say(format!("no network namespaces here ({why}); nobody is cut off"));
            })
            .ok(),
    };
    if let Err(why) = Storm::new(&scene, lan, setting).run(setting, &mut report) {
        report.must(false, || why);
    }
    report.enough("failovers", 3);
    report.enough("items put", 100);
    scene.end(&mut report);
    report
}

struct Storm {
    // In this order: first those who work end, then what they work on, and the network last.
    careful: Everybody,
    /// Not in a brief run.
    careless: Option<Everybody>,
    watched: Watched,
    lan: Option<Lan>,
    offsets: Offsets,
    chance: Chance,
    /// The master that failed.
    failed: Option<usize>,
}

impl Storm {
    fn new(scene: &Scene, lan: Option<Lan>, setting: &Setting) -> Self {
        let place = |host| lan.as_ref().map_or_else(Place::here, |lan| lan.place(host));
        let places: Vec<_> = (0..CAREFUL).map(place).collect();
        let watched = Watched::start_at(&places, &[]);
        let url = watched.url();
        let hire = |host, replicas, queues, backlog, name| {
            let (place, url, unsure) = (place(host), url.as_str(), check::unsure);
            Everybody::hire(scene, &Terms { place, url, replicas, queues, backlog, name, unsure })
        };
        // What two replicas have is on every server that may be the next master.
        let careful = hire(CAREFUL, 2, &["work"], AT_ONCE, "news");
        let careless = || hire(CARELESS, 0, &["aside"], SLOWLY, "aside");
        let careless = (!setting.brief).then(careless);
        let offsets = Offsets::of(2, format!("{PREFIX}sure"));
        let chance = Chance::new(setting.seed, "failovers");
        Self { careful, careless, watched, lan, offsets, chance, failed: None }
    }

    fn run(mut self, setting: &Setting, report: &mut Report) -> Result<(), String> {
        for crew in [&self.careful].into_iter().chain(&self.careless) {
            crew.is_heard(Duration::ZERO, "at first", report)?;
            crew.works(Duration::ZERO, "at first", report)?;
        }
        let mut faults = Fault::PLAIN.to_vec();
        if self.lan.is_some() {
            faults.extend(Fault::CUTS);
        }
        let long = setting.items.div_ceil(33).min(ROUNDS) as usize;
        let rounds = if setting.brief { faults.len() } else { long };
        for round in 0..rounds {
            // All of them, in an order by chance, before any comes again.
            if round % faults.len() == 0 {
                self.chance.shuffle(&mut faults);
            }
            self.suffer(faults[round % faults.len()], report)?;
        }
        let master = || self.watched.nodes[self.watched.master()].raw();
        self.careful.finish(|_| master(), &Alone::default(), report)?;
        match &mut self.careless {
            Some(careless) => careless.finish(|_| master(), self.offsets.alone(), report),
            None => Ok(()),
        }
    }

    fn suffer(&mut self, fault: Fault, report: &mut Report) -> Result<(), String> {
        self.watched.until_whole();
        let Self { offsets, watched, .. } = self;
        offsets.sure(|| watched.nodes[watched.master()].raw())?;
        self.befalls(fault)?;
        let (moment, words) = (now(), fault.words());
        report.count(words, 1);
        report.count("failovers", usize::from(self.failed.is_some()));
        self.careful.is_heard(moment, words, report)?;
        match (fault, &self.careless) {
            (_, None) => {}
            (Fault::ClientsCut, _) => std::thread::sleep(self.chance.around(CUT)),
            (Fault::CutWithClients, Some(careless)) => {
                let words = "a master is cut off: clients beside it";
                careless.is_heard(moment, words, report)?;
                careless.works(moment, words, report)?;
            }
            (_, Some(careless)) => careless.is_heard(moment, words, report)?,
        }
        self.heals(fault, report)?;
        let (moment, words) = (now(), "all servers are back");
        self.careful.works(moment, words, report)?;
        let words = match fault {
            Fault::ClientsCut | Fault::CutWithClients => "clients that were cut off are back",
            _ => words,
        };
        self.careless.iter().try_for_each(|careless| {
            careless.is_heard(moment, words, report)?;
            careless.works(moment, words, report)
        })
    }

    /// Does it, and returns when all sentinels that are there name another master.
    fn befalls(&mut self, fault: Fault) -> Result<(), String> {
        let master = self.watched.master();
        match fault {
            Fault::GivesWay => self.watched.fail_over(),
            Fault::Killed => self.watched.nodes[master].kill(),
            Fault::Hangs => self.watched.nodes[master].pause(),
            Fault::CutWithClients => self.cut_off(&[master, CARELESS])?,
            Fault::CutAlone => self.cut_off(&[master])?,
            Fault::SentinelCut => {
                let sentinel = self.chance.below(SENTINELS);
                self.cut_off(&[SENTINELS + sentinel])?;
                self.watched.set_absent(Some(sentinel));
                self.watched.nodes[master].kill();
            }
            Fault::ClientsCut => return self.cut_off(&[CARELESS]),
        }
        self.watched.until_moved(master);
        self.failed = Some(master);
        Ok(())
    }

    /// Returns when the master has its replicas again, and the sentinels agree.
    fn heals(&mut self, fault: Fault, report: &mut Report) -> Result<(), String> {
        if let Some(lan) = &self.lan {
            lan.join()?;
        }
        self.watched.set_absent(None);
        if let Some(node) = self.failed.take() {
            match fault {
                Fault::Killed | Fault::SentinelCut => self.watched.rejoin(node),
                Fault::Hangs => self.watched.nodes[node].resume(),
                _ => {}
            }
            let failed = &self.watched.nodes[node];
            if matches!(fault, Fault::CutWithClients | Fault::CutAlone) {
                Offsets::goes(&mut failed.raw(), [self.master()], report);
            }
            self.watched.demote(node);
        }
        self.watched.until_whole();
        self.offsets.settle(&mut self.master(), report);
        Ok(())
    }

    fn cut_off(&self, hosts: &[usize]) -> Result<(), String> {
        self.lan.as_ref().map_or(Ok(()), |lan| lan.cut_off(hosts))
    }

    fn master(&self) -> Raw {
        self.watched.nodes[self.watched.master()].raw()
    }
}
