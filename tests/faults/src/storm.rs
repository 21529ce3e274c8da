//! A storm: a queue under load, while faults come at random.
//!
//! The one invariant: the storm ends when enough items were put and enough faults have happened,
//! then everything is let go, the queue drains, and the histories are judged. Which faults, is the
//! row's choice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::check::{self, Promise};
use crate::crew::{self, Fate, GUARD, Hand, Kind, Story};
use crate::proxy::{Act, Proxy};
use crate::report::Report;
use crate::scene::{Scene, Setting};
use crate::server::Raw;

/// What can happen to a queue's workers and their server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A consumer is killed.
    KillConsumer,
    /// A producer is killed.
    KillProducer,
    /// A consumer is stopped for longer than its lease.
    StopConsumer,
    /// The next reply to anybody is cut at a random byte.
    CutReply,
    /// The server ends one of our connections.
    KillConnection,
    /// The server stops for a while.
    StopServer,
    /// The server keeps writers waiting for a while.
    PauseWrites,
    /// The server is killed and started again.
    RestartServer,
    /// Who brings dead letters back is killed.
    KillRedriver,
    /// What handlers of jobs depend on goes away for a while.
    Outage,
}

/// What a storm is made of.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) name: &'a str,
    /// One is chosen at random each time; a fault that stands twice comes twice as often.
    pub(crate) faults: &'a [Fault],
    /// Arguments of the server.
    pub(crate) server: &'a [&'a str],
    /// How long it takes from one fault to the next, on average.
    pub(crate) pace: Duration,
    pub(crate) items: u64,
    /// How many faults of each kind there must be before it may end.
    pub(crate) least: &'a [(&'a str, u64)],
    /// How consumers take items.
    pub(crate) ack: Ack,
    /// Whether an original produces and another one consumes, unharmed.
    pub(crate) originals: bool,
    /// How long producers of ours rest between two puts.
    pub(crate) rest: Duration,
}

/// How the consumers of a storm take items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    /// On a lease: nothing may be lost.
    Manual,
    /// For good: what `get` has returned dies with its process, one item each time.
    Auto,
    /// By workers, as jobs: put in every way that there is, handled by what fails at times, given up,
    /// and brought back.
    Worker,
}

impl Ack {
    /// The lease of consumers. Workers do not note what a lost lease did to their settlements.
    fn lease(self) -> Duration {
        Duration::from_millis(if self == Self::Worker { 3000 } else { 1500 })
    }

    fn role(self) -> &'static str {
        match self {
            Self::Manual => "consume",
            Self::Auto => "take",
            Self::Worker => "work",
        }
    }
}

/// For how long what handlers depend on is away, on average.
const OUTAGE: Duration = Duration::from_millis(700);
/// How many items wait at most, about.
const BACKLOG: u64 = 2000;
const COMMANDS: [&str; 6] = ["BLMOVE", "LMOVE", "LREM", "LPUSH", "EVALSHA", "PEXPIRE"];
const ROLES: [&str; 2] = ["waiting", "commands"];

/// Runs a storm and judges it.
pub(crate) fn run(plan: &Plan<'_>, setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start(plan.name, setting, plan.server);
    let proxy = Proxy::start(scene.server.port());
    let mut storm = Storm {
        plan,
        scene,
        proxy,
        chance: Chance::new(setting.seed, plan.name),
        consumers: Vec::new(),
        producers: Vec::new(),
        redrivers: Vec::new(),
        asleep: Vec::new(),
        next_item: 1,
        at_work: BTreeMap::new(),
        offered: 0,
        back_at: None,
    };
    storm.begin();
    let until = Instant::now() + setting.patience;
    while !storm.is_enough(&report) {
        if Instant::now() > until {
            report.must(false, || format!("not done in {:?}", setting.patience));
            break;
        }
        std::thread::sleep(storm.chance.around(plan.pace));
        storm.keep_producing();
        storm.wake(Instant::now());
        let fault = *storm.chance.one_of(plan.faults);
        storm.inflict(fault, &mut report);
    }
    storm.end(&mut report);
    report
}

