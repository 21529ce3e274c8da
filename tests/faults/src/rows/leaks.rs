//! What stays behind: messages, calls and subscriptions by the thousand leave memory flat and no key.

use crate::crew::{GUARD, Kind};
use crate::history::What;
use crate::report::Report;
use crate::scene::{Scene, Setting, until};

/// Memory that may come on top after the first fifth: allocators and tables settle late.
const GROWTH: u64 = 12 * 1024 * 1024;

/// µs after which a bus that closes no longer waits for what it tells the server.
const FAREWELL: u64 = 1_000_000;

/// One process of each kind sends everything to itself, again and again.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("leaks", setting, &[]);
    let count = if setting.brief { 25_000 } else { setting.items.max(50_000) };
    let mut workers = Kind::OURS.map(|kind| {
        let options = [format!("count={count}"), format!("queue=churn-{}", kind.name())];
        scene.hire(kind, "churn", &options)
    });
    let mut cut = false;
    for worker in &mut workers {
        let outcome = worker.ended(GUARD + setting.patience);
        let Some(status) = report.take(outcome) else { continue };
        report.must(status.success(), || worker.complaint("ended badly"));
        let Some(lines) = report.take(worker.lines()) else { continue };
        let memory: Vec<u64> =
            lines.iter().filter(|line| line.what == What::Memory).map(|line| line.number).collect();
        let (Some(settled), Some(last)) = (memory.get(2), memory.last()) else {
            report.must(false, || worker.complaint("measured nothing"));
            continue;
        };
        report.must(memory.len() == 11, || worker.complaint("did not come to its end"));
        cut |= lines.iter().any(|line| line.what == What::Closed && line.number >= FAREWELL);
        report.count("messages, calls and subscriptions", count as usize);
        let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let curve: Vec<_> = memory.iter().map(|&at| format!("{:.1}", megabytes(at))).collect();
        report.say(format!("{} used MiB: {}", worker.kind.name(), curve.join(" ")));
        report.must(*last <= settled + GROWTH, || {
            format!("{} grows: {memory:?} bytes", worker.kind.name())
        });
    }
    let mut raw = scene.server.raw();
    if cut {
        report
            .say("a close was cut short on a machine that stood still: what it left is not judged");
    }
    for (what, words) in [("keys", ["KEYS", "*"]), ("channels", ["PUBSUB", "CHANNELS"])] {
        let gone = cut || until("nothing is left", || raw.run(&words).texts().is_empty()).is_ok();
        report.must(gone, || format!("{what} are left: {:?}", raw.run(&words).texts()));
    }
    report.enough("messages, calls and subscriptions", 2 * count);
    scene.end(&mut report);
    report
}
