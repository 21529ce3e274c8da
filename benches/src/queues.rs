//! Queues over Redis, one item at a time: put beside LPUSH, get with its confirmation beside BRPOP.
//!
//! Before each measurement of gets the queue is filled by a script inside the server, so that no
//! get has to wait for an item.

use std::rc::Rc;
use std::time::Duration;

use pymq::{Bus, PutOptions};
use tokio::runtime::Runtime;

use crate::options::Options;
use crate::python::Environment;
use crate::raw::{Raw, command};
use crate::rivals::Rivals;
use crate::round::{Figure, Side, Unit, Work, rate};
use crate::sample::{key, payload, text};
use crate::{ORIGINAL, OURS, Outcome, PYTHON, RAW, runtime};

pub(crate) const PUT: &str = "put, one at a time";
pub(crate) const GET: &str = "get, one at a time";

const PUT_QUEUE: &str = "benches.put";
const LATER_QUEUE: &str = "benches.later";
const ONCE_QUEUE: &str = "benches.once";
const GET_QUEUE: &str = "benches.get";
const CLAIM_QUEUE: &str = "benches.claim";
const RAW_QUEUE: &str = "benches.raw";
/// More than the fastest side takes in a second.
const ENOUGH: f64 = 400_000.0;
const FILL: &[u8] = b"redis.call('DEL', KEYS[1]) \
                      for _ = 1, tonumber(ARGV[2]) do redis.call('LPUSH', KEYS[1], ARGV[1]) end";

/// All of it.
pub(crate) fn measure(options: &Options) -> Outcome<Vec<Work>> {
    let mut python = Environment::ours(options).map(|ours| ours.peer(options)).transpose()?;
    let original = Environment::original(options);
    let mut original = original.map(|theirs| theirs.peer(options)).transpose()?;
    let mut works = Vec::new();
    for (name, work, in_rust) in [(PUT, "put", put as InRust), (GET, "get", get)] {
        let mut rivals = Rivals::at(work, options)?;
        let mut sides = in_rust(options)?;
        sides.extend(python.as_mut().map(|python| python.side(PYTHON, work)));
        sides.extend(original.as_mut().map(|original| original.side(ORIGINAL, work)));
        sides.extend(rivals.sides(work));
        works.push(Work::measure(name, Unit::PerSecond, options.pace, sides)?);
    }
    Ok(works)
}

/// Makes the sides of a work that are in Rust.
type InRust = fn(&Options) -> Outcome<Vec<Side<'_>>>;

fn put(options: &Options) -> Outcome<Vec<Side<'_>>> {
    let push = command(&[b"LPUSH", key(RAW_QUEUE).as_bytes(), &payload()]);
    let mut raw = Raw::connect(&options.redis)?;
    let raw = move |span| {
        raw.run(&[b"DEL", key(RAW_QUEUE).as_bytes()])?;
        rate(span, || raw.exchange(&push).map(|()| 1))
    };
    let runtime = Rc::new(runtime()?);
    let bus = runtime.block_on(Bus::connect(&options.url()))?;
    // What more there is to say of an item costs what a script does at the server.
    let later = PutOptions::new().delay(Duration::from_secs(3600));
    let mut number = 0;
    let once = move || {
        number += 1;
        let id = format!("{}-{number}", std::process::id());
        PutOptions::new().id(id).within(Duration::from_secs(60))
    };
    Ok(vec![
        Side::new(RAW, raw),
        Side::new(OURS, putting(&runtime, &bus, PUT_QUEUE, PutOptions::new)),
        Side::new("for later", putting(&runtime, &bus, LATER_QUEUE, move || later.clone())),
        Side::new("with an id", putting(&runtime, &bus, ONCE_QUEUE, once)),
    ])
}

/// Puts one item after the other, each as `options` say.
fn putting<F: FnMut() -> PutOptions>(
    runtime: &Rc<Runtime>,
    bus: &Bus,
    queue: &str,
    mut options: F,
) -> impl FnMut(Duration) -> Outcome<Figure> + use<F> {
    let (runtime, queue, text) = (Rc::clone(runtime), bus.queue::<String>(queue), text());
    move |span| {
        runtime.block_on(queue.purge())?;
        rate(span, || Ok(runtime.block_on(queue.put_with(&text, options())).map(|_| 1)?))
    }
}

fn get(options: &Options) -> Outcome<Vec<Side<'_>>> {
    let pop = command(&[b"BRPOP", key(RAW_QUEUE).as_bytes(), b"0"]);
    let mut raw = Raw::connect(&options.redis)?;
    let raw = move |span| {
        fill(&options.redis, RAW_QUEUE, enough(span))?;
        rate(span, || raw.exchange(&pop).map(|()| 1))
    };
    let runtime = Rc::new(runtime()?);
    let bus = runtime.block_on(Bus::connect(&options.url()))?;
    let (gets, claims) = (bus.queue::<String>(GET_QUEUE), bus.queue::<String>(CLAIM_QUEUE));
    let claiming = Rc::clone(&runtime);
    let ours = move |span| {
        fill(&options.redis, GET_QUEUE, enough(span))?;
        rate(span, || Ok(runtime.block_on(gets.get()).map(|_| 1)?))
    };
    let once = async move || claims.claim().await?.ack().await;
    let claim_and_ack = move |span| {
        fill(&options.redis, CLAIM_QUEUE, enough(span))?;
        rate(span, || Ok(claiming.block_on(once()).map(|()| 1)?))
    };
    let (raw, ours) = (Side::new(RAW, raw), Side::new(OURS, ours));
    Ok(vec![raw, ours, Side::new("claim, ack", claim_and_ack)])
}

/// More items than can be taken in a span.
fn enough(span: Duration) -> usize {
    (ENOUGH * span.as_secs_f64()).ceil() as usize
}

/// Fills a queue with so many items, in one step of the server.
pub(crate) fn fill(address: &str, queue: &str, count: usize) -> Outcome<()> {
    let count = count.to_string();
    let mut raw = Raw::connect(address)?;
    raw.run(&[b"EVAL", FILL, b"1", key(queue).as_bytes(), &payload(), count.as_bytes()])?;
    Ok(())
}
