//! Retry a flaky API: a job comes again later while the API is away, and a wrong one is given up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pymq::{Bus, Retry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let bus = Bus::connect("memory://").await?;
    // In earnest: from a second up to ten minutes.
    let retry = Retry::exponential(Duration::from_millis(10), 2.0, Duration::from_millis(100));
    let orders = bus.queue::<i64>("recipes.orders").retry(retry).max_deliveries(5);
    orders.put_many(&[30, -1]).await?;

    let requests = Arc::new(AtomicU32::new(0));
    let counted = requests.clone();
    let worker = orders.work(1, move |amount| {
        let counted = counted.clone();
        async move {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            match amount {
                ..0 => Err(format!("{amount} is no amount")),
                _ if number < 2 => Err("503 Service Unavailable".to_owned()),
                _ => Ok(()),
            }
        }
    })?;
    orders.join().await?;
    worker.drain().await?;

    println!("{} requests for 2 orders", requests.load(Ordering::Relaxed));
    for letter in orders.dead_letters().read(0, 10).await? {
        println!("given up: {}", letter.failure().words);
    }
    assert_eq!(orders.stats().await?.dead, 1);
    Ok(())
}
