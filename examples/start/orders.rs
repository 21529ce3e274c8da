use std::env;
use std::error::Error;

use pymq::{Bus, Delivery, Queue, Retry};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    address: String,
}

async fn ship(order: Delivery<Order>) -> Result<(), String> {
    if order.id == 13 && order.deliveries() == 1 {
        std::process::abort(); // as if its worker was killed in the middle
    }
    if order.address.is_empty() {
        return Err("no address".to_owned());
    }
    println!("shipped {}, delivery {}", order.id, order.deliveries());
    Ok(())
}

async fn show(orders: &Queue<Order>) -> pymq::Result<()> {
    for letter in orders.dead_letters().read(0, 100).await? {
        let id = letter.item().map_or(0, |order| order.id);
        println!("order {id}: {}", letter.failure().words);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let bus = Bus::connect(&env::var("PYMQ_URL")?).await?;
    let orders = bus.queue::<Order>("orders").retry(Retry::never());
    match words[..] {
        ["work"] => {
            println!("serving");
            let _worker = orders.work_deliveries(4, ship)?;
            tokio::signal::ctrl_c().await?;
            bus.drain().await?; // takes no more, and finishes what is in hand
        }
        ["put", id, address] => {
            let order = Order { id: id.parse()?, address: address.to_owned() };
            orders.put(&order).await?;
        }
        ["dead"] => show(&orders).await?,
        ["redrive"] => println!("{} put back", orders.dead_letters().redrive().await?),
        _ => eprintln!("orders work | put ID ADDRESS | dead | redrive"),
    }
    Ok(())
}
