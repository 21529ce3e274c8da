//! Users with few rights: those of SECURITY.md suffice and no more, and what is missing is named.
#![cfg(feature = "redis")]

mod server;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use pymq::name::{Address, Form};
use pymq::transport::redis::{Redis, RedisOptions};
use pymq::transport::{Inboxes, Letters, PutOptions, Shelf};
use pymq::{Bus, Error, ErrorKind, Namespace};
use server::{Answer, Raw, RedisServer};
use tracing::field::{Field, Visit};
use tracing::span::{self, Attributes, Record};
use tracing::{Event, Metadata, Subscriber};

const GUARD: Duration = Duration::from_secs(180);
/// For items that are there already.
const PATIENCE: Duration = Duration::from_secs(5);
const SOON: Duration = Duration::from_millis(20);
const PAGE: &str = include_str!("../../../SECURITY.md");

/// Without these everything works, if slower or less visibly.
const COURTESIES: [&str; 3] = ["+ping", "+client|unblock", "+client|reply"];

/// Needed by what nobody waits for: reading answers of the original's providers, and giving back what
/// is held. Only the log tells that they are missing.
const LOGGED: [&str; 3] = ["+brpop", "+lpop", "+zrem"];

/// The rules of a user as the page has them, from `on` to the last one.
fn rules(user: &str) -> Vec<String> {
    let begin = format!("ACL SETUSER {user} ");
    let (_, rest) = PAGE.split_once(&begin).expect("the page has that user");
    let (rules, _) = rest.split_once("```").expect("its block ends");
    rules.split_whitespace().map(str::to_owned).collect()
}

/// Makes a user of these rules; says where it connects to.
fn admit(server: &RedisServer, user: &str, rules: &[String]) -> String {
    let mut words = vec!["ACL", "SETUSER", user, "reset"];
    words.extend(rules.iter().map(String::as_str));
    assert_eq!(server.raw().run(&words), Answer::Text(b"OK".to_vec()), "{words:?}");
    let port = server.port();
    format!("redis://{user}:PASSWORD@127.0.0.1:{port}?reconnect_wait=20")
}

/// What was tried, and what came of it.
#[derive(Default)]
struct Journey<'a> {
    errors: Vec<Error>,
    /// The rule that is missing.
    missing: &'a str,
}

