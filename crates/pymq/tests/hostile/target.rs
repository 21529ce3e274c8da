//! A program that does everything at once, and a second one that does it with it.
//!
//! The one invariant: after each attack [`Target::check`] has served a good message through every
//! door, and found nothing that an attack may leave.
#![allow(unreachable_pub, reason = "the module's interface; a test crate has no other")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use pymq::transport::Shelf;
use pymq::{Bus, ErrorKind, Events, Queue, Service};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::place::server::{Raw, RedisServer};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    celsius: f64,
}

pub struct Target {
    pub server: RedisServer,
    pub raw: Raw,
    pub bus: Bus,
    other: Bus,
    typed: Events<Reading>,
    untyped: Events<Value>,
    matching: pymq::PatternEvents<Value>,
    _services: Vec<Service>,
    held: tokio::task::JoinHandle<pymq::Result<String>>,
    before: Traces,
}

/// What a message must not change.
#[derive(Debug, PartialEq)]
struct Traces {
    files: BTreeSet<PathBuf>,
    mapped: BTreeSet<String>,
    folder: BTreeSet<PathBuf>,
    keys: BTreeSet<String>,
}

impl Target {
    pub async fn start() -> Self {
        // By default Redis cuts off a subscriber to whom more than 32 MiB are on the way.
        let server = RedisServer::start_with(&["--client-output-buffer-limit", "pubsub 0 0 0"]);
        let bus = Bus::connect(&server.url()).await.expect("connected");
        let other = Bus::connect(&server.url()).await.expect("connected");
        let product = |(a, b): (i64, i64)| async move { a.checked_mul(b).ok_or("too large") };
        let echo = |(value,): (Value,)| async move { Ok::<_, String>(value) };
        let never = |(): ()| std::future::pending::<Result<String, String>>();
        let services = vec![
            bus.expose_fn("product", product).await.expect("exposed"),
            bus.expose_fn("echo", echo).await.expect("exposed"),
            other.expose_fn("held", never).await.expect("exposed"),
        ];
        let stub = bus.stub::<(), String>("held");
        let held = tokio::spawn(async move { stub.call(()).await });
        let mut target = Self {
            raw: server.raw(),
            typed: bus.topic("typed").subscribe().await.expect("subscribed"),
            untyped: bus.topic("untyped").subscribe().await.expect("subscribed"),
            matching: bus.pattern("some.*").await.expect("subscribed"),
            server,
            bus,
            other,
            _services: services,
            held,
            before: Traces::none(),
        };
        target.queue_everywhere("warm-up", &Bytes::from("no JSON")).await;
        target.serve("warm-up").await;
        target.before = target.traces();
        target
    }

    /// On all channels that somebody listens on, those of our own protocol among them.
    pub fn publish_everywhere(&mut self, data: &[u8]) {
        let mut channels = self.raw.run(&["PUBSUB", "CHANNELS", "*"]).texts();
        channels.retain(|channel| !channel.ends_with(":held"));
        channels.push("__eventbus:global:some.thing".to_owned());
        for channel in channels {
            self.raw.run_bytes(&[b"PUBLISH", channel.as_bytes(), data]);
        }
    }

    /// Taken as a struct and as anything, for good and on lease.
    pub async fn queue_everywhere(&mut self, name: &str, data: &Bytes) {
        self.queue::<Reading>(name, data).await;
        self.queue::<Value>(name, data).await;
    }

    async fn queue<T: DeserializeOwned>(&mut self, name: &str, data: &Bytes) {
        let queue: Queue<T> = self.bus.queue("work");
        for on_lease in [false, true] {
            self.raw.run_bytes(&[b"LPUSH", b"__eventbus:global:work", data]);
            let taken = match on_lease {
                false => queue.get().await.map(drop),
                true => match queue.claim().await {
                    Ok(delivery) => delivery.ack().await,
                    Err(error) => Err(error),
                },
            };
            let dead = self.bus.byte_queue("work").peek(Shelf::Dead, 2).await.expect("peeked");
            match taken {
                Ok(()) => assert!(dead.is_empty(), "{name}"),
                Err(error) => {
                    assert_eq!((error.kind(), error.object()), (ErrorKind::Decode, "work"));
                    // Spaces in front are how deliveries are counted, for every peer.
                    let kept = data.slice(data.iter().take_while(|byte| **byte == b' ').count()..);
                    assert!(dead == [kept], "{name} is not among the dead letters as it was");
                }
            }
            self.bus.byte_queue("work").purge(Shelf::Dead).await.expect("purged");
        }
        queue.join().await.expect("nothing is left on lease");
        let left = queue.stats().await.expect("stats");
        assert_eq!((left.unfinished(), left.dead), (0, 0), "{name}");
    }

