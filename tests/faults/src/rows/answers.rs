//! Rows 20 and 21: functions and callbacks that raise whatever can be raised, and answers that cannot
//! be sent. Every caller is told, and everything goes on.

use crate::check;
use crate::crew::{GUARD, Hand, Kind};
use crate::history::{Line, What};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting};

/// Who serves, and how.
const PROVIDERS: [(Kind, &str); 3] =
    [(Kind::Rust, "1"), (Kind::Python, "1"), (Kind::Python, "awaited")];

/// Callers of both kinds ask every kind of provider; subscribers in Python hear and raise.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("answers", setting, &[]);
    // Each kind of answer comes so often.
    let rounds = if setting.brief { 2 } else { 30 };
    for (kind, spoils) in PROVIDERS {
        let outcome = ask(&scene, kind, spoils, 10 * rounds, &mut report);
        report.take(outcome.map_err(|why| format!("{} ({spoils}): {why}", kind.name())));
    }
    for how in ["1", "awaited"] {
        let outcome = tell(&scene, how, 100 * rounds, &mut report);
        report.take(outcome.map_err(|why| format!("a subscriber ({how}): {why}")));
    }
    report.enough("calls answered", 5 * rounds);
    report.enough("calls that failed at their provider", 40 * rounds);
    report.enough("callbacks that raised", 100 * rounds);
    scene.end(&mut report);
    report
}

fn ask(
    scene: &Scene,
    kind: Kind,
    spoils: &str,
    calls: u64,
    report: &mut Report,
) -> Result<(), String> {
    let name = format!("name={}-{spoils}", kind.name());
    let mut provider = scene.hire(kind, "serve", &[name.clone(), format!("spoils={spoils}")]);
    provider.line(GUARD, |line| line.what == What::Executed)?;
    for (place, caller) in Kind::OURS.into_iter().enumerate() {
        let first = 1 + place as u64 * 1_000_000;
        let words = [format!("first={first}"), format!("count={calls}"), "timeout=60".to_owned()];
        let mut caller =
            scene.hire(caller, "call", &[&words[..], std::slice::from_ref(&name)].concat());
        caller.line(GUARD, |line| line.what == What::Done)?;
        caller.finish()?;
        check::caller(report, &caller.story()?);
        let (told, others) = failures(caller.lines()?);
        report.count("calls that failed at their provider", told);
        report.must(others.is_empty(), || format!("{name}: calls failed otherwise: {others:?}"));
        let ran = |line: &&Line| line.what == What::Executed && line.item >= first;
        let executed = provider.lines()?.iter().filter(ran).count();
        report
            .must(executed as u64 == calls, || format!("{name}: {executed} of {calls} calls ran"));
    }
    provider.finish()
}

/// How many calls failed by what their provider said, and which failed otherwise.
fn failures(lines: Vec<Line>) -> (usize, Vec<(u64, String)>) {
    let failed = lines.into_iter().filter(|line| line.what == What::Failed);
    let (told, others): (Vec<_>, Vec<_>) =
        failed.partition(|line| ["Remote", "RemoteInvocationError"].contains(&line.word.as_str()));
    (told.len(), others.into_iter().map(|line| (line.item, line.word)).collect())
}

fn tell(scene: &Scene, how: &str, events: u64, report: &mut Report) -> Result<(), String> {
    let (topic, raises) = (format!("topic=raises-{how}"), format!("raises={how}"));
    let hear = |words: &[String]| -> Result<Hand, String> {
        let hand = scene.hire(Kind::Python, "subscribe", words);
        hand.line(GUARD, |line| line.what == What::Executed).map(|_| hand)
    };
    let mut hands = [hear(&[topic.clone(), raises])?, hear(&[topic])?];
    let mut raw = scene.server.raw();
    let channel = format!("{PREFIX}raises-{how}");
    for event in 0..events {
        raw.run(&["PUBLISH", &channel, &event.to_string()]);
    }
    for hand in &mut hands {
        hand.line(GUARD, |line| line.what == What::Received && line.item == events - 1)?;
        hand.finish()?;
        check::subscriber(report, &hand.story()?, events, &check::unsure(&[]));
    }
    // Six of ten events.
    report.count("callbacks that raised", (events * 6 / 10) as usize);
    Ok(())
}
