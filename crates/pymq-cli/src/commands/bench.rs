//! `bench`: figures of this bus, each beside what the bare server takes for the same.
//!
//! The two are taken in turns, in short slices, so that what else the machine does meanwhile weighs on
//! both. The bare side is a blocking socket that sends the commands that the bus would send.

use std::time::{Duration, Instant};

use bytes::Bytes;
use pymq::name::Id;
use pymq::transport::Settlement;
use pymq::{Bus, Wait};
use serde::Serialize;

use self::raw::Raw;
use crate::arguments::{Bench, Common};
use crate::context::{chosen, connect};
use crate::failure::Failure;
use crate::output::Output;
use crate::table::Table;

mod raw;

/// How many slices a figure is taken in.
const SLICES: u32 = 10;

/// One figure: microseconds that one operation takes, the middle of all.
#[derive(Serialize)]
struct Figure {
    figure: &'static str,
    micros: f64,
    /// `null` where the server cannot be spoken to barely.
    raw_micros: Option<f64>,
    ratio: Option<f64>,
}

pub(super) async fn bench(common: &Common, bench: &Bench, output: &Output) -> Result<(), Failure> {
    let bus = connect(common).await?;
    let provider = connect(common).await?;
    let name = format!("pymq-bench-{}", Id::random());
    let mut raw = Raw::connect(&chosen(common)?.url);
    if raw.is_none() {
        output.say("no bare figures: only a Redis without TLS is spoken to barely");
    }
    let service = provider.expose_fn(&name, async |(): ()| Ok::<_, String>(())).await?;
    let whole = bus.namespace().whole(&name);
    let taken = [
        ("round trip (ping)", Work::Ping),
        ("publish", Work::Publish),
        ("put, get and confirm", Work::Queue),
        ("call", Work::Call),
    ];
    let mut table = Table::new(&["FIGURE", "BUS µs", "RAW µs", "RATIO"]);
    for (figure, work) in taken {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..SLICES {
            let slice = bench.time / (2 * SLICES);
            ours.extend(slice_of_ours(&bus, &name, work, slice).await?);
            if let Some(raw) = &mut raw {
                bare.extend(raw.slice(&whole, work, slice)?);
            }
        }
        let (micros, raw_micros) = (median(&mut ours).unwrap_or_default(), median(&mut bare));
        let ratio = raw_micros.map(|raw| micros / raw);
        let shown = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), in_digits);
        table.row([figure.to_owned(), shown(Some(micros)), shown(raw_micros), shown(ratio)]);
        output.object(&Figure { figure, micros, raw_micros, ratio })?;
    }
    service.drain().await;
    // What goes wrong now changes no figure.
    let _ = (bus.close().await, provider.close().await);
    table.lines().iter().try_for_each(|line| output.line(line))
}

/// A figure as exact as it is worth: without a server some take less than a microsecond.
fn in_digits(number: f64) -> String {
    if number < 10.0 { format!("{number:.2}") } else { format!("{number:.0}") }
}

/// What is measured.
#[derive(Clone, Copy, Debug)]
enum Work {
    Ping,
    Publish,
    Queue,
    Call,
}

/// How long each operation of a slice took.
async fn slice_of_ours(
    bus: &Bus,
    name: &str,
    work: Work,
    slice: Duration,
) -> Result<Vec<Duration>, Failure> {
    let payload = Bytes::from_static(b"{\"id\": 1}");
    let queue = bus.byte_queue(name);
    let stub = bus.stub::<(), ()>(name);
    let topic = format!("{name}-topic");
    let (end, mut times) = (Instant::now() + slice, Vec::new());
    while times.is_empty() || Instant::now() < end {
        let begun = Instant::now();
        match work {
            Work::Ping => drop(bus.ping().await?),
            Work::Publish => drop(bus.publish_bytes(&topic, payload.clone()).await?),
            Work::Queue => {
                queue.put(vec![payload.clone()], Wait::Forever).await?;
                if let Some(delivery) = queue.claim(Wait::Forever).await? {
                    delivery.settle(Settlement::Ack).await?;
                }
            }
            Work::Call => stub.call(()).await?,
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}

/// The middle one, in microseconds.
fn median(times: &mut [Duration]) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| time.as_secs_f64() * 1e6)
}
