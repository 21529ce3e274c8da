//! Rows 33 to 35: processes without a server, which are killed, stopped, and find no space.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pymq::transport::{Shelf, ipc};
use pymq::{Bus, ErrorKind};

use crate::chance::Chance;
use crate::check::{self, Promise, since};
use crate::crew::{self, GUARD, Hand, Kind, Story};
use crate::history::{What, now};
use crate::local::Local;
use crate::report::Report;
use crate::scene::{Setting, until};

/// The lease of consumers.
const LEASE: Duration = Duration::from_millis(1500);
/// Who publishes or calls numbers what it does from its own number times this on.
const SHARE: u64 = 1_000_000;
/// From one fault to the next, on average.
const PACE: Duration = Duration::from_millis(25);

/// What somebody of the crowd does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Produce,
    Consume,
    Serve,
    Call,
    Publish,
    Subscribe,
    Come,
    Clean,
}

impl Part {
    fn role(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Serve => "serve",
            Self::Call => "call",
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Come => "come",
            Self::Clean => "clean",
        }
    }

    /// What is counted when one of them is killed.
    fn killed(self) -> &'static str {
        match self {
            Self::Produce => "producers killed",
            Self::Consume => "consumers killed",
            Self::Serve => "providers killed",
            Self::Call => "callers killed",
            Self::Publish => "publishers killed",
            Self::Subscribe => "subscribers killed",
            Self::Come => "joiners killed",
            Self::Clean => "cleaners killed",
        }
    }
}

/// Who is on the bus at any time.
const CROWD: [(Part, Kind); 13] = [
    (Part::Consume, Kind::Rust),
    (Part::Consume, Kind::Rust),
    (Part::Consume, Kind::Python),
    (Part::Produce, Kind::Rust),
    (Part::Produce, Kind::Python),
    (Part::Serve, Kind::Rust),
    (Part::Serve, Kind::Python),
    (Part::Call, Kind::Rust),
    (Part::Publish, Kind::Rust),
    (Part::Subscribe, Kind::Rust),
    (Part::Come, Kind::Rust),
    (Part::Come, Kind::Python),
    (Part::Clean, Kind::Rust),
];

/// Everybody is killed at any moment, one by one and all at once; consumers are stopped for longer than
/// their lease.
pub(crate) fn storm(setting: &Setting) -> Report {
    let mut report = Report::default();
    let mut storm = Storm {
        local: Local::start("without a server", setting),
        chance: Chance::new(setting.seed, "without a server"),
        setting,
        present: Vec::new(),
        gone: Vec::new(),
        asleep: Vec::new(),
        next_item: 1,
        hired: 0,
    };
    CROWD.iter().for_each(|(part, kind)| storm.hire(*part, *kind));
    let until = Instant::now() + setting.patience;
    while !storm.is_enough(&report) {
        if Instant::now() > until {
            report.must(false, || format!("not done in {:?}", setting.patience));
            break;
        }
        std::thread::sleep(storm.chance.around(PACE));
        storm.replace(&mut report);
        storm.wake();
        storm.inflict(&mut report);
    }
    storm.end(&mut report);
    report
}

struct Storm<'a> {
    local: Local,
    chance: Chance,
    setting: &'a Setting,
    present: Vec<(Part, Hand)>,
    gone: Vec<(Part, Hand)>,
    /// Stopped consumers, by their names, and when they go on.
    asleep: Vec<(String, Instant)>,
    next_item: u64,
    hired: u64,
}

