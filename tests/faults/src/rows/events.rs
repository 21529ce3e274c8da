//! Row 10, subscribers that do not read; and rows 3 and 8 for those whose connections are lost.

use std::time::Duration;

use crate::chance::Chance;
use crate::check;
use crate::crew::{GUARD, Hand, Kind};
use crate::history::{Line, What};
use crate::proxy::{Act, Proxy};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};
use crate::storm::kill_connection;

/// What a subscriber may use, whatever is published: 64 MiB of mailbox, and a process around it.
const MEMORY: u64 = 200 * 1024 * 1024;
/// More than a mailbox holds.
const MANY: u64 = 80_000;

/// A subscriber is stopped while more is published than the server will keep for it: it is cut off,
/// learns that it missed something, and goes on. Publishing never waits.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("slow subscriber", setting, &[]);
    for kind in Kind::OURS {
        if let Err(why) =
            stop(&scene, kind, &mut report).and_then(|()| lag(&scene, kind, &mut report))
        {
            report.must(false, || format!("{}: {why}", kind.name()));
        }
    }
    report.enough("gaps told of", 4);
    report.enough("events missed", 1000);
    scene.end(&mut report);
    report
}

/// Connections of subscribers are killed, and cut within events: what arrives is in order, and each
/// hole is told of.
pub(crate) fn storm(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("event storm", setting, &[]);
    let proxy = Proxy::start(scene.server.port());
    let outcome = shake(&scene, &proxy, setting, &mut report);
    report.take(outcome);
    report.count("replies cut", proxy.cuts());
    let least = if setting.brief { 10 } else { 100 };
    report.enough("replies cut", least);
    report.enough("connections killed", least);
    report.enough("gaps told of", least);
    scene.end(&mut report);
    report
}

fn shake(
    scene: &Scene,
    proxy: &Proxy,
    setting: &Setting,
    report: &mut Report,
) -> Result<(), String> {
    const TOPIC: &str = "storm";
    let mut chance = Chance::new(setting.seed, "event storm");
    let options = [format!("topic={TOPIC}")];
    let url = scene.url(proxy.port());
    let hire = |kind| scene.crew.hire(kind, "subscribe", &url, &options);
    let mut hands = [Kind::Rust, Kind::Python, Kind::Rust, Kind::Python].map(hire);
    for hand in &hands {
        hand.line(GUARD, |line| line.what == What::Executed)?;
    }
    let mut next = 0;
    for round in 0..if setting.brief { 60 } else { 600 } {
        if round % 2 == 0 {
            proxy.arm(Some("MESSAGE"), chance.below(20), Act::Cut { after: chance.below(60) });
        } else {
            let mut raw = scene.server.raw();
            report.count("connections killed", kill_connection(&mut raw, "subscriptions"));
        }
        publish(scene, TOPIC, &mut next, 20, 0);
        // Some of them are back by then, and some are not.
        std::thread::sleep(chance.around(Duration::from_millis(30)));
    }
    proxy.disarm();
    // All are told to end when all have heard the last event.
    let guard = std::time::Instant::now() + GUARD;
    let mut deaf = Vec::from_iter(&hands);
    while !deaf.is_empty() {
        publish(scene, TOPIC, &mut next, 1, 0);
        std::thread::sleep(Duration::from_millis(50));
        let heard = |hand: &&Hand| {
            let lines = hand.lines().unwrap_or_default();
            lines.iter().any(|line| line.what == What::Received && line.item + 1 == next)
        };
        if deaf.iter().all(heard) {
            deaf.clear();
        } else if std::time::Instant::now() > guard {
            return Err(deaf[0].complaint("or another one hears nothing any more"));
        }
    }
    for hand in &mut hands {
        hand.finish()?;
        check::subscriber(report, &hand.story()?, next, &check::unsure(&[]));
    }
    Ok(())
}

fn stop(scene: &Scene, kind: Kind, report: &mut Report) -> Result<(), String> {
    let topic = format!("stopped-{}", kind.name());
    limit(scene, "pubsub 262144 65536 1");
    let mut hand = scene.hire(kind, "subscribe", &[format!("topic={topic}")]);
    hand.line(GUARD, |line| line.what == What::Executed)?;
    let mut next = 0;
    publish(scene, &topic, &mut next, 10, 0);
    hand.line(GUARD, |line| line.what == What::Received && line.item == 9)?;
    hand.stop();
    publish(scene, &topic, &mut next, 20_000, 1000);
    hand.go_on();
    finish(scene, &topic, &mut hand, next, report)?;
    report.count("subscribers that the server cut off", 1);
    Ok(())
}

