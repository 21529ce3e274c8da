//! Row 22: regular ends under load. Finished calls are answered, those that nobody began go elsewhere,
//! and items that nobody was shown come back uncounted.

use std::time::Duration;

use crate::check::{self, Promise};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{self, Line, What};
use crate::report::Report;
use crate::scene::{Scene, Setting};

/// Providers and consumers are replaced one after the other, in good order, while all goes on.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("regular ends", setting, &[]);
    let rounds = if setting.brief { 6 } else { 60 };
    let outcome = providers(&scene, rounds, &mut report);
    report.take(outcome);
    let outcome = consumers(&scene, rounds, &mut report);
    report.take(outcome);
    report.enough("providers that ended", rounds);
    report.enough("consumers that ended", rounds);
    report.enough("calls answered", 200);
    scene.end(&mut report);
    report
}

fn providers(scene: &Scene, rounds: u64, report: &mut Report) -> Result<(), String> {
    let serve = |kind| {
        let hand = scene.hire(kind, "serve", &[]);
        hand.line(GUARD, |line| line.what == What::Executed).map(|_| hand)
    };
    let mut providers = [serve(Kind::Rust)?, serve(Kind::Python)?];
    let mut callers: Vec<Hand> = Vec::new();
    for (place, kind) in Kind::OURS.into_iter().cycle().take(4).enumerate() {
        let first = 1 + place * 1_000_000;
        let options =
            [format!("first={first}"), "count=1000000".to_owned(), "timeout=30".to_owned()];
        callers.push(scene.hire(kind, "call", &options));
    }
    for caller in &callers {
        caller.line(GUARD, |line| line.what == What::Answered)?;
    }
    for round in 0..rounds as usize {
        let place = round % 2;
        let successor = serve(providers[place].kind)?;
        let mut leaving = std::mem::replace(&mut providers[place], successor);
        leaving.finish()?;
        report.count("providers that ended", 1);
        std::thread::sleep(Duration::from_millis(100));
    }
    for caller in &mut callers {
        let told = history::now();
        caller.finish()?;
        check::caller(report, &caller.story()?);
        let words = failed_early(caller.lines()?, told);
        report.must(words.is_empty(), || {
            format!(
                "{}: {} calls failed by regular ends: {:?}",
                caller.name,
                words.len(),
                words.first()
            )
        });
    }
    providers.iter_mut().try_for_each(Hand::finish)
}

/// The calls that failed, except for those that were cut short because their caller was told to end.
fn failed_early(lines: Vec<Line>, told: Duration) -> Vec<(u64, String)> {
    let failed = lines.into_iter().filter(|line| line.what == What::Failed);
    let early = failed.filter(|line| line.at < told || !line.word.starts_with("Closed"));
    early.map(|line| (line.item, line.word)).collect()
}

fn consumers(scene: &Scene, rounds: u64, report: &mut Report) -> Result<(), String> {
    let produce = ["first=1", "count=10000000", "batch=50", "pause=0.01", "most=2000"];
    let mut producer = scene.hire(Kind::Rust, "produce", &produce.map(str::to_owned));
    let consume = |round: u64| {
        let kind = Kind::OURS[round as usize % 2];
        scene.hire(kind, "consume", &["lease=10".into(), "many=16".into(), "pause=0.01".into()])
    };
    let mut hands = vec![consume(0), consume(1)];
    for round in 2..rounds + 2 {
        let successor = consume(round);
        successor.line(GUARD, |line| line.what == What::Got)?;
        let leaving = hands.len() - 2;
        hands[leaving].finish()?;
        report.count("consumers that ended", 1);
        hands.push(successor);
    }
    producer.finish()?;
    scene.drained("work")?;
    for hand in hands.iter_mut().rev().take(2) {
        hand.finish()?;
    }
    hands.push(producer);
    check::queue(report, &stories(&hands)?, &scene.left("work"), Promise::Nothing);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_that_closes_in_the_middle_of_a_run_is_no_regular_end() {
        let failed = |seconds, word: &str| Line {
            at: Duration::from_secs(seconds),
            what: What::Failed,
            item: seconds,
            number: 0,
            word: word.to_owned(),
        };
        let told = Duration::from_secs(5);
        let lines = vec![failed(1, "Closed"), failed(6, "ClosedError"), failed(7, "ProviderLost")];
        let early = failed_early(lines, told);
        assert_eq!(early, [(1, "Closed".to_owned()), (7, "ProviderLost".to_owned())]);
    }
}
