//! Events: how late one is with a subscriber that sleeps, and how many come, by size and subscribers.

use std::time::{Duration, Instant};

use pymq::{Bus, Events};
use tokio::runtime::Runtime;

use super::{Folder, limits};
use crate::options::Options;
use crate::round::{Figure, Side, Unit, Work, median, per_second, rate};
use crate::worker::{self, Worker};
use crate::{OURS, Outcome, runtime};

pub(crate) const SLEEPING: &str = "without a server: an event for who sleeps";
pub(crate) const SMALL: &str = "without a server: events of 64 bytes received";
pub(crate) const LARGE: &str = "without a server: events of 64 KiB received";
/// One of four subscribers.
pub(crate) const OF_FOUR: &str = "one of four";

pub(super) const TOPIC: &str = "benches.ipc";

/// All of it.
pub(crate) fn measure(
    options: &Options,
    folder: &Folder,
    runtime: &Runtime,
    bus: &Bus,
) -> Outcome<Vec<Work>> {
    let url = folder.url();
    let sleeping = {
        let mut futex = limits::Sleepers::new(&folder.path("sleepers"))?;
        let mut events = runtime.block_on(bus.topic::<u64>(TOPIC).subscribe())?;
        let _publisher = Worker::own(&["publish", &format!("paced {url}")])?;
        let sides = vec![
            Side::new(limits::FUTEX, |span| middle_of(span, || Ok(futex.wait().into()))),
            Side::new(OURS, |span| {
                let since = limits::now();
                middle_of(span, || runtime.block_on(lateness(&mut events, since)))
            }),
        ];
        Work::measure(SLEEPING, Unit::Microseconds, options.pace, sides)?
    };
    let mut works = vec![sleeping];
    for (name, bytes) in [(SMALL, 64), (LARGE, 64 << 10)] {
        let mut socket =
            limits::packets(&folder.path(&format!("stream {bytes}")), "stream", bytes)?;
        let work = format!("{bytes} {url}");
        let mut alone =
            vec![Side::new(limits::SOCKET, |span| rate(span, || socket.receive().map(|()| 1)))];
        alone.push(Side::new(OURS, |span| received(runtime, bus, &work, &url, 1, span)));
        alone.push(Side::new(OF_FOUR, |span| received(runtime, bus, &work, &url, 4, span)));
        works.push(Work::measure(name, Unit::PerSecond, options.pace, alone)?);
    }
    Ok(works)
}

/// The middle one of the nanoseconds that `once` tells again and again.
fn middle_of(span: Duration, mut once: impl FnMut() -> Outcome<u64>) -> Outcome<Figure> {
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < span {
        times.push(once()? as f64 / 1e3);
    }
    let operations = times.len();
    Ok(Figure { number: median(times), operations })
}

/// How many nanoseconds ago the next event was published when it comes; of those from before `since`,
/// which came while others were measured, nobody knows when they came.
async fn lateness(events: &mut Events<u64>, since: u64) -> Outcome<u64> {
    loop {
        let sent = events.recv().await.ok_or("the bus has ended")??;
        if sent >= since {
            return Ok(limits::now().saturating_sub(sent));
        }
    }
}

/// How many come in a second, of those that a process publishes as fast as it can, to one of so many
/// subscribers; what it is too slow for does not count.
fn received(
    runtime: &Runtime,
    bus: &Bus,
    work: &str,
    url: &str,
    subscribers: usize,
    span: Duration,
) -> Outcome<Figure> {
    let others = (1..subscribers).map(|_| Worker::own(&["publish", &format!("receive {url}")]));
    let _others = others.collect::<Outcome<Vec<_>>>()?;
    let mut events = runtime.block_on(bus.topic::<String>(TOPIC).subscribe())?;
    let _publisher = Worker::own(&["publish", work])?;
    runtime.block_on(async {
        events.recv().await;
        let (begun, mut received) = (Instant::now(), 0);
        while begun.elapsed() < span {
            received += usize::from(next(&mut events).await?);
        }
        Ok(per_second(received, begun))
    })
}

async fn next(events: &mut Events<String>) -> Outcome<bool> {
    Ok(events.recv().await.ok_or("the bus has ended")?.is_ok())
}

/// Publishes, or receives, until its starter is gone: `paced URL`, `receive URL`, `LENGTH URL`.
pub(crate) fn take_part(how: &str) -> Outcome<()> {
    let runtime = runtime()?;
    let (work, url) = how.split_once(' ').ok_or("a work and an address")?;
    runtime.block_on(async {
        let bus = Bus::connect(url).await?;
        if work == "paced" {
            let topic = bus.topic::<u64>(TOPIC);
            worker::ready()?;
            loop {
                std::thread::sleep(limits::PAUSE);
                topic.publish(&limits::now()).await?;
            }
        }
        let topic = bus.topic::<String>(TOPIC);
        if work == "receive" {
            let mut events = topic.subscribe().await?;
            worker::ready()?;
            loop {
                next(&mut events).await?;
            }
        }
        worker::ready()?;
        // As JSON it has two bytes more.
        let text = "x".repeat(work.parse::<usize>()? - 2);
        loop {
            topic.publish(&text).await?;
        }
    })
}
