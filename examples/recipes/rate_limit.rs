//! Rate limit: so many jobs a second over all machines. A clock puts tokens into a queue that holds
//! only a few, and a job takes one first.

use std::time::{Duration, Instant};

use pymq::{Bus, ErrorKind};

const PER_SECOND: u32 = 50;
const BURST: usize = 5;

/// To run once for the whole bus, in a service of its own.
async fn give_tokens(bus: Bus) -> pymq::Result<()> {
    let tokens = bus.queue::<u8>("recipes.tokens").maxsize(BURST);
    let mut clock = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    loop {
        clock.tick().await;
        match tokens.try_put(&1).await {
            Err(error) if error.kind() != ErrorKind::Full => return Err(error),
            _ => {} // there are enough
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let bus = Bus::connect("memory://").await?;
    let clock = tokio::spawn(give_tokens(bus.clone()));

    let jobs = bus.queue::<u32>("recipes.limited");
    let begun = Instant::now();
    let tokens = bus.queue::<u8>("recipes.tokens");
    let worker = jobs.work(4, move |_job| {
        let tokens = tokens.clone();
        async move {
            tokens.get().await?; // waits for its turn
            // … the request …
            Ok::<_, pymq::Error>(())
        }
    })?;
    jobs.put_many(&(0..20).collect::<Vec<_>>()).await?;
    jobs.join().await?;
    let least = Duration::from_secs(1) * (20 - BURST as u32 - 1) / PER_SECOND;
    println!("not faster than {PER_SECOND} a second: {}", begun.elapsed() >= least);
    assert!(begun.elapsed() >= least);

    worker.drain().await?;
    clock.abort();
    Ok(())
}
