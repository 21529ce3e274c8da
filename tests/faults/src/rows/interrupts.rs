//! Row 31: a handler of a signal raises at any place inside of `get`. What `get` has not returned goes
//! to somebody else; what it has returned is done once.

use crate::check::{self, Promise};
use crate::crew::{GUARD, Kind, stories};
use crate::history::What;
use crate::report::Report;
use crate::scene::{Scene, Setting};

/// Workers in Python under storms of alarms, one item at a time and ahead.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("interrupts", setting, &[]);
    let items = if setting.brief { 1500 } else { 30_000 };
    for (ack, many) in [("manual", 1), ("manual", 8), ("auto", 1)] {
        if let Err(why) = storm(&scene, setting.seed, items, ack, many, &mut report) {
            report.must(false, || format!("{ack}, {many} at a time: {why}"));
        }
    }
    report.enough("interrupts", if setting.brief { 100 } else { 2000 });
    scene.end(&mut report);
    report
}

fn storm(
    scene: &Scene,
    seed: u64,
    items: u64,
    ack: &str,
    many: u64,
    report: &mut Report,
) -> Result<(), String> {
    let queue = format!("interrupts-{ack}-{many}");
    let name = format!("queue={queue}");
    let words =
        [name.clone(), "first=1".to_owned(), format!("count={items}"), "most=1000000".into()];
    let mut producer =
        scene.hire(Kind::Rust, "produce", &[&words[..], &["batch=50".into()]].concat());
    producer.ended(GUARD)?;
    let options = [
        name,
        "lease=2".to_owned(),
        format!("ack={ack}"),
        format!("many={many}"),
        format!("seed={seed}"),
    ];
    let mut worker = scene.hire(Kind::Python, "interrupted", &options);
    scene.drained(&queue)?;
    worker.finish()?;
    report.count("interrupts", worker.count(What::Failed)?);
    let mut got: Vec<u64> = worker
        .lines()?
        .into_iter()
        .filter(|line| line.what == What::Got)
        .map(|line| line.item)
        .collect();
    report.count("items done under interrupts", got.len());
    got.sort_unstable();
    got.dedup();
    report.must(got.len() as u64 == items, || {
        format!("{queue}: {} of {items} items were returned by get", got.len())
    });
    check::queue(report, &stories(&[producer, worker])?, &scene.left(&queue), Promise::Nothing);
    Ok(())
}
