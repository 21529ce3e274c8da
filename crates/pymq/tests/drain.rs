//! A bus that ends: what was begun is finished, nothing new is taken, nothing lost, and whoever comes
//! later is told so in his own words.

use std::time::Duration;

use futures_util::FutureExt;
use place::Place;
use pymq::{Bus, Error, ErrorKind, Filter, Wait, Worker};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

mod place;

everywhere!(
    a_draining_bus_ends_claims_and_loses_no_item,
    a_draining_bus_lets_its_workers_finish_what_they_have_in_hand,
    an_error_names_what_its_user_did_and_to_what,
    what_was_fetched_ahead_is_not_handed_out_once_its_bus_ends,
    a_second_drain_waits_for_what_the_first_one_waits_for,
    streams_end_even_if_the_drain_that_ends_them_is_given_up,
    a_handler_that_drains_its_own_bus_does_not_wait_for_itself,
    a_handler_that_drains_its_own_worker_does_not_wait_for_itself,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn in_memory_what_get_returned_is_gone_though_its_bus_closes_in_that_moment() {
    place::guarded(what_get_returned_is_gone(&Place::memory())).await;
}

#[cfg(all(feature = "ipc", target_os = "linux"))]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_processes_what_get_returned_is_gone_though_its_bus_closes_in_that_moment() {
    place::guarded(what_get_returned_is_gone(&Place::ipc())).await;
}

/// Over Redis it takes more: see `redis_queues/ends.rs`.
async fn what_get_returned_is_gone(place: &Place) {
    const ROUND: u32 = 1000;
    let keeper = place.bus().await;
    let jobs = keeper.queue::<u32>("jobs").max_deliveries(0);
    let (mut put, mut got) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let items: Vec<_> = (0..ROUND).map(|number| round * ROUND + number).collect();
        jobs.put_many(&items).await.expect("put");
        put.extend(items);
        let bus = place.bus().await;
        let getters = [1, 1, 4, 4].map(|prefetch| {
            let jobs = bus.queue::<u32>("jobs").max_deliveries(0).prefetch(prefetch);
            tokio::spawn(async move {
                let mut got = Vec::new();
                while let Ok(item) = jobs.get().await {
                    got.push(item);
                }
                got
            })
        });
        // Each round closes at another moment.
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        bus.close().await.expect("closed");
        for getter in getters {
            got.extend(getter.await.expect("it ends"));
        }
    }
    assert_eq!(jobs.stats().await.expect("counted").leased, 0);
    while jobs.stats().await.expect("counted").waiting > 0 {
        got.extend(jobs.get_many(1000, Wait::Forever).await.expect("got"));
    }
    got.sort_unstable();
    assert_eq!(got, put);
}

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
    let held = jobs.claim_many(3, Wait::Forever).await.expect("claimed");
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
        (told(one.extend(Duration::from_secs(60)).await), ("extend", "jobs")),
        (told(one.ack().await), ("ack", "jobs")),
        (told(two.requeue().await), ("requeue", "jobs")),
        (told(three.reject().await), ("reject", "jobs")),
    ] {
        assert_eq!((operation, &*object), expected);
    }
}

/// A worker that is busy until it is told.
async fn busy(bus: &Bus) -> (Worker, watch::Sender<bool>) {
    let (begun, mut beginnings) = mpsc::unbounded_channel();
    let (go_on, gate) = watch::channel(false);
    let work = bus.queue::<u32>("work");
    work.put(&0).await.expect("put");
    let worker = work.work(1, move |_| {
        let (begun, mut gate) = (begun.clone(), gate.clone());
        async move {
            let _ = begun.send(());
            gate.wait_for(|open| *open).await.map(drop)
        }
    });
    beginnings.recv().await.expect("it begins");
    (worker.expect("started"), go_on)
}

async fn what_was_fetched_ahead_is_not_handed_out_once_its_bus_ends(place: &Place) {
    let [bus, other] = place.buses().await;
    let (_worker, _go_on) = busy(&bus).await;
    let jobs = bus.queue::<u32>("jobs").prefetch(10);
    jobs.put_many(&[1, 2, 3]).await.expect("put");
    assert_eq!(jobs.get().await.expect("got"), 1);
    assert!(bus.drain().now_or_never().is_none(), "a handler runs yet");
    assert_eq!(jobs.try_get().await.expect_err("it drains").kind(), ErrorKind::Closed);
    let theirs = other.queue::<u32>("jobs");
    while theirs.len().await.expect("asked") < 2 {}

    let jobs = other.queue::<u32>("jobs").prefetch(10);
    let returned = jobs.claim().await.expect("they went back");
    assert_eq!((*returned, returned.deliveries()), (2, 1));
    returned.ack().await.expect("confirmed");
    other.close().await.expect("closed");
    assert_eq!(jobs.try_get().await.expect_err("it is closed").kind(), ErrorKind::Closed);
    let third = place.bus().await;
    assert_eq!(third.queue::<u32>("jobs").get().await.expect("it went back"), 3);
}

async fn a_second_drain_waits_for_what_the_first_one_waits_for(place: &Place) {
    let bus = place.bus().await;
    let (worker, go_on) = busy(&bus).await;
    let first = tokio::spawn({
        let bus = bus.clone();
        async move { bus.drain().await }
    });
    let second = timeout(Duration::from_millis(200), bus.drain()).await;
    assert!(second.is_err() && !first.is_finished(), "a handler runs yet");
    bus.topic::<u32>("t").publish(&1).await.expect("handlers may use the bus");
    go_on.send_replace(true);
    first.await.expect("no panic").expect("drained");
    worker.drain().await.expect("it had ended in good order");
}

async fn streams_end_even_if_the_drain_that_ends_them_is_given_up(place: &Place) {
    let bus = place.bus().await;
    let (_worker, _go_on) = busy(&bus).await;
    let notes = bus.topic::<u32>("notes");
    let mut events = notes.subscribe().await.expect("subscribed");
    notes.publish(&1).await.expect("published");
    assert_eq!(events.recv().await.expect("open").expect("an event"), 1);
    assert!(bus.drain().now_or_never().is_none(), "a handler runs yet");
    assert!(events.recv().await.is_none());
}

async fn a_handler_that_drains_its_own_bus_does_not_wait_for_itself(place: &Place) {
    let [bus, other] = place.buses().await;
    let jobs = bus.queue::<u32>("jobs");
    jobs.put(&1).await.expect("put");
    let own = bus.clone();
    let _worker = jobs.work(1, move |_| {
        let own = own.clone();
        async move { own.drain().await }
    });
    // The last of the states says that it is closed.
    let mut states = bus.states();
    while states.next().await.is_some() {}
    let left = other.queue::<u32>("jobs").stats().await.expect("counted");
    assert_eq!((left.unfinished(), left.dead), (0, 0), "the item was done before");
}

async fn a_handler_that_drains_its_own_worker_does_not_wait_for_itself(place: &Place) {
    let bus = place.bus().await;
    let jobs = bus.queue::<u32>("jobs");
    let (to_handler, worker) = mpsc::channel::<Worker>(1);
    let worker = std::sync::Arc::new(tokio::sync::Mutex::new(worker));
    let started = jobs.work(1, move |_| {
        let worker = worker.clone();
        async move { worker.lock().await.recv().await.expect("it is sent").drain().await }
    });
    to_handler.send(started.expect("started")).await.expect("the handler takes it");
    jobs.put(&1).await.expect("put");
    jobs.join().await.expect("the item is done");
    jobs.put(&2).await.expect("put");
    assert_eq!(jobs.get().await.expect("nobody else takes it"), 2);
}
