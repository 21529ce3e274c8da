//! The three ways of talking, in one program: `cargo run --example tour [ADDRESS]`.
//!
//! Without an address everything stays in memory; with one, e.g. `redis://localhost`, the same
//! program talks over a server.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use pymq::{Bus, Event};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(topic = "shop.OrderPlaced")]
struct OrderPlaced {
    id: u64,
    item: String,
}

#[pymq::remote]
async fn product(a: i64, b: i64) -> Result<i64, String> {
    a.checked_mul(b).ok_or_else(|| "too large".to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "memory://".to_owned());
    let bus = Bus::connect(&address).await?;

    let mut placed = bus.subscribe::<OrderPlaced>().await?;
    let mut everything = bus.pattern::<serde_json::Value>("shop.*").await?;
    bus.publish(&OrderPlaced { id: 1, item: "tea".into() }).await?;
    println!("event    {:?}", placed.recv().await.expect("the bus is open")?);
    println!("pattern  {:?}", everything.recv().await.expect("the bus is open")?);

    let jobs = bus.queue::<String>("tour.jobs");
    jobs.put(&"pack the tea".to_owned()).await?;
    let job = jobs.claim().await?;
    println!("queue    {:?}, delivery {}", job.item(), job.deliveries());
    job.requeue().await?;
    let job = jobs.claim().await?;
    println!("queue    {:?}, delivery {}", job.item(), job.deliveries());
    job.ack().await?;

    let _service = bus.expose(product).await?;
    let product = bus.stub::<(i64, i64), i64>("product");
    println!("call     product(2, 4) = {}", product.call((2, 4)).await?);
    let error = product.call((i64::MAX, 2)).await.expect_err("it does not fit");
    println!("call     product(2**63 - 1, 2): {error}");
    for reply in product.call_all((3, 5)).await? {
        println!("call all product(3, 5) = {}", reply.result?);
    }
    bus.close().await
}
