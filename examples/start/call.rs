use pymq::Bus;

#[pymq::remote("price")]
async fn price(item: String, count: Option<u32>) -> Result<u32, String> {
    match item.as_str() {
        "tea" => Ok(3 * count.unwrap_or(1)),
        _ => Err(format!("no {item} here")),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let bus = Bus::connect("memory://").await?;
    let _service = bus.expose(price).await?; // dropping it unexposes the function

    let ask = bus.stub::<(&str, Option<u32>), u32>("price");
    println!("{}", ask.call(("tea", Some(2))).await?);
    Ok(())
}