impl Storm<'_> {
    fn hire(&mut self, part: Part, kind: Kind) {
        self.hired += 1;
        let first = self.hired * SHARE;
        let words: Vec<(&str, u64)> = match part {
            Part::Produce => {
                let portion = (self.setting.items / 20).clamp(100, 20_000);
                let first = self.next_item;
                self.next_item += portion;
                vec![("first", first), ("count", portion), ("batch", 10), ("most", 2000)]
            }
            Part::Consume => vec![("many", *self.chance.one_of(&[1, 16]))],
            Part::Call | Part::Publish => vec![("first", first), ("count", SHARE)],
            _ => Vec::new(),
        };
        let mut options: Vec<String> =
            words.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        options.push(format!("lease={}", LEASE.as_secs_f64()));
        options.push("pause=0.001".to_owned());
        let hand = self.local.hire(kind, part.role(), &options);
        self.present.push((part, hand));
    }

    /// Whoever has done all that it was to do gives its place to another.
    fn replace(&mut self, report: &mut Report) {
        for (part, mut hand) in std::mem::take(&mut self.present) {
            if hand.lives() {
                self.present.push((part, hand));
                continue;
            }
            report.take(hand.finish());
            let kind = hand.kind;
            self.gone.push((part, hand));
            self.hire(part, kind);
        }
    }

    fn is_enough(&self, report: &Report) -> bool {
        let kills = if self.setting.brief { 8 } else { self.setting.items / 1000 };
        let least = [
            ("consumers killed", kills),
            ("producers killed", kills / 2),
            ("providers killed", kills / 2),
            ("joiners killed", kills / 2),
            ("cleaners killed", kills / 4),
            ("consumers stopped", kills / 8),
            ("times that all were killed", kills / 8),
        ];
        self.next_item > self.setting.items
            && least.iter().all(|(what, least)| report.counted(what) >= *least)
    }

    fn inflict(&mut self, report: &mut Report) {
        match self.chance.below(60) {
            0 => self.kill_all(report),
            1..4 => self.stop(report),
            _ => {
                let victim = self.chance.below(self.present.len());
                self.kill(victim, report);
            }
        }
    }

    fn kill(&mut self, victim: usize, report: &mut Report) {
        let (part, mut hand) = self.present.swap_remove(victim);
        let kind = hand.kind;
        hand.kill();
        self.asleep.retain(|(name, _)| *name != hand.name);
        report.count(part.killed(), 1);
        self.gone.push((part, hand));
        self.hire(part, kind);
    }

    fn kill_all(&mut self, report: &mut Report) {
        report.count("times that all were killed", 1);
        for _ in 0..self.present.len() {
            // The first one each time: those hired in its place come to stand last.
            let (part, mut hand) = self.present.remove(0);
            hand.kill();
            report.count(part.killed(), 1);
            self.gone.push((part, hand));
        }
        self.asleep.clear();
        CROWD.iter().for_each(|(part, kind)| self.hire(*part, *kind));
    }

    fn stop(&mut self, report: &mut Report) {
        let is_awake = |(part, hand): &(Part, Hand)| {
            *part == Part::Consume && self.asleep.iter().all(|(name, _)| *name != hand.name)
        };
        let places = self.present.iter().enumerate().filter(|(_, one)| is_awake(one));
        let awake: Vec<usize> = places.map(|(place, _)| place).collect();
        if awake.is_empty() {
            return;
        }
        let place = *self.chance.one_of(&awake);
        let hand = &mut self.present[place].1;
        hand.stop();
        report.count("consumers stopped", 1);
        self.asleep.push((hand.name.clone(), Instant::now() + LEASE + self.chance.around(LEASE)));
    }

    fn wake(&mut self) {
        let now = Instant::now();
        for (name, hand) in self.present.iter().map(|(_, hand)| (&hand.name, hand)) {
            if self.asleep.iter().any(|(asleep, until)| asleep == name && *until <= now) {
                hand.go_on();
            }
        }
        self.asleep.retain(|(_, until)| *until > now);
    }

    /// Lets all that is there be done, and judges.
    fn end(mut self, report: &mut Report) {
        self.asleep.iter_mut().for_each(|(_, until)| *until = Instant::now());
        self.wake();
        let (mut producers, mut others): (Vec<_>, Vec<_>) =
            self.present.into_iter().partition(|(part, _)| *part == Part::Produce);
        for (_, hand) in &mut producers {
            report.take(hand.finish());
        }
        report.take(self.local.drained("work"));
        // All at once, so that what they leave is there for whoever comes.
        others.iter_mut().for_each(|(_, hand)| hand.kill());
        let hands: Vec<(Part, Hand)> =
            [self.gone, producers, others].into_iter().flatten().collect();
        let judged = judge(&self.local, &hands, report);
        report.take(judged);
        report.take(restart(&self.local));
        self.local.end(report);
    }
}

fn judge(local: &Local, hands: &[(Part, Hand)], report: &mut Report) -> Result<(), String> {
    let of = |wanted: &[Part]| -> Result<Vec<Story>, String> {
        crew::stories(hands.iter().filter(|(part, _)| wanted.contains(part)).map(|(_, hand)| hand))
    };
    let left = local.left("work").map_err(|error| error.to_string())?;
    check::queue(report, &of(&[Part::Produce, Part::Consume])?, &left, Promise::Nothing);
    for story in of(&[Part::Call])? {
        check::caller(report, &story);
    }
    executed_once(report, &of(&[Part::Serve])?);
    for story in of(&[Part::Subscribe])? {
        in_order(report, &story);
    }
    for (what, least) in [("calls answered", 10), ("events received", 10), ("redelivered", 1)] {
        report.enough(what, least);
    }
    Ok(())
}

