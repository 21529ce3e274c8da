//! The bus for tests of programs, tried as such a test does.

use std::time::Duration;

use pymq::testing::TestBus;
use pymq::{Bus, ErrorKind, PutOptions, Reason, Retry};

/// A program: each order is packed, and told of when that is done.
fn program(bus: &Bus) {
    let (orders, packed) = (bus.topic::<u32>("orders"), bus.topic::<u32>("packed"));
    let packing = bus.queue::<u32>("packing");
    tokio::spawn(async move {
        let mut orders = orders.subscribe().await.expect("subscribed");
        while let Some(Ok(order)) = orders.recv().await {
            tokio::time::sleep(Duration::from_secs(60)).await;
            packing.put(&order).await.expect("put");
            packed.publish(&order).await.expect("published");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_waited_for_with_what_comes_of_it() {
    let bus = TestBus::new().expect("a bus");
    program(&bus);
    let mut told = bus.topic::<u32>("packed").subscribe().await.expect("subscribed");
    let billed = bus.queue::<u32>("bills");
    let billing = bus.bus();
    tokio::spawn(async move {
        let mut packed = billing.topic::<u32>("packed").subscribe().await.expect("subscribed");
        while let Some(Ok(order)) = packed.recv().await {
            billed.put(&(order * 10)).await.expect("put");
        }
    });
    // Both have subscribed.
    bus.until_handled().await.expect("nothing is under way");
    for order in [1, 2] {
        bus.topic("orders").publish(&order).await.expect("published");
    }
    bus.until_handled_within(Duration::from_secs(600)).await.expect("handled");
    let put: Vec<_> = bus.put();
    let put: Vec<_> = put.iter().map(|put| (&*put.queue, put.item::<u32>().ok())).collect();
    let expected = [("packing", 1), ("bills", 10), ("packing", 2), ("bills", 20)];
    assert_eq!(put, expected.map(|(queue, item)| (queue, Some(item))));
    let published = bus.published();
    let topics: Vec<_> = published.iter().map(|event| &*event.topic).collect();
    assert_eq!(topics, ["orders", "orders", "packed", "packed"]);
    assert_eq!(published[3].event::<u32>().expect("a number"), 2);
    assert!(published[3].event::<String>().is_err());
    // A stream of the test's own, which it reads afterwards.
    assert_eq!(told.recv().await.expect("told").expect("a number"), 1);
}

#[tokio::test]
async fn whoever_does_not_come_to_an_end_is_named() {
    let bus = TestBus::new().expect("a bus");
    let mut slow = bus.topic::<u32>("slow").subscribe().await.expect("subscribed");
    tokio::spawn(async move {
        while slow.recv().await.is_some() {
            std::future::pending::<()>().await;
        }
    });
    bus.until_handled().await.expect("nothing is under way");
    bus.topic("slow").publish(&1).await.expect("published");
    let busy = bus.until_handled_within(Duration::from_millis(50)).await.expect_err("it is busy");
    assert_eq!((busy.kind(), busy.object()), (ErrorKind::Timeout, "slow"));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_fail_are_told_and_retried_without_waiting() {
    let bus = TestBus::new().expect("a bus");
    let jobs = bus.queue::<u32>("jobs").retry(Retry::default()).max_deliveries(5);
    jobs.put_with(&7, PutOptions::new().delay(Duration::from_secs(3600))).await.expect("put");
    let worker = jobs.work(1, |_| async { Err::<(), _>("no paper") }).expect("it began");
    jobs.join().await.expect("given up");
    worker.drain().await.expect("drained");
    let failed = bus.failed();
    assert_eq!(failed.len(), 5);
    assert!(failed.iter().all(|failed| failed.queue == "jobs"));
    assert_eq!((failed[4].failure.reason, &*failed[4].failure.words), (Reason::Failed, "no paper"));
    assert_eq!(jobs.dead_letters().len().await.expect("counted"), 1);
}

#[tokio::test]
async fn calls_are_made_as_on_every_bus_and_are_no_events() {
    let bus = TestBus::new().expect("a bus");
    let doubling = |(number,): (u32,)| async move { Ok::<_, String>(number * 2) };
    let _service = bus.expose_fn("double", doubling).await.expect("exposed");
    let stub = bus.stub::<(u32,), u32>("double");
    assert_eq!(stub.call((4,)).await.expect("answered"), 8);
    assert_eq!(stub.call_all((4,)).await.expect("answered").len(), 1);
    bus.until_handled().await.expect("nothing is under way");
    assert!(bus.published().is_empty(), "{:?}", bus.published());
}
