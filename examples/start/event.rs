use pymq::{Bus, Event};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(topic = "shop.OrderPlaced")]
struct OrderPlaced {
    id: u64,
    items: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let bus = Bus::connect("memory://").await?;
    let mut orders = bus.subscribe::<OrderPlaced>().await?;

    bus.publish(&OrderPlaced { id: 1, items: vec!["tea".into(), "cake".into()] }).await?;

    let order = orders.recv().await.expect("the bus is open")?;
    println!("order {} {:?}", order.id, order.items);
    Ok(())
}
