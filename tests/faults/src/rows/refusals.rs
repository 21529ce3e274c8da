//! Rows 17 and 18: a server that refuses for a while, and an address behind which another master
//! stands. Waits, settlements, subscriptions and calls go on by themselves.

use std::time::Duration;

use super::calls::once_each;
use crate::check::{self, Promise, since};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{What, now};
use crate::proxy::Proxy;
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};
use crate::server::Raw;

/// Why it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// Replicas are missing: `NOREPLICAS`.
    Replicas,
    /// It is a replica itself: `READONLY`.
    Replica,
    /// A snapshot could not be written: `MISCONF`.
    Disk,
    /// The user's rights are gone, and its connections.
    Rights,
    /// There is no room for another connection, and those that were are gone.
    Full,
}

const ALL: [Why; 5] = [Why::Replicas, Why::Replica, Why::Disk, Why::Rights, Why::Full];

/// Each refusal under workers of both kinds that hold an item, wait, listen, serve and call.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let reports = std::thread::scope(|scope| {
        let one = |why| scope.spawn(move || refuse(setting, why));
        let threads: Vec<_> = ALL.map(one).into_iter().collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    for done in reports {
        match done {
            Ok(done) => report.absorb(done),
            Err(_) => report.must(false, || "a case failed, see above".to_owned()),
        }
    }
    report.enough("refusals by the server", 10);
    report.enough("workers that went on", 2 * ALL.len() as u64);
    report
}

fn refuse(setting: &Setting, why: Why) -> Report {
    let mut report = Report::default();
    let scene = Scene::start(&format!("refusals {why:?}"), setting, &["--dbfilename", "taken"]);
    let url = scene.admit("worker", &[]);
    for kind in Kind::OURS {
        let outcome = under(&scene, &url, kind, why, &mut report);
        report.take(outcome.map_err(|error| format!("{why:?}, {}: {error}", kind.name())));
    }
    report.count("refusals by the server", scene.refusals());
    scene.end(&mut report);
    report
}

fn under(
    scene: &Scene,
    url: &str,
    kind: Kind,
    why: Why,
    report: &mut Report,
) -> Result<(), String> {
    let (queue, news) = (format!("queue={}", kind.name()), format!("topic={}", kind.name()));
    let hire = |role: &str, more: &[&str]| {
        let mut words = vec![queue.clone(), news.clone(), "lease=3".to_owned()];
        words.extend(more.iter().map(|&word| word.to_owned()));
        scene.crew.hire(kind, role, url, &words)
    };
    scene.put(kind.name(), [1]);
    let mut holder = hire("consume", &["pause=1.5"]);
    holder.line(GUARD, |line| line.what == What::Got)?;
    let mut waiter = hire("consume", &[]);
    let mut subscriber = hire("subscribe", &[]);
    subscriber.line(GUARD, |line| line.what == What::Executed)?;
    let name = format!("name={}", kind.name());
    let mut provider = hire("serve", &[&name]);
    provider.line(GUARD, |line| line.what == What::Executed)?;
    let mut caller = hire("call", &[&name, "first=1", "count=1000000", "timeout=2", "pause=0.02"]);
    caller.line(GUARD, |line| line.what == What::Answered)?;
    let channel = format!("{PREFIX}{}", kind.name());
    // Held all the time: a full server lets nobody else in.
    let mut raw = scene.server.raw();
    begin(&mut raw, why);
    // Usually the holder confirms meanwhile, the waiter asks again, the subscriber is cut or not.
    std::thread::sleep(Duration::from_millis(2500));
    end(&mut raw, why);
    let healed = now();
    scene.put(kind.name(), [2, 3]);
    scene.drained(kind.name())?;
    let hears = || subscriber.count(What::Received).is_ok_and(|count| count > 0);
    let mut number = 0;
    until("the subscriber hears again", || {
        number += 1;
        raw.run(&["PUBLISH", &channel, &number.to_string()]);
        hears()
    })
    .map_err(|error| subscriber.complaint(&error))?;
    let heard = subscriber.line(GUARD, |line| line.what == What::Received)?;
    report.recovered(&format!("{why:?}: a subscription"), kind, since(healed, &heard));
    let answered = caller.line(GUARD, |line| line.what == What::Answered && line.at > healed)?;
    report.recovered(&format!("{why:?}: a call"), kind, since(healed, &answered));
    caller.finish()?;
    provider.finish()?;
    check::caller(report, &caller.story()?);
    once_each(report, &[provider])?;
    let mut producer = hire("produce", &["first=4"]);
    producer.ended(GUARD)?;
    report.must(producer.count(What::Put)? == 1, || producer.complaint("could not put again"));
    scene.drained(kind.name())?;
    let done: usize = holder.count(What::Done)? + waiter.count(What::Done)?;
    report.must(done >= 4, || format!("only {done} of 4 items were done"));
    report.count("workers that went on", 1);
    for hand in [&mut holder, &mut waiter, &mut subscriber] {
        hand.finish()?;
    }
    Ok(())
}

