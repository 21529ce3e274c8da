//! Rows 8 and 11: a provider dies or hangs while it is called, and messages of calls are cut.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::chance::Chance;
use crate::check::{self, since};
use crate::crew::{GUARD, Hand, Kind};
use crate::history::{What, now};
use crate::proxy::{Act, Proxy};
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
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
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

/// Calls between processes whose messages are cut and whose providers are killed: each ends with its
/// own answer or an error, and none is executed twice.
pub(crate) fn storm(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("call storm", setting, &[]);
    let proxy = Proxy::start(scene.server.port());
    let outcome = call_on(&scene, &proxy, setting, &mut report);
    report.take(outcome);
    report.count("replies cut", proxy.cuts());
    report.enough("calls answered", 100);
    scene.end(&mut report);
    report
}

fn call_on(
    scene: &Scene,
    proxy: &Proxy,
    setting: &Setting,
    report: &mut Report,
) -> Result<(), String> {
    const CUT: [&str; 3] = ["MESSAGE", "PUBLISH", "EXEC"];
    let mut chance = Chance::new(setting.seed, "call storm");
    // More than any storm lasts.
    let count = 1_000_000;
    let (cuts, kills) = if setting.brief { (25, 3) } else { (250, 25) };
    let url = scene.url(proxy.port());
    let serve = |kind| scene.crew.hire(kind, "serve", &url, &[]);
    let mut gone: Vec<Hand> = Vec::new();
    let mut providers = [Kind::Rust, Kind::Python, Kind::Rust].map(serve);
    for provider in &providers {
        provider.line(GUARD, |line| line.what == What::Executed)?;
    }
    let mut callers: Vec<Hand> = Vec::new();
    for (number, kind) in Kind::OURS.into_iter().enumerate() {
        let first = 1 + number * count;
        let options = [format!("first={first}"), format!("count={count}"), "timeout=20".to_owned()];
        callers.push(scene.crew.hire(kind, "call", &url, &options));
    }
    let guard = Instant::now() + setting.patience;
    let mut turn = 0;
    while proxy.cuts() < cuts || gone.len() < kills {
        if Instant::now() > guard {
            return Err(callers[0].complaint("or the other one is hardly harmed"));
        }
        std::thread::sleep(chance.around(Duration::from_millis(40)));
        let name: &str = chance.one_of::<&str>(&CUT);
        proxy.arm(Some(name), 0, Act::Cut { after: chance.below(200) });
        turn += 1;
        if turn % 25 == 0 {
            let place = chance.below(providers.len());
            let successor = serve(providers[place].kind);
            successor.line(GUARD, |line| line.what == What::Executed)?;
            let mut victim = std::mem::replace(&mut providers[place], successor);
            victim.kill();
            report.count("providers killed", 1);
            gone.push(victim);
        }
    }
    proxy.disarm();
    for caller in &callers {
        let before = caller.count(What::Answered)?;
        let answered = || caller.count(What::Answered).is_ok_and(|count| count > before + 10);
        until("calls are answered again", answered)?;
    }
    for hand in callers.iter_mut().chain(&mut providers) {
        hand.finish()?;
    }
    for caller in &callers {
        check::caller(report, &caller.story()?);
    }
    gone.extend(providers);
    once_each(report, &gone)
}

/// No call was executed twice, by one provider or by two.
pub(super) fn once_each(report: &mut Report, providers: &[Hand]) -> Result<(), String> {
    let mut times: HashMap<u64, usize> = HashMap::new();
    for provider in providers {
        let lines = provider.lines()?;
        let executed = lines.iter().filter(|line| line.what == What::Executed && line.item > 0);
        executed.for_each(|line| *times.entry(line.item).or_default() += 1);
    }
    report.count("calls executed", times.len());
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).take(10).collect();
    report.must(twice.is_empty(), || format!("calls executed more than once: {twice:?}"));
    Ok(())
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
