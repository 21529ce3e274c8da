//! Row 8: the reply to every command is cut at every byte, one after the other.
//!
//! The one invariant: which replies an operation has, and how long they are, is seen in a run
//! without harm; nobody lists them. The short version takes a few bytes of each.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::crew::{GUARD, Kind};
use crate::peer::Peer;
use crate::proxy::{Act, Proxy};
use crate::report::Report;
use crate::scene::{PREFIX, Scene, Setting, until};
use crate::server::{Answer, Raw};

/// Cuts everything that peers of both kinds do.
pub(crate) fn run(setting: &Setting) -> Report {
    let mut report = Report::default();
    let scene = Scene::start("cuts", setting, &[]);
    let reports = std::thread::scope(|scope| {
        let threads = Kind::OURS.map(|kind| {
            scope.spawn({
                let scene = &scene;
                move || cut_all(scene, setting, kind)
            })
        });
        threads.map(std::thread::ScopedJoinHandle::join)
    });
    for done in reports {
        match done {
            Ok(Ok(done)) => report.absorb(done),
            Ok(Err(why)) => report.must(false, || why),
            Err(_) => report.must(false, || "a cutter failed, see above".to_owned()),
        }
    }
    report.enough("replies cut", if setting.brief { 60 } else { 400 });
    scene.end(&mut report);
    report
}

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Put,
    Get,
    Confirm,
    Publish,
    Receive,
    Call,
    Serve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Made,
    ReplyAbsent,
}

const OPERATIONS: [Operation; 7] = [
    Operation::Put,
    Operation::Get,
    Operation::Confirm,
    Operation::Publish,
    Operation::Receive,
    Operation::Call,
    Operation::Serve,
];

fn cut_all(scene: &Scene, setting: &Setting, kind: Kind) -> Result<Report, String> {
    let mut report = Report::default();
    let program = |kind| match kind {
        Kind::Rust => setting.peer.as_deref(),
        _ => Some(setting.python.as_str()),
    };
    let Some(own) = program(kind) else {
        report.say("without a peer in Rust: name one with --peer");
        return Ok(report);
    };
    let proxy = Proxy::start(scene.server.port());
    let mut bench = Bench {
        peer: Peer::start(kind, own, &scene.url(proxy.port()))?,
        other: Peer::start(Kind::Python, &setting.python, &scene.url(scene.server.port()))?,
        raw: scene.server.raw(),
        subscriber: scene.server.raw(),
        name: kind.name().to_lowercase(),
        proxy,
        number: 0,
    };
    bench.begin()?;
    let mut chance = Chance::new(setting.seed, kind.name());
    for operation in OPERATIONS {
        bench.proxy.record();
        bench.attempt(operation).map_err(|why| format!("{operation:?} uncut: {why}"))?;
        let mut lengths = BTreeMap::new();
        for (name, length) in bench.proxy.recorded() {
            let longest = lengths.entry(name).or_insert(0);
            *longest = length.max(*longest);
        }
        for (name, length) in lengths {
            let step = if setting.brief { (length / 6).max(3) } else { 1 };
            let mut absent = 0;
            for after in (chance.below(step)..=length).step_by(step) {
                let cut = bench.cut(operation, &name, after, &mut report).map_err(|why| {
                    format!("{} {operation:?}, {name} cut behind byte {after}: {why}", kind.name())
                })?;
                // What was seen once need not come each time, e.g. a heartbeat.
                absent = if cut == Cut::Made { 0 } else { absent + 1 };
                if absent == 3 {
                    report.count("replies that came only once", 1);
                    break;
                }
            }
        }
    }
    Ok(report)
}

/// Peers, and the server behind their back.
struct Bench {
    peer: Peer,
    /// Unharmed: it serves, and calls.
    other: Peer,
    raw: Raw,
    subscriber: Raw,
    /// Distinguishes the names of both kinds.
    name: String,
    proxy: Proxy,
    number: u64,
}

impl Bench {
    fn named(&self, what: &str) -> String {
        format!("{what}-{}", self.name)
    }

