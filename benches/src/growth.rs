//! How the cost of one operation grows over Redis: with topics, patterns, calls in flight, items
//! that wait, bytes, and with what is there and idle.
//!
//! Each work has a side for each size, which is named by it. Everything is done one by one, but for
//! calls in flight, so that what is measured is the way of one message.

use std::time::Duration;

use pymq::{Bus, Stub};
use tokio::runtime::Runtime;

use crate::calls::{FUNCTION, in_flight};
use crate::memory::{CLOSED, caught, received, strides, subscribed};
use crate::options::Options;
use crate::queues::fill;
use crate::round::{Figure, Side, Unit, Work, rate};
use crate::sample::text;
use crate::worker::Worker;
use crate::{Outcome, runtime};

pub(crate) const TOPICS: &str = "growth: topics in turns";
pub(crate) const IDLE: &str = "growth: idle subscriptions";
pub(crate) const PATTERNS: &str = "growth: patterns in turns";
pub(crate) const CALLS: &str = "growth: calls in flight";
pub(crate) const ITEMS: &str = "growth: items that wait";
pub(crate) const QUEUES: &str = "growth: idle queues";
pub(crate) const BYTES: &str = "growth: bytes of an event";

/// All of it.
pub(crate) fn measure(options: &Options) -> Outcome<Vec<Work>> {
    let provider = Worker::own(&["provide", &options.url()])?;
    let calls = work(options, CALLS, &["1", "64", "1000"], calls)?;
    drop(provider);
    Ok(vec![
        work(options, TOPICS, &["1", "100", "10000"], topics)?,
        work(options, IDLE, &["1", "100", "10000"], idle)?,
        work(options, PATTERNS, &["1", "100", "1000"], patterns)?,
        calls,
        work(options, ITEMS, &["1", "1000", "1000000"], items)?,
        work(options, QUEUES, &["1", "100", "10000"], queues)?,
        work(options, BYTES, &["64", "4096", "262144", "8388608"], bytes)?,
    ])
}

/// Makes the side of one size.
type AtSize = fn(&Options, &'static str, usize) -> Outcome<Side<'static>>;

fn work(
    options: &Options,
    name: &'static str,
    sizes: &[&'static str],
    side: AtSize,
) -> Outcome<Work> {
    let sides = sizes.iter().map(|&size| side(options, size, size.parse()?));
    let sides = sides.collect::<Outcome<Vec<_>>>()?;
    Work::measure(name, Unit::Microseconds, options.pace, sides)
}

/// `once`, again and again; the time of one.
fn one_by_one(
    size: &'static str,
    runtime: Runtime,
    mut once: impl AsyncFnMut() -> Outcome<()> + 'static,
) -> Side<'static> {
    Side::new(size, move |span| Ok(each(rate(span, || runtime.block_on(once()).map(|()| 1))?)))
}

/// So many in a second as the time of one.
fn each(figure: Figure) -> Figure {
    Figure { number: 1e6 / figure.number, ..figure }
}

fn connected(options: &Options) -> Outcome<(Runtime, Bus)> {
    let runtime = runtime()?;
    let bus = runtime.block_on(Bus::connect(&options.url()))?;
    Ok((runtime, bus))
}

/// Among themselves, since the sides of a work have topics of the same names.
fn apart(options: &Options, size: &'static str) -> Outcome<(Runtime, Bus)> {
    let runtime = runtime()?;
    let connecting = Bus::builder(&options.url()).namespace(&format!("growth-{size}")).connect();
    let bus = runtime.block_on(connecting)?;
    Ok((runtime, bus))
}

fn topics(options: &Options, size: &'static str, count: usize) -> Outcome<Side<'static>> {
    on_topics(options, size, count, count)
}

fn idle(options: &Options, size: &'static str, count: usize) -> Outcome<Side<'static>> {
    on_topics(options, size, count, 1)
}

/// A message on one of `used` topics in turns, among `count` that are subscribed to.
fn on_topics(
    options: &Options,
    size: &'static str,
    count: usize,
    used: usize,
) -> Outcome<Side<'static>> {
    let (runtime, bus) = apart(options, size)?;
    let mut topics = runtime.block_on(subscribed(&bus, count))?;
    let mut next = strides(used);
    Ok(one_by_one(size, runtime, async move || {
        let (topic, events) = &mut topics[next()];
        topic.publish(&7).await?;
        received(events).await.map(drop)
    }))
}

fn patterns(options: &Options, size: &'static str, count: usize) -> Outcome<Side<'static>> {
    let (runtime, bus) = apart(options, size)?;
    let mut topics = runtime.block_on(caught(&bus, count))?;
    let mut next = strides(count);
    Ok(one_by_one(size, runtime, async move || {
        let (topic, events) = &mut topics[next()];
        topic.publish(&7).await?;
        events.recv().await.ok_or(CLOSED)??;
        Ok(())
    }))
}

fn calls(options: &Options, size: &'static str, count: usize) -> Outcome<Side<'static>> {
    let (runtime, bus) = connected(options)?;
    let stub: Stub<(String,), String> = bus.stub(FUNCTION);
    let measure = move |span: Duration| Ok(each(runtime.block_on(in_flight(&stub, count, span))?));
    Ok(Side::new(size, measure))
}

/// Put and get, with so many items in the queue already.
fn items(options: &Options, size: &'static str, count: usize) -> Outcome<Side<'static>> {
    let (runtime, bus) = connected(options)?;
    let name = format!("benches.deep.{count}");
    fill(&options.redis, &name, count)?;
    let (queue, text) = (bus.queue::<String>(&name), text());
    Ok(one_by_one(size, runtime, async move || {
        queue.put(&text).await?;
        queue.get().await?;
        Ok(())
    }))
}

/// Put and get on one queue, where so many have an item each.
fn queues(options: &Options, size: &'static str, count: usize) -> Outcome<Side<'static>> {
    let (runtime, bus) = connected(options)?;
    let text = text();
    let queue = |number| bus.queue::<String>(&format!("benches.idle.{count}.{number}"));
    let queues: Vec<_> = (0..count).map(queue).collect();
    for queue in &queues {
        runtime.block_on(queue.put(&text))?;
    }
    Ok(one_by_one(size, runtime, async move || {
        queues[0].put(&text).await?;
        queues[0].get().await?;
        Ok(())
    }))
}

fn bytes(options: &Options, size: &'static str, count: usize) -> Outcome<Side<'static>> {
    let (runtime, bus) = connected(options)?;
    let topic = bus.topic::<String>(format!("benches.bytes.{count}"));
    let mut events = runtime.block_on(topic.subscribe())?;
    let text = "x".repeat(count - 2);
    Ok(one_by_one(size, runtime, async move || {
        topic.publish(&text).await?;
        received(&mut events).await.map(drop)
    }))
}
