//! Why an item was given up is read on the screen and by programs, whatever the reason was.

use pymq::{Bus, Retry};
use serde_json::{Value, json};
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

/// Four letters: two whose handler failed, one of them put under an id, and two rejected ones.
async fn of_several_kinds(url: &str) {
    let bus = Bus::connect(url).await.expect("the bus is there");
    let jobs = bus.queue::<Value>("jobs").retry(Retry::never());
    let named = r#"{"order": 17, "to": "K\u00f6ln"}"#;
    run(url, &["put", "jobs", named, "--id", "order-17"]).done();
    jobs.put(&json!({"order": 170})).await.expect("a put");
    let worker = jobs.work(1, async |_: Value| Err::<(), _>(std::io::Error::other("no route")));
    jobs.join().await.expect("done");
    worker.expect("a worker").drain().await.expect("a good end");
    for order in [3, 4] {
        jobs.put(&json!({ "order": order })).await.expect("a put");
        let job = jobs.claim().await.expect("an item");
        job.reject_because("out of stock").await.expect("it is ours");
    }
    bus.close().await.expect("closed");
}

/// The orders that a command shows.
fn orders(url: &str, words: &[&str]) -> Vec<u64> {
    let shown = run(url, &[words, &["--json"]].concat()).objects();
    shown.iter().filter_map(|letter| letter["value"]["order"].as_u64()).collect()
}

fn those_that_are_meant_and_no_others_are_shown_moved_and_deleted(url: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(of_several_kinds(url));
    for (words, meant) in [
        (&[][..], &[17, 170, 3, 4][..]),
        (&["--error", "no route"], &[17, 170]),
        (&["--error", "Error: no"], &[17, 170]),
        (&["--error", "out of stock", "-n", "1"], &[3]),
        (&["--reason", "rejected"], &[3, 4]),
        (&["--contains", "Köln"], &[17]),
        (&["--contains", "17"], &[17, 170]),
        (&["--contains", "17", "--error", "stock"], &[]),
        (&["--id", "order-17"], &[17]),
        (&["--id", "order-1"], &[]),
    ] {
        assert_eq!(orders(url, &[&["dead", "jobs"], words].concat()), meant, "{url}: {words:?}");
    }
    assert!(run(url, &["dead", "jobs", "--id", "order-17"]).done().contains(", id order-17  "));
    let asked = run(url, &["dead", "jobs", "redrive", "--reason", "failed"]).failed(2);
    assert!(asked.contains("Move 2 dead letters into \"jobs\"?"), "{asked}");
    let nothing = run(url, &["dead", "jobs", "purge", "--error", "stocks", "--yes"]).failed(3);
    assert!(nothing.contains("none such among 4 dead letters in \"jobs\""), "{nothing}");
    let moved = ["dead", "jobs", "redrive", "--contains", "170", "--to", "later", "--yes"];
    assert_eq!(run(url, &moved).done(), "moved 1 item into later\n");
    assert_eq!(orders(url, &["peek", "later"]), [170]);
    let deleted = ["dead", "jobs", "--reason", "rejected", "purge", "-n", "1", "-y", "--json"];
    assert_eq!(run(url, &deleted).objects(), [json!({"queue": "jobs", "deleted": 1})]);
    assert_eq!(orders(url, &["dead", "jobs"]), [17, 4]);
    // What stands before the verb counts as well.
    assert_eq!(
        run(url, &["dead", "jobs", "-n1", "redrive", "-y"]).done(),
        "moved 1 item into jobs\n"
    );
    assert_eq!(orders(url, &["peek", "jobs"]), [17]);
    assert_eq!(run(url, &["dead", "jobs", "purge", "-y"]).done(), "deleted 1 dead letter\n");
}

#[test]
fn letters_are_chosen_by_error_text_and_id_over_redis() {
    let server = RedisServer::start();
    those_that_are_meant_and_no_others_are_shown_moved_and_deleted(&server.url());
}

#[test]
fn letters_are_chosen_by_error_text_and_id_without_a_server() {
    let folder = std::env::temp_dir().join(format!("pymq-letters-{}", std::process::id()));
    let url = format!("ipc://{}", folder.display());
    those_that_are_meant_and_no_others_are_shown_moved_and_deleted(&url);
    std::fs::remove_dir_all(&folder).expect("it is ours");
}
