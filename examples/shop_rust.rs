//! Provides a function to programs in any language: `shop_rust [ADDRESS]`, until Ctrl-C.
#![allow(clippy::print_stdout, reason = "an example talks to the person who runs it")]

use pymq::Bus;

#[pymq::remote("shop.price")]
async fn price(item: String, count: Option<u32>) -> Result<u32, String> {
    match item.as_str() {
        "tea" => Ok(3 * count.unwrap_or(1)),
        _ => Err(format!("no {item} here")),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "redis://localhost".to_owned());
    let bus = Bus::connect(&address).await?;
    let _service = bus.expose(price).await?;
    println!("open");
    tokio::signal::ctrl_c().await?;
    bus.drain().await?; // what runs is finished, callers get their answers
    Ok(())
}