/// A callback is slower than events come: its mailbox drops the oldest ones and counts them.
fn lag(scene: &Scene, kind: Kind, report: &mut Report) -> Result<(), String> {
    let topic = format!("slow-{}", kind.name());
    limit(scene, "pubsub 0 0 0");
    let sign = scene.crew.place(&format!("{topic}.begin"));
    let options = [format!("topic={topic}"), format!("begins={}", sign.display())];
    let mut hand = scene.hire(kind, "subscribe", &options);
    hand.line(GUARD, |line| line.what == What::Executed)?;
    let mut next = 0;
    publish(scene, &topic, &mut next, MANY, 0);
    until("all of it has left the server and the network", || in_flight(scene) == 0)?;
    std::fs::write(&sign, "").map_err(|error| error.to_string())?;
    finish(scene, &topic, &mut hand, next, report)?;
    let lines = hand.lines()?;
    let sum = |what, of: fn(&Line) -> u64| -> u64 {
        lines.iter().filter(|line| line.what == what).map(of).sum()
    };
    let (received, missed) = (sum(What::Received, |_| 1), sum(What::Missed, |line| line.number));
    let last = lines.iter().filter(|line| line.what == What::Received).map(|line| line.item).max();
    // In Python the log tells of a loss, not how large it is.
    report.must(kind != Kind::Rust || received + missed == last.unwrap_or(0) + 1, || {
        format!("{received} received and {missed} missed are not {last:?} and one more")
    });
    report.count("subscribers that lagged", 1);
    Ok(())
}

/// Bytes that the server, or the network between it and anybody, still holds.
fn in_flight(scene: &Scene) -> u64 {
    let clients = scene.server.raw().run(&["CLIENT", "LIST"]).text();
    let waiting = clients.split([' ', '\n']).filter_map(|word| word.strip_prefix("omem="));
    let waiting: u64 = waiting.filter_map(|bytes| bytes.parse::<u64>().ok()).sum();
    let port = format!(":{:04X}", scene.server.port());
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let sockets = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = sockets.filter(|words| {
        words.len() > 4 && (words[1].ends_with(&port) || words[2].ends_with(&port))
    });
    let bytes = |queue: &str| u64::from_str_radix(queue, 16).unwrap_or(0);
    let queues = ours.map(|words| words[4].split(':').map(bytes).sum::<u64>());
    waiting + queues.sum::<u64>()
}

fn limit(scene: &Scene, limit: &str) {
    scene.server.raw().run(&["CONFIG", "SET", "client-output-buffer-limit", limit]);
}

/// Publishes until the subscriber hears again, then judges what it heard.
fn finish(
    scene: &Scene,
    topic: &str,
    hand: &mut Hand,
    mut next: u64,
    report: &mut Report,
) -> Result<(), String> {
    let guard = std::time::Instant::now() + GUARD;
    loop {
        publish(scene, topic, &mut next, 1, 0);
        let heard = hand
            .lines()?
            .into_iter()
            .any(|line| line.what == What::Received && line.item + 1 == next);
        if heard {
            break;
        }
        if std::time::Instant::now() > guard {
            return Err(hand.complaint("hears nothing any more"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", hand.pid()));
    let status = status.map_err(|error| error.to_string())?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    let peak = peak.unwrap_or(u64::MAX / 1024) * 1024;
    report.must(peak < MEMORY, || format!("{} used {peak} bytes", hand.name));
    hand.finish()?;
    check::subscriber(report, &hand.story()?, next, &check::unsure(&[]));
    Ok(())
}

fn publish(scene: &Scene, topic: &str, next: &mut u64, count: u64, size: usize) {
    let mut raw = scene.server.raw();
    let channel = format!("{PREFIX}{topic}");
    let padding = " ".repeat(size);
    for number in *next..*next + count {
        let payload = format!("{number}{padding}");
        raw.write(&[b"PUBLISH", channel.as_bytes(), payload.as_bytes()]);
    }
    for _ in 0..count {
        raw.read();
    }
    *next += count;
}
