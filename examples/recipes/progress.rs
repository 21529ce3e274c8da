//! Progress of a long call: the function publishes how far it is, its caller listens meanwhile.

use pymq::Bus;

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let bus = Bus::connect("memory://").await?;
    let telling = bus.clone();
    let render = move |(film, tell): (String, String)| {
        let bus = telling.clone();
        async move {
            for percent in [25, 50, 75, 100] {
                bus.topic(&tell).publish(&percent).await?;
            }
            Ok::<_, pymq::Error>(format!("{film}.mp4"))
        }
    };
    let _service = bus.expose_fn("recipes.render", render).await?;

    let topic = "recipes.progress.17"; // for this call alone: take a UUID
    let mut progress = bus.topic::<u32>(topic).subscribe().await?;
    let stub = bus.stub::<(&str, &str), String>("recipes.render");
    let listening = async {
        while let Some(Ok(percent)) = progress.recv().await {
            println!("{percent} %");
            if percent == 100 {
                break;
            }
        }
    };
    let (film, ()) = tokio::join!(stub.call(("cat", topic)), listening);
    println!("{}", film?);
    Ok(())
}
