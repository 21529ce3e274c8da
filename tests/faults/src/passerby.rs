//! Workers of a bus without a server that come and go, or clean up; `worker.rs` starts them.
//!
//! The one invariant: they go on for ever, until they are killed.

use std::time::Duration;

use pymq::transport::ipc;
use pymq::{Bus, PutOptions};

/// How long one waits for what others may have taken.
const BRIEF: Duration = Duration::from_millis(5);

type Outcome = std::result::Result<(), String>;

/// Connects, does a little of everything, and leaves; every other time without a word.
pub(crate) async fn come(url: &str) -> Outcome {
    for round in 0_u64.. {
        // Whoever is stopped in the middle of a step keeps others from theirs.
        if let Err(error) = pass(url, round).await {
            tokio::time::sleep(BRIEF).await;
            eprintln!("{error}");
        }
    }
    Ok(())
}

async fn pass(url: &str, round: u64) -> pymq::Result<()> {
    let bus = Bus::connect(url).await?;
    let topic = bus.topic::<u64>("passing");
    let _events = topic.subscribe().await?;
    let _pattern = bus.pattern::<u64>("pass*").await?;
    topic.publish(&round).await?;
    let bounded = bus.queue::<u64>("passing").maxsize(2);
    // Full or empty, as others have it.
    let _ = bounded.put_with(&round, PutOptions::new().wait(BRIEF)).await;
    let _ = bounded.get_timeout(BRIEF).await;
    match round % 2 {
        0 => bus.close().await,
        _ => Ok(()),
    }
}

/// Looks who is there, and takes away what the dead have left.
pub(crate) async fn clean(url: &str) -> Outcome {
    loop {
        let looked = ipc::clean(url).map(drop).and_then(|()| ipc::look(url));
        if let Err(error) = looked {
            eprintln!("{error}");
        }
        tokio::time::sleep(BRIEF).await;
    }
}
