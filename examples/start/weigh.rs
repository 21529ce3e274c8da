use std::time::Duration;

use pymq::Bus;

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "redis://localhost".to_owned());
    let bus = Bus::connect(&address).await?;
    let weigh = bus.stub::<(&str,), f64>("shop.weigh").timeout(Duration::from_secs(10));
    println!("{} kg", weigh.call(("tea",)).await?);
    Ok(())
}
