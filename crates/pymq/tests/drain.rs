//! A bus that ends: what was begun is finished, nothing new is taken, nothing lost, and whoever comes
//! later is told so in his own words.

use place::Place;
use pymq::{Error, ErrorKind, Filter};
use tokio::sync::mpsc;

mod place;

everywhere!(
    a_draining_bus_ends_claims_and_loses_no_item,
    a_draining_bus_lets_its_workers_finish_what_they_have_in_hand,
    an_error_names_what_its_user_did_and_to_what,
);

async fn a_draining_bus_ends_claims_and_loses_no_item(place: &Place) {
    let [bus, other] = place.buses().await;
    let jobs = bus.queue::<u32>("jobs");
    let (first, mut came) = mpsc::unbounded_channel();
    let waiting = tokio::spawn({
        let jobs = jobs.clone();
        async move {
            // The next one is asked for before anybody else gets to run.
            let _ = first.send(jobs.get().await?);
            jobs.get().await
        }
    });
    jobs.put(&0).await.expect("put");
    assert_eq!(came.recv().await, Some(0));
    bus.drain().await.expect("drained");
    let error = waiting.await.expect("no panic").expect_err("the bus drains");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(jobs.try_get().await.expect_err("and is closed").kind(), ErrorKind::Closed);
    let theirs = other.queue::<u32>("jobs");
    theirs.put(&1).await.expect("put");
    assert_eq!(theirs.get().await.expect("nobody else took it"), 1);
}

async fn a_draining_bus_lets_its_workers_finish_what_they_have_in_hand(place: &Place) {
    let [bus, other] = place.buses().await;
    let jobs = bus.queue::<u32>("jobs");
    jobs.put_many(&[1, 2]).await.expect("put");
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    let (go_on, gate) = tokio::sync::watch::channel(false);
    let worker = jobs.work(1, move |item: u32| {
        let (begun, mut gate) = (begun.clone(), gate.clone());
        async move {
            let _ = begun.send(item);
            gate.wait_for(|open| *open).await.map(drop)
        }
    });
    let worker = worker.expect("started");
    assert_eq!(beginnings.recv().await, Some(1));
    let draining = bus.clone();
    let drained = tokio::spawn(async move { draining.drain().await });
    let topic = bus.topic::<u32>("t");
    while topic.subscribe().await.err().map(|error| error.kind()) != Some(ErrorKind::Closed) {
        tokio::task::yield_now().await;
    }
    assert_eq!(jobs.try_claim().await.expect_err("drains").kind(), ErrorKind::Closed);
    assert!(!drained.is_finished(), "a handler runs yet");
    go_on.send_replace(true);
    drained.await.expect("no panic").expect("drained");
    worker.drain().await.expect("it had ended in good order");
    assert!(beginnings.recv().await.is_none(), "the second item was not begun");
    let theirs = other.queue::<u32>("jobs");
    assert_eq!(theirs.get().await.expect("it is still there"), 2);
    assert_eq!(theirs.stats().await.expect("asked").leased, 0, "the first was acknowledged");
}

async fn an_error_names_what_its_user_did_and_to_what(place: &Place) {
    let bus = place.bus().await;
    let jobs = bus.queue::<u32>("jobs");
    jobs.put_many(&[1, 2, 3]).await.expect("put");
    let held = jobs.claim_many(3).await.expect("claimed");
    let [one, two, three] = held.try_into().expect("as many as were put");
    let (topic, stub) = (bus.topic::<u32>("news"), bus.stub::<(), u32>("price"));
    let filters = [Filter::Topic("door".into()), Filter::Pattern("window.*".into())];
    bus.close().await.expect("closed");

    fn told<T>(outcome: pymq::Result<T>) -> (&'static str, String) {
        let error: Error = outcome.err().expect("the bus is closed");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        (error.operation(), error.object().to_owned())
    }
    let price = bus.expose_fn("price", |(): ()| async { Ok::<_, String>(1) }).await;
    for ((operation, object), expected) in [
        (told(topic.publish(&1).await), ("publish", "news")),
        (told(topic.subscribe().await), ("subscribe", "news")),
        (told(bus.pattern::<u32>("news.*").await), ("subscribe", "news.*")),
        (told(bus.subscribe_to::<u32>(&filters).await), ("subscribe", "door, window.*")),
        (told(price), ("expose", "price")),
        (told(stub.call(()).await), ("call", "price")),
        (told(stub.call_all(()).await), ("call", "price")),
        (told(jobs.put(&1).await), ("put", "jobs")),
        (told(jobs.get().await), ("get", "jobs")),
        (told(jobs.claim().await), ("get", "jobs")),
        (told(jobs.stats().await), ("count", "jobs")),
        (told(one.extend(std::time::Duration::from_secs(60)).await), ("extend", "jobs")),
        (told(one.ack().await), ("ack", "jobs")),
        (told(two.requeue().await), ("requeue", "jobs")),
        (told(three.reject().await), ("reject", "jobs")),
    ] {
        assert_eq!((operation, &*object), expected);
    }
}
