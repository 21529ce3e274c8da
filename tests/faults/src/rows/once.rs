//! Row 25: calls whose answers are too large, are cut off while others fill the memory of replies, or
//! come to a caller that sleeps: each is executed once at most, and its caller is told.

use std::time::Duration;

use crate::check;
use crate::crew::{GUARD, Hand, Kind};
use crate::history::What;
use crate::proxy::{Act, Proxy};
use crate::report::Report;
use crate::scene::{Scene, Setting};

/// The largest message, of which the envelope takes its part.
const LARGEST: u64 = 16 << 20;

/// What a message must not exceed with its envelope, from far below to above.
const BELOW: [u64; 7] = [4096, 400, 300, 200, 100, 50, 0];

/// One of the three, with a provider and a caller of these kinds.
type Case = fn(&Scene, Kind, Kind) -> Result<Report, String>;

/// All three, with peers of both kinds.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("executed once", setting, &[]);
    let cases: [Case; 3] = [too_large, cut_off_in_a_flood, asleep];
    let reports = std::thread::scope(|scope| {
        let scene = &scene;
        let kinds = [(Kind::Rust, Kind::Python), (Kind::Python, Kind::Rust)];
        let threads: Vec<_> = cases
            .into_iter()
            .flat_map(|case| kinds.map(|(provider, caller)| (case, provider, caller)))
            .map(|(case, provider, caller)| scope.spawn(move || case(scene, provider, caller)))
            .collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for done in reports {
        match done {
            Ok(Ok(done)) => report.absorb(done),
            Ok(Err(why)) => report.must(false, || why),
            Err(_) => report.must(false, || "a case failed, see above".to_owned()),
        }
    }
    report.enough("answers too large to be sent", 2);
    report.enough("calls whose answer was cut off in a flood", 2);
    report.enough("callers that slept beyond a minute", 2);
    scene.end(&mut report);
    report
}

/// A provider whose answers are as long as the number that it is called with.
fn provider(scene: &Scene, kind: Kind, name: &str) -> Result<Hand, String> {
    let options = [format!("name={name}"), "large=1".to_owned()];
    let hand = scene.hire(kind, "serve", &options);
    hand.line(GUARD, |line| line.what == What::Executed)?;
    Ok(hand)
}

fn calls(name: &str, first: u64) -> [String; 3] {
    [format!("name={name}"), format!("first={first}"), "count=1".to_owned()]
}

/// How often each call was executed; none may be more than once.
fn once_each(report: &mut Report, hand: &Hand) -> Result<(), String> {
    check::provider(report, &hand.story()?);
    Ok(())
}

/// The call has ended: with its answer, or with an error that is noted.
fn ended(caller: &Hand) -> Result<bool, String> {
    let end = caller.line(GUARD, |line| matches!(line.what, What::Answered | What::Failed))?;
    Ok(end.what == What::Answered)
}

fn too_large(scene: &Scene, kind: Kind, caller: Kind) -> Result<Report, String> {
    let mut report = Report::default();
    let name = format!("large-{}", kind.name());
    let mut serving = provider(scene, kind, &name)?;
    for below in BELOW {
        let mut calling = scene.hire(caller, "call", &calls(&name, LARGEST - below));
        match ended(&calling) {
            Ok(true) => report.count("answers of nearly 16 MiB", 1),
            Ok(false) => report.count("answers too large to be sent", 1),
            Err(why) => report.must(false, || format!("{below} below the limit: {why}")),
        }
        calling.kill();
    }
    // Whoever was never answered would have asked again by now; a right one passes at any speed.
    std::thread::sleep(Duration::from_secs(3));
    once_each(&mut report, &serving)?;
    serving.finish()?;
    Ok(report)
}

fn cut_off_in_a_flood(scene: &Scene, kind: Kind, caller: Kind) -> Result<Report, String> {
    let mut report = Report::default();
    let name = format!("flood-{}", kind.name());
    let mut serving = provider(scene, kind, &name)?;
    let proxy = Proxy::start(scene.server.port());
    // What comes to the caller first is who provides; behind it comes the answer.
    proxy.arm(Some("MESSAGE"), 1, Act::HoldReply);
    let url = scene.url(proxy.port());
    let mut calling = scene.crew.hire(caller, "call", &url, &calls(&name, 7));
    serving.line(GUARD, |line| line.what == What::Executed && line.item == 7)?;
    if !proxy.fired(GUARD) {
        return Err(calling.complaint("was never answered, so nothing was held back"));
    }
    let mut flood: Vec<Hand> = Vec::new();
    for number in 0..3 {
        let large = (8 << 20) + number;
        flood.push(scene.hire(caller, "call", &calls(&name, large)));
    }
    for hand in &mut flood {
        ended(hand)?;
        hand.kill();
    }
    proxy.cut_all();
    report.count("calls whose answer was cut off in a flood", 1);
    ended(&calling)?;
    once_each(&mut report, &serving)?;
    calling.kill();
    serving.finish()?;
    Ok(report)
}

fn asleep(scene: &Scene, kind: Kind, caller: Kind) -> Result<Report, String> {
    let mut report = Report::default();
    let name = format!("asleep-{}", kind.name());
    let mut serving = provider(scene, kind, &name)?;
    let proxy = Proxy::start(scene.server.port());
    proxy.arm(Some("MESSAGE"), 1, Act::HoldReply);
    let url = scene.url(proxy.port());
    let mut calling = scene.crew.hire(caller, "call", &url, &calls(&name, 9));
    serving.line(GUARD, |line| line.what == What::Executed && line.item == 9)?;
    calling.stop();
    // Longer than any reply is kept.
    std::thread::sleep(Duration::from_secs(65));
    proxy.cut_all();
    calling.go_on();
    report.count("callers that slept beyond a minute", 1);
    ended(&calling)?;
    // Whoever asked again would have been executed again by now; a right one passes at any speed.
    std::thread::sleep(Duration::from_secs(2));
    once_each(&mut report, &serving)?;
    calling.kill();
    serving.finish()?;
    Ok(report)
}