/// No call is executed by two, or twice.
fn executed_once(report: &mut Report, stories: &[Story]) {
    let mut executed = BTreeMap::<u64, usize>::new();
    let lines = stories.iter().flat_map(|story| &story.lines);
    for line in lines.filter(|line| line.what == What::Executed && line.item > 0) {
        *executed.entry(line.item).or_default() += 1;
    }
    report.count("calls executed", executed.len());
    let twice: Vec<_> = executed.into_iter().filter(|(_, times)| *times > 1).collect();
    report.must(twice.is_empty(), || format!("executed more than once: {twice:?}"));
}

/// Each publisher's events come once and in order, and a hole is told of.
fn in_order(report: &mut Report, story: &Story) {
    let (mut last, mut told) = (BTreeMap::<u64, u64>::new(), false);
    for line in &story.lines {
        match line.what {
            What::Missed => told = true,
            What::Received => {
                report.count("events received", 1);
                let before = last.insert(line.item / SHARE, line.item);
                let follows = before
                    .is_none_or(|before| line.item == before + 1 || told && line.item > before);
                report.must(follows, || {
                    format!("{} received event {} after {before:?}", story.name, line.item)
                });
            }
            _ => {}
        }
    }
}

/// All have been killed: whoever comes finds nobody, can use all, and leaves nothing behind.
fn restart(local: &Local) -> Result<(), String> {
    let done = local.on_bus(async |bus| {
        bus.byte_queue("passing").purge(Shelf::Waiting).await?;
        let heard = bus.publish_bytes("news", "anyone?".into()).await?;
        let call = bus.stub::<(u64,), u64>("double").call((1,)).await;
        let queue = bus.queue::<u64>("work");
        queue.put(&1).await?;
        Ok((heard, call.map_err(|error| error.kind()), queue.get().await?))
    });
    match done.map_err(|error| format!("a clean start fails: {error}"))? {
        (Some(0), Err(ErrorKind::NoSuchRemote), 1) => {}
        other => return Err(format!("after all were killed: {other:?}")),
    }
    // What stays is what answers to killed callers are kept in.
    match ipc::look(&local.url()).map_err(|error| error.to_string())? {
        Some(found) if !found.living.is_empty() || !found.dead.is_empty() || found.items > 0 => {
            Err(format!("when all have gone there is {found:?}"))
        }
        _ => Ok(()),
    }
}

/// A provider is killed in the middle of a call: how long until its caller is told.
pub(crate) fn lost_provider(setting: &Setting) -> Report {
    let mut report = Report::default();
    let local = Local::start("lost provider without a server", setting);
    let rounds = if setting.brief { 1 } else { 10 };
    for round in 0..rounds {
        for (provider, caller) in
            Kind::OURS.into_iter().flat_map(|one| Kind::OURS.map(|two| (one, two)))
        {
            if let Some(after) = report.take(lose(&local, provider, caller, round)) {
                let what = "a provider is killed, without a server: its caller is told";
                report.recovered(what, caller, after);
                report.count("providers lost", 1);
            }
        }
    }
    report.enough("providers lost", 4 * rounds);
    local.end(&mut report);
    report
}

fn lose(local: &Local, provider: Kind, caller: Kind, round: u64) -> Result<Duration, String> {
    let name = format!("name={}-{}-{round}", provider.name(), caller.name());
    let mut serving = local.hire(provider, "serve", &[name.clone(), "hangs=5".to_owned()]);
    serving.line(GUARD, |line| line.what == What::Executed)?;
    let options = [name, "first=1".to_owned(), "count=5".to_owned()];
    let mut calling = local.hire(caller, "call", &options);
    serving.line(GUARD, |line| line.what == What::Executed && line.item == 5)?;
    let gone = now();
    serving.kill();
    let told = calling.line(GUARD, |line| line.what == What::Failed)?;
    calling.finish()?;
    match told.word.starts_with("ProviderLost") {
        true => Ok(since(gone, &told)),
        false => Err(format!("the caller was told {:?}", told.word)),
    }
}