fn begin(raw: &mut Raw, why: Why) {
    match why {
        Why::Replicas => drop(raw.run(&["CONFIG", "SET", "min-replicas-to-write", "1"])),
        Why::Replica => drop(raw.run(&["REPLICAOF", "127.0.0.1", "1"])),
        Why::Disk => {
            // No snapshot can be written over a folder that has its name.
            let folder = raw.run(&["CONFIG", "GET", "dir"]).texts()[1].clone();
            // The second kind finds it there.
            let _ = std::fs::create_dir(format!("{folder}/taken"));
            raw.run(&["CONFIG", "SET", "save", "900 1"]);
            raw.run(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"]);
            raw.run(&["BGSAVE"]);
            let failed = || raw.run(&["INFO", "persistence"]).text().contains("bgsave_status:err");
            until("the snapshot has failed", failed).expect("its name is taken");
        }
        Why::Rights => {
            raw.run(&["ACL", "SETUSER", "worker", "-@all"]);
            raw.run(&["CLIENT", "KILL", "USER", "worker"]);
        }
        Why::Full => {
            raw.run(&["CONFIG", "SET", "maxclients", "1"]);
            raw.run(&["CLIENT", "KILL", "USER", "worker"]);
        }
    }
}

fn end(raw: &mut Raw, why: Why) {
    match why {
        Why::Replicas => drop(raw.run(&["CONFIG", "SET", "min-replicas-to-write", "0"])),
        Why::Replica => drop(raw.run(&["REPLICAOF", "NO", "ONE"])),
        Why::Disk => drop(raw.run(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"])),
        Why::Rights => drop(raw.run(&["ACL", "SETUSER", "worker", "+@all"])),
        Why::Full => drop(raw.run(&["CONFIG", "SET", "maxclients", "10000"])),
    }
}

/// One address: its master becomes a replica of another, old connections stay open.
pub(crate) fn switched(setting: &Setting) -> Report {
    let mut report = Report::default();
    let old = Scene::start("switched old", setting, &[]);
    let new = Scene::start("switched new", setting, &[]);
    if let Err(why) = fail_over(&old, &new, &mut report) {
        report.must(false, || why);
    }
    report.enough("failovers", 1);
    report.enough("callers and subscribers that went on", 2);
    old.end(&mut report);
    new.end(&mut report);
    report
}

fn fail_over(old: &Scene, new: &Scene, report: &mut Report) -> Result<(), String> {
    let (one, two) = (old.server.port().to_string(), new.server.port().to_string());
    let (mut old_raw, mut new_raw) = (old.server.raw(), new.server.raw());
    new_raw.run(&["REPLICAOF", "127.0.0.1", &one]);
    let follows = || new_raw.run(&["INFO", "replication"]).text().contains("master_link_status:up");
    until("the second follows the first", follows)?;
    let proxy = Proxy::start(old.server.port());
    let url = new.url(proxy.port());
    let mut hands: Vec<Hand> = Vec::new();
    for (place, kind) in Kind::OURS.into_iter().enumerate() {
        let first = 1 + place * 100_000;
        let produce =
            [format!("first={first}"), "count=100000".to_owned(), "pause=0.005".to_owned()];
        hands.push(new.crew.hire(kind, "produce", &url, &produce));
        hands.push(new.crew.hire(kind, "consume", &url, &["lease=2".to_owned()]));
    }
    for hand in &hands {
        hand.line(GUARD, |line| matches!(line.what, What::Put | What::Acked))?;
    }
    let mut talkers = Kind::OURS.map(|kind| Talkers::hire(new, kind, &url));
    talkers.iter().try_for_each(Talkers::are_heard)?;
    // What the old one has taken and not passed on would be lost, and that is the server's business.
    old_raw.run(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    until("the new one has all", || {
        offset(&mut old_raw, "master") == offset(&mut new_raw, "slave")
    })?;
    new_raw.run(&["REPLICAOF", "NO", "ONE"]);
    proxy.switch(new.server.port());
    old_raw.run(&["REPLICAOF", "127.0.0.1", &two]);
    old_raw.run(&["CLIENT", "UNPAUSE"]);
    let moved = now();
    report.count("failovers", 1);
    for hand in &hands {
        let wanted = if hand.name.ends_with("produce") { What::Put } else { What::Acked };
        let later = moved + Duration::from_millis(400);
        let line = hand.line(GUARD, |line| line.what == wanted && line.at > later);
        let line = line.map_err(|why| format!("after the failover: {why}"))?;
        report.recovered("a failover behind one address", hand.kind, since(moved, &line));
    }
    for talkers in &mut talkers {
        talkers.go_on(&mut new_raw, moved, report)?;
    }
    for hand in hands.iter_mut().filter(|hand| hand.name.ends_with("produce")) {
        hand.finish()?;
    }
    new.drained("work")?;
    for hand in hands.iter_mut().filter(|hand| hand.name.ends_with("consume")) {
        hand.finish()?;
    }
    check::queue(report, &stories(&hands)?, &new.left("work"), Promise::Nothing);
    Ok(())
}

/// Those who put and take nothing, so that no refusal tells them of another master.
struct Talkers {
    kind: Kind,
    subscriber: Hand,
    provider: Hand,
    caller: Hand,
}

impl Talkers {
    fn hire(scene: &Scene, kind: Kind, url: &str) -> Self {
        let hire = |role: &str, words: &[&str]| {
            let options: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
            scene.crew.hire(kind, role, url, &options)
        };
        let name = format!("name={}", kind.name());
        let subscriber = hire("subscribe", &[&format!("topic={}", kind.name())]);
        let provider = hire("serve", &[&name]);
        // Else the first call may find nobody.
        let _ = provider.line(GUARD, |line| line.what == What::Executed);
        let words = [name.as_str(), "first=1", "count=1000000", "timeout=5", "pause=0.02"];
        Self { kind, subscriber, provider, caller: hire("call", &words) }
    }

    fn are_heard(&self) -> Result<(), String> {
        self.subscriber.line(GUARD, |line| line.what == What::Executed)?;
        self.caller.line(GUARD, |line| line.what == What::Answered).map(|_| ())
    }

    /// Waits until what is published at the new master is heard, and calls are answered.
    fn go_on(&mut self, raw: &mut Raw, moved: Duration, report: &mut Report) -> Result<(), String> {
        let channel = format!("{PREFIX}{}", self.kind.name());
        let hears = || self.subscriber.count(What::Received).is_ok_and(|count| count > 0);
        until("what the new master is told is heard", || {
            raw.run(&["PUBLISH", &channel, "1"]);
            hears()
        })
        .map_err(|error| self.subscriber.complaint(&error))?;
        let later = moved + Duration::from_millis(400);
        let answered =
            self.caller.line(GUARD, |line| line.what == What::Answered && line.at > later)?;
        report.recovered(
            "a failover behind one address: a call",
            self.kind,
            since(moved, &answered),
        );
        for hand in [&mut self.caller, &mut self.provider, &mut self.subscriber] {
            hand.finish()?;
        }
        check::caller(report, &self.caller.story()?);
        report.count("callers and subscribers that went on", 1);
        Ok(())
    }
}

/// How far a server is in the stream of a master's writes, as that or as its replica.
fn offset(raw: &mut Raw, role: &str) -> Option<String> {
    let text = raw.run(&["INFO", "replication"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{role}_repl_offset:")));
    line.map(str::to_owned)
}
