//! Row 24: the server forgets that a consumer is registered, and the consumer is killed with what it
//! took before it knew.

use crate::crew::{GUARD, Hand, Kind};
use crate::history::What;
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};

/// How the server comes to forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// `FLUSHALL`.
    Flushed,
    /// It is killed, and begins with a snapshot that is older than the registrations.
    Restored,
}

/// The item that kills whoever gets it, at once.
const DEADLY: u64 = 7;

/// Consumers by the dozen: all of their items come back.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let rounds = if setting.brief { 1 } else { 12 };
    for loss in [Loss::Flushed, Loss::Restored] {
        for round in 0..rounds {
            let name = format!("forgotten registrations {loss:?} {round}");
            let mut scene = Scene::start(&name, setting, &[]);
            if let Err(why) = forget(&mut scene, loss, &mut report) {
                report.must(false, || format!("{loss:?}: {why}"));
            }
            scene.end(&mut report);
        }
    }
    report.enough("consumers killed whose registration was forgotten", 16 * rounds);
    report.enough("their items that came back", 16 * rounds);
    report
}

fn forget(scene: &mut Scene, loss: Loss, report: &mut Report) -> Result<(), String> {
    let queues: Vec<(Kind, String)> = (0..4)
        .flat_map(|number| Kind::OURS.map(|kind| (kind, format!("{}-{number}", kind.name()))))
        .collect();
    if loss == Loss::Restored {
        scene.server.raw().run(&["SAVE"]);
    }
    // A lease so long that its holder does not look at its registration for two seconds.
    let options =
        |queue: &str, more: &str| [format!("queue={queue}"), "lease=6".to_owned(), more.to_owned()];
    let mut victims: Vec<Hand> = Vec::new();
    for (kind, queue) in &queues {
        victims.push(scene.hire(*kind, "consume", &options(queue, &format!("dies_of={DEADLY}"))));
        scene.put(queue, [1]);
    }
    for victim in &victims {
        victim.line(GUARD, |line| line.what == What::Acked && line.item == 1)?;
    }
    match loss {
        Loss::Flushed => drop(scene.server.raw().run(&["FLUSHALL"])),
        Loss::Restored => scene.server.restart(),
    }
    for (_, queue) in &queues {
        scene.put(queue, [DEADLY]);
    }
    for victim in &mut victims {
        victim.ended(GUARD)?;
        victim.kill();
        report.must(victim.count(What::Got)? >= 2, || victim.complaint("never got the item"));
        report.count("consumers killed whose registration was forgotten", 1);
    }
    let mut heirs: Vec<Hand> = Vec::new();
    for (kind, queue) in &queues {
        heirs.push(scene.hire(*kind, "consume", &options(queue, "many=1")));
    }
    for (heir, (_, queue)) in heirs.iter_mut().zip(&queues) {
        let back = heir.line(GUARD, |line| line.what == What::Acked && line.item == DEADLY);
        match back {
            Ok(_) => report.count("their items that came back", 1),
            Err(why) => {
                let left = scene.left(queue);
                report.must(false, || format!("{queue}: the item is lost, {left:?}: {why}"));
            }
        }
        heir.finish()?;
    }
    let mut raw = scene.server.raw();
    let held = format!("__pymq:{{{PREFIX}*}}:held*");
    until("nothing is held any more", || raw.run(&["KEYS", &held]).texts().is_empty())
}
