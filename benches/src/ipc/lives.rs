//! Coming, going, and dying.

use std::time::Instant;

use pymq::Bus;
use tokio::runtime::Runtime;

use super::Folder;
use crate::options::Options;
use crate::round::{Side, Unit, Work, median, middle_time};
use crate::worker::Worker;
use crate::{OURS, Outcome};

pub(crate) const JOIN: &str = "without a server: connect and close";
pub(crate) const SUBSCRIBE: &str = "without a server: subscribe and unsubscribe";
pub(crate) const DEATH: &str = "without a server: a subscriber is killed, until it is not counted";

const TOPIC: &str = "benches.lives";

/// All of it.
pub(crate) fn measure(
    options: &Options,
    folder: &Folder,
    runtime: &Runtime,
    bus: &Bus,
) -> Outcome<Vec<Work>> {
    let url = folder.url();
    let one = |name, side| Work::measure(name, Unit::Microseconds, options.pace, vec![side]);
    let join = Side::new(OURS, |span| {
        middle_time(span, || {
            runtime.block_on(async { Ok(Bus::connect(&url).await?.close().await?) })
        })
    });
    let join = one(JOIN, join)?;
    let topic = bus.topic::<u8>(TOPIC);
    let subscribe = Side::new(OURS, |span| {
        middle_time(span, || {
            runtime.block_on(async { Ok(topic.subscribe().await?.unsubscribe().await?) })
        })
    });
    let subscribe = one(SUBSCRIBE, subscribe)?;
    let received = format!("receive {url}");
    let death = Side::new(OURS, |span| {
        let (begun, mut times) = (Instant::now(), Vec::new());
        while begun.elapsed() < span {
            let subscriber = Worker::own(&["publish", &received])?;
            let killed = Instant::now();
            drop(subscriber);
            let topic = bus.topic::<u8>(super::events::TOPIC);
            while runtime.block_on(topic.publish(&1))? != Some(0) {}
            times.push(killed.elapsed().as_secs_f64() * 1e6);
        }
        Ok(median(times))
    });
    Ok(vec![join, subscribe, one(DEATH, death)?])
}
