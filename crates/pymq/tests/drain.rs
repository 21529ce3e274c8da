//! A bus that drains, with queues: what was begun is finished, nothing new is taken, nothing lost.

use place::Place;
use pymq::ErrorKind;
use tokio::sync::mpsc;

mod place;

everywhere!(
    a_draining_bus_ends_claims_and_loses_no_item,
    a_draining_bus_lets_its_workers_finish_what_they_have_in_hand,
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
