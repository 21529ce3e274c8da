//! Row 22: regular ends under load. Finished calls are answered, those that nobody began go elsewhere,
//! and items that nobody was shown come back uncounted.

use std::collections::HashSet;
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

/// µs after which a provider that ends no longer waits until its callers are told.
const FAREWELL: u64 = 1_000_000;

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
    let mut ends = Ends::default();
    for round in 0..rounds as usize {
        let place = round % 2;
        let successor = serve(providers[place].kind)?;
        let mut leaving = std::mem::replace(&mut providers[place], successor);
        leaving.finish()?;
        ends.note(&leaving.lines()?);
        report.count("providers that ended", 1);
        std::thread::sleep(Duration::from_millis(100));
    }
    for caller in &mut callers {
        let told = history::now();
        caller.finish()?;
        check::caller(report, &caller.story()?);
        let (excused, words) = ends.excuse(failed_early(caller.lines()?, told));
        report.count("calls lost by ends that were too slow", excused);
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

/// What the providers that ended noted, where a machine stood still meanwhile.
#[derive(Default)]
struct Ends {
    /// How many had no time to tell all whom they left.
    cut_short: usize,
    /// The calls that they had begun and not finished.
    unfinished: HashSet<u64>,
}

impl Ends {
    fn note(&mut self, lines: &[Line]) {
        let closed = lines.iter().find(|line| line.what == What::Closed);
        self.cut_short += usize::from(closed.is_none_or(|closed| closed.number >= FAREWELL));
        let of = |what| lines.iter().filter(move |line| line.what == what).map(|line| line.item);
        let done: HashSet<u64> = of(What::Done).collect();
        self.unfinished.extend(of(What::Executed).filter(|number| !done.contains(number)));
    }

    /// How many failures of one caller these explain, and the others. It waits for one answer at a time, so
    /// that no end costs it more than one call.
    fn excuse(&self, failed: Vec<(u64, String)>) -> (usize, Vec<(u64, String)>) {
        let all = failed.len();
        let mut left = self.cut_short;
        let inexcusable = failed.into_iter().filter(|(number, word)| {
            let lost = word.starts_with("ProviderLost");
            if lost && self.unfinished.contains(number) {
                return false;
            }
            let excused = lost && left > 0;
            left -= usize::from(excused);
            !excused
        });
        let inexcusable: Vec<_> = inexcusable.collect();
        (all - inexcusable.len(), inexcusable)
    }
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

    fn line(seconds: u64, what: What, item: u64, word: &str) -> Line {
        let word = word.to_owned();
        Line { at: Duration::from_secs(seconds), what, item, number: 0, word }
    }

    #[test]
    fn a_bus_that_closes_in_the_middle_of_a_run_is_no_regular_end() {
        let failed = |seconds, word: &str| line(seconds, What::Failed, seconds, word);
        let told = Duration::from_secs(5);
        let lines = vec![failed(1, "Closed"), failed(6, "ClosedError"), failed(7, "ProviderLost")];
        let early = failed_early(lines, told);
        assert_eq!(early, [(1, "Closed".to_owned()), (7, "ProviderLost".to_owned())]);
    }

    #[test]
    fn a_call_is_lost_only_by_an_end_that_was_too_slow() {
        let left = |took, failed: &[(u64, &str)]| {
            let calls = [(What::Executed, 1), (What::Done, 1), (What::Executed, 2)];
            let mut lines: Vec<_> = calls.map(|(what, item)| line(1, what, item, "")).to_vec();
            lines.push(Line { number: took, ..line(1, What::Closed, 0, "") });
            let mut ends = Ends::default();
            ends.note(&lines);
            let failed = failed.iter().map(|(number, word)| (*number, (*word).to_owned()));
            ends.excuse(failed.collect()).1.len()
        };
        let lost = [(1, "ProviderLost"), (2, "ProviderLostError"), (3, "ProviderLost")];
        assert_eq!(left(FAREWELL - 1, &lost), 2);
        assert_eq!(left(FAREWELL, &lost), 1);
        assert_eq!(left(FAREWELL, &[(2, "Timeout")]), 1);
    }
}
