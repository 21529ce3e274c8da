//! Rows 9 and 13: an item that kills whoever handles it, and a consumer that sleeps too long.

use std::time::Duration;

use crate::check::{self, Promise};
use crate::crew::{GUARD, Kind, stories};
use crate::history::What;
use crate::report::Report;
use crate::scene::{Scene, Setting};

/// Workers die of one item until it is a dead letter, as it was put; all others are done.
pub(crate) fn crash_loop(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("crash loop", setting, &[]);
    for kind in Kind::OURS {
        if let Err(why) = poisoned(&scene, kind, &mut report) {
            report.must(false, || format!("{}: {why}", kind.name()));
        }
    }
    report.enough("workers that died of an item", 6);
    scene.end(&mut report);
    report
}

fn poisoned(scene: &Scene, kind: Kind, report: &mut Report) -> Result<(), String> {
    const POISON: u64 = 7;
    let queue = format!("poisoned-{}", kind.name());
    let options = ["lease=1.5", "max_deliveries=3", "dies_of=7", &format!("queue={queue}")];
    let options = options.map(str::to_owned);
    let words = [format!("queue={queue}"), "first=1".to_owned(), "count=20".to_owned()];
    let mut producer = scene.hire(kind, "produce", &words);
    producer.ended(GUARD)?;
    let mut workers = vec![scene.hire(kind, "consume", &options)];
    let guard = std::time::Instant::now() + GUARD;
    loop {
        let left = scene.left(&queue);
        if left.waiting.is_empty() && left.held.is_empty() {
            break;
        }
        if std::time::Instant::now() > guard {
            return Err(format!("it does not end: {left:?}"));
        }
        let last = workers.len() - 1;
        if !workers[last].lives() {
            // A crash is a kill that a process does to itself.
            workers[last].kill();
            report.count("workers that died of an item", 1);
            workers.push(scene.hire(kind, "consume", &options));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    if let Some(last) = workers.last_mut() {
        if last.lives() {
            last.finish()?;
        } else {
            report.count("workers that died of an item", 1);
            last.kill();
        }
    }
    let left = scene.left(&queue);
    report.must(left.dead == [POISON], || format!("dead letters: {:?}", left.dead));
    workers.push(producer);
    check::queue(report, &stories(&workers)?, &left, Promise::Nothing);
    Ok(())
}

/// A consumer that is stopped for longer than its lease is told, and harms nobody.
pub(crate) fn slept(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("slept too long", setting, &[]);
    for kind in Kind::OURS {
        if let Err(why) = sleeps(&scene, kind, &mut report) {
            report.must(false, || format!("{}: {why}", kind.name()));
        }
    }
    report.enough("late confirmations", 2);
    scene.end(&mut report);
    report
}

fn sleeps(scene: &Scene, kind: Kind, report: &mut Report) -> Result<(), String> {
    let queue = format!("queue=slept-{}", kind.name());
    let awake = scene.crew.place(&format!("awake-{}", kind.name()));
    let options = ["lease=0.5".to_owned(), queue.clone()];
    let sleeps = [&options[..], &[format!("begins={}", awake.display())]].concat();
    let mut sleeper = scene.hire(kind, "consume", &sleeps);
    let mut producer = scene.hire(kind, "produce", &[queue.clone(), "first=5".to_owned()]);
    sleeper.line(GUARD, |line| line.what == What::Got)?;
    sleeper.stop();
    let mut other = scene.hire(kind, "consume", &options);
    let again = other.line(GUARD, |line| line.what == What::Got)?;
    report.must(again.number == 2, || format!("delivery {} is the second", again.number));
    other.line(GUARD, |line| line.what == What::Acked)?;
    sleeper.go_on();
    std::fs::write(&awake, "").map_err(|error| error.to_string())?;
    let late = sleeper.line(GUARD, |line| matches!(line.what, What::LeaseLost | What::Acked))?;
    report.must(late.what == What::LeaseLost, || "a late confirmation was accepted".to_owned());
    report.count("late confirmations", 1);
    // It goes on with a lease of its own, now that nobody else is there.
    other.finish()?;
    let mut more = scene.hire(kind, "produce", &[queue.clone(), "first=6".to_owned()]);
    sleeper.line(GUARD, |line| line.what == What::Acked && line.item == 6)?;
    sleeper.finish()?;
    producer.ended(GUARD)?;
    more.ended(GUARD)?;
    let left = scene.left(&format!("slept-{}", kind.name()));
    check::queue(report, &stories(&[sleeper, other, producer, more])?, &left, Promise::Nothing);
    Ok(())
}
