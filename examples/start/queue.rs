use pymq::Bus;
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Job {
    pack: String,
}

async fn pack(job: Job) -> Result<(), String> {
    println!("packed {}", job.pack);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> pymq::Result<()> {
    let bus = Bus::connect("memory://").await?;
    let jobs = bus.queue::<Job>("jobs");
    jobs.put(&Job { pack: "tea".into() }).await?;
    jobs.put(&Job { pack: "cake".into() }).await?;

    let worker = jobs.work(1, pack)?;
    jobs.join().await?; // until every job is done
    worker.drain().await
}