impl Journey<'_> {
    /// Takes a step that must end, one way or the other.
    async fn step<T>(
        &mut self,
        name: &str,
        step: impl Future<Output = pymq::Result<T>>,
    ) -> Option<T> {
        let outcome = tokio::time::timeout(GUARD, step).await;
        match outcome.unwrap_or_else(|_| panic!("{name} hangs without {:?}", self.missing)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    /// Takes an item that is there, unless something failed before.
    async fn take<T>(
        &mut self,
        name: &str,
        step: impl Future<Output = pymq::Result<Option<T>>>,
    ) -> Option<T> {
        let taken = self.step(name, step).await.flatten();
        assert!(taken.is_some() || !self.errors.is_empty(), "{name}: nothing came, no error");
        taken
    }

    /// What a program does that only sends.
    async fn publish(&mut self, bus: &Bus) {
        self.step("publish", bus.topic("shop.news").publish(&1)).await;
        self.step("put", bus.queue("jobs").put(&1)).await;
    }

    /// What a worker does, with items of somebody who may put them.
    async fn work(&mut self, bus: &Bus, putter: &Bus) {
        let name = unique("jobs");
        let (jobs, source) = (bus.queue::<u32>(&name), putter.queue::<u32>(&name));
        let put = async |count| {
            for number in 0..count {
                source.put(&number).await.expect("the putter may put");
            }
        };
        self.step("get nothing", jobs.get_timeout(SOON)).await;
        put(5).await;
        self.take("get", jobs.get_timeout(PATIENCE)).await;
        if let Some(job) = self.take("claim", jobs.try_claim()).await {
            self.step("extend", job.extend(GUARD)).await;
            self.step("ack", job.ack()).await;
        }
        if let Some(job) = self.take("claim", jobs.claim_timeout(PATIENCE)).await {
            self.step("requeue", job.requeue()).await;
        }
        if let Some(job) = self.take("claim", jobs.claim_timeout(PATIENCE)).await {
            self.step("reject", job.reject()).await;
        }
        // Held while the bus closes: it goes back.
        let held = self.take("claim", jobs.claim_timeout(PATIENCE)).await;
        self.step("count", jobs.stats()).await;
        self.step("close", bus.close()).await;
        drop(held);
    }

    /// What administers queues.
    async fn administer(&mut self, bus: &Bus) {
        let name = unique("bounded");
        let jobs = bus.queue::<u32>(&name).maxsize(1);
        self.step("put bounded", jobs.put_timeout(&1, GUARD)).await;
        if self.step("peek", jobs.peek(Shelf::Waiting, 10)).await.is_some() {
            let full = jobs.put_timeout(&2, SOON).await.err();
            self.errors.extend(full.filter(|error| error.kind() != ErrorKind::Full));
        }
        if let Some(job) = self.take("claim", jobs.claim_timeout(PATIENCE)).await {
            self.step("reject", job.reject()).await;
        }
        self.step("redrive", jobs.redrive(10)).await;
        self.step("discard", bus.byte_queue(&name).discard(Letters::Oldest(1))).await;
        let (once, other) = (PutOptions::new().id("once"), bus.queue::<u32>(&unique("once")));
        for attempt in ["put once", "put once more"] {
            self.step(attempt, other.put_with(&4, once.clone())).await;
        }
        let later = PutOptions::new().delay(GUARD);
        self.step("put for later", other.put_with(&5, later)).await;
        self.step("get", jobs.try_get()).await;
        // What could not be taken would be waited for.
        if self.errors.is_empty() {
            self.step("join", jobs.join()).await;
        }
        self.step("shut down", jobs.shut_down()).await;
        let refused = bus.queue::<u32>(&name).put(&3).await.err();
        self.errors.extend(refused.filter(|error| error.kind() != ErrorKind::ShutDown));
        self.step("purge", jobs.purge()).await;
    }

    /// Events and calls, with peers of the original too.
    async fn talk(&mut self, bus: &Bus, other: &Bus, url: &str) {
        let topic = bus.topic::<u32>("shop.news");
        if let Some(events) = self.step("subscribe", topic.subscribe()).await {
            self.step("unsubscribe", events.unsubscribe()).await;
        }
        if let Some(events) = self.step("pattern", bus.pattern::<u32>("shop.*")).await {
            self.step("unsubscribe", events.unsubscribe()).await;
        }
        self.step("publish", topic.publish(&1)).await;
        let name = unique("f");
        let handler = |(): ()| async { Ok::<_, String>(1) };
        let service = self.step("expose", bus.expose_fn(&name, handler)).await;
        let stub = other.stub::<(), u32>(&name).timeout(Duration::from_secs(20));
        if service.is_some() {
            self.step("call", stub.call(())).await;
            self.step("call all", stub.call_all(())).await;
        }
        let Some(redis) = self.step("connect", Redis::connect(url)).await else { return };
        let list = Address::new(format!("__eventbus:global:{}", unique("list")), Form::List);
        let inbox = Address::new(format!("__pymq:global:{}", unique("inbox")), Form::Inbox);
        let reply = || Bytes::from_static(b"1");
        self.step("send", redis.send(&list, reply(), GUARD)).await;
        self.step("send", redis.send(&inbox, reply(), GUARD)).await;
        if let Some(mut inbox) = self.step("open", redis.open_inbox(&inbox)).await
            && self.errors.is_empty()
        {
            let kept = tokio::time::timeout(GUARD, inbox.recv()).await;
            assert!(
                kept.unwrap_or_else(|_| panic!("what was kept arrives without {}", self.missing))
                    .is_some()
            );
        }
        if let Some(mut list) = self.step("open", redis.open_inbox(&list)).await
            // Of a reply list that may not be read only the log tells.
            && self.missing != "+brpop"
            && self.errors.is_empty()
        {
            let kept = tokio::time::timeout(GUARD, list.recv()).await;
            assert!(
                kept.unwrap_or_else(|_| panic!("what was kept arrives without {}", self.missing))
                    .is_some()
            );
            drop(list);
        }
    }

    async fn everything(&mut self, url: &str) {
        let buses = join_all((0..3).map(|_| Bus::connect(url))).await;
        let buses: Result<Vec<_>, _> = buses.into_iter().collect();
        let Some(buses) = self.step("connect", async { buses }).await else { return };
        let [one, two, worker] = &buses[..] else { unreachable!("three were connected") };
        self.talk(one, two, url).await;
        self.publish(one).await;
        self.administer(one).await;
        if self.errors.is_empty() {
            self.work(worker, two).await;
        }
        self.step("close", one.close()).await;
        self.step("close", two.close()).await;
    }
}

fn unique(name: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("{name}{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Whether the server tells subcommands apart when it counts and refuses; 6.2 does not.
fn tells_subcommands(server: &RedisServer) -> bool {
    let mut raw = server.raw();
    raw.run(&["CLIENT", "ID"]);
    raw.run(&["INFO", "commandstats"]).text().contains("cmdstat_client|id:")
}

/// The commands that were done since the last reset, as rules name them.
fn used(server: &RedisServer) -> BTreeSet<String> {
    let text = server.raw().run(&["INFO", "commandstats"]).text();
    let lines = text.lines().filter_map(|line| line.strip_prefix("cmdstat_"));
    lines
        .filter(|line| !line.contains(":calls=0,"))
        .filter_map(|line| line.split(':').next())
        .map(|name| format!("+{name}"))
        .collect()
}

/// Everything that only happens on bad days: a full server, a connection cut while it waits.
async fn bad_days(server: &RedisServer, url: &str, putter: &Bus) {
    let (bus, name) = (Bus::connect(url).await.expect("connected"), unique("bad"));
    let jobs = bus.queue::<u32>(&name);
    let waiting = tokio::spawn(async move { jobs.get().await });
    let mut raw = server.raw();
    let user = url.trim_start_matches("redis://").split(':').next().expect("it names a user");
    while !raw.run(&["INFO", "clients"]).text().contains("blocked_clients:1") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(raw.run(&["CLIENT", "KILL", "USER", user]).number() > 0);
    putter.queue(&name).put(&7).await.expect("put");
    let got = tokio::time::timeout(GUARD, waiting).await.expect("it is back in time");
    assert_eq!(got.expect("no panic").expect("an item"), 7);
    putter.queue(&name).put(&8).await.expect("put");
    raw.run(&["CONFIG", "SET", "maxmemory", "1"]);
    let got = bus.queue::<u32>(&name).get_timeout(GUARD).await;
    raw.run(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(got.expect("a full server is drained"), Some(8));
    putter.queue(&name).put(&9).await.expect("put");
    let (url, theirs) = (url.to_owned(), name.clone());
    tokio::task::spawn_blocking(move || main_that_holds(&url, &theirs)).await.expect("no panic");
    let source = putter.queue::<u32>(&name);
    let back = async { while source.stats().await.expect("counted").waiting == 0 {} };
    tokio::time::timeout(GUARD, back).await.expect("the item is back");
    bus.close().await.expect("closed");
}

/// A program that ends with an item in hand and does not close its bus.
fn main_that_holds(url: &str, name: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let held = runtime.block_on(async {
        let bus = Bus::connect(url).await.expect("connected");
        bus.queue::<u32>(name).claim_timeout(GUARD).await.expect("claimed")
    });
    drop(runtime);
    drop(held);
}

#[tokio::test]
async fn the_rules_for_everything_suffice_and_each_is_needed() {
    let server = RedisServer::start();
    let granted = rules("pymq-everything");
    let url = admit(&server, "pymq-everything", &granted);
    server.raw().run(&["CONFIG", "RESETSTAT"]);
    let mut journey = Journey::default();
    journey.everything(&url).await;
    assert!(journey.errors.is_empty(), "{:?}", journey.errors);
    let putter = Bus::connect(&server.url()).await.expect("connected");
    bad_days(&server, &url, &putter).await;
    let used = used(&server);
    // The first sign of life is asked for when the connection is made, and again after 5 s.
    let whole = |rule: &str| match tells_subcommands(&server) {
        true => rule.to_owned(),
        false => rule.split('|').next().unwrap_or(rule).to_owned(),
    };
    for rule in granted.iter().filter(|rule| rule.starts_with('+')) {
        let seen = used.contains(&whole(rule)) || *rule == "+ping";
        assert!(seen, "{rule} is granted, but was not needed: {used:?}");
    }
}

#[tokio::test]
async fn the_rules_for_a_publisher_suffice_and_allow_nothing_else() {
    let server = RedisServer::start();
    let url = admit(&server, "pymq-publisher", &rules("pymq-publisher"));
    let bus = Bus::connect(&url).await.expect("connected");
    let mut journey = Journey::default();
    journey.publish(&bus).await;
    assert!(journey.errors.is_empty(), "{:?}", journey.errors);
    assert_eq!(server.raw().run(&["LLEN", "__eventbus:global:jobs"]).number(), 1);
    let error = bus.topic::<u32>("shop.news").subscribe().await.expect_err("not allowed");
    assert_denied(&error, "+subscribe");
    let error = bus.queue::<u32>("jobs").get_timeout(GUARD).await.expect_err("not allowed");
    assert_denied(&error, "+eval");
}

#[tokio::test]
async fn the_rules_for_a_worker_suffice_on_bad_days_too() {
    let server = RedisServer::start();
    let putter = Bus::connect(&server.url()).await.expect("connected");
    let url = admit(&server, "pymq-worker", &rules("pymq-worker"));
    let bus = Bus::connect(&url).await.expect("connected");
    let mut journey = Journey::default();
    journey.work(&bus, &putter).await;
    assert!(journey.errors.is_empty(), "{:?}", journey.errors);
    bad_days(&server, &url, &putter).await;
    let bus = Bus::connect(&url).await.expect("connected");
    let error = bus.topic("shop.news").publish(&1).await.expect_err("not allowed");
    assert_denied(&error, "+publish");
}

#[tokio::test]
async fn a_bus_that_is_dropped_confirms_its_last_get_and_leaves_whatever_its_user_may() {
    let server = RedisServer::start();
    let putter = Bus::connect(&server.url()).await.expect("connected");
    let granted = rules("pymq-worker");
    for missing in ["nothing", "+client|reply", "+client|unblock"] {
        let rest: Vec<_> = granted.iter().filter(|rule| *rule != missing).cloned().collect();
        let url = admit(&server, "leaver", &rest);
        let name = unique("left");
        let source = putter.queue(&name);
        for item in 0..20 {
            source.put(&item).await.expect("put");
            let bus = Bus::connect(&url).await.expect("connected");
            let got = bus.queue::<u32>(&name).get_timeout(GUARD).await.expect("it may get");
            assert_eq!(got, Some(item), "without {missing}");
        }
        let mut raw = server.raw();
        let gone = async {
            while raw.run(&["CLIENT", "LIST"]).text().contains("user=leaver") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let gone = tokio::time::timeout(GUARD, gone).await;
        gone.unwrap_or_else(|_| panic!("without {missing}, connections stay"));
        let stats = source.stats().await.expect("counted");
        assert_eq!(stats.unfinished(), 0, "without {missing}");
    }
}

fn assert_denied(error: &Error, rule: &str) {
    let text = error.to_string();
    let named = text.contains("the user may not do this") && text.contains("SECURITY.md");
    assert!(named && text.contains(rule), "{rule}: {text}");
    // What was put into a queue that is shut down and may not be taken back is in it perhaps.
    let stays = error.kind() == ErrorKind::Ambiguous && text.contains("may be in it");
    assert!(error.kind() == ErrorKind::Server || stays, "{error}");
}

#[tokio::test]
async fn whichever_command_is_denied_is_named_and_nothing_hangs() {
    let granted = rules("pymq-everything");
    let commands = granted.iter().filter(|rule| rule.starts_with('+'));
    let journeys = commands.map(|missing| {
        // A server for each: what one user's script taught it, others would profit from.
        let server = RedisServer::start();
        let rest: Vec<_> = granted.iter().filter(|rule| *rule != missing).cloned().collect();
        let url = admit(&server, "user", &rest);
        async move {
            let mut journey = Journey { missing, ..Journey::default() };
            journey.everything(&url).await;
            (missing, journey.errors, tells_subcommands(&server))
        }
    });
    let mut silent = BTreeSet::new();
    for (missing, errors, exact) in join_all(journeys).await {
        // A server that does not tell subcommands apart does not say which command of a script
        // it refused either.
        let command = missing.split('|').next().unwrap_or(missing);
        for error in &errors {
            let of_a_script =
                !exact && error.to_string().contains("lacks a command of the scripts");
            let rule = match (exact, of_a_script) {
                (true, _) => missing,
                (false, false) => command,
                (false, true) => "a command of the scripts",
            };
            assert_denied(error, rule);
        }
        if errors.is_empty() {
            silent.insert(missing.as_str());
        }
    }
    assert_eq!(silent, COURTESIES.into_iter().chain(LOGGED).collect());
}

/// Whether the server has refused that command to anybody.
fn has_refused(raw: &mut Raw, command: &str) -> bool {
    let Answer::List(entries) = raw.run(&["ACL", "LOG"]) else { panic!("the log is a list") };
    let command = Answer::Text(command.as_bytes().to_vec());
    entries.iter().any(|entry| matches!(entry, Answer::List(words) if words.contains(&command)))
}

#[tokio::test]
async fn who_waits_for_items_is_not_told_that_an_old_lease_may_not_be_forgotten() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let putter = Bus::connect(&server.url()).await.expect("connected");
    let source = putter.queue::<u32>("jobs");
    let rest: Vec<_> = rules("pymq-worker").into_iter().filter(|rule| rule != "+zrem").collect();
    let bus = Bus::connect(&admit(&server, "worker", &rest)).await.expect("connected");
    let jobs = bus.queue::<u32>("jobs");
    source.put(&1).await.expect("put");
    assert_eq!(jobs.get_timeout(GUARD).await.expect("it may get"), Some(1));
    let waiting = tokio::spawn(async move { jobs.get_timeout(GUARD).await });
    let refused = async {
        while !has_refused(&mut raw, "zrem") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(GUARD, refused).await.expect("it is tried");
    source.put(&2).await.expect("put");
    assert_eq!(waiting.await.expect("no panic").expect("it waits on"), Some(2));
}

#[tokio::test]
async fn another_namespace_is_out_of_reach_and_the_missing_rule_is_named() {
    let server = RedisServer::start();
    let url = admit(&server, "pymq-everything", &rules("pymq-everything"));
    let bus = Bus::connect_in(&url, Namespace::new("other")).await.expect("connected");
    let error = bus.topic("news").publish(&1).await.expect_err("another namespace");
    assert_denied(&error, "&__eventbus:other:*");
    let error = bus.topic::<u32>("news").subscribe().await.expect_err("another namespace");
    assert_denied(&error, "&__eventbus:other:*");
    let error = bus.queue("jobs").put(&1).await.expect_err("another namespace");
    assert_denied(&error, "~__eventbus:other:*");
    let error = bus.queue::<u32>("jobs").get_timeout(GUARD).await.expect_err("another namespace");
    assert_denied(&error, "~__eventbus:other:*");
    let bus = Bus::connect(&url).await.expect("connected");
    let error = bus.pattern::<u32>("cellar.*").await.expect_err("no rule has that pattern");
    assert_denied(&error, "&__eventbus:global:cellar.*");
}

/// Keeps whatever the library traces, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn add(&self, text: impl std::fmt::Display) {
        let mut log = self.0.lock().expect("nobody panics while writing");
        write!(log, "{text}; ").expect("a text takes everything");
    }
}

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(format_args!("{field}={value:?}"));
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> span::Id {
        span.record(&mut self.clone());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, values: &Record<'_>) {
        values.record(&mut self.clone());
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_topic_that_was_denied_for_a_while_can_be_subscribed_to_again() {
    let server = RedisServer::start();
    let rules = ["on", ">PASSWORD", "~*", "+@all", "allchannels"].map(str::to_owned);
    let url = admit(&server, "wavering", &rules);
    let bus = Bus::connect(&url).await.expect("connected");
    let topic = bus.topic::<u32>("news");
    let mut before = topic.subscribe().await.expect("allowed");
    // The server also ends the connections that listen to what is denied now; 6.2 lets them be.
    let mut raw = server.raw();
    raw.run(&["ACL", "SETUSER", "wavering", "resetchannels"]);
    raw.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    let gap = before.recv().await.expect("the bus is open");
    assert_eq!(gap.expect_err("the connection was lost").kind(), ErrorKind::Lagged);
    let told = before.recv().await.expect("the bus is open").expect_err("nothing is allowed");
    assert_eq!(told.kind(), ErrorKind::Server);
    assert!(told.to_string().contains("NOPERM"), "{told}");
    server.raw().run(&["ACL", "SETUSER", "wavering", "allchannels"]);
    let mut again = topic.subscribe().await.expect("allowed again");
    let back = before.recv().await.expect("the bus is open").expect_err("it missed something");
    assert_eq!(back.kind(), ErrorKind::Lagged);
    assert_eq!(topic.publish(&1).await.expect("published"), Some(1));
    assert_eq!(again.recv().await.expect("open").expect("an event"), 1);
    assert_eq!(before.recv().await.expect("open").expect("an event"), 1);
}

#[tokio::test]
async fn a_subscription_that_was_denied_for_a_while_is_back_by_itself() {
    let server = RedisServer::start();
    let rules = ["on", ">PASSWORD", "~*", "+@all", "allchannels"].map(str::to_owned);
    let url = admit(&server, "wavering", &rules);
    let bus = Bus::connect(&url).await.expect("connected");
    let publisher = Bus::connect(&server.url()).await.expect("connected");
    let mut news = bus.topic::<u32>("news").subscribe().await.expect("allowed");
    let _service = bus.expose_fn("f", |(): ()| async { Ok::<_, String>(7) }).await.expect("bound");
    // The server also ends the connections that listen to what is denied now; 6.2 lets them be.
    let mut raw = server.raw();
    raw.run(&["ACL", "SETUSER", "wavering", "resetchannels"]);
    raw.run(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    while news.recv().await.expect("open").expect_err("cut").kind() != ErrorKind::Server {}
    server.raw().run(&["ACL", "SETUSER", "wavering", "allchannels"]);
    let back = news.recv().await.expect("the bus is open").expect_err("it missed something");
    assert_eq!(back.kind(), ErrorKind::Lagged);
    publisher.topic("news").publish(&5_u32).await.expect("published");
    assert_eq!(news.recv().await.expect("open").expect("an event"), 5);
    let f = publisher.stub::<(), u32>("f");
    while f.call(()).await.is_err() {}
}

/// What one of several attempts gives.
async fn first_of<T>(mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..60 {
        if let Some(found) = attempt().await {
            return found;
        }
        tokio::time::sleep(SOON).await;
    }
    panic!("no attempt of 60 gives it");
}

#[tokio::test]
async fn a_password_is_in_no_log_no_error_and_no_debug_text() {
    const SECRET: &str = "s3cr3t-word";
    let log = Log::default();
    let _quiet = tracing::subscriber::set_default(log.clone());
    let mut server = RedisServer::start();
    let all = ["on", ">s3cr3t-word", "~*", "&*", "+@all"].map(str::to_owned);
    let url = admit(&server, "teller", &all).replace("PASSWORD", SECRET).replace("=20", "=1");
    // A machine may stand still for the second that this bus waits.
    let bus = first_of(async || Bus::connect(&url).await.ok()).await;
    let mut heard = first_of(async || bus.topic::<u32>("news").subscribe().await.ok()).await;
    // The restarted server does not know the user any more.
    server.restart();
    let error = first_of(async || {
        let error = bus.topic("news").publish(&1).await.expect_err("nobody lets us in");
        log.add(&error);
        // Before that it may say that the connection was lost, maybe in the moment in which it was sent.
        error.to_string().contains("WRONGPASS").then_some(error)
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Connection);
    let error = first_of(async || {
        let error = Bus::connect(&url).await.expect_err("nobody lets us in");
        (error.kind() != ErrorKind::Connection).then_some(error)
    })
    .await;
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("do user and password fit?"), "{error}");
    log.add(format_args!("{error} {error:?} {bus:?}"));
    let options = RedisOptions::from_url(&url).expect("an address");
    log.add(format_args!("{options:?}"));
    log.add(format_args!("{:?}", Bus::builder("redis://h").password(SECRET)));
    bus.close().await.expect("closed");
    drop(heard.recv().await);
    let log = log.0.lock().expect("nobody panics while writing");
    assert!(log.contains("cannot connect; trying on"), "something was logged: {log}");
    assert!(!log.contains(SECRET), "{log}");
}
