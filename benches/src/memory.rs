//! The memory transport, beside a bare broadcast channel with the same serde, and with many of
//! everything beside one.
//!
//! All of it runs on one thread, so that what is measured is the way of a message and not the
//! machine's way of waking threads. Messages are received where they are published, one by one.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use pymq::{Bus, Event, Events, PatternEvents, Queue, Stub, Topic};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

use crate::options::Options;
use crate::round::{Pace, Side, Unit, Work, rate};
use crate::worker::Worker;
use crate::{OURS, Outcome, runtime};

pub(crate) const EVENT: &str = "memory: publish, receive";
pub(crate) const TOPICS: &str = "memory: message, 10,000 topics";
pub(crate) const PATTERNS: &str = "memory: message, 1,000 patterns";
pub(crate) const CALLERS: &str = "memory: call, 1,000 callers";
pub(crate) const BACKLOG: &str = "memory: put, get, 1,000,000 items";

/// How many are done between two looks at the clock.
const BATCH: usize = 100;
/// What a reader finds where nobody closes anything.
pub(crate) const CLOSED: &str = "the bus was closed";

/// An event of three fields, 60 bytes as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OrderPlaced {
    id: u64,
    item: String,
    price: f64,
}

impl Event for OrderPlaced {
    const TOPIC: &'static str = "benches.OrderPlaced";
}

impl OrderPlaced {
    pub(crate) fn sample() -> Self {
        Self { id: 1_234_567, item: "a bicycle, blue, 28 inches".to_owned(), price: 899.5 }
    }
}

/// All of it.
pub(crate) fn measure(options: &Options) -> Outcome<Vec<Work>> {
    let pace = options.pace;
    let mut works = vec![publish_and_receive(pace)?, topics(pace)?, patterns(pace)?];
    works.extend([callers(pace)?, backlog(pace)?]);
    works.push(weights("subscription", "memory: idle subscription")?);
    works.push(weights("item", "memory: queued item of 64 bytes")?);
    Ok(works)
}

/// What one thing weighs, found out in a process that has nothing else.
fn weights(what: &str, name: &'static str) -> Outcome<Work> {
    let once = Pace { rounds: 1, span: Duration::ZERO };
    let side = Side::new(OURS, |_| Worker::own(&["weigh", what])?.ask(""));
    Work::measure(name, Unit::Bytes, once, vec![side])
}

/// An alternative: `once`, again and again.
fn side<'a>(
    name: &'static str,
    unit: Unit,
    runtime: &'a Runtime,
    mut once: impl AsyncFnMut() -> Outcome<()> + 'a,
) -> Side<'a> {
    let mut batch = async move || {
        for _ in 0..BATCH {
            once().await?;
        }
        Ok(BATCH)
    };
    Side::new(name, move |span| {
        let mut figure = rate(span, || runtime.block_on(batch()))?;
        if unit != Unit::PerSecond {
            figure.number = 1e6 / figure.number;
        }
        Outcome::Ok(figure)
    })
}

/// Goes through `count` things in strides, so that neighbours in memory are not neighbours in time.
pub(crate) fn strides(count: usize) -> impl FnMut() -> usize {
    let mut at = 0;
    move || {
        at = (at + 7919) % count;
        at
    }
}

pub(crate) async fn received<T: DeserializeOwned>(events: &mut Events<T>) -> Outcome<T> {
    Ok(events.recv().await.ok_or(CLOSED)??)
}

/// Publish, then receive what was published.
fn publish_and_receive(pace: Pace) -> Outcome<Work> {
    let runtime = runtime()?;
    let event = OrderPlaced::sample();
    let bus = runtime.block_on(Bus::connect("memory://"))?;
    let mut events = runtime.block_on(bus.subscribe::<OrderPlaced>())?;
    let ours = side(OURS, Unit::PerSecond, &runtime, async || {
        bus.publish(&event).await?;
        received(&mut events).await.map(drop)
    });
    let (sender, mut receiver) = broadcast::channel::<Bytes>(1024);
    let bare = side("broadcast", Unit::PerSecond, &runtime, async || {
        sender.send(Bytes::from(serde_json::to_vec(&event)?))?;
        let text = receiver.recv().await?;
        std::hint::black_box(serde_json::from_slice::<OrderPlaced>(&text)?);
        Ok(())
    });
    Work::measure(EVENT, Unit::PerSecond, pace, vec![bare, ours])
}

/// Topics with a subscriber each: a message on one of 10,000, the others idle or in their turns,
/// beside one on the only one. In turns, what costs is mostly the way from the main memory.
fn topics(pace: Pace) -> Outcome<Work> {
    let runtime = runtime()?;
    let among = |name, count, used| {
        let bus = runtime.block_on(Bus::connect("memory://"))?;
        let mut topics = runtime.block_on(subscribed(&bus, count))?;
        let mut next = strides(used);
        let once = async move || {
            let (topic, events) = &mut topics[next()];
            topic.publish(&7).await?;
            received(events).await.map(drop)
        };
        Outcome::Ok(side(name, Unit::Microseconds, &runtime, once))
    };
    let (one, idle) = (among("one", 1, 1)?, among("others idle", 10_000, 1)?);
    let sides = vec![one, idle, among("in turns", 10_000, 10_000)?];
    Work::measure(TOPICS, Unit::Microseconds, pace, sides)
}

