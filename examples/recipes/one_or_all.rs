//! One of N answers, or all: the same function at three providers.

use pymq::Bus;

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let bus = Bus::connect("memory://").await?;
    let mut services = Vec::new();
    for (name, free) in [("north", 20), ("south", 7), ("west", -1)] {
        let disk = move |(): ()| async move {
            match free {
                0.. => Ok((name, free)),
                _ => Err(format!("{name}: the disk does not answer")),
            }
        };
        services.push(bus.expose_fn("recipes.disk", disk).await?);
    }

    let disk = bus.stub::<(), (String, i64)>("recipes.disk");
    let replies = disk.call_all(()).await?.into_iter().map(|reply| match reply.result {
        Ok((name, free)) => format!("{name}: {free} GB free"),
        Err(error) => format!("failed: {error}"),
    });
    let mut answers: Vec<_> = replies.collect();
    answers.sort();
    println!("{}", answers.join("\n"));
    assert_eq!(answers.len(), 3);

    // One of them, chosen by how busy they are, answers a plain call.
    match disk.call(()).await {
        Ok((name, _)) => println!("{name} answered"),
        Err(error) => println!("{error}"),
    }
    Ok(())
}
