//! Row 28: a worker that crashes again and again leaves nothing that others pay for.

use crate::crew::{GUARD, Kind};
use crate::history::What;
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};

/// After many crashes a look at the queue costs what it cost after a few, and no keys pile up.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("crashes", setting, &[]);
    if let Err(why) = crash_on(&scene, setting, &mut report) {
        report.must(false, || why);
    }
    report.enough("crashes", 40);
    scene.end(&mut report);
    report
}

fn crash_on(scene: &Scene, setting: &Setting, report: &mut Report) -> Result<(), String> {
    let (few, many) = (4, if setting.brief { 40 } else { 400 });
    crash(scene, few, report)?;
    let (cost, keys) = look(scene)?;
    crash(scene, many, report)?;
    let (later, more) = look(scene)?;
    report.count("commands for a look after a few crashes", cost);
    report.count("commands for a look after many", later);
    report.must(later <= cost + 10, || {
        format!("a look costs {cost} commands after {few} crashes, {later} after {many} more")
    });
    report.must(more <= keys + 2, || {
        format!("{keys} keys after {few} crashes, {more} after {many} more")
    });
    Ok(())
}

/// Workers that get one item, confirm it, and die while they wait for the next.
fn crash(scene: &Scene, times: usize, report: &mut Report) -> Result<(), String> {
    const AT_ONCE: usize = 4;
    for _ in 0..times.div_ceil(AT_ONCE) {
        let options = ["lease=1".to_owned(), "stop_at=acked".to_owned()];
        let mut hands: Vec<_> =
            (0..AT_ONCE).map(|_| scene.hire(Kind::Rust, "consume", &options)).collect();
        scene.put("work", 1..=AT_ONCE as u64);
        for hand in &mut hands {
            // Where a worker stands still for longer than its lease, its item comes again, to be confirmed
            // by another.
            hand.line(GUARD, |line| matches!(line.what, What::Acked | What::LeaseLost))?;
            hand.kill();
            report.count("crashes", 1);
        }
    }
    Ok(())
}

/// How many commands the server does for one look at the queue, once the leases of the dead have run
/// out and a living one has looked after them; and how many keys there are.
fn look(scene: &Scene) -> Result<(usize, usize), String> {
    let mut keeper = scene.hire(Kind::Rust, "consume", &["lease=1".to_owned()]);
    scene.put("work", [1000]);
    keeper.line(GUARD, |line| line.what == What::Acked && line.item == 1000)?;
    scene.drained("work")?;
    let mut raw = scene.server.raw();
    let registered = format!("__pymq:{{{PREFIX}work}}:epochs");
    until("somebody has looked after the dead", || raw.run(&["ZCARD", &registered]).number() <= 1)?;
    keeper.finish()?;
    let keys = raw.run(&["DBSIZE"]).number() as usize;
    raw.run(&["CONFIG", "RESETSTAT"]);
    // It looks once before it puts.
    let mut looks = scene.hire(Kind::Rust, "produce", &["first=1".to_owned()]);
    looks.ended(GUARD)?;
    let commands = commands_done(&raw.run(&["INFO", "commandstats"]).text());
    raw.run(&["DEL", &format!("{PREFIX}work")]);
    Ok((commands, keys))
}

/// Those of scripts too.
fn commands_done(stats: &str) -> usize {
    let calls = stats.lines().filter_map(|line| line.split_once("calls=")?.1.split(',').next());
    calls.filter_map(|calls| calls.parse::<usize>().ok()).sum()
}
