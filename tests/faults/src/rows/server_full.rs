//! Row 12: a server that is full, evicts, forgets everything, or has a key of another type.

use crate::check::{self, Promise, since};
use crate::crew::{GUARD, Hand, Kind, stories};
use crate::history::{What, now};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};
use crate::server::{Answer, Raw};

/// All of it, with workers of both kinds.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    for kind in Kind::OURS {
        let scene = Scene::start(&format!("full server {}", kind.name()), setting, &[]);
        let mut cases = Cases { scene: &scene, kind, first: 1 };
        let outcome = cases
            .full(&mut report)
            .and_then(|()| cases.forgotten(&mut report))
            .and_then(|()| cases.evicted(&mut report))
            .and_then(|()| cases.of_another_type(&mut report));
        if let Err(why) = outcome {
            report.must(false, || format!("{}: {why}", kind.name()));
        }
        scene.end(&mut report);
    }
    report.enough("puts refused by a full server", 2);
    report.enough("times that everything was forgotten", 4);
    report
}

struct Cases<'a> {
    scene: &'a Scene,
    kind: Kind,
    first: u64,
}

impl Cases<'_> {
    /// Puts items that nobody put before; what became of each is in the history.
    fn produce(&mut self, queue: &str, count: u64) -> Result<Hand, String> {
        let options =
            [format!("queue={queue}"), format!("first={}", self.first), format!("count={count}")];
        self.first += count;
        let mut hand = self.scene.hire(self.kind, "produce", &options);
        hand.ended(GUARD)?;
        Ok(hand)
    }

    fn consume(&self, queue: &str) -> Hand {
        let options = [format!("queue={queue}"), "lease=1".to_owned()];
        self.scene.hire(self.kind, "consume", &options)
    }

    /// Memory is full: puts fail and say so, consumers drain; with space again, puts work again.
    fn full(&mut self, report: &mut Report) -> Result<(), String> {
        let before = self.produce("full", 200)?;
        let mut raw = self.scene.server.raw();
        let filled = fill(&mut raw);
        let refused = self.produce("full", 2)?;
        let said = refused.count(What::Refused)?;
        report.count("puts refused by a full server", said);
        report.must(said == 2, || refused.complaint("put into a full server"));
        let mut consumer = self.consume("full");
        self.scene.drained("full")?;
        // It notes a confirmation once it has heard of it, after the item is gone.
        until("it has confirmed all", || consumer.count(What::Acked).is_ok_and(|all| all >= 200))
            .map_err(|why| consumer.complaint(&why))?;
        let healed = now();
        raw.run(&["CONFIG", "SET", "maxmemory", "0"]);
        for number in 0..filled {
            raw.run(&["DEL", &format!("filler-{number}")]);
        }
        let after = self.produce("full", 1)?;
        let line = consumer.line(GUARD, |line| line.what == What::Got && line.item == 203)?;
        report.recovered("Redis was full: put and get", self.kind, since(healed, &line));
        self.scene.drained("full")?;
        consumer.finish()?;
        let hands = [before, refused, consumer, after];
        check::queue(report, &stories(&hands)?, &self.scene.left("full"), Promise::Nothing);
        Ok(())
    }

    /// FLUSHALL under a worker that holds an item and one that waits: both go on.
    fn forgotten(&mut self, report: &mut Report) -> Result<(), String> {
        let forgotten = self.scene.crew.place(&format!("forgotten-{}", self.kind.name()));
        let mut options = ["queue=flushed", "lease=1", "pause=2"].map(str::to_owned).to_vec();
        options.push(format!("begins={}", forgotten.display()));
        let mut holder = self.scene.hire(self.kind, "consume", &options);
        let first = self.first;
        self.produce("flushed", 1)?;
        holder.line(GUARD, |line| line.what == What::Got && line.item == first)?;
        self.scene.server.raw().run(&["FLUSHALL"]);
        std::fs::write(&forgotten, "").map_err(|error| error.to_string())?;
        report.count("times that everything was forgotten", 1);
        let healed = now();
        let late = holder.line(GUARD, |line| line.what == What::LeaseLost && line.item == first);
        late.map_err(|why| format!("a late confirmation is not told of: {why}"))?;
        self.goes_on("flushed", &holder, "Redis forgot everything: put and get", healed, report)?;
        holder.finish()
    }

    /// A server that evicts any key makes room with whole queues; workers go on with what comes.
    fn evicted(&mut self, report: &mut Report) -> Result<(), String> {
        let mut holder = self.consume("evicted");
        let first = self.first;
        self.produce("evicted", 1)?;
        holder.line(GUARD, |line| line.what == What::Acked && line.item == first)?;
        let mut raw = self.scene.server.raw();
        raw.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-random"]);
        fill(&mut raw);
        for number in 0..2000 {
            raw.run(&["SET", &format!("filler-{number}"), &"x".repeat(2000)]);
        }
        let text = raw.run(&["INFO", "stats"]).text();
        let evicted = text.lines().find_map(|line| line.strip_prefix("evicted_keys:"));
        let evicted = evicted.and_then(|count| count.trim().parse::<usize>().ok()).unwrap_or(0);
        report.must(evicted > 0, || "nothing was evicted".to_owned());
        report.count("keys evicted", evicted);
        report.count("times that everything was forgotten", 1);
        raw.run(&["CONFIG", "SET", "maxmemory", "0"]);
        raw.run(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        self.goes_on("evicted", &holder, "Redis evicted keys: put and get", now(), report)?;
        holder.finish()
    }

    /// A key of another type is named in the error; once it is gone, all is well.
    fn of_another_type(&mut self, report: &mut Report) -> Result<(), String> {
        let key = format!("{PREFIX}typed");
        let mut raw = self.scene.server.raw();
        raw.run(&["SET", &key, "no list"]);
        let refused = self.produce("typed", 1)?;
        report.must(refused.count(What::Refused)? == 1, || refused.complaint("put into a string"));
        let mut consumer = self.consume("typed");
        consumer.line(GUARD, |line| line.what == What::Failed)?;
        raw.run(&["DEL", &key]);
        let healed = now();
        self.goes_on(
            "typed",
            &consumer,
            "a key of another type is gone: put and get",
            healed,
            report,
        )?;
        consumer.finish()
    }

    fn goes_on(
        &mut self,
        queue: &str,
        consumer: &Hand,
        fault: &str,
        healed: std::time::Duration,
        report: &mut Report,
    ) -> Result<(), String> {
        let next = self.first;
        let put = self.produce(queue, 1)?;
        report.must(put.count(What::Put)? == 1, || put.complaint("could not put again"));
        let line = consumer.line(GUARD, |line| line.what == What::Acked && line.item == next)?;
        report.recovered(fault, self.kind, since(healed, &line));
        Ok(())
    }
}

/// Fills the server to its limit; says with how many keys.
fn fill(raw: &mut Raw) -> usize {
    let text = raw.run(&["INFO", "memory"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix("used_memory:"));
    let used: u64 = line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
    raw.run(&["CONFIG", "SET", "maxmemory", &(used + 2_000_000).to_string()]);
    let large = "x".repeat(10_000);
    for number in 0..1000 {
        if matches!(raw.run(&["SET", &format!("filler-{number}"), &large]), Answer::Error(_)) {
            return number;
        }
    }
    1000
}
