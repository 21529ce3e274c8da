//! Queues over a live server: one consumer per item, old peers, whatever the server is in.
//!
//! Leases, what is fetched ahead, who waits and what is refused have files of their own.
#![cfg(feature = "redis")]

mod ahead;
mod ends;
mod later;
mod leases;
mod letters;
mod refusals;
mod urgent;
mod waiting;

#[path = "../driver/mod.rs"]
mod driver;

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use driver::server::{Raw, RedisServer};
use driver::{GUARD, blocked, bytes, connect, get, lengths, queue_with, settle, text, until};
use pymq::ErrorKind;
use pymq::transport::redis::Redis;
use pymq::transport::{
    Claimed, Letters, QueueSpec, QueueStats, Queues, SettleOptions, Settlement, Shelf, Transport,
    Wait,
};

fn queue(name: &str) -> Arc<QueueSpec> {
    Arc::new(QueueSpec::new(name))
}

/// A queue whose leases are of that length.
fn leased(name: &str, lease: Duration) -> Arc<QueueSpec> {
    queue_with(name, |spec| spec.lease = lease)
}

async fn put(redis: &Redis, queue: &Arc<QueueSpec>, items: &[&str]) {
    let items = items.iter().map(|item| bytes(item)).collect();
    redis.push(queue, items, Wait::No.into()).await.expect("put");
}

async fn ack(redis: &Redis, queue: &Arc<QueueSpec>, item: Claimed) {
    settle(redis, queue, item, Settlement::Ack).await;
}

async fn stats(redis: &Redis, queue: &Arc<QueueSpec>) -> (usize, usize, usize) {
    let QueueStats { waiting, leased, dead, .. } = redis.stats(queue).await.expect("counted");
    (waiting, leased, dead)
}

/// As if every process that holds something had died long ago.
async fn killed(raw: &mut Raw, redis: &Redis) {
    const EPOCHS: &str = "__pymq:{q}:epochs";
    let guard = Instant::now() + GUARD;
    // They live, and may say so meanwhile.
    while !keys(raw, "__pymq:{q}:held:*").is_empty() {
        assert!(Instant::now() < guard, "what they hold is not given back");
        for epoch in raw.run(&["ZRANGE", EPOCHS, "0", "-1"]).texts() {
            raw.run(&["ZADD", EPOCHS, "XX", "0", &epoch]);
        }
        redis.stats(&queue("q")).await.expect("who looks gives back");
    }
}

fn keys(raw: &mut Raw, glob: &str) -> Vec<String> {
    raw.run(&["KEYS", glob]).texts()
}

#[tokio::test]
async fn consumers_are_counted_while_they_hold_something_or_wait_and_leave_no_key() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let (holder, waiter, monitor) =
        (connect(&server).await, connect(&server).await, connect(&server).await);
    let queue = queue("q");
    let consumers = async || monitor.stats(&queue).await.expect("counted").consumers;
    put(&holder, &queue, &["a"]).await;
    assert_eq!(consumers().await, Some(0), "who puts is none");
    let _held = get(&holder, &queue).await;
    let mut waiting = Box::pin(waiter.claim(&queue, 1, Wait::Forever));
    let more = async {
        while consumers().await != Some(2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        _ = &mut waiting => panic!("there is nothing"),
        counted = tokio::time::timeout(GUARD, more) => counted.expect("both are counted"),
    }
    assert!(raw.run(&["PTTL", "__pymq:{q}:waits"]).number() > 0, "a crash leaves it for a moment");
    drop(waiting);
    waiter.close().await.expect("closed");
    assert_eq!(consumers().await, Some(1));
    holder.close().await.expect("closed");
    assert_eq!(consumers().await, Some(0));
    assert_eq!(keys(&mut raw, "*q*"), ["q"]);
}

#[tokio::test]
async fn items_come_in_order_and_are_gone_when_acknowledged() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["a", "b"]).await;
    put(&redis, &queue, &["c"]).await;
    for expected in ["a", "b", "c"] {
        let item = get(&redis, &queue).await;
        assert_eq!((text(&item.payload).as_str(), item.deliveries), (expected, 1));
        ack(&redis, &queue, item).await;
    }
    assert_eq!(stats(&redis, &queue).await, (0, 0, 0));
    assert!(redis.claim(&queue, 1, Wait::No).await.expect("claimed").is_empty());
}

#[tokio::test]
async fn a_claim_takes_up_to_its_limit_and_waits_for_the_first_only() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["a", "b", "c"]).await;
    let two = redis.claim(&queue, 2, Wait::Forever).await.expect("claimed");
    assert_eq!(two.iter().map(|item| text(&item.payload)).collect::<Vec<_>>(), ["a", "b"]);
    let rest = redis.claim(&queue, 10, Wait::No).await.expect("claimed");
    assert_eq!(rest.iter().map(|item| text(&item.payload)).collect::<Vec<_>>(), ["c"]);
    let none = redis.claim(&queue, 10, Wait::at_most(Duration::from_millis(20))).await;
    assert!(none.expect("claimed").is_empty());
    assert_eq!(stats(&redis, &queue).await, (0, 3, 0));
}