/// Whoever has the bus is stopped in the middle of a step, then goes on or is killed.
pub(crate) fn stopped(setting: &Setting) -> Report {
    let mut report = Report::default();
    let local = Local::start("stopped in a step", setting);
    let mut chance = Chance::new(setting.seed, "stopped in a step");
    let (least, until) = (if setting.brief { 3 } else { 50 }, Instant::now() + setting.patience);
    let busy = |local: &Local| {
        local.hire(Kind::Rust, "churn", &["count=1000000000".to_owned(), "only=3".to_owned()])
    };
    let mut hands = vec![busy(&local), busy(&local)];
    let Some(witness) = report.take(local.join()) else { return report };
    let words = ["stopped in a step, and gone on", "stopped in a step, and killed"];
    while words.iter().any(|what| report.counted(what) < least) && report.is_well() {
        report.must(Instant::now() < until, || format!("not done in {:?}", setting.patience));
        std::thread::sleep(chance.around(Duration::from_millis(5)));
        let victim = chance.below(hands.len());
        hands[victim].stop();
        let wait = Duration::from_millis(20);
        let asked = local.run(witness.queue::<u64>("nothing").get_timeout(wait));
        let in_step = match asked {
            Ok(_) => false,
            Err(error) => {
                let named = error.message().contains("has the bus and does not go on");
                report.must(named, || format!("an odd error: {error}"));
                true
            }
        };
        let kills = chance.below(2) == 0;
        if kills {
            hands[victim].kill();
            hands[victim] = busy(&local);
        } else {
            hands[victim].go_on();
        }
        report.count(if in_step { words[usize::from(kills)] } else { "stopped elsewhere" }, 1);
        report.take(works(&local, &witness));
    }
    for hand in &mut hands {
        report.must(hand.lives(), || "a worker has ended by itself".to_owned());
        hand.kill();
    }
    local.end(&mut report);
    report
}

/// A put and a get are done.
fn works(local: &Local, bus: &Bus) -> Result<(), String> {
    let done = local.run(async {
        let queue = bus.queue::<u64>("own");
        queue.put(&7).await?;
        queue.get().await
    });
    match done {
        Ok(7) => Ok(()),
        other => Err(format!("after that a put and a get give {other:?}")),
    }
}

/// The memory where the bus lies is full: puts say so, everything else goes on, nothing is lost.
pub(crate) fn full(setting: &Setting) -> Report {
    let mut report = Report::default();
    let Some(mount) = Mount::new("3m") else {
        report.say("not shown: it takes the right to mount (root)");
        return report;
    };
    let local = Local::start_at(mount.0.join("bus"), "full memory", setting);
    let words =
        |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.to_owned()).collect() };
    let produce = words(&["first=1", "count=40000", "batch=25", "most=1000000000"]);
    let mut producer = local.hire(Kind::Rust, "produce", &produce);
    let refused = producer.line(GUARD, |line| line.what == What::Refused);
    if let Some(line) = report.take(refused) {
        report.must(line.word == "Server", || format!("it was refused with {}", line.word));
    }
    // Those that come while it is full.
    let mut hands: Vec<Hand> = Kind::OURS
        .map(|kind| local.hire(kind, "consume", &words(&["many=16", "lease=1.5"])))
        .into();
    report.take(until("it has put all, or been refused", || !producer.lives()));
    report.take(producer.finish());
    report.take(local.drained("work"));
    for hand in &mut hands {
        report.take(hand.finish());
    }
    hands.push(producer);
    let judged = crew::stories(&hands).and_then(|stories| {
        let left = local.left("work").map_err(|error| error.to_string())?;
        check::queue(&mut report, &stories, &left, Promise::Nothing);
        Ok(())
    });
    report.take(judged);
    report.enough("puts refused", 1);
    report.enough("items put", 1000);
    report.take(local.join().and_then(|bus| works(&local, &bus)));
    local.end(&mut report);
    report
}

/// A file system of its own, in memory, of that size.
struct Mount(PathBuf);

impl Mount {
    /// `None` without the right to.
    fn new(size: &str) -> Option<Self> {
        let path = PathBuf::from(format!("/dev/shm/pymq-faults-{}-full", std::process::id()));
        std::fs::create_dir_all(&path).ok()?;
        let mount = Self(path);
        let options = format!("size={size},mode=0700");
        mount.command("mount", &["-t", "tmpfs", "-o", &options, "pymq-faults"]).then_some(mount)
    }

    fn command(&self, name: &str, words: &[&str]) -> bool {
        let path: &Path = &self.0;
        let mut command = Command::new(name);
        command.args(words).arg(path).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: somebody may still be about to unmap it.
        self.command("umount", &["-l"]);
        let _ = std::fs::remove_dir(&self.0);
    }
}