    fn begin(&mut self) -> Result<(), String> {
        let (news, here, there) = (self.named("news"), self.named("here"), self.named("there"));
        let told = format!("{PREFIX}{}", self.named("told"));
        self.subscriber.run(&["SUBSCRIBE", &told]);
        let news = json!({"do": "subscribe", "subscription": "news", "channel": news});
        done(self.peer.run(news)?)?;
        done(self.peer.run(json!({"do": "expose", "name": "product", "channel": here}))?)?;
        done(self.other.run(json!({"do": "expose", "name": "product", "channel": there}))?)?;
        for channel in [here, there] {
            self.subscribed(&channel)?;
        }
        Ok(())
    }

    fn subscribed(&mut self, channel: &str) -> Result<(), String> {
        let key = format!("{PREFIX}{channel}");
        let raw = &mut self.raw;
        until("a channel is subscribed to", || match raw.run(&["PUBSUB", "NUMSUB", &key]) {
            Answer::List(answer) => answer[1].number() > 0,
            _ => false,
        })
    }

    /// One operation with one cut, and then everything works again.
    fn cut(
        &mut self,
        operation: Operation,
        name: &str,
        after: usize,
        report: &mut Report,
    ) -> Result<Cut, String> {
        let began = Instant::now();
        self.proxy.arm(Some(name), 0, Act::Cut { after });
        let outcome = self.attempt(operation)?;
        if !self.proxy.fired(Duration::ZERO) {
            self.proxy.disarm();
            return Ok(Cut::ReplyAbsent);
        }
        report.count("replies cut", 1);
        report.count(if outcome { "operations done" } else { "operations told to have failed" }, 1);
        let fault = format!("a reply is cut: {operation:?} ends");
        report.recovered(&fault, self.kind(), began.elapsed());
        Ok(Cut::Made)
    }

    fn kind(&self) -> Kind {
        if self.name == "rust" { Kind::Rust } else { Kind::Python }
    }

    /// Does one operation; says whether it was done, or told to have failed. What breaks a promise
    /// is an error.
    fn attempt(&mut self, operation: Operation) -> Result<bool, String> {
        self.number += 1;
        match operation {
            Operation::Put => self.put(),
            Operation::Get => self.get(),
            Operation::Confirm => self.confirm(),
            Operation::Publish => self.publish(),
            Operation::Receive => self.receive(),
            Operation::Call => self.call(),
            Operation::Serve => self.serve(),
        }
    }

    fn put(&mut self) -> Result<bool, String> {
        let queue = self.named("put");
        let put = json!({"do": "put", "queue": queue, "value": self.number});
        let outcome = told(self.peer.run(put)?)?;
        let key = format!("{PREFIX}{queue}");
        let items = self.raw.run(&["LRANGE", &key, "0", "-1"]).texts();
        self.raw.run(&["DEL", &key]);
        let times = items.iter().filter(|item| **item == self.number.to_string()).count();
        must(times == usize::from(outcome.is_some()) || (outcome.is_none() && times <= 1), || {
            format!("put said {outcome:?}, and the item is there {times} times: {items:?}")
        })?;
        Ok(outcome.is_some())
    }

    fn get(&mut self) -> Result<bool, String> {
        let queue = self.named("get");
        self.peer.begin(json!({"do": "get", "queue": queue}))?;
        // Half of them wait already when the item comes.
        if self.number.is_multiple_of(2) {
            let raw = &mut self.raw;
            until("the get waits", || {
                raw.run(&["INFO", "clients"]).text().contains("blocked_clients:1")
                    || raw.run(&["INFO", "clients"]).text().contains("blocked_clients:2")
            })?;
        }
        self.raw.run(&["LPUSH", &format!("{PREFIX}{queue}"), &self.number.to_string()]);
        let got = self.peer.finish()?;
        must(got == Ok(json!(self.number)), || format!("get gave {got:?} for {}", self.number))?;
        Ok(true)
    }

    fn confirm(&mut self) -> Result<bool, String> {
        let queue = self.named("confirm");
        self.raw.run(&["LPUSH", &format!("{PREFIX}{queue}"), &self.number.to_string()]);
        let options = json!({"ack": "manual", "lease": 30.0});
        let got = self.peer.run(json!({"do": "get", "queue": queue, "options": options}))?;
        must(got == Ok(json!(self.number)), || format!("get gave {got:?} for {}", self.number))?;
        let outcome = told(self.peer.run(json!({"do": "task_done", "queue": queue}))?)?;
        // Confirmed or not, it is nobody's: the one confirmation is never forgotten.
        let key = format!("__pymq:{{{PREFIX}{queue}}}:held:*");
        let raw = &mut self.raw;
        until("the item is confirmed", || raw.run(&["KEYS", &key]).texts().is_empty())?;
        let waiting = raw.run(&["LLEN", &format!("{PREFIX}{queue}")]).number();
        must(waiting == 0, || format!("{waiting} items came back although confirmed"))?;
        Ok(outcome.is_some())
    }

