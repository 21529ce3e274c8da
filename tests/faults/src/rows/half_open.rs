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

/// Consumers and subscribers of both kinds behind a cable that is pulled and plugged in again.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let mut far = Vec::new();
    for _ in Kind::OURS {
        match Island::make() {
            Ok(island) => far.push(island),
            Err(why) => {
                report.say(format!("no network namespaces here ({why}); a dark proxy stands in"));
                break;
            }
        }
    }
    let addresses: Vec<_> = far.iter().map(|island| island.address.as_str()).collect();
    let arguments = [&["--protected-mode", "no", "--bind", "127.0.0.1"], &addresses[..]].concat();
    let scene = Scene::start("half-open", setting, &arguments);
    let ways: Vec<Way> = if far.len() == Kind::OURS.len() {
        far.into_iter().map(Way::Cable).collect()
    } else {
        Kind::OURS.map(|_| Way::Dark(Proxy::start(scene.server.port()))).into()
    };
    let reports = std::thread::scope(|scope| {
        let one = |(kind, way)| {
            scope.spawn({
                let scene = &scene;
                move || lose(scene, setting, kind, way)
            })
        };
        let threads: Vec<_> = Kind::OURS.into_iter().zip(&ways).map(one).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    for done in reports {
        match done {
            Ok(Ok(done)) => report.absorb(done),
            Ok(Err(why)) => report.must(false, || why),
            Err(_) => report.must(false, || "a case failed, see above".to_owned()),
        }
    }
    report.enough("cables pulled", 2);
    report.enough("items that a ghost had taken", 2);
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

fn lose(scene: &Scene, setting: &Setting, kind: Kind, way: &Way) -> Result<Report, String> {
    let mut report = Report::default();
    let name = kind.name();
    let options = [format!("queue={name}"), "lease=1".to_owned()];
    let topic = format!("topic=news-{name}");
    let mut far = way.hire(scene, kind, "consume", &options);
    let mut ear = way.hire(scene, kind, "subscribe", &[topic]);
    ear.line(GUARD, |line| line.what == What::Executed)?;
    let mut producers = vec![put(scene, kind, 1)?];
    far.line(GUARD, |line| line.what == What::Acked)?;
    // It waits again now; its claim of the second item is answered into the void.
    let mut raw = scene.server.raw();
    let held = format!("__pymq:{{{PREFIX}{name}}}:held:*");
    way.pull()?;
    report.count("cables pulled", 1);
    let pulled = now();
    producers.push(put(scene, kind, 2)?);
    if !raw.run(&["KEYS", &held]).texts().is_empty() {
        report.count("items that a ghost had taken", 1);
    }
    let mut near = scene.hire(kind, "consume", &options);
    let line = near.line(GUARD, |line| line.what == What::Got)?;
    let words = "a host vanishes with an item (lease 1 s): it is another's";
    report.recovered(words, kind, since(pulled, &line));
    near.line(GUARD, |line| line.what == What::Acked)?;
    // Long enough that both sides give the connection up.
    std::thread::sleep(Duration::from_secs(if setting.brief { 9 } else { 40 }));
    near.finish()?;
    way.plug()?;
    let plugged = now();
    producers.push(put(scene, kind, 3)?);
    let line = far.line(GUARD, |line| line.what == What::Got && line.item == 3)?;
    report.recovered("the cable is plugged in: a waiting get", kind, since(plugged, &line));
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
    check::queue(&mut report, &stories(&producers)?, &scene.left(name), Promise::Nothing);
    Ok(report)
}

fn put(scene: &Scene, kind: Kind, item: u64) -> Result<Hand, String> {
    let options = [format!("queue={}", kind.name()), format!("first={item}")];
    let mut hand = scene.hire(kind, "produce", &options);
    hand.ended(GUARD)?;
    Ok(hand)
}
