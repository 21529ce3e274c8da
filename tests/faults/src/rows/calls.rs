//! Row 11: a provider dies or hangs while it is called.

use crate::check::{self, since};
use crate::crew::{GUARD, Hand, Kind};
use crate::history::{What, now};
use crate::report::Report;
use crate::scene::{Scene, Setting, until};

/// How a provider goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Killed,
    Stopped,
}

/// Callers of both kinds lose providers of both kinds, in both ways; and one of two that all answer.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("lost provider", setting, &[]);
    let cases = Kind::OURS.into_iter().flat_map(|provider| {
        let ends = [End::Killed, End::Stopped].into_iter();
        ends.flat_map(move |end| Kind::OURS.into_iter().map(move |caller| (provider, caller, end)))
    });
    let reports = std::thread::scope(|scope| {
        let scene = &scene;
        let one = |(provider, caller, end)| scope.spawn(move || lose(scene, provider, caller, end));
        let mut threads: Vec<_> = cases.map(one).collect();
        threads.extend(Kind::OURS.map(|kind| scope.spawn(move || lose_one_of_two(scene, kind))));
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    for done in reports {
        match done {
            Ok(Ok(done)) => report.absorb(done),
            Ok(Err(why)) => report.must(false, || why),
            Err(_) => report.must(false, || "a case failed, see above".to_owned()),
        }
    }
    report.enough("providers lost", 10);
    let mut raw = scene.server.raw();
    let outcome = until("no key is left", || raw.run(&["DBSIZE"]).number() == 0);
    report.take(outcome.map_err(|why| format!("{why}: {:?}", raw.run(&["KEYS", "*"]))));
    scene.end(&mut report);
    report
}

fn lose(scene: &Scene, provider: Kind, caller: Kind, end: End) -> Result<Report, String> {
    let mut report = Report::default();
    let name = format!("name={}-{}-{end:?}", provider.name(), caller.name());
    let mut serving = scene.hire(provider, "serve", &[name.clone(), "hangs=3".to_owned()]);
    serving.line(GUARD, |line| line.what == What::Executed)?;
    let options = [name.clone(), "first=1".to_owned(), "count=3".to_owned()];
    let mut calling = scene.hire(caller, "call", &options);
    serving.line(GUARD, |line| line.what == What::Executed && line.item == 3)?;
    let gone = now();
    match end {
        End::Killed => serving.kill(),
        End::Stopped => serving.stop(),
    }
    let told = calling.line(GUARD, |line| line.what == What::Failed)?;
    let words = match end {
        End::Killed => "a provider is killed: its caller is told",
        End::Stopped => "a provider hangs: its caller is told",
    };
    report.recovered(words, caller, since(gone, &told));
    report.must(told.word.starts_with("ProviderLost"), || {
        format!("{name}: the caller was told {:?}", told.word)
    });
    report.count("providers lost", 1);
    calling.finish()?;
    serving.kill();
    check::caller(&mut report, &calling.story()?);
    Ok(report)
}

fn lose_one_of_two(scene: &Scene, kind: Kind) -> Result<Report, String> {
    let mut report = Report::default();
    let name = format!("name=all-{}", kind.name());
    let serve = |kind, hangs: &str| scene.hire(kind, "serve", &[name.clone(), hangs.to_owned()]);
    let mut providers: Vec<Hand> =
        vec![serve(Kind::Rust, "hangs=1"), serve(Kind::Python, "hangs=0")];
    for provider in &providers {
        provider.line(GUARD, |line| line.what == What::Executed)?;
    }
    let options = [name.clone(), "first=1".to_owned(), "all=1".to_owned(), "timeout=30".to_owned()];
    let mut calling = scene.hire(kind, "call", &options);
    for provider in &providers {
        provider.line(GUARD, |line| line.what == What::Executed && line.item == 1)?;
    }
    providers[0].kill();
    report.count("providers lost", 1);
    calling.line(GUARD, |line| line.what == What::Done)?;
    let (answers, failures) = (calling.count(What::Answered)?, calling.count(What::Failed)?);
    report.must((answers, failures) == (1, 1), || {
        format!("{name}: {answers} answers and {failures} failures of one provider each")
    });
    calling.finish()?;
    providers[1].finish()?;
    check::caller(&mut report, &calling.story()?);
    Ok(report)
}
