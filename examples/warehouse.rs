//! A Rust process beside a Python one, `shop.py`, on one bus: `warehouse ADDRESS`.
//!
//! It hears the shop's orders, packs them from a queue, serves calls of the shop and calls it in
//! turn. It ends when the shop says so.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use pymq::{Bus, Event};
use serde::{Deserialize, Serialize};

/// The Python class `shop.OrderPlaced`.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(topic = "shop.OrderPlaced")]
struct OrderPlaced {
    id: u64,
    items: Vec<String>,
}

/// The Python class `shop.Packed`.
#[derive(Serialize, Deserialize, Event)]
#[event(topic = "shop.Packed")]
struct Packed {
    id: u64,
    weight: f64,
}

#[pymq::remote("warehouse.stock")]
async fn stock(item: String) -> Result<u32, String> {
    match item.as_str() {
        "tea" => Ok(12),
        "cake" => Ok(3),
        _ => Err(format!("no {item} here")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let address = std::env::args().nth(1).expect("usage: warehouse ADDRESS");
    let bus = Bus::connect(&address).await?;
    let mut orders = bus.subscribe::<OrderPlaced>().await?;
    let mut closing = bus.topic::<()>("shop.closing").subscribe().await?;
    let jobs = bus.queue::<OrderPlaced>("warehouse.jobs");
    let weigh = bus.stub::<(String,), f64>("shop.weigh");
    let _stock = bus.expose(stock).await?;
    println!("rust    warehouse open");
    loop {
        tokio::select! {
            order = orders.recv() => {
                let order = order.expect("the bus is open")?;
                println!("rust    event: order {} for {:?}", order.id, order.items);
            }
            job = jobs.claim() => {
                let job = job?;
                let mut weight = 0.0;
                for item in &job.items {
                    weight += weigh.call((item.clone(),)).await?;
                }
                println!("rust    queue: packed order {}, {weight} kg (Python weighed it)", job.id);
                bus.publish(&Packed { id: job.id, weight }).await?;
                job.ack().await?;
            }
            _ = closing.recv() => break,
        }
    }
    println!("rust    warehouse closed");
    bus.close().await
}
