//! Row 10: subscribers that do not read.

use std::time::Duration;

use crate::check;
use crate::crew::{GUARD, Hand, Kind};
use crate::history::{Line, What};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting};

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
    let mut hand =
        scene.hire(kind, "subscribe", &[format!("topic={topic}"), "begins=3".to_owned()]);
    hand.line(GUARD, |line| line.what == What::Executed)?;
    let mut next = 0;
    publish(scene, &topic, &mut next, MANY, 0);
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
    check::subscriber(report, &hand.story()?, next);
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
