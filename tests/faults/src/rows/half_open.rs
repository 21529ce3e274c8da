//! Row 6: a connection whose other side vanishes without a word.
//!
//! The one invariant: the cable is pulled, not cut: nobody is told anything. Where this machine
//! makes no network namespaces, a proxy that swallows everything stands in, and the report says so.

use std::time::Duration;

use crate::check::{self, Promise, since};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{What, now};
use crate::network::Island;
use crate::proxy::Proxy;
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting};

/// What is put last, behind all that somebody puts all the time.
const LAST: u64 = 1_000_000;

/// How often the cable is pulled until that meets a consumer that waits.
const PULLS: usize = 5;

/// Consumers and subscribers of both kinds behind a cable that is pulled and plugged in again.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let reports = std::thread::scope(|scope| {
        let threads = Kind::OURS.map(|kind| scope.spawn(move || behind_a_cable(setting, kind)));
        threads.map(std::thread::ScopedJoinHandle::join)
    });
    for done in reports {
        match done {
            Ok(done) => report.absorb(done),
            Err(_) => report.must(false, || "a case failed, see above".to_owned()),
        }
    }
    report.enough("cables pulled", 2);
    report.enough("items that a ghost had taken", 2);
    report
}

fn behind_a_cable(setting: &Setting, kind: Kind) -> Report {
    let mut report = Report::default();
    let island = Island::make();
    let mut arguments = vec!["--protected-mode", "no", "--bind", "127.0.0.1"];
    arguments.extend(island.as_ref().map(|island| island.address.as_str()));
    let scene = Scene::start(&format!("half-open {}", kind.name()), setting, &arguments);
    let way = match island {
        Ok(island) => Way::Cable(island),
        Err(why) => {
            report.say(format!("no network namespaces here ({why}); a dark proxy stands in"));
            Way::Dark(Proxy::start(scene.server.port()))
        }
    };
    let outcome = lose(&scene, setting, kind, &way, &mut report);
    report.take(outcome);
    scene.end(&mut report);
    report
}

/// Between a worker and the server.
enum Way {
    Cable(Island),
    Dark(Proxy),
}

impl Way {
    fn hire(&self, scene: &Scene, kind: Kind, role: &str, options: &[String]) -> Hand {
        match self {
            Self::Cable(island) => {
                let url = format!("redis://{}:{}", island.address, scene.server.port());
                scene.crew.hire_through(&island.way(), kind, role, &url, options)
            }
            Self::Dark(proxy) => scene.crew.hire(kind, role, &scene.url(proxy.port()), options),
        }
    }

    fn pull(&self) -> Result<(), String> {
        match self {
            Self::Cable(island) => island.pull(),
            Self::Dark(proxy) => {
                proxy.darken(true);
                Ok(())
            }
        }
    }

    fn plug(&self) -> Result<(), String> {
        match self {
            Self::Cable(island) => island.plug(),
            Self::Dark(proxy) => {
                proxy.darken(false);
                Ok(())
            }
        }
    }
}

fn lose(
    scene: &Scene,
    setting: &Setting,
    kind: Kind,
    way: &Way,
    report: &mut Report,
) -> Result<(), String> {
    let name = kind.name();
    let options = [format!("queue={name}"), "lease=1".to_owned()];
    let topic = format!("topic=news-{name}");
    let mut far = way.hire(scene, kind, "consume", &options);
    let mut ear = way.hire(scene, kind, "subscribe", &[topic]);
    ear.line(GUARD, |line| line.what == What::Executed)?;
    let mut producers = vec![put(scene, kind, 1)?];
    far.line(GUARD, |line| line.what == What::Acked)?;
    // Somebody puts all the time, so that one of its claims is answered into the void.
    let words = [format!("queue={name}"), "first=2".into(), "count=100000".into()];
    let mut steady = scene.hire(kind, "produce", &[&words[..], &["pause=0.05".into()]].concat());
    far.line(GUARD, |line| line.what == What::Acked && line.item > 1)?;
    let mut taken = None;
    let mut pulled = now();
    for _ in 0..PULLS {
        way.pull()?;
        pulled = now();
        report.count("cables pulled", 1);
        taken = taken_by_a_ghost(scene, name);
        if taken.is_some() {
            break;
        }
        way.plug()?;
        far.line(GUARD, |line| line.what == What::Acked && line.at > pulled)?;
    }
    steady.finish()?;
    producers.push(steady);
    if taken.is_none() {
        // The run shows too little, and is done once more.
        return far.finish().and_then(|()| ear.finish());
    }
    report.count("items that a ghost had taken", 1);
    let mut near = scene.hire(kind, "consume", &options);
    let line = near.line(GUARD, |line| line.what == What::Got && Some(line.item) == taken)?;
    let words = "a host vanishes with an item (lease 1 s): it is another's";
    report.recovered(words, kind, since(pulled, &line));
    near.line(GUARD, |line| line.what == What::Acked && Some(line.item) == taken)?;
    // Time is what has to pass: until both sides give the connection up.
    std::thread::sleep(Duration::from_secs(if setting.brief { 9 } else { 40 }));
    near.finish()?;
    way.plug()?;
    let plugged = now();
    producers.push(put(scene, kind, LAST)?);
    let line = far.line(GUARD, |line| line.what == What::Got && line.item == LAST)?;
    report.recovered("the cable is plugged in: a waiting get", kind, since(plugged, &line));
    let mut raw = scene.server.raw();
    let channel = format!("{PREFIX}news-{name}");
    let mut number = 0_u64;
    let first = loop {
        raw.run(&["PUBLISH", &channel, &number.to_string()]);
        std::thread::sleep(Duration::from_millis(20));
        if let Some(line) = ear.lines()?.into_iter().find(|line| line.what == What::Received) {
            break line;
        }
        number += 1;
        if now() - plugged > GUARD {
            return Err(ear.complaint("hears nothing any more"));
        }
    };
    report.recovered("the cable is plugged in: a subscription", kind, since(plugged, &first));
    far.finish()?;
    ear.finish()?;
    producers.extend([far, near]);
    check::queue(report, &stories(&producers)?, &scene.left(name), Promise::Nothing);
    Ok(())
}

/// An item that is held, and not done a little later: one that was confirmed just before the cable was
/// pulled is gone then. None if nobody was waiting for one in that moment.
fn taken_by_a_ghost(scene: &Scene, queue: &str) -> Option<u64> {
    let until = now() + Duration::from_secs(3);
    let mut held: Vec<u64> = Vec::new();
    while now() < until {
        let left = scene.left(queue);
        // By then it may have been given back.
        let there = |item: &&u64| left.held.contains(item) || left.waiting.contains(item);
        if let Some(item) = held.iter().find(there) {
            return Some(*item);
        }
        held = left.held;
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

fn put(scene: &Scene, kind: Kind, item: u64) -> Result<Hand, String> {
    let options = [format!("queue={}", kind.name()), format!("first={item}")];
    let mut hand = scene.hire(kind, "produce", &options);
    hand.ended(GUARD)?;
    Ok(hand)
}
