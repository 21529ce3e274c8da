//! Why an item was given up is read on the screen and by programs, whatever the reason was.

use pymq::{Bus, Retry};
use serde_json::Value;
use tool::run;
use tool::server::RedisServer;

mod tool;

/// One dead letter of each kind, in a queue of its own.
async fn given_up(url: &str) {
    let bus = Bus::connect(url).await.expect("the server is there");
    let rejected = bus.queue::<u32>("rejected");
    rejected.put(&1).await.expect("a put");
    let job = rejected.claim().await.expect("an item");
    job.reject_because("out of stock").await.expect("it is ours");
    let failed = bus.queue::<u32>("failed").retry(Retry::never());
    failed.put(&2).await.expect("a put");
    let worker = failed.work(1, async |_: u32| Err::<(), _>(std::io::Error::other("no route")));
    failed.join().await.expect("done");
    worker.expect("a worker").drain().await.expect("a good end");
    let tried = bus.queue::<u32>("tried").max_deliveries(1);
    tried.put(&3).await.expect("a put");
    tried.claim().await.expect("an item").requeue().await.expect("it is ours");
    bus.queue::<&str>("unread").put(&"text").await.expect("a put");
    bus.queue::<u32>("unread").get().await.expect_err("it is no number");
    bus.close().await.expect("closed");
}

#[test]
fn every_reason_is_told_to_people_and_to_programs() {
    let server = RedisServer::start();
    let url = server.url();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(given_up(&url));
    for (queue, line, reason, error, words) in [
        ("rejected", "rejected: out of stock, 1 delivery", "rejected", "", "out of stock"),
        ("failed", "failed Error: no route, 1 delivery", "failed", "Error", "no route"),
        ("tried", "too many deliveries, 1 delivery", "too many deliveries", "", ""),
        ("unread", "undecodable Decode: ", "undecodable", "Decode", "u32"),
    ] {
        let shown = run(&url, &["dead", queue]).done();
        assert!(shown.starts_with(line), "{queue}: {shown}");
        let letters = run(&url, &["dead", queue, "--json"]).objects();
        let [letter] = &letters[..] else { panic!("{queue}: {letters:?}") };
        let text = |member: &str| letter[member].as_str().unwrap_or_default().to_owned();
        assert_eq!((text("reason"), text("error")), (reason.to_owned(), error.to_owned()));
        assert!(text("words").contains(words), "{letter}");
        assert!(letter["died"].as_f64() > Some(0.0), "{letter}");
        assert_eq!(letter["deliveries"], Value::from(1), "{letter}");
    }
}
