//! Fan out and gather: cut work into parts, let any worker do a part, put the results together.

use pymq::{Bus, PutOptions};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Part {
    number: usize,
    text: String,
    results: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let text = ["to be or not to be", "that is the question", "whether it is nobler"];
    let bus = Bus::connect("memory://").await?;
    let parts = bus.queue::<Part>("recipes.parts");
    let answering = bus.clone();
    let worker = parts.work(4, move |part| {
        let bus = answering.clone();
        async move {
            let words = part.text.split_whitespace().count();
            // The part may be done twice; its result is put once.
            let once = PutOptions::new().id(format!("{}-{}", part.results, part.number));
            bus.queue(&part.results).put_with(&(part.number, words), once).await.map(drop)
        }
    })?;

    let results = bus.queue::<(usize, usize)>("recipes.results.17"); // take a UUID
    for (number, line) in text.into_iter().enumerate() {
        let results = "recipes.results.17".to_owned();
        parts.put(&Part { number, text: line.to_owned(), results }).await?;
    }
    let mut done = [0; 3];
    for _ in text {
        let (number, words) = results.get().await?;
        done[number] = words;
    }
    println!("{done:?} = {}", done.iter().sum::<usize>());
    assert_eq!(done, [6, 4, 4]);
    worker.drain().await
}
