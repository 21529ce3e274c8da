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

/// Two workers of each kind at one queue: whatever takes an item first ends with it in hand.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("owners", setting, &[]);
    let items = if setting.brief { 60 } else { 3000 };
    for (kind, ways) in WAYS {
        if let Err(why) = leave(&scene, kind, items, &mut report) {
            report.must(false, || format!("{}: {why}", kind.name()));
        }
        for way in ways {
            report.enough(&left_by(kind, way), 3);
        }
    }
    scene.end(&mut report);
    report
}

fn leave(scene: &Scene, kind: Kind, items: u64, report: &mut Report) -> Result<(), String> {
    let name = format!("queue={}", kind.name());
    let produce = [name.clone(), "first=1".to_owned(), format!("count={items}"), "batch=10".into()];
    let mut producer = scene.hire(kind, "produce", &produce);
    producer.ended(GUARD)?;
    let mut hands: Vec<Hand> =
        (0..2).map(|_| scene.hire(kind, "leave", &[name.clone(), "lease=2".into()])).collect();
    scene.drained(kind.name())?;
    hands.iter_mut().try_for_each(Hand::finish)?;
    for hand in &hands {
        for line in hand.lines()?.iter().filter(|line| line.what == What::Failed) {
            report.count(&left_by(kind, &line.word), 1);
        }
    }
    hands.push(producer);
    check::queue(report, &stories(&hands)?, &scene.left(kind.name()), Promise::Nothing);
    Ok(())
}

fn left_by(kind: Kind, way: &str) -> String {
    format!("items left by a {way} in {}", kind.name())
}
