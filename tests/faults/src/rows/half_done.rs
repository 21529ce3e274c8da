//! Row 23: what moves an item from one list to another is refused in the middle. Redis rolls nothing
//! back, so an item must be in the next list before it leaves the last one.
//!
//! The one invariant: an item may lie in two lists for a moment, and never in none.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::crew::{GUARD, Kind};
use crate::history::What;
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};

/// Items of each case.
const ITEMS: u64 = 4;

/// What moves items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Requeue,
    Reject,
    /// What a killed worker held goes back by way of another.
    Reap,
    /// The same where that was its last delivery.
    Bury,
    /// A worker ends in good order, its hands full.
    Close,
}

/// Why the server refuses the second half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The user may not do a command that its scripts need.
    Right(&'static str),
    /// The dead letters' key is of another type.
    TypedDead,
}

const MOVES: [Move; 5] = [Move::Requeue, Move::Reject, Move::Reap, Move::Bury, Move::Close];
const REFUSALS: [Refusal; 5] = [
    Refusal::Right("-rpush"),
    Refusal::Right("-lpush"),
    Refusal::Right("-lrem"),
    Refusal::Right("-lpop"),
    Refusal::TypedDead,
];

/// Every move, refused in every way, by workers of both kinds; then all is allowed again.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("half-done scripts", setting, &[]);
    for kind in Kind::OURS {
        let cases = MOVES.into_iter().flat_map(|how| REFUSALS.map(|why| (how, why)));
        let reports = std::thread::scope(|scope| {
            let scene = &scene;
            let one = |(how, why)| scope.spawn(move || refused(scene, kind, how, why));
            let threads: Vec<_> = cases.map(one).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for done in reports {
            match done {
                Ok(Ok(done)) => report.absorb(done),
                Ok(Err(why)) => report.must(false, || why),
                Err(_) => report.must(false, || "a case failed, see above".to_owned()),
            }
        }
    }
    report.count("refusals by the server", scene.refusals());
    report.enough("refusals by the server", 20);
    report.enough("items that were looked for", 2 * 25 * ITEMS);
    scene.end(&mut report);
    report
}

fn refused(scene: &Scene, kind: Kind, how: Move, why: Refusal) -> Result<Report, String> {
    let mut report = Report::default();
    let queue = format!("{}-{how:?}-{}", kind.name(), name_of(why));
    let user = queue.to_lowercase();
    scene.admit(&user, &[]);
    scene.put(&queue, 1..=ITEMS);
    let url = format!("redis://{user}:secret@127.0.0.1:{}", scene.server.port());
    let deliveries = if how == Move::Bury { 1 } else { 0 };
    let options = |more: &[&str]| {
        let mut words = vec![format!("queue={queue}"), "lease=1".to_owned()];
        words.push(format!("max_deliveries={deliveries}"));
        words.extend(more.iter().map(|&word| word.to_owned()));
        words
    };
    let holds = match how {
        Move::Requeue => options(&["how=requeue", "pause=1"]),
        Move::Reject => options(&["how=reject", "pause=1"]),
        _ => options(&["stop_at=got", &format!("many={ITEMS}")]),
    };
    let mut worker = scene.crew.hire(kind, "consume", &url, &holds);
    worker.line(GUARD, |line| line.what == What::Got)?;
    forbid(scene, &queue, &user, why);
    match how {
        Move::Requeue | Move::Reject => {
            // Each is tried once at least, and ends one way or the other.
            let tried = |line: &crate::history::Line| {
                matches!(line.what, What::Acked | What::LeaseLost | What::Unsettled | What::Failed)
            };
            worker.line(GUARD, tried)?;
            worker.kill();
        }
        Move::Reap | Move::Bury => {
            worker.kill();
            let mut other = scene.crew.hire(kind, "consume", &url, &options(&["pause=100"]));
            // Longer than a lease and the third of it after which others look: usually it has tried by then.
            std::thread::sleep(std::time::Duration::from_secs(3));
            other.kill();
        }
        Move::Close => {
            // It may complain of what it could not give back.
            let _ = worker.finish();
        }
    }
    let seen = scene.left(&queue);
    let lying: BTreeSet<u64> =
        [&seen.waiting, &seen.held, &seen.dead].into_iter().flatten().copied().collect();
    report.count("items that were looked for", ITEMS as usize);
    report.must(lying.len() as u64 == ITEMS, || {
        format!("{queue}: of {ITEMS} items only {lying:?} lie somewhere")
    });
    allow(scene, &queue, &user, why);
    if let Err(why) = come_back(scene, kind, &queue, &mut report) {
        report.must(false, || format!("{why}; after the fault there were {seen:?}"));
    }
    Ok(report)
}

/// Once all is allowed again every item is handed out, or is a dead letter.
fn come_back(scene: &Scene, kind: Kind, queue: &str, report: &mut Report) -> Result<(), String> {
    let options = [format!("queue={queue}"), "lease=1".to_owned()];
    let mut heir = scene.hire(kind, "consume", &options);
    let until_all = Instant::now() + GUARD;
    loop {
        let mut found: BTreeSet<u64> = scene.left(queue).dead.into_iter().collect();
        let done = heir.lines()?.into_iter().filter(|line| line.what == What::Acked);
        found.extend(done.map(|line| line.item));
        if found.len() as u64 == ITEMS {
            report.count("items that came back or are dead letters", ITEMS as usize);
            return heir.finish();
        }
        if Instant::now() > until_all {
            let left = scene.left(queue);
            let why = format!("only {found:?} of {ITEMS} items are found again, left are {left:?}");
            return Err(format!("{queue}: {why}"));
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn name_of(why: Refusal) -> &'static str {
    match why {
        Refusal::Right(rule) => &rule[1..],
        Refusal::TypedDead => "typed",
    }
}

fn dead_key(queue: &str) -> String {
    format!("__pymq:{{{PREFIX}{queue}}}:dead")
}

fn forbid(scene: &Scene, queue: &str, user: &str, why: Refusal) {
    let mut raw = scene.server.raw();
    match why {
        Refusal::Right(rule) => drop(raw.run(&["ACL", "SETUSER", user, rule])),
        // A worker that went on meanwhile may have left dead letters there, which SET would wipe out.
        Refusal::TypedDead => drop(raw.run(&["SET", &dead_key(queue), "no list", "NX"])),
    }
}

fn allow(scene: &Scene, queue: &str, user: &str, why: Refusal) {
    let mut raw = scene.server.raw();
    match why {
        Refusal::Right(rule) => {
            drop(raw.run(&["ACL", "SETUSER", user, &format!("+{}", &rule[1..])]));
        }
        Refusal::TypedDead if raw.run(&["TYPE", &dead_key(queue)]).text() == "string" => {
            drop(raw.run(&["DEL", &dead_key(queue)]));
        }
        Refusal::TypedDead => {}
    }
    let _ = until("the server answers", || raw.run(&["PING"]).text() == "PONG");
}
