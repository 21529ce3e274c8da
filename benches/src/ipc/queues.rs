//! Queues: items from producers to consumers, each a process of its own.

use std::time::{Duration, Instant};

use pymq::Bus;
use tokio::runtime::Runtime;

use super::{Folder, limits};
use crate::options::Options;
use crate::round::{Figure, Side, Unit, Work, per_second, rate};
use crate::sample::text;
use crate::worker::{self, Worker};
use crate::{OURS, Outcome, runtime};

pub(crate) const ITEMS: &str = "without a server: items from producers to consumers";
pub(crate) const IN_TURNS: &str = "without a server: put and get, one after the other";
/// Four producers and four consumers.
pub(crate) const FOUR: &str = "four and four";

const NAME: &str = "benches.items";
/// How many may wait, so that neither side gets away from the other.
const MOST: usize = 10_000;

/// All of it.
pub(crate) fn measure(
    options: &Options,
    folder: &Folder,
    runtime: &Runtime,
    bus: &Bus,
) -> Outcome<Vec<Work>> {
    let url = folder.url();
    let mut socket = limits::packets(&folder.path("items"), "stream", 64)?;
    let sides = vec![
        Side::new(limits::SOCKET, |span| rate(span, || socket.receive().map(|()| 1))),
        Side::new(OURS, |span| moved(&url, 1, span)),
        Side::new(FOUR, |span| moved(&url, 4, span)),
    ];
    let items = Work::measure(ITEMS, Unit::PerSecond, options.pace, sides)?;
    let (queue, text) = (bus.queue::<String>("benches.turns"), text());
    let in_turns = Side::new(OURS, |span| {
        rate(span, || {
            runtime.block_on(async {
                queue.put(&text).await?;
                queue.get().await?;
                Ok(1)
            })
        })
    });
    let in_turns = Work::measure(IN_TURNS, Unit::PerSecond, options.pace, vec![in_turns])?;
    Ok(vec![items, in_turns])
}

/// How many items so many consumers get in a second from as many producers.
fn moved(url: &str, count: usize, span: Duration) -> Outcome<Figure> {
    let start = |work: &str| Worker::own(&["work", work, url]);
    let _producers = (0..count).map(|_| start("put")).collect::<Outcome<Vec<_>>>()?;
    let mut consumers = (0..count).map(|_| start("get")).collect::<Outcome<Vec<_>>>()?;
    consumers.iter_mut().try_for_each(|consumer| consumer.begin("get", span))?;
    let figures = consumers.iter_mut().map(Worker::end).collect::<Outcome<Vec<_>>>()?;
    let sum = |sum: Figure, figure: Figure| Figure {
        number: sum.number + figure.number,
        operations: sum.operations + figure.operations,
    };
    Ok(figures.into_iter().fold(Figure::from(0.0), sum))
}

/// Puts or gets, until its starter is gone; who gets, when it is told to.
pub(crate) fn take_part(work: &str, url: &str) -> Outcome<()> {
    let runtime = runtime()?;
    let bus = runtime.block_on(Bus::connect(url))?;
    let (queue, text) = (bus.queue::<String>(NAME).maxsize(MOST), text());
    if work == "put" {
        worker::ready()?;
        return runtime.block_on(async {
            loop {
                queue.put(&text).await?;
            }
        });
    }
    worker::measures(|span| {
        runtime.block_on(async {
            let (begun, mut done) = (Instant::now(), 0);
            while begun.elapsed() < span {
                done += usize::from(queue.get_timeout(span).await?.is_some());
            }
            Ok(per_second(done, begun))
        })
    })
}