    /// Good messages are served, and nothing that an attack may leave is there.
    pub async fn check(&mut self, name: &str) {
        self.serve(name).await;
        assert_eq!(self.traces(), self.before, "{name}");
        if self.held.is_finished() {
            panic!("{name} ended another call: {:?}", (&mut self.held).await);
        }
    }

    /// Deletes what an honest answer to a sound address may have left.
    pub fn forget_answers(&mut self) {
        for key in self.raw.run(&["KEYS", "__eventbus:global:__rpc_*"]).texts() {
            assert!((0..=300).contains(&self.raw.run(&["TTL", &key]).number()), "{key} stays");
            self.raw.run(&["DEL", &key]);
        }
    }

    /// One good message through every door.
    async fn serve(&mut self, token: &str) {
        let reading = Reading { sensor: token.to_owned(), celsius: 1.5 };
        let other = &self.other;
        other.topic("typed").publish(&reading).await.expect("published");
        for topic in ["untyped", "some.thing"] {
            other.topic(topic).publish(&token.to_owned()).await.expect("published");
        }
        served(async || self.typed.recv().await, |found| *found == reading).await;
        served(async || self.untyped.recv().await, |found| *found == token).await;
        let thing = ("some.thing".to_owned(), Value::from(token));
        served(async || self.matching.recv().await, |found| *found == thing).await;
        other.queue("work").put(&token.to_owned()).await.expect("put");
        assert_eq!(self.bus.queue::<String>("work").get().await.expect("got"), token);
        self.bus.queue::<String>("work").join().await.expect("it is confirmed soon");
        let product = other.stub::<_, i64>("product").call((2, 4)).await;
        assert_eq!(product.expect("product answers"), 8);
        let echo = other.stub::<_, String>("echo").call((token.to_owned(),)).await;
        assert_eq!(echo.expect("echo answers"), token);
    }

    fn traces(&mut self) -> Traces {
        let keys = self.raw.run(&["KEYS", "*"]).texts();
        // Answers wait a while for callers who are away, and so do the signs of who takes items.
        let keys = keys.into_iter().filter(|key| {
            let taker = key.ends_with(":epochs") || key.ends_with(":waits");
            let waits = key.starts_with("__pymq:global:inbox:") || key.contains(":__rpc_");
            !taker && !waits || self.raw.run(&["TTL", key]).number() == -1
        });
        Traces { keys: keys.collect(), ..Traces::of_process() }
    }
}

impl Traces {
    fn none() -> Self {
        Self {
            files: BTreeSet::new(),
            mapped: BTreeSet::new(),
            folder: BTreeSet::new(),
            keys: BTreeSet::new(),
        }
    }

    /// Sockets and heaps come and go; files, libraries and what stands in the folder do not.
    fn of_process() -> Self {
        let opened = std::fs::read_dir("/proc/self/fd").expect("/proc is there").flatten();
        let files = opened.filter_map(|file| std::fs::read_link(file.path()).ok());
        // Other tests of this process read the corpus and the logs of their servers, and look
        // for traces as this one does.
        let theirs = |file: &PathBuf| {
            file.starts_with(std::env::temp_dir())
                || file.starts_with("/proc")
                || file.to_string_lossy().contains("/corpus/")
        };
        let regular = |file: &PathBuf| file.is_file() && !theirs(file);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("/proc is there");
        let mapped = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let folder = std::fs::read_dir(".").expect("the folder is there").flatten();
        Self {
            files: files.filter(regular).collect(),
            mapped: mapped.filter(|path| path.starts_with('/')).map(str::to_owned).collect(),
            folder: folder.map(|entry| entry.path()).collect(),
            keys: BTreeSet::new(),
        }
    }
}

/// Waits for one message; before it there may be others, and those that could not be read.
async fn served<T: std::fmt::Debug>(
    mut next: impl AsyncFnMut() -> Option<pymq::Result<T>>,
    is_it: impl Fn(&T) -> bool,
) {
    loop {
        let arrived = tokio::time::timeout(Duration::from_secs(60), next()).await;
        match arrived.expect("it arrives").expect("the bus is open") {
            Ok(found) if is_it(&found) => return,
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::Decode, "{error}"),
        }
    }
}
