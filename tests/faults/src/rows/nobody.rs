//! Row 26: calls without a timeout where nobody of ours is: a foreign subscriber that goes away, a
//! provider of the original that is killed. Each ends.

use std::time::Duration;

use crate::check::since;
use crate::crew::{GUARD, Kind};
use crate::history::{What, now};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};

/// Callers of both kinds, calls to one and to all.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("nobody of ours", setting, &[]);
    let cases = Kind::OURS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]);
    let originals = scene.crew.has_originals();
    let reports = std::thread::scope(|scope| {
        let scene = &scene;
        let mut threads = Vec::new();
        for (kind, all) in cases {
            threads.push(scope.spawn(move || foreign(scene, kind, all)));
            if originals {
                threads.push(scope.spawn(move || original(scene, kind, all)));
            }
        }
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for done in reports {
        match done {
            Ok(Ok(done)) => report.absorb(done),
            Ok(Err(why)) => report.must(false, || why),
            Err(_) => report.must(false, || "a case failed, see above".to_owned()),
        }
    }
    report.enough("foreign subscribers that went away", 4);
    if originals {
        report.enough("providers of the original that were killed", 4);
    }
    scene.end(&mut report);
    report
}

fn options(name: &str, all: bool) -> Vec<String> {
    let mut words = vec![format!("name={name}"), "first=1".to_owned(), "count=1".to_owned()];
    words.extend(all.then(|| "all=1".to_owned()));
    words
}

fn foreign(scene: &Scene, kind: Kind, all: bool) -> Result<Report, String> {
    let mut report = Report::default();
    let name = format!("foreign-{}-{all}", kind.name());
    let mut spy = scene.server.raw();
    spy.run(&["SUBSCRIBE", &format!("{PREFIX}{name}")]);
    let mut calling = scene.hire(kind, "call", &options(&name, all));
    // The spy hears the request: the call waits for whoever has heard it.
    spy.read();
    // Usually it waits by then; one that has only just sent it is told too.
    std::thread::sleep(Duration::from_millis(500));
    drop(spy);
    let gone = now();
    report.count("foreign subscribers that went away", 1);
    // A call to all ends with no answer, a call to one with an error.
    let end = calling.line(GUARD, |line| matches!(line.what, What::Failed | What::Done));
    let end = end.map_err(|why| format!("{name}: the call does not end: {why}"))?;
    report.recovered("a foreign subscriber goes away: its caller is told", kind, since(gone, &end));
    calling.finish()?;
    Ok(report)
}

fn original(scene: &Scene, kind: Kind, all: bool) -> Result<Report, String> {
    let mut report = Report::default();
    let name = format!("original-{}-{all}", kind.name());
    let serve = [format!("name={name}"), "hangs=1".to_owned()];
    let mut serving = scene.hire(Kind::Original, "serve", &serve);
    serving.line(GUARD, |line| line.what == What::Executed)?;
    let channel = format!("{PREFIX}{name}");
    let mut raw = scene.server.raw();
    let mut subscribed = || match raw.run(&["PUBSUB", "NUMSUB", &channel]) {
        crate::server::Answer::List(counts) => {
            counts.get(1).is_some_and(|count| count.number() > 0)
        }
        _ => false,
    };
    until("the original is subscribed", &mut subscribed)?;
    let mut calling = scene.hire(kind, "call", &options(&name, all));
    serving.line(GUARD, |line| line.what == What::Executed && line.item == 1)?;
    serving.kill();
    let gone = now();
    report.count("providers of the original that were killed", 1);
    let end = calling.line(GUARD, |line| matches!(line.what, What::Failed | What::Done));
    let end = end.map_err(|why| format!("{name}: the call does not end: {why}"))?;
    report.recovered(
        "a provider of the original is killed: its caller is told",
        kind,
        since(gone, &end),
    );
    calling.finish()?;
    Ok(report)
}
