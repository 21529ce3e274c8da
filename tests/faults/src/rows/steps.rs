//! Row 1, step by step: a consumer is killed at each point of the protocol.
//!
//! The one invariant: a proxy of the victim's own holds what the step names, so the kill hits that
//! step and no other. What is lost and doubled at each is the table of `docs/guarantees.md`.

use std::time::{Duration, Instant};

use crate::check::{self, Promise, since};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{What, now};
use crate::proxy::{Act, Proxy};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};
use crate::server::Raw;

/// The lease of the victims.
const LEASE: f64 = 1.0;

/// A victim that hears nothing for somewhat longer gives its connection up and goes on by another.
const PATIENCE: Duration = Duration::from_secs(8);

/// How often a step is tried where the machine is too slow to kill the victim before that.
const TRIES: u64 = 5;

/// When the victim dies.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// The proxy holds something.
    Wire(&'static str, Act),
    /// The worker has written something down, and waits.
    Program(&'static str, What),
}

/// A point, and what becomes of the item.
struct Step {
    words: &'static str,
    role: &'static str,
    point: Point,
    fate: ItemFate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemFate {
    /// It comes back, undone.
    Back,
    /// It comes back, done already.
    Doubled,
    /// It is gone, as it should be.
    Gone,
    /// It is gone or comes again: handed over, not yet confirmed for 10 ms.
    Either,
}

const STEPS: [Step; 11] = [
    Step {
        words: "before its claim reaches the server",
        role: "consume",
        point: Point::Wire("BLMOVE", Act::HoldRequest),
        fate: ItemFate::Back,
    },
    Step {
        words: "while the claimed item is on its way",
        role: "consume",
        point: Point::Wire("BLMOVE", Act::HoldReply),
        fate: ItemFate::Back,
    },
    Step {
        words: "with the item in hand",
        role: "consume",
        point: Point::Program("got", What::Got),
        fate: ItemFate::Back,
    },
    Step {
        words: "when the work is done",
        role: "consume",
        point: Point::Program("done", What::Done),
        fate: ItemFate::Doubled,
    },
    Step {
        words: "before its confirmation reaches the server",
        role: "consume",
        point: Point::Wire("LREM", Act::HoldRequest),
        fate: ItemFate::Doubled,
    },
    Step {
        words: "while the answer to its confirmation is on its way",
        role: "consume",
        point: Point::Wire("LREM", Act::HoldReply),
        fate: ItemFate::Gone,
    },
    Step {
        words: "when the item is confirmed",
        role: "consume",
        point: Point::Program("acked", What::Acked),
        fate: ItemFate::Gone,
    },
    Step {
        words: "while the item that get() takes is on its way",
        role: "take",
        point: Point::Wire("BLMOVE", Act::HoldReply),
        fate: ItemFate::Back,
    },
    Step {
        words: "when get() has returned",
        role: "take",
        point: Point::Program("got", What::Got),
        fate: ItemFate::Either,
    },
    Step {
        words: "before the confirmation of what get() took reaches the server",
        role: "take",
        point: Point::Wire("LREM", Act::HoldRequest),
        fate: ItemFate::Doubled,
    },
    Step {
        words: "while the answer to that confirmation is on its way",
        role: "take",
        point: Point::Wire("LREM", Act::HoldReply),
        fate: ItemFate::Gone,
    },
];

/// Kills workers of both kinds at every step.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("steps", setting, &[]);
    // Workers start slowly and wait for leases: all steps of a kind go on at once.
    let reports = std::thread::scope(|scope| {
        let scene = &scene;
        let threads: Vec<_> = Kind::OURS
            .into_iter()
            .flat_map(|kind| {
                STEPS.iter().enumerate().map(move |(number, step)| (kind, number, step))
            })
            .map(|(kind, number, step)| scope.spawn(move || one(scene, kind, number as u64, step)))
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for done in reports {
        match done {
            Ok(done) => report.absorb(done),
            Err(_) => report.must(false, || "a step failed, see above".to_owned()),
        }
    }
    report.enough("consumers killed", 2 * STEPS.len() as u64);
    scene.end(&mut report);
    report
}

fn one(scene: &Scene, kind: Kind, number: u64, step: &Step) -> Report {
    let mut report = Report::default();
    for tried in 0..TRIES {
        match play(scene, kind, (number, tried), step, &mut report) {
            Ok(false) => {}
            Ok(true) => return report,
            Err(why) => {
                let who = kind.name();
                report.must(false, || format!("{who} consumer killed {}: {why}", step.words));
                return report;
            }
        }
    }
    report
}

/// Whether the victim was killed at the step, not later.
fn play(
    scene: &Scene,
    kind: Kind,
    (number, tried): (u64, u64),
    step: &Step,
    report: &mut Report,
) -> Result<bool, String> {
    let queue = format!("{}-{number}-{tried}", kind.name());
    let key = format!("{PREFIX}{queue}");
    let item = 100 + number;
    let options = |more: Option<&str>| {
        let mut words = vec![format!("queue={queue}"), format!("lease={LEASE}")];
        words.extend(more.map(str::to_owned));
        words
    };
    let mut producer = scene.hire(Kind::Rust, "produce", &options(Some(&format!("first={item}"))));
    producer.ended(GUARD)?;
    let proxy = Proxy::start(scene.server.port());
    let stop = match step.point {
        Point::Wire(name, act) => {
            proxy.arm(Some(name), 0, act);
            None
        }
        Point::Program(place, _) => Some(format!("stop_at={place}")),
    };
    let url = scene.url(proxy.port());
    let mut victim = scene.crew.hire(kind, step.role, &url, &options(stop.as_deref()));
    match step.point {
        Point::Wire(..) => {
            if !proxy.fired(GUARD) {
                return Err(victim.complaint("never came to the step"));
            }
        }
        // A victim that stood still for longer than its lease stays there too, and what follows is told
        // by its history.
        Point::Program(_, what) => {
            victim.line(GUARD, |line| line.what == what || line.what == What::LeaseLost)?;
        }
    }
    let there = Instant::now();
    // The heir is there before the kill, so that its start does not count as recovery.
    let heir = Kind::OURS[usize::from(number.is_multiple_of(2))];
    let name = format!("heir-of-{queue}");
    let url = format!("{}?client_name={name}", scene.url(scene.server.port()));
    let mut heir = scene.crew.hire(heir, "consume", &url, &options(None));
    let mut raw = scene.server.raw();
    // Who waits for an item is registered nowhere, but held up; what still lay there it has at once.
    until("the heir waits", || held_up(&mut raw, &name) || heir.count(What::Got) != Ok(0))?;
    let killed = now();
    victim.kill();
    if matches!(step.point, Point::Wire(..)) && there.elapsed() > PATIENCE {
        return Ok(false);
    }
    report.count("consumers killed", 1);
    drop(proxy);
    if matches!(step.fate, ItemFate::Back | ItemFate::Doubled) {
        let line = heir.line(GUARD, |line| line.what == What::Got)?;
        // Where the proxy holds the connection that renews the lease, that may run out before.
        if line.at > killed {
            let fault = "a consumer is killed holding an item (lease 1 s)";
            report.recovered(fault, kind, since(killed, &line));
        }
        report.count("came back", 1);
    }
    settled(scene, &queue, &key)?;
    heir.finish()?;
    judge(scene, &queue, step, item, vec![producer, victim, heir], report)?;
    Ok(true)
}

/// Whether a client of that name waits at the server.
fn held_up(raw: &mut Raw, name: &str) -> bool {
    let clients = raw.run(&["CLIENT", "LIST"]).text();
    let mine = |line: &&str| line.contains(&format!(" name={name} "));
    clients.lines().filter(mine).any(|line| line.contains(" flags=b"))
}

/// Nothing waits or is held, and nobody who is dead could still have something.
fn settled(scene: &Scene, queue: &str, key: &str) -> Result<(), String> {
    scene.drained(queue)?;
    let mut raw = scene.server.raw();
    let epochs = format!("__pymq:{{{key}}}:epochs");
    until("the leases of the dead have run out", || raw.run(&["ZCARD", &epochs]).number() <= 1)?;
    scene.drained(queue)
}

fn judge(
    scene: &Scene,
    queue: &str,
    step: &Step,
    item: u64,
    hands: Vec<Hand>,
    report: &mut Report,
) -> Result<(), String> {
    // What get() has returned counts as done.
    let work = if step.role == "take" { What::Got } else { What::Done };
    let (by_victim, by_heir) = (hands[1].count(work)?, hands[2].count(What::Done)?);
    let fits = match step.fate {
        ItemFate::Back => (by_victim, by_heir) == (0, 1),
        ItemFate::Doubled => (by_victim, by_heir) == (1, 1),
        ItemFate::Gone => (by_victim, by_heir) == (1, 0),
        ItemFate::Either => by_heir <= 1,
    };
    // A machine that is slower than leases are long gives reasons of its own, which are checked below.
    let late = hands
        .iter()
        .try_fold(0, |all, hand| Ok::<usize, String>(all + hand.count(What::LeaseLost)?))?;
    report.must(fits || late > 0, || {
        format!("killed {}, item {item} was done {by_victim} and {by_heir} times", step.words)
    });
    check::queue(report, &stories(&hands)?, &scene.left(queue), Promise::Nothing);
    Ok(())
}

/// The same harm to the original, which takes an item from the server before it has it: the item is
/// lost, and the checker must find that, or its silence about ours would mean nothing.
pub(crate) fn bait(setting: &Setting) -> Report {
    const ROUNDS: u64 = 3;
    let mut report = Report::default();
    let scene = Scene::start("bait", setting, &[]);
    if !scene.crew.has_originals() {
        report.say("without originals: name an interpreter that has one with --original");
        return report;
    }
    let mut found = Report::default();
    for number in 0..ROUNDS {
        let outcome = lose_one(&scene, number, &mut found);
        report.take(outcome);
    }
    let lost = found.counted("lost");
    report.count("items of the original lost and found to be lost", lost as usize);
    report.must(lost == ROUNDS, || format!("{lost} of {ROUNDS} losses were found"));
    scene.end(&mut report);
    report
}

fn lose_one(scene: &Scene, number: u64, found: &mut Report) -> Result<(), String> {
    let queue = "work";
    let mut producer = scene.hire(Kind::Rust, "produce", &[format!("first={}", number + 1)]);
    producer.ended(GUARD)?;
    let proxy = Proxy::start(scene.server.port());
    proxy.arm(Some("BRPOP"), 0, Act::HoldReply);
    let mut victim = scene.crew.hire(Kind::Original, "take", &scene.url(proxy.port()), &[]);
    if !proxy.fired(GUARD) {
        return Err(victim.complaint("never took the item"));
    }
    victim.kill();
    check::queue(found, &stories(&[producer, victim])?, &scene.left(queue), Promise::Nothing);
    Ok(())
}