#[tokio::test]
async fn the_originals_producers_and_consumers_take_part() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("__eventbus:global:q");
    raw.run(&["LPUSH", "__eventbus:global:q", "old"]);
    let item = get(&redis, &queue).await;
    assert_eq!(text(&item.payload), "old");
    ack(&redis, &queue, item).await;
    put(&redis, &queue, &["new"]).await;
    assert_eq!(raw.run(&["BRPOP", "__eventbus:global:q", "1"]).texts()[1], "new");
    // An old consumer that waits beside ours: each item goes to one of them.
    let mut old = server.raw();
    let mine = tokio::spawn({
        let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
        async move { get(&redis, &queue).await }
    });
    until("ours waits", || blocked(&mut raw) == 1).await;
    old.write(&[b"BRPOP", b"__eventbus:global:q", b"60"]);
    until("both wait", || blocked(&mut raw) == 2).await;
    put(&redis, &queue, &["1", "2"]).await;
    let ours = text(&mine.await.expect("no panic").payload);
    let theirs = old.read().texts()[1].clone();
    assert_eq!(HashSet::from([ours, theirs]), HashSet::from(["1".to_owned(), "2".to_owned()]));
}

#[tokio::test]
async fn peeking_leaves_items_where_they_are_and_purging_leaves_leases() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["held", "a", "b", "c"]).await;
    let held = get(&redis, &queue).await;
    let requeued = get(&redis, &queue).await;
    settle(&redis, &queue, requeued, Settlement::Requeue).await;
    assert_eq!(redis.peek(&queue, Shelf::Waiting, 2).await.expect("peeked"), ["a", "b"]);
    assert!(redis.peek(&queue, Shelf::Waiting, 0).await.expect("peeked").is_empty());
    assert_eq!(stats(&redis, &queue).await, (3, 1, 0));
    assert_eq!(redis.purge(&queue, Shelf::Waiting).await.expect("purged"), 3);
    assert_eq!(stats(&redis, &queue).await, (0, 1, 0));
    ack(&redis, &queue, held).await;
}

#[tokio::test]
async fn consumers_drain_a_server_whose_memory_is_full_and_puts_say_why_they_fail() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    let items: Vec<_> = (0..100).map(|number| bytes(&format!("{number:0>10000}"))).collect();
    redis.push(&queue, items, Wait::No.into()).await.expect("put");
    raw.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let error =
        redis.push(&queue, vec![bytes("x")], Wait::No.into()).await.expect_err("it is full");
    assert_eq!(error.kind(), ErrorKind::Server);
    assert!(error.message().contains("memory"), "{error}");
    let mut taken = Vec::new();
    for number in 0..100 {
        let item = match number % 2 {
            0 => get(&redis, &queue).await,
            _ => redis.claim(&queue, 1, Wait::No).await.expect("claimed").remove(0),
        };
        taken.push(text(&item.payload).trim_start_matches('0').to_owned());
        if number % 10 == 0 {
            settle(&redis, &queue, item, Settlement::Reject).await;
        } else {
            ack(&redis, &queue, item).await;
        }
    }
    let expected: Vec<_> =
        (0..100).map(|number: u32| number.to_string().trim_start_matches('0').to_owned()).collect();
    assert_eq!(taken, expected);
    assert_eq!(stats(&redis, &queue).await, (0, 0, 10));
}

#[tokio::test]
async fn a_key_of_another_type_is_named_and_nothing_hangs() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    server.raw().run(&["SET", "q", "a string"]);
    let queue = queue("q");
    let claim = redis.claim(&queue, 1, Wait::Forever).await.map(|_| ());
    let trial = redis.claim(&queue, 1, Wait::No).await.map(|_| ());
    let push = redis.push(&queue, vec![bytes("x")], Wait::No.into()).await.map(drop);
    let peek = redis.peek(&queue, Shelf::Waiting, 1).await.map(|_| ());
    for outcome in [claim, trial, push, peek] {
        let error = outcome.expect_err("the key is not a list");
        assert_eq!(error.kind(), ErrorKind::Server);
        assert!(error.to_string().contains("\"q\" holds a value of another type"), "{error}");
    }
}

#[tokio::test]
async fn ten_consumers_share_a_thousand_items_and_each_goes_to_one() {
    let server = RedisServer::start();
    let queue = queue("q");
    let producer = connect(&server).await;
    let mut workers = Vec::new();
    for _ in 0..10 {
        let (redis, queue) = (connect(&server).await, Arc::clone(&queue));
        workers.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let item = get(&redis, &queue).await;
                let payload = text(&item.payload);
                redis.settle_soon(&queue, item.receipt, Settlement::Ack, SettleOptions::default());
                if payload == "end" {
                    redis.close().await.expect("closed");
                    return mine;
                }
                mine.push(payload);
            }
        }));
    }
    let items: Vec<_> = (0..1000).map(|number| bytes(&number.to_string())).collect();
    producer.push(&queue, items, Wait::No.into()).await.expect("put");
    producer.push(&queue, vec![bytes("end"); 10], Wait::No.into()).await.expect("put");
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.expect("no worker panics"));
    }
    assert_eq!(all.len(), 1000);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 1000);
    assert_eq!(stats(&producer, &queue).await, (0, 0, 0));
}
