//! Works for counting instructions: `scripts/instructions` runs each twice under callgrind, few times
//! and many times, so that what is done once falls out.
//!
//! Everything happens on one thread and one at a time: the same program takes the same steps on any
//! machine, however busy it is.

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use pymq::{Bus, Queue, Stub, Topic};

use crate::memory::{OrderPlaced, caught, received};
use crate::sample::text;
use crate::{Outcome, runtime};

/// How many calls are under way at a time.
const IN_FLIGHT: usize = 64;

/// Does a work so many times; `url` is a server's, for those that need one.
pub(crate) fn run(work: &str, times: usize, url: &str) -> Outcome<()> {
    runtime()?.block_on(async {
        match work {
            "event" => event(times).await,
            "match" => matching(times).await,
            "call" => call(times, "memory://", "memory://").await,
            "item" => item(times, "memory://").await,
            "redis-publish" => publish(times, url).await,
            "redis-call" => call(times, url, url).await,
            "redis-calls" => calls(times, url).await,
            "redis-item" => item(times, url).await,
            other => Err(format!("nothing is known of the work {other:?}").into()),
        }
    })
}

/// The codec, and the way of an event in memory.
async fn event(times: usize) -> Outcome<()> {
    let bus = Bus::connect("memory://").await?;
    let (event, mut events) = (OrderPlaced::sample(), bus.subscribe::<OrderPlaced>().await?);
    for _ in 0..times {
        bus.publish(&event).await?;
        received(&mut events).await?;
    }
    Ok(())
}

/// Topics that were never published on before, against a hundred patterns.
async fn matching(times: usize) -> Outcome<()> {
    let bus = Bus::connect("memory://").await?;
    let _topics = caught(&bus, 100).await?;
    for number in 0..times {
        bus.topic::<u64>(format!("shop.{}.new.{number}", number % 100)).publish(&7).await?;
    }
    Ok(())
}

/// The book-keeping of a call, on both sides.
async fn call(times: usize, caller: &str, provider: &str) -> Outcome<()> {
    let (caller, provider) = (Bus::connect(caller).await?, Bus::connect(provider).await?);
    let bus = if caller.capabilities().cross_process { &provider } else { &caller };
    let echo = |(text,): (String,)| async move { Ok::<_, String>(text) };
    let _service = bus.expose_fn("benches.counted", echo).await?;
    let stub: Stub<(String,), String> = caller.stub("benches.counted");
    let text = text();
    for _ in 0..times {
        stub.call((text.clone(),)).await?;
    }
    Ok(())
}

/// The same, as many at once as a busy caller has: they share writes, reads and wake-ups.
async fn calls(times: usize, url: &str) -> Outcome<()> {
    let (caller, provider) = (Bus::connect(url).await?, Bus::connect(url).await?);
    let echo = |(text,): (String,)| async move { Ok::<_, String>(text) };
    let _service = provider.expose_fn("benches.counted", echo).await?;
    let (stub, text): (Stub<(String,), String>, _) = (caller.stub("benches.counted"), text());
    let calls = (0..times).map(|_| stub.call((text.clone(),)));
    stream::iter(calls).buffer_unordered(IN_FLIGHT).map_ok(drop).try_collect::<()>().await?;
    Ok(())
}

async fn item(times: usize, url: &str) -> Outcome<()> {
    let queue: Queue<String> = Bus::connect(url).await?.queue("benches.counted");
    let text = text();
    queue.purge().await?;
    for _ in 0..times {
        queue.put(&text).await?;
        queue.get().await?;
    }
    Ok(())
}

/// The protocol, both ways.
async fn publish(times: usize, url: &str) -> Outcome<()> {
    let topic: Topic<String> = Bus::connect(url).await?.topic("benches.counted");
    let text = text();
    for _ in 0..times {
        topic.publish(&text).await?;
    }
    Ok(())
}
