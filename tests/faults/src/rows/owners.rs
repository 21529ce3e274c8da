//! Row 19: threads, tasks, loops, runtimes and children end with items in hand. Each item comes back,
//! and nobody else confirms it.

use crate::check::{self, Promise};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::What;
use crate::report::Report;
use crate::scene::{Scene, Setting};

/// How those who took items end, by the kind of the worker.
const WAYS: [(Kind, &[&str]); 2] = [
    (Kind::Rust, &["task", "aborted task", "runtime"]),
    (Kind::Python, &["thread", "task", "loop", "child"]),
];

/// How many items each way of ending has to leave.
const LEAST: u64 = 3;

/// Two workers of each kind at one queue: whatever takes an item first ends with it in hand.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("owners", setting, &[]);
    let items = if setting.brief { 60 } else { 3000 };
    for (kind, ways) in WAYS {
        // Who meets an item first is chance: a few rounds more, until each has ended with some.
        for round in 0..5 {
            if let Err(why) = leave(&scene, kind, round, items, &mut report) {
                report.must(false, || format!("{}: {why}", kind.name()));
            }
            if ways.iter().all(|way| report.counted(&left_by(kind, way)) >= LEAST) {
                break;
            }
        }
        for way in ways {
            report.enough(&left_by(kind, way), LEAST);
        }
    }
    scene.end(&mut report);
    report
}

fn leave(
    scene: &Scene,
    kind: Kind,
    round: u32,
    items: u64,
    report: &mut Report,
) -> Result<(), String> {
    let queue = format!("{}-{round}", kind.name());
    let name = format!("queue={queue}");
    let produce = [name.clone(), "first=1".to_owned(), format!("count={items}"), "batch=10".into()];
    let mut producer = scene.hire(kind, "produce", &produce);
    producer.ended(GUARD)?;
    let mut hands: Vec<Hand> =
        (0..2).map(|_| scene.hire(kind, "leave", &[name.clone(), "lease=2".into()])).collect();
    scene.drained(&queue)?;
    hands.iter_mut().try_for_each(Hand::finish)?;
    for hand in &hands {
        for line in hand.lines()?.iter().filter(|line| line.what == What::Failed) {
            report.count(&left_by(kind, &line.word), 1);
        }
    }
    hands.push(producer);
    check::queue(report, &stories(&hands)?, &scene.left(&queue), Promise::Nothing);
    Ok(())
}

fn left_by(kind: Kind, way: &str) -> String {
    format!("items left by a {way} in {}", kind.name())
}
