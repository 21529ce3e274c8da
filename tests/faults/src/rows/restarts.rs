//! Rows 2, 3 and 7, measured: how long it takes until all is well again after the server or a
//! connection was gone; and connections that the server closes because they idle.

use std::time::Duration;

use crate::check::{self, Promise, since};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{What, now};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};
use crate::storm::kill_connection;

/// A waiting consumer and a subscriber of each kind, through restarts, killed connections, stalls.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("recovery", setting, &[]);
    let watchers = Kind::OURS.map(|kind| Watcher::hire(&scene, kind));
    let mut watched = Watched { scene, watchers, number: 0 };
    if let Err(why) = watched.go_through(setting, &mut report) {
        report.must(false, || why);
    }
    let Watched { scene, mut watchers, .. } = watched;
    for watcher in &mut watchers {
        report.take(watcher.consumer.finish());
        report.take(watcher.subscriber.finish());
    }
    report.enough("server restarts", 2);
    report.enough("connections killed", 4);
    scene.end(&mut report);
    report
}

struct Watcher {
    kind: Kind,
    consumer: Hand,
    subscriber: Hand,
}

impl Watcher {
    fn hire(scene: &Scene, kind: Kind) -> Self {
        let queue = format!("queue={}", kind.name());
        Self {
            kind,
            consumer: scene.hire(kind, "consume", &[queue, "lease=30".to_owned()]),
            subscriber: scene.hire(kind, "subscribe", &[]),
        }
    }
}

struct Watched {
    scene: Scene,
    watchers: [Watcher; 2],
    number: u64,
}

impl Watched {
    fn go_through(&mut self, setting: &Setting, report: &mut Report) -> Result<(), String> {
        for watcher in &self.watchers {
            watcher.subscriber.line(GUARD, |line| line.what == What::Executed)?;
        }
        let rounds = if setting.brief { 2 } else { 10 };
        for _ in 0..rounds {
            self.scene.server.restart();
            report.count("server restarts", 1);
            self.recovers("Redis is killed and is back", report)?;
            let mut raw = self.scene.server.raw();
            for role in ["waiting", "commands", "subscriptions"] {
                for _ in Kind::OURS {
                    report.count("connections killed", kill_connection(&mut raw, role));
                }
            }
            self.recovers("connections are killed", report)?;
            self.scene.server.pause();
            std::thread::sleep(Duration::from_secs(if setting.brief { 2 } else { 15 }));
            self.scene.server.resume();
            report.count("server stops", 1);
            self.recovers("Redis hangs and goes on", report)?;
        }
        Ok(())
    }

    /// Measures how long it takes until items and events arrive again.
    fn recovers(&mut self, fault: &str, report: &mut Report) -> Result<(), String> {
        let healed = now();
        let mut raw = self.scene.server.raw();
        self.number += 1;
        let number = self.number.to_string();
        for watcher in &self.watchers {
            raw.run(&["LPUSH", &format!("{PREFIX}{}", watcher.kind.name()), &number]);
        }
        for place in 0..self.watchers.len() {
            let item = self.number_of_item();
            let watcher = &self.watchers[place];
            let got = |line: &crate::history::Line| line.what == What::Got && line.item == item;
            let line = watcher.consumer.line(GUARD, got)?;
            report.recovered(
                &format!("{fault}: a waiting get"),
                watcher.kind,
                since(healed, &line),
            );
        }
        let begin = 1_000_000_000 * self.number;
        for step in 0.. {
            raw.run(&["PUBLISH", &format!("{PREFIX}news"), &(begin + step).to_string()]);
            std::thread::sleep(Duration::from_millis(10));
            let mut firsts = Vec::new();
            for watcher in &self.watchers {
                let lines = watcher.subscriber.lines()?;
                firsts.extend(
                    lines
                        .into_iter()
                        .find(|line| line.what == What::Received && line.item >= begin),
                );
            }
            if firsts.len() == self.watchers.len() {
                for (watcher, first) in self.watchers.iter().zip(&firsts) {
                    let took = since(healed, first);
                    report.recovered(&format!("{fault}: a subscription"), watcher.kind, took);
                }
                return Ok(());
            }
            if now() - healed > GUARD {
                return Err(format!("{fault}: subscribers hear nothing any more"));
            }
        }
        Ok(())
    }

    fn number_of_item(&self) -> u64 {
        self.number
    }
}

/// A server that closes connections which say nothing for a second: the next operation works.
pub(crate) fn idle(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("idle connections", setting, &["--timeout", "1"]);
    let words = ["count=1000", "pause=2.2"];
    let mut hands: Vec<Hand> = Kind::OURS
        .into_iter()
        .enumerate()
        .map(|(number, kind)| {
            let mut options = words.map(str::to_owned).to_vec();
            options.push(format!("first={}", 10_000 * number + 1));
            scene.hire(kind, "produce", &options)
        })
        .collect();
    let mut looks = 0;
    let enough = until("connections were closed, and each has put again", || {
        looks += 1;
        closed_as_idle(&scene, looks) >= 2
            && hands.iter().all(|hand| hand.count(What::Put).is_ok_and(|puts| puts >= 3))
    });
    report.take(enough);
    for hand in &mut hands {
        report.take(hand.finish());
    }
    for hand in &hands {
        report.count("puts after a silence", hand.count(What::Put).unwrap_or(0));
        report.must(hand.count(What::Refused) == Ok(0), || hand.complaint("could not put"));
    }
    report.enough("puts after a silence", 6);
    report.count("connections that the server closed", closed_as_idle(&scene, looks + 1));
    report.enough("connections that the server closed", 2);
    if let Some(stories) = report.take(stories(&hands)) {
        check::queue(&mut report, &stories, &scene.left("work"), Promise::Nothing);
    }
    scene.end(&mut report);
    report
}

/// Every connection got a number; those that are gone without having been ours to end were idle. This is
/// one of so many looks.
fn closed_as_idle(scene: &Scene, looks: usize) -> usize {
    let mut raw = scene.server.raw();
    let text = raw.run(&["INFO", "stats"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    let connections: usize = line.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    // Ours to look, and one for each program that was never closed.
    connections.saturating_sub(looks + Kind::OURS.len())
}