    fn publish(&mut self) -> Result<bool, String> {
        let channel = self.named("told");
        let publish = json!({"do": "publish", "channel": channel, "value": self.number});
        let outcome = told(self.peer.run(publish)?)?;
        self.raw.run(&["PUBLISH", &format!("{PREFIX}{channel}"), "end"]);
        let mut times = 0;
        loop {
            let text = match self.subscriber.read() {
                Answer::List(parts) => parts[2].text(),
                other => return Err(format!("a subscriber reads {other:?}")),
            };
            if text == "end" {
                break;
            }
            times += 1;
        }
        must(times <= 1 && (times == 1 || outcome.is_none()), || {
            format!("publish said {outcome:?} and came {times} times")
        })?;
        Ok(outcome.is_some())
    }

    fn receive(&mut self) -> Result<bool, String> {
        let channel = self.named("news");
        let key = format!("{PREFIX}{channel}");
        let first = self.number;
        self.raw.run(&["PUBLISH", &key, &first.to_string()]);
        let mut seen: Vec<Value> = Vec::new();
        let guard = Instant::now() + GUARD;
        loop {
            self.number += 1;
            self.raw.run(&["PUBLISH", &key, &self.number.to_string()]);
            let wait = json!({"do": "received", "count": 1, "timeout": 0.05});
            let received = done(self.peer.run(wait)?)?;
            let events = received.as_array().cloned().unwrap_or_default();
            seen.extend(events.iter().map(|event| event["value"].clone()));
            if seen.last() == Some(&json!(self.number)) {
                break;
            }
            must(Instant::now() < guard, || format!("nothing is received any more: {seen:?}"))?;
        }
        let numbers: Vec<_> = seen.iter().filter_map(Value::as_u64).collect();
        must(numbers.is_sorted_by(|one, next| one < next), || format!("received {numbers:?}"))?;
        Ok(numbers.first() == Some(&first))
    }

    fn call(&mut self) -> Result<bool, String> {
        let (name, number) = (self.named("there"), self.number);
        let call = json!({"do": "call", "name": name, "args": [number, 2], "timeout": 30});
        let outcome = told(self.peer.run(call)?)?;
        must(outcome.as_ref().is_none_or(|answer| *answer == json!(2 * number)), || {
            format!("product({number}, 2) is {outcome:?}")
        })?;
        Ok(outcome.is_some())
    }

    fn serve(&mut self) -> Result<bool, String> {
        let (name, number) = (self.named("here"), self.number);
        self.subscribed(&name)?;
        let call = json!({"do": "call", "name": name, "args": [number, 2], "timeout": 30});
        // While its connection is on its way back, a provider is missing: nothing was executed then.
        let outcome = told(self.other.run(call)?)?.filter(|answer| !answer.is_null());
        must(outcome.as_ref().is_none_or(|answer| *answer == json!(2 * number)), || {
            format!("product({number}, 2) is {outcome:?}")
        })?;
        self.executed_once()?;
        Ok(outcome.is_some())
    }

    /// No call was executed twice, be it that its caller was told long ago that it had failed.
    fn executed_once(&mut self) -> Result<(), String> {
        let ran = done(self.peer.run(json!({"do": "multiplied"}))?)?;
        let mut seen = HashSet::new();
        let all = ran.as_array().into_iter().flatten().filter_map(Value::as_u64);
        let twice: Vec<_> = all.filter(|number| !seen.insert(*number)).collect();
        must(twice.is_empty(), || format!("product(n, 2) was executed twice for n of {twice:?}"))
    }
}

/// What must have worked.
fn done(outcome: Result<Value, String>) -> Result<Value, String> {
    outcome.map_err(|class| format!("failed with {class}"))
}

/// What may have failed, but with an error that users know.
fn told(outcome: Result<Value, String>) -> Result<Option<Value>, String> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(class) if class.starts_with("pymq.") => Ok(None),
        Err(class) => Err(format!("failed with {class}, which is no error of ours")),
    }
}

fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}