/// Topics with a subscriber each.
pub(crate) async fn subscribed(bus: &Bus, count: usize) -> Outcome<Vec<(Topic<u64>, Events<u64>)>> {
    let mut topics = Vec::with_capacity(count);
    for number in 0..count {
        let topic = bus.topic(format!("shop.orders.{number}"));
        let events = topic.subscribe().await?;
        topics.push((topic, events));
    }
    Ok(topics)
}

/// Patterns that catch one topic each: a message among 1,000 beside one with the only one.
fn patterns(pace: Pace) -> Outcome<Work> {
    let runtime = runtime()?;
    let among = |name, count| {
        let bus = runtime.block_on(Bus::connect("memory://"))?;
        let mut topics = runtime.block_on(caught(&bus, count))?;
        let mut next = strides(count);
        let once = async move || {
            let (topic, events) = &mut topics[next()];
            topic.publish(&7).await?;
            events.recv().await.ok_or(CLOSED)??;
            Ok(())
        };
        Outcome::Ok(side(name, Unit::Microseconds, &runtime, once))
    };
    let sides = vec![among("one", 1)?, among("many", 1_000)?];
    Work::measure(PATTERNS, Unit::Microseconds, pace, sides)
}

/// Topics that a pattern each catches.
pub(crate) async fn caught(
    bus: &Bus,
    count: usize,
) -> Outcome<Vec<(Topic<u64>, PatternEvents<u64>)>> {
    let mut topics = Vec::with_capacity(count);
    for number in 0..count {
        let events = bus.pattern(&format!("shop.{number}.*")).await?;
        topics.push((bus.topic(format!("shop.{number}.placed")), events));
    }
    Ok(topics)
}

/// Callers, each on a connection of its own: a call of one of 1,000 beside one of the only one.
fn callers(pace: Pace) -> Outcome<Work> {
    let runtime = runtime()?;
    let provider = runtime.block_on(Bus::connect("memory://callers"))?;
    let echo = |(text,): (String,)| async move { Ok::<_, String>(text) };
    let _service = runtime.block_on(provider.expose_fn("echo", echo))?;
    let among = |name, count| {
        let stub = async || Outcome::Ok(Bus::connect("memory://callers").await?.stub("echo"));
        let stubs = (0..count).map(|_| runtime.block_on(stub()));
        let stubs = stubs.collect::<Outcome<Vec<Stub<(&str,), String>>>>()?;
        let mut next = strides(count);
        let once = async move || {
            stubs[next()].call(("hello",)).await?;
            Ok(())
        };
        Outcome::Ok(side(name, Unit::Microseconds, &runtime, once))
    };
    let sides = vec![among("one", 1)?, among("many", 1_000)?];
    Work::measure(CALLERS, Unit::Microseconds, pace, sides)
}

/// Put and get on a queue on which 1,000,000 items wait, beside one on which one waits.
fn backlog(pace: Pace) -> Outcome<Work> {
    let runtime = runtime()?;
    let bus = runtime.block_on(Bus::connect("memory://"))?;
    let among = |name, count| {
        let queue: Queue<u64> = bus.queue(name);
        for item in 0..count {
            runtime.block_on(queue.put(&item))?;
        }
        let once = async move || {
            queue.put(&7).await?;
            queue.get().await?;
            Ok(())
        };
        Outcome::Ok(side(name, Unit::Microseconds, &runtime, once))
    };
    let sides = vec![among("one", 1)?, among("many", 1_000_000)?];
    Work::measure(BACKLOG, Unit::Microseconds, pace, sides)
}

/// Fills this process with idle things and says how many bytes one takes; for a process of its own.
pub(crate) fn weigh(what: &str) -> Outcome<f64> {
    const COUNT: usize = 200_000;
    let runtime = runtime()?;
    let bus = runtime.block_on(Bus::connect("memory://"))?;
    // What the first ones set up for all is not a part of each.
    let first = runtime.block_on(fill(&bus, what, 0..1_000))?;
    let before = resident()?;
    let kept = runtime.block_on(fill(&bus, what, 1_000..1_000 + COUNT))?;
    let bytes = (resident()? - before) / COUNT as f64;
    drop((first, kept));
    Ok(bytes)
}

async fn fill(bus: &Bus, what: &str, numbers: Range<usize>) -> Outcome<Vec<Events<u64>>> {
    let mut kept = Vec::with_capacity(numbers.len());
    let queue = bus.queue::<String>("items");
    let item = "x".repeat(62);
    for number in numbers {
        match what {
            "subscription" => {
                kept.push(bus.topic(format!("shop.orders.{number:08}")).subscribe().await?);
            }
            "item" => queue.put(&item).await?,
            other => return Err(format!("nothing is known of the weight of {other:?}").into()),
        }
    }
    Ok(kept)
}

/// The bytes of memory that this process has.
fn resident() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.ok_or("this system does not tell a process its size")?.parse::<f64>()? * 1024.0)
}
