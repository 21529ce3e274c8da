//! Programs that end without closing their bus: `main` returns, and its runtime with it.

use std::time::Duration;

use pymq::{Bus, Delivery, Queue, Wait};
use tokio::runtime::{Builder, Runtime};

use crate::driver::GUARD;
use crate::driver::server::RedisServer;

/// Long enough that nothing comes back by itself within a test.
const LEASE: Duration = Duration::from_secs(3600);

/// Who has the bus when its runtime ends.
#[derive(Clone, Copy, Debug)]
enum Owner {
    /// Nobody: it was dropped with what `main` held.
    Nobody,
    /// A task that goes on for ever.
    Task,
    /// Somebody who lives longer, as a static does.
    Static,
}

fn runtimes() -> [Runtime; 3] {
    let several = |threads| {
        Builder::new_multi_thread().worker_threads(threads).enable_all().build().expect("threads")
    };
    [Builder::new_current_thread().enable_all().build().expect("one"), several(1), several(4)]
}

/// What a program does that gets two of its four items, claims one, and ends with that in hand.
async fn main_of(url: &str, owner: Owner) -> Option<(Bus, Delivery<u32>)> {
    let bus = Bus::connect(url).await.expect("connected");
    let jobs = bus.queue::<u32>("jobs").lease(LEASE);
    jobs.put_many(&[1, 2, 3, 4]).await.expect("put");
    let (ahead, others) = (bus.queue::<u32>("ahead").lease(LEASE).prefetch(3), [5, 6, 7]);
    ahead.put_many(&others).await.expect("put");
    assert_eq!(ahead.get().await.expect("got"), 5);
    let held = jobs.claim_many(3, Wait::No).await.expect("claimed");
    let mut held = held.into_iter();
    for done in held.by_ref().take(2) {
        done.ack_soon();
    }
    let held = held.next().expect("the third");
    match owner {
        Owner::Nobody => None,
        Owner::Task => {
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop((bus, ahead, held));
            });
            None
        }
        Owner::Static => Some((bus, held)),
    }
}

/// The items that wait, with how often they were handed out before.
async fn left(queue: &Queue<u32>, count: usize) -> Vec<(u32, u32)> {
    loop {
        let stats = queue.stats().await.expect("counted");
        if (stats.leased, stats.waiting) == (0, count) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let items = queue.claim_many(10, Wait::No).await.expect("claimed");
    let seen = items.iter().map(|item| (**item, item.deliveries() - 1)).collect();
    for item in items {
        item.ack().await.expect("confirmed");
    }
    seen
}

#[test]
fn what_get_returned_is_gone_and_what_is_in_hand_is_back_when_main_returns() {
    let server = RedisServer::start();
    let judge = Runtime::new().expect("a runtime");
    let bus = judge.block_on(Bus::connect(&server.url())).expect("connected");
    for owner in [Owner::Nobody, Owner::Task, Owner::Static] {
        for runtime in runtimes() {
            let kept = runtime.block_on(main_of(&server.url(), owner));
            drop(runtime);
            let judged = async {
                let jobs = left(&bus.queue::<u32>("jobs"), 2).await;
                assert_eq!(jobs, [(3, 1), (4, 0)], "{owner:?}");
                let ahead = left(&bus.queue::<u32>("ahead"), 2).await;
                assert_eq!(ahead, [(6, 0), (7, 0)], "{owner:?}");
            };
            let judged = judge.block_on(async { tokio::time::timeout(GUARD, judged).await });
            judged.unwrap_or_else(|_| panic!("{owner:?}: something is not settled"));
            drop(kept);
        }
    }
}

/// What a program does that gets an item from each of many queues, claims another, and ends.
async fn main_of_many(url: &str, names: &[String]) {
    let bus = Bus::connect(url).await.expect("connected");
    for name in names {
        let queue = bus.queue::<u32>(name).lease(LEASE);
        queue.put_many(&[1, 2, 3]).await.expect("put");
        assert_eq!(queue.get().await.expect("got"), 1);
        std::mem::forget(queue.claim().await.expect("claimed"));
    }
}

#[test]
fn what_is_in_hand_of_many_queues_is_back_when_main_returns() {
    let server = RedisServer::start();
    let names: Vec<_> = (0..200).map(|number| format!("jobs{number}")).collect();
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(main_of_many(&server.url(), &names));
    drop(runtime);
    let judged = async {
        let bus = Bus::connect(&server.url()).await.expect("connected");
        for name in &names {
            assert_eq!(left(&bus.queue::<u32>(name), 2).await, [(2, 1), (3, 0)], "{name}");
        }
    };
    let judge = Runtime::new().expect("a runtime");
    let judged = judge.block_on(async { tokio::time::timeout(GUARD, judged).await });
    judged.expect("an item is still leased");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_get_returned_is_gone_though_its_bus_closes_in_that_moment() {
    const ITEMS: u32 = 4000;
    const LEASE: Duration = Duration::from_secs(5);
    let server = RedisServer::start();
    let queue_of = |bus: &Bus, prefetch| {
        // What a getter was given as its bus closed was delivered: the first item may be so many times.
        bus.queue::<u32>("jobs").lease(LEASE).max_deliveries(0).prefetch(prefetch)
    };
    let keeper = Bus::connect(&server.url()).await.expect("connected");
    let jobs = queue_of(&keeper, 1);
    jobs.put_many(&(0..ITEMS).collect::<Vec<_>>()).await.expect("put");
    let mut got = Vec::new();
    for round in 0..20 {
        let bus = Bus::connect(&server.url()).await.expect("connected");
        let getters = [1, 1, 4, 4].map(|prefetch| {
            let jobs = queue_of(&bus, prefetch);
            tokio::spawn(async move {
                let mut got = Vec::new();
                while let Ok(item) = jobs.get().await {
                    got.push(item);
                }
                got
            })
        });
        // Each round closes a little later; nothing is lost at any moment.
        tokio::time::sleep(Duration::from_millis(round)).await;
        bus.close().await.expect("closed");
        for getter in getters {
            got.extend(getter.await.expect("it ends"));
        }
    }
    // What was not returned is back by now. A server that stood still may take an item behind the close:
    // that is back when its lease is over.
    loop {
        let stats = jobs.stats().await.expect("counted");
        if stats.waiting > 0 {
            got.extend(jobs.get_many(1000, GUARD).await.expect("got"));
        } else if stats.unfinished() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        } else {
            break;
        }
    }
    got.sort_unstable();
    assert_eq!(got, (0..ITEMS).collect::<Vec<_>>());
}
