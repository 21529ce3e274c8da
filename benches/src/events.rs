//! Events over Redis: published pipelined and one by one, received in Rust and in Python.
//!
//! The raw limit publishes 256 commands at a write, and receives with a parse loop. Floods are
//! published by a script inside the server, so that no publisher takes part in what is measured.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use pymq::{Bus, Events, Topic};
use tokio::task::JoinSet;

use crate::options::Options;
use crate::python::Environment;
use crate::raw::{Raw, command};
use crate::rivals::Rivals;
use crate::round::{Figure, Side, Unit, Work, per_second, rate};
use crate::sample::{key, payload, text};
use crate::{ORIGINAL, OURS, Outcome, PYTHON, RAW, runtime};

pub(crate) const PUBLISH: &str = "publish, pipelined";
pub(crate) const PUBLISH_ONE: &str = "publish, one by one";
pub(crate) const RECEIVE: &str = "receive";
pub(crate) const TYPED: &str = "receive typed objects in Python";

/// How many commands the raw limit writes at a time.
const WINDOW: usize = 256;
/// How many publishes one task begins before it awaits them.
const AT_ONCE: usize = 1_000;
/// How many tasks publish side by side.
const TASKS: usize = 64;
/// How many messages come at a time; a subscriber's mailbox holds more.
const FLOOD: usize = 20_000;
const SILENT: &str = "benches.silent";
const FLOODED: &str = "benches.flooded";
const PUBLISH_MANY: &[u8] =
    b"for _ = 1, tonumber(ARGV[2]) do redis.call('PUBLISH', KEYS[1], ARGV[1]) end";

/// All of it.
pub(crate) fn measure(options: &Options) -> Outcome<Vec<Work>> {
    let mut works = vec![pipelined(options)?, one_by_one(options)?, receive(options)?];
    works.extend(typed(options)?);
    Ok(works)
}

/// Nobody subscribes to what is published here: the publisher's work is what counts.
fn pipelined(options: &Options) -> Outcome<Work> {
    let runtime = runtime()?;
    let topic: Topic<String> = runtime.block_on(Bus::connect(&options.url()))?.topic(SILENT);
    let mut raw = Raw::connect(&options.redis)?;
    let publish = command(&[b"PUBLISH", key(SILENT).as_bytes(), &payload()]).repeat(WINDOW);
    let text = text();
    let sides = vec![
        Side::new(RAW, |span| {
            rate(span, || {
                raw.write(&publish)?;
                raw.skip(WINDOW)?;
                Ok(WINDOW)
            })
        }),
        Side::new("64 tasks", |span| runtime.block_on(by_tasks(&topic, span))),
        Side::new("at once", |span| {
            rate(span, || {
                let all = (0..AT_ONCE).map(|_| topic.publish(&text));
                runtime.block_on(try_join_all(all))?;
                Ok(AT_ONCE)
            })
        }),
    ];
    Work::measure(PUBLISH, Unit::PerSecond, options.pace, sides)
}

async fn by_tasks(topic: &Topic<String>, span: Duration) -> Outcome<Figure> {
    let begin = Instant::now();
    let mut publishers = JoinSet::new();
    for _ in 0..TASKS {
        let (topic, text) = (topic.clone(), text());
        publishers.spawn(async move {
            let mut done = 0;
            while begin.elapsed() < span {
                topic.publish(&text).await?;
                done += 1;
            }
            Ok::<usize, pymq::Error>(done)
        });
    }
    let mut done = 0;
    while let Some(publisher) = publishers.join_next().await {
        done += publisher??;
    }
    Ok(per_second(done, begin))
}

fn one_by_one(options: &Options) -> Outcome<Work> {
    let runtime = runtime()?;
    let topic: Topic<String> = runtime.block_on(Bus::connect(&options.url()))?.topic(SILENT);
    let mut raw = Raw::connect(&options.redis)?;
    let mut python = Environment::ours(options).map(|ours| ours.peer(options)).transpose()?;
    let original = Environment::original(options);
    let mut original = original.map(|theirs| theirs.peer(options)).transpose()?;
    let mut rivals = Rivals::at("publish", options)?;
    let publish = command(&[b"PUBLISH", key(SILENT).as_bytes(), &payload()]);
    let text = text();
    let mut sides = vec![
        Side::new(RAW, |span| rate(span, || raw.exchange(&publish).map(|()| 1))),
        Side::new(OURS, |span| {
            rate(span, || Ok(runtime.block_on(topic.publish(&text)).map(|_| 1)?))
        }),
    ];
    sides.extend(python.as_mut().map(|python| python.side(PYTHON, "publish")));
    sides.extend(original.as_mut().map(|original| original.side(ORIGINAL, "publish")));
    sides.extend(rivals.sides("publish"));
    Work::measure(PUBLISH_ONE, Unit::PerSecond, options.pace, sides)
}

/// The clock runs from the end of the script, when all messages wait in the server and in sockets.
fn receive(options: &Options) -> Outcome<Work> {
    let runtime = runtime()?;
    let mut server = Raw::connect(&options.redis)?;
    let mut raw = Raw::connect(&options.redis)?;
    let raw_channel = b"benches:raw:flooded";
    raw.run(&[b"SUBSCRIBE", raw_channel])?;
    let bus = runtime.block_on(Bus::connect(&options.url()))?;
    let mut events = runtime.block_on(bus.topic::<String>(FLOODED).subscribe())?;
    let raw_flood = flood(raw_channel);
    let flood = flood(key(FLOODED).as_bytes());
    let mut flooded = Raw::connect(&options.redis)?;
    let mut rivals = Rivals::at("receive", options)?;
    let mut sides = vec![
        Side::new(RAW, |span| received(span, &mut server, &raw_flood, || Ok(raw.skip(FLOOD)?))),
        Side::new(OURS, |span| {
            received(span, &mut flooded, &flood, || runtime.block_on(take(&mut events, FLOOD)))
        }),
    ];
    sides.extend(rivals.sides("receive"));
    Work::measure(RECEIVE, Unit::PerSecond, options.pace, sides)
}

fn flood(channel: &[u8]) -> Vec<u8> {
    let count = FLOOD.to_string();
    command(&[b"EVAL", PUBLISH_MANY, b"1", channel, &payload(), count.as_bytes()])
}

fn received(
    span: Duration,
    server: &mut Raw,
    flood: &[u8],
    mut take: impl FnMut() -> Outcome<()>,
) -> Outcome<Figure> {
    let begin = Instant::now();
    let (mut done, mut time) = (0, Duration::ZERO);
    while begin.elapsed() < span {
        server.write(flood)?;
        server.skip(1)?;
        let begin = Instant::now();
        take()?;
        time += begin.elapsed();
        done += FLOOD;
    }
    Ok(Figure { number: done as f64 / time.as_secs_f64(), operations: done })
}

async fn take(events: &mut Events<String>, count: usize) -> Outcome<()> {
    for _ in 0..count {
        events.recv().await.ok_or("the bus was closed")??;
    }
    Ok(())
}

fn typed(options: &Options) -> Outcome<Option<Work>> {
    let Some(ours) = Environment::ours(options) else { return Ok(None) };
    let mut python = ours.peer(options)?;
    let original = Environment::original(options);
    let mut original = original.map(|theirs| theirs.peer(options)).transpose()?;
    let mut sides = vec![python.side(PYTHON, "events")];
    sides.extend(original.as_mut().map(|original| original.side(ORIGINAL, "events")));
    Ok(Some(Work::measure(TYPED, Unit::PerSecond, options.pace, sides)?))
}