struct Storm<'a> {
    plan: &'a Plan<'a>,
    scene: Scene,
    proxy: Proxy,
    chance: Chance,
    consumers: Vec<Hand>,
    producers: Vec<Hand>,
    /// The last one is at work.
    redrivers: Vec<Hand>,
    /// Stopped consumers, by place, and when they go on.
    asleep: Vec<(usize, Instant)>,
    next_item: u64,
    /// The place of the producer of each kind that is at work.
    at_work: BTreeMap<Kind, usize>,
    /// The first job of the producer that was hired last.
    offered: u64,
    /// When what handlers depend on is back.
    back_at: Option<Instant>,
}

impl Storm<'_> {
    fn begin(&mut self) {
        for (kind, many) in
            [(Kind::Rust, 1), (Kind::Python, 1), (Kind::Rust, 16), (Kind::Python, 16)]
        {
            let hand = self.consumer(kind, many);
            self.consumers.push(hand);
        }
        if self.plan.ack == Ack::Worker {
            self.redrivers.push(self.redriver(Kind::Rust));
        }
        if self.plan.originals {
            let taker = self.scene.hire(Kind::Original, "take", &["pause=0.005".to_owned()]);
            self.consumers.push(taker);
        }
        self.keep_producing();
    }

    fn consumer(&self, kind: Kind, many: usize) -> Hand {
        let ack = self.plan.ack;
        let mut options =
            vec![format!("lease={}", ack.lease().as_secs_f64()), format!("many={many}")];
        if ack == Ack::Worker {
            options.push(format!("ahead={}", many / 2 + 1));
            options.push(format!("away={}", self.away().display()));
            options.push("pause=0.002".to_owned());
        }
        self.hire(kind, ack.role(), &options)
    }

    /// Starts a worker behind the proxy.
    fn hire(&self, kind: Kind, role: &str, options: &[String]) -> Hand {
        self.scene.crew.hire(kind, role, &self.scene.url(self.proxy.port()), options)
    }

    /// There while what handlers depend on is not.
    fn away(&self) -> PathBuf {
        self.scene.crew.place("away")
    }

    /// Keeps one producer of each kind at work.
    fn keep_producing(&mut self) {
        let kinds: &[Kind] = match self.plan.originals {
            true => &[Kind::Rust, Kind::Python, Kind::Original],
            false => &Kind::OURS,
        };
        for &kind in kinds {
            let last = self.at_work.get(&kind).map(|&place| &mut self.producers[place]);
            let working = last.is_some_and(|hand| hand.fate == Fate::Working && hand.lives());
            if working {
                continue;
            }
            let (portion, batch) = match kind {
                Kind::Rust => (self.plan.items / 20, 25),
                Kind::Python => (self.plan.items / 20, 10),
                Kind::Original => (self.plan.items / 100, 1),
            };
            let portion = portion.clamp(100, 20_000);
            let words = [
                ("first", self.next_item),
                ("count", portion),
                ("batch", batch),
                ("most", BACKLOG),
            ];
            let mut options = words.map(|(key, value)| format!("{key}={value}")).to_vec();
            if kind != Kind::Original {
                options.push(format!("pause={}", self.plan.rest.as_secs_f64()));
            }
            let producer = match kind {
                // An original repeats nothing and notices little: it is not what is tried here.
                Kind::Original => self.scene.hire(kind, "produce", &options),
                _ if self.plan.ack == Ack::Worker => {
                    options.push(format!("again={}", self.offered));
                    self.hire(kind, "offer", &options)
                }
                _ => self.hire(kind, "produce", &options),
            };
            self.offered = self.next_item;
            self.next_item += portion;
            self.at_work.insert(kind, self.producers.len());
            self.producers.push(producer);
        }
    }

    fn is_enough(&self, report: &Report) -> bool {
        let least = self.plan.least.iter();
        self.next_item > self.plan.items + 1
            && least.into_iter().all(|(what, least)| {
                let counted = match *what {
                    "replies cut" => self.proxy.cuts() as u64,
                    what => report.counted(what),
                };
                counted >= *least
            })
    }

    fn inflict(&mut self, fault: Fault, report: &mut Report) {
        match fault {
            Fault::KillConsumer => {
                let ours: Vec<_> = self.working_consumers();
                let place = *self.chance.one_of(&ours);
                let kind = self.consumers[place].kind;
                self.consumers[place].kill();
                self.asleep.retain(|(asleep, _)| *asleep != place);
                report.count("consumers killed", 1);
                let many = *self.chance.one_of(&[1, 16]);
                let successor = self.consumer(kind, many);
                self.consumers.push(successor);
            }
            Fault::KillProducer => {
                let kind = self.chance.one_of(&Kind::OURS);
                let victim = self.at_work.get(kind).map(|&place| &mut self.producers[place]);
                if let Some(victim) = victim.filter(|hand| hand.fate == Fate::Working)
                    && victim.lives()
                {
                    victim.kill();
                    report.count("producers killed", 1);
                }
            }
            Fault::StopConsumer => {
                let awake: Vec<_> = self.working_consumers();
                let place = *self.chance.one_of(&awake);
                if self.asleep.iter().all(|(asleep, _)| *asleep != place) {
                    self.consumers[place].stop();
                    let lease = self.plan.ack.lease();
                    let until = Instant::now() + lease + self.chance.around(lease);
                    self.asleep.push((place, until));
                    report.count("consumers stopped", 1);
                }
            }
            Fault::CutReply => {
                let name = self.chance.one_of(&COMMANDS);
                self.proxy.arm(Some(name), 0, Act::Cut { after: self.chance.below(12) });
            }
            Fault::KillConnection => {
                let role = self.chance.one_of(&ROLES);
                report.count(
                    "connections killed",
                    kill_connection(&mut self.scene.server.raw(), role),
                );
            }
            Fault::StopServer => {
                let length = self.chance.around(Duration::from_millis(600));
                self.scene.server.pause();
                std::thread::sleep(length);
                self.scene.server.resume();
                report.count("server stops", 1);
            }
            Fault::PauseWrites => {
                let length = self.chance.below(800).to_string();
                self.scene.server.raw().run(&["CLIENT", "PAUSE", &length, "WRITE"]);
                report.count("pauses of writers", 1);
            }
            Fault::RestartServer => {
                self.scene.server.restart();
                report.count("server restarts", 1);
            }
            Fault::KillRedriver => {
                let kind = *self.chance.one_of(&Kind::OURS);
                self.redrivers.iter_mut().for_each(Hand::kill);
                self.redrivers.push(self.redriver(kind));
                report.count("redrivers killed", 1);
            }
            Fault::Outage => {
                let sign = std::fs::write(self.away(), "");
                sign.expect("the folder of histories is writable");
                self.back_at = Some(Instant::now() + self.chance.around(OUTAGE));
                report.count("outages of what handlers depend on", 1);
            }
        }
    }

    fn redriver(&self, kind: Kind) -> Hand {
        let pause = 10.0 * self.plan.pace.as_secs_f64();
        self.hire(kind, "redrive", &[format!("pause={pause}")])
    }

    /// Places of our consumers that are there.
    fn working_consumers(&self) -> Vec<usize> {
        let all = self.consumers.iter().enumerate();
        all.filter(|(_, hand)| hand.kind != Kind::Original && hand.fate == Fate::Working)
            .map(|(place, _)| place)
            .collect()
    }

    fn wake(&mut self, now: Instant) {
        self.asleep.retain(|(place, until)| {
            if *until <= now {
                self.consumers[*place].go_on();
            }
            *until > now
        });
        if self.back_at.is_some_and(|back| back <= now) {
            self.back_at = None;
            let gone = std::fs::remove_file(self.away());
            gone.expect("it was written when the outage began");
        }
    }

    /// Lets everything go, waits until the queue is empty, and judges.
    fn end(mut self, report: &mut Report) {
        self.proxy.disarm();
        self.wake(Instant::now() + 10 * self.plan.ack.lease());
        report.count("replies cut", self.proxy.cuts());
        // Brought back again and again, what is hopeless would never come to an end.
        self.redrivers.iter_mut().for_each(Hand::kill);
        for producer in self.producers.iter_mut().filter(|hand| hand.fate == Fate::Working) {
            if report.take(producer.ended(Duration::from_secs(300))).is_some() {
                producer.fate = Fate::Finished;
            }
        }
        report.take(self.scene.drained("work"));
        if self.plan.ack == Ack::Worker {
            report.take(self.bring_back_the_dead());
        }
        for consumer in self.consumers.iter_mut().filter(|hand| hand.fate == Fate::Working) {
            report.take(consumer.finish());
        }
        let left = self.scene.left("work");
        report.count("dead letters", left.dead.len());
        for (what, least) in self.plan.least {
            report.enough(what, *least);
        }
        let taken: usize = self.by_originals();
        if self.plan.originals {
            report.count("taken by the original", taken);
            report.enough("taken by the original", 10);
        }
        let listings = self.listings(report);
        self.consumers.append(&mut self.producers);
        self.consumers.append(&mut self.redrivers);
        report.count("processes", self.consumers.len());
        if let Some(stories) = report.take(crew::stories(&self.consumers)) {
            let promise = match self.plan.ack {
                Ack::Manual | Ack::Worker => Promise::Nothing,
                Ack::Auto => Promise::AtMost(report.counted("consumers killed") as usize),
            };
            check::queue(report, &stories, &left, promise);
            if self.plan.ack == Ack::Worker {
                check::jobs(report, &stories, &left, &listings);
            }
        }
        report.must(self.plan.ack == Ack::Worker || left.dead.is_empty(), || {
            format!("dead letters: {:?}", left.dead)
        });
        self.scene.end(report);
    }

    /// Brings all dead letters back once more, now that nothing happens: those that have no reason to
    /// be there are done.
    fn bring_back_the_dead(&mut self) -> Result<(), String> {
        let mut last = self.hire(Kind::Python, "redrive", &["once=1".to_owned()]);
        last.ended(GUARD)?;
        last.fate = Fate::Finished;
        self.redrivers.push(last);
        self.scene.drained("work")
    }

    /// What peers of both kinds read of the dead letters.
    fn listings(&self, report: &mut Report) -> Vec<Story> {
        let kinds: &[Kind] = if self.plan.ack == Ack::Worker { &Kind::OURS } else { &[] };
        let list = |kind: &Kind| {
            let mut lists = self.hire(*kind, "letters", &[]);
            lists.ended(GUARD).and_then(|_| lists.story())
        };
        kinds.iter().filter_map(|kind| report.take(list(kind))).collect()
    }

    fn by_originals(&self) -> usize {
        let originals = self.consumers.iter().filter(|hand| hand.kind == Kind::Original);
        originals.filter_map(|hand| hand.lines().ok()).map(|lines| lines.len()).sum()
    }
}

/// Has the server end one of our connections of a role; says how many it ended.
pub(crate) fn kill_connection(raw: &mut Raw, role: &str) -> usize {
    let clients = raw.run(&["CLIENT", "LIST"]).text();
    let named = format!("name=pymq-{role}");
    let found = clients.lines().find(|line| line.contains(&named));
    let id = found.and_then(|line| line.split(' ').next()?.strip_prefix("id="));
    id.map_or(0, |id| raw.run(&["CLIENT", "KILL", "ID", id]).number() as usize)
}
