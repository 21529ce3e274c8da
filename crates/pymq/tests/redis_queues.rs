//! Queues over a live server: one consumer per item, leases, dead letters, bounds, old peers.
#![cfg(feature = "redis")]

mod server;

use std::collections::HashSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use pymq::ErrorKind;
use pymq::transport::redis::Redis;
use pymq::transport::{Claimed, QueueSpec, QueueStats, Queues, Settlement, Shelf, Transport, Wait};
use server::{Raw, RedisServer};

const GUARD: Duration = Duration::from_secs(60);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn connect(server: &RedisServer) -> Arc<Redis> {
    Arc::new(Redis::connect(&server.url()).await.expect("the server is there"))
}

fn queue(name: &str) -> Arc<QueueSpec> {
    Arc::new(QueueSpec::new(name))
}

/// A queue whose leases are short enough to watch them end.
fn brief(name: &str) -> Arc<QueueSpec> {
    Arc::new(QueueSpec { lease: Duration::from_millis(300), ..QueueSpec::new(name) })
}

async fn put(redis: &Redis, queue: &Arc<QueueSpec>, items: &[&str]) {
    let items = items.iter().map(|item| bytes(item)).collect();
    redis.push(queue, items, Wait::No).await.expect("put");
}

async fn get(redis: &Redis, queue: &Arc<QueueSpec>) -> Claimed {
    let claimed = redis.claim(queue, 1, Wait::at_most(GUARD)).await.expect("claimed");
    claimed.into_iter().next().expect("an item in time")
}

async fn ack(redis: &Redis, queue: &Arc<QueueSpec>, item: Claimed) {
    redis.settle(queue, item.receipt, Settlement::Ack).await.expect("acknowledged");
}

async fn stats(redis: &Redis, queue: &Arc<QueueSpec>) -> (usize, usize, usize) {
    let QueueStats { waiting, leased, dead } = redis.stats(queue).await.expect("counted");
    (waiting, leased, dead)
}

/// Waits until a condition holds that nothing announces.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let guard = tokio::time::Instant::now() + GUARD;
    while !holds() {
        assert!(tokio::time::Instant::now() < guard, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn blocked(raw: &mut Raw) -> usize {
    let text = raw.run(&["INFO", "clients"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.expect("INFO counts blocked clients").trim().parse().expect("a number")
}

fn keys(raw: &mut Raw, glob: &str) -> Vec<String> {
    raw.run(&["KEYS", glob]).texts()
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
async fn a_deadline_that_is_past_already_still_asks_once() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["x"]).await;
    let taken = redis.claim(&queue, 1, Wait::at_most(Duration::ZERO)).await.expect("claimed");
    assert_eq!(text(&taken[0].payload), "x");
}

#[tokio::test]
async fn who_waits_for_ever_is_served_after_thousands_gave_up_behind() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    let patient = tokio::spawn({
        let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
        async move { text(&get(&redis, &queue).await.payload) }
    });
    let brief = (0..3000).map(|_| redis.claim(&queue, 1, Wait::at_most(Duration::from_millis(1))));
    for claimed in futures_util::future::join_all(brief).await {
        assert!(claimed.expect("claimed").is_empty());
    }
    put(&redis, &queue, &["x"]).await;
    assert_eq!(patient.await.expect("no panic"), "x");
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
async fn a_requeued_item_comes_back_first_and_counted_and_old_decoders_still_read_it() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["{\"a\": 1}", "next"]).await;
    for expected in 1..=3 {
        let item = get(&redis, &queue).await;
        assert_eq!((text(&item.payload), item.deliveries), ("{\"a\": 1}".to_owned(), expected));
        redis.settle(&queue, item.receipt, Settlement::Requeue).await.expect("requeued");
    }
    assert_eq!(server.raw().run(&["RPOP", "q"]).text(), "   {\"a\": 1}");
    let next = get(&redis, &queue).await;
    assert_eq!((text(&next.payload), next.deliveries), ("next".to_owned(), 1));
}

#[tokio::test]
async fn a_returned_item_comes_back_first_and_uncounted() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["a", "b"]).await;
    for _ in 0..10 {
        let item = get(&redis, &queue).await;
        assert_eq!((text(&item.payload).as_str(), item.deliveries), ("a", 1));
        redis.settle(&queue, item.receipt, Settlement::Return).await.expect("returned");
    }
}

#[tokio::test]
async fn hopeless_items_become_dead_letters_without_marks_and_can_be_redriven() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = Arc::new(QueueSpec { max_deliveries: 3, ..QueueSpec::new("q") });
    put(&redis, &queue, &["poison", "rejected"]).await;
    for delivery in 1..=3 {
        let item = get(&redis, &queue).await;
        assert_eq!((text(&item.payload).as_str(), item.deliveries), ("poison", delivery));
        redis.settle(&queue, item.receipt, Settlement::Requeue).await.expect("requeued");
    }
    let item = get(&redis, &queue).await;
    redis.settle(&queue, item.receipt, Settlement::Reject).await.expect("rejected");
    assert_eq!(stats(&redis, &queue).await, (0, 0, 2));
    let dead = redis.peek(&queue, Shelf::Dead, 10).await.expect("peeked");
    assert_eq!(dead, ["poison", "rejected"]);
    assert_eq!(redis.redrive(&queue, 1).await.expect("redriven"), 1);
    let item = get(&redis, &queue).await;
    assert_eq!((text(&item.payload).as_str(), item.deliveries), ("poison", 1));
    assert_eq!(redis.purge(&queue, Shelf::Dead).await.expect("purged"), 1);
    assert_eq!(redis.redrive(&queue, 10).await.expect("redriven"), 0);
}

#[tokio::test]
async fn max_deliveries_of_zero_never_gives_up() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = Arc::new(QueueSpec { max_deliveries: 0, ..QueueSpec::new("q") });
    put(&redis, &queue, &["x"]).await;
    for delivery in 1..=20 {
        let item = get(&redis, &queue).await;
        assert_eq!(item.deliveries, delivery);
        redis.settle(&queue, item.receipt, Settlement::Requeue).await.expect("requeued");
    }
}

#[tokio::test]
async fn equal_items_are_counted_each_for_itself() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = Arc::new(QueueSpec { max_deliveries: 2, ..QueueSpec::new("q") });
    put(&redis, &queue, &["same", "same", "same"]).await;
    let item = get(&redis, &queue).await;
    redis.settle(&queue, item.receipt, Settlement::Requeue).await.expect("requeued");
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        let item = get(&redis, &queue).await;
        deliveries.push(item.deliveries);
        ack(&redis, &queue, item).await;
    }
    assert_eq!(deliveries, [2, 1, 1]);
    assert_eq!(stats(&redis, &queue).await, (0, 0, 0));
}

#[tokio::test]
async fn the_items_of_a_lost_consumer_come_back_in_order_and_counted() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let queue = brief("q");
    let lost = connect(&server).await;
    put(&lost, &queue, &["a", "b", "c", "d"]).await;
    let held = lost.claim(&queue, 3, Wait::No).await.expect("claimed");
    assert_eq!(held.len(), 3);
    let other = connect(&server).await;
    // What is left of a consumer whose process died: its items, and no heartbeat.
    let dead = "dead-1";
    raw.run(&["ZADD", "__pymq:{q}:epochs", "0", dead]);
    let mine = keys(&mut raw, "__pymq:{q}:held:*").remove(0);
    raw.run(&["RENAME", &mine, "__pymq:{q}:held:dead-1"]);
    for expected in ["a", "b", "c"] {
        let item = get(&other, &queue).await;
        if text(&item.payload) == "d" {
            // The claim may have been faster than the first reaping.
            other.settle(&queue, item.receipt, Settlement::Return).await.expect("returned");
            until("reaped", || raw.run(&["LLEN", "q"]).number() == 4).await;
            let item = get(&other, &queue).await;
            assert_eq!((text(&item.payload).as_str(), item.deliveries), (expected, 2));
        } else {
            assert_eq!((text(&item.payload).as_str(), item.deliveries), (expected, 2));
        }
    }
    let late = lost.settle(&queue, held[0].receipt.clone(), Settlement::Ack).await;
    assert_eq!(late.expect_err("it is another's").kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn a_lease_of_a_living_process_is_prolonged_whatever_its_consumer_does() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let other = connect(&server).await;
    let queue = brief("q");
    put(&redis, &queue, &["x"]).await;
    let item = get(&redis, &queue).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(stats(&other, &queue).await, (0, 1, 0));
    }
    ack(&redis, &queue, item).await;
}

#[tokio::test]
async fn after_a_missed_lease_settling_says_so_and_harms_nobody() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = brief("q");
    put(&redis, &queue, &["x"]).await;
    let item = get(&redis, &queue).await;
    let lease = keys(&mut raw, "__pymq:{q}:lease:*").remove(0);
    raw.run(&["DEL", &lease]);
    until("it is back", || raw.run(&["LLEN", "q"]).number() == 1).await;
    for how in [Settlement::Ack, Settlement::Requeue, Settlement::Return, Settlement::Reject] {
        let late = redis.settle(&queue, item.receipt.clone(), how).await;
        assert_eq!(late.expect_err("lost").kind(), ErrorKind::LeaseLost);
    }
    let extended = redis.extend(&queue, &item.receipt, GUARD).await;
    assert_eq!(extended.expect_err("lost").kind(), ErrorKind::LeaseLost);
    let again = get(&redis, &queue).await;
    assert_eq!((text(&again.payload).as_str(), again.deliveries), ("x", 2));
    ack(&redis, &queue, again).await;
    assert_eq!(stats(&redis, &queue).await, (0, 0, 0));
}

#[tokio::test]
async fn an_extended_lease_outlives_its_heartbeats() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = brief("q");
    put(&redis, &queue, &["x"]).await;
    let item = get(&redis, &queue).await;
    redis.extend(&queue, &item.receipt, Duration::from_secs(3600)).await.expect("extended");
    let lease = keys(&mut raw, "__pymq:{q}:lease:*").remove(0);
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(raw.run(&["PTTL", &lease]).number() > 3_500_000);
    }
}

#[tokio::test]
async fn confirmations_that_nobody_waits_for_ride_along_or_go_by_themselves() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["a", "b", "c"]).await;
    for _ in 0..3 {
        let item = get(&redis, &queue).await;
        let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
        let soon = move || redis.settle_soon(&queue, item.receipt, Settlement::Ack);
        std::thread::spawn(soon).join().expect("no runtime is needed");
    }
    until("all are gone", || keys(&mut raw, "__pymq:{q}:held:*").is_empty()).await;
}

#[tokio::test]
async fn two_hundred_waiting_claims_share_one_connection_and_are_served_in_order() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    let served = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..200 {
        let (redis, queue, served) = (Arc::clone(&redis), Arc::clone(&queue), Arc::clone(&served));
        tasks.push(tokio::spawn(async move {
            let item = get(&redis, &queue).await;
            served.lock().expect("no panic").push((text(&item.payload), number));
            ack(&redis, &queue, item).await;
        }));
        tokio::task::yield_now().await;
    }
    until("they wait", || blocked(&mut raw) == 1).await;
    let clients = raw.run(&["CLIENT", "LIST"]).text();
    assert_eq!(clients.lines().filter(|line| line.contains("name=pymq-waiting")).count(), 1);
    let items: Vec<_> = (0..200).map(|number| bytes(&number.to_string())).collect();
    redis.push(&queue, items, Wait::No).await.expect("put");
    for task in tasks {
        task.await.expect("no task panics");
    }
    let served = served.lock().expect("no panic").clone();
    assert_eq!(served.len(), 200);
    for (item, waiter) in served {
        assert_eq!(item, waiter.to_string(), "first come, first served");
    }
}

#[tokio::test]
async fn cancelled_claims_lose_nothing_and_count_nothing() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    let (mut cancelled, mut served) = (0, 0);
    for round in 0..1000_u64 {
        let claim = {
            let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
            tokio::spawn(async move {
                let item = get(&redis, &queue).await;
                let payload = text(&item.payload);
                // Handed over from here on: what follows is not the claim's race.
                (payload, item.deliveries, item.receipt)
            })
        };
        tokio::task::yield_now().await;
        let putting = {
            let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
            tokio::spawn(async move { put(&redis, &queue, &["x"]).await })
        };
        // Anywhere from before the put is sent to after the item was handed over.
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_micros(round % 400) {
            tokio::task::yield_now().await;
        }
        claim.abort();
        let outcome = claim.await;
        putting.await.expect("no panic");
        let receipt = match outcome {
            Ok((payload, deliveries, receipt)) => {
                assert_eq!((payload.as_str(), deliveries), ("x", 1));
                served += 1;
                receipt
            }
            Err(error) => {
                assert!(error.is_cancelled());
                cancelled += 1;
                let item = get(&redis, &queue).await;
                assert_eq!((text(&item.payload).as_str(), item.deliveries), ("x", 1));
                item.receipt
            }
        };
        redis.settle(&queue, receipt, Settlement::Ack).await.expect("acknowledged");
    }
    assert!(cancelled > 50 && served > 50, "one-sided: {cancelled} cancelled, {served} served");
    assert_eq!(stats(&redis, &queue).await, (0, 0, 0));
}

#[tokio::test]
async fn a_claim_whose_waiters_left_gives_way_to_other_consumers() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    let gone = redis.claim(&queue, 1, Wait::Forever);
    let mut gone = Box::pin(gone);
    poll_fn(|context| {
        assert!(gone.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    until("it waits", || blocked(&mut raw) == 1).await;
    drop(gone);
    until("it waits no more", || blocked(&mut raw) == 0).await;
    put(&redis, &queue, &["x"]).await;
    assert_eq!(raw.run(&["RPOP", "q"]).text(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounded_queue_is_never_longer_and_wakes_those_who_wait_for_space() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let other = connect(&server).await;
    let queue = Arc::new(QueueSpec { maxsize: 3, ..QueueSpec::new("q") });
    let mut putters = Vec::new();
    for number in 0..20 {
        let redis = Arc::clone(if number % 2 == 0 { &redis } else { &other });
        let queue = Arc::clone(&queue);
        putters.push(tokio::spawn(async move {
            let item = vec![bytes(&number.to_string())];
            redis.push(&queue, item, Wait::at_most(GUARD)).await.expect("put in time");
        }));
    }
    let mut raw = server.raw();
    until("it is full", || raw.run(&["LLEN", "q"]).number() == 3).await;
    let full = redis.push(&queue, vec![bytes("x")], Wait::No).await.expect_err("it is full");
    assert_eq!(full.kind(), ErrorKind::Full);
    assert!(full.is_retryable());
    let mut seen = HashSet::new();
    for _ in 0..20 {
        assert!(raw.run(&["LLEN", "q"]).number() <= 3);
        let item = get(&redis, &queue).await;
        assert!(seen.insert(text(&item.payload)), "each once");
        ack(&redis, &queue, item).await;
    }
    for putter in putters {
        putter.await.expect("no putter panics");
    }
    let many = redis.push(&queue, vec![bytes("x"); 4], Wait::Forever).await;
    assert_eq!(many.expect_err("they can never fit").kind(), ErrorKind::Config);
    redis.push(&queue, vec![bytes("x"); 3], Wait::No).await.expect("they just fit");
}

#[tokio::test]
async fn a_shutdown_is_for_everyone_and_gets_drain_first() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let other = connect(&server).await;
    let queue = queue("q");
    let bounded = Arc::new(QueueSpec { maxsize: 5, ..QueueSpec::new("q") });
    let mut waiting = Vec::new();
    for redis in [&redis, &other] {
        let (redis, queue) = (Arc::clone(redis), Arc::clone(&queue));
        waiting.push(tokio::spawn(async move { redis.claim(&queue, 1, Wait::Forever).await }));
    }
    until("both wait", || blocked(&mut raw) == 2).await;
    redis.shut_down(&queue).await.expect("shut down");
    for claim in waiting {
        let outcome = tokio::time::timeout(GUARD, claim).await.expect("it ends").expect("no panic");
        assert_eq!(outcome.expect_err("shut down").kind(), ErrorKind::ShutDown);
    }
    for (redis, queue) in [(&redis, &queue), (&other, &queue), (&other, &bounded)] {
        let put = redis.push(queue, vec![bytes("x"), bytes("y")], Wait::No).await;
        assert_eq!(put.expect_err("shut down").kind(), ErrorKind::ShutDown);
    }
    assert_eq!(stats(&redis, &queue).await, (0, 0, 0));
    raw.run(&["LPUSH", "q", "left"]);
    let third = connect(&server).await;
    ack(&third, &queue, get(&third, &queue).await).await;
    for wait in [Wait::No, Wait::Forever] {
        let empty = third.claim(&queue, 1, wait).await.expect_err("shut down");
        assert_eq!(empty.kind(), ErrorKind::ShutDown);
    }
    redis.purge(&queue, Shelf::Waiting).await.expect("purged");
    put(&other, &queue, &["again"]).await;
    assert_eq!(text(&get(&third, &queue).await.payload), "again");
}

#[tokio::test]
async fn peeking_leaves_items_where_they_are_and_purging_leaves_leases() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["held", "a", "b", "c"]).await;
    let held = get(&redis, &queue).await;
    let requeued = get(&redis, &queue).await;
    redis.settle(&queue, requeued.receipt, Settlement::Requeue).await.expect("requeued");
    assert_eq!(redis.peek(&queue, Shelf::Waiting, 2).await.expect("peeked"), ["a", "b"]);
    assert!(redis.peek(&queue, Shelf::Waiting, 0).await.expect("peeked").is_empty());
    assert_eq!(stats(&redis, &queue).await, (3, 1, 0));
    assert_eq!(redis.purge(&queue, Shelf::Waiting).await.expect("purged"), 3);
    assert_eq!(stats(&redis, &queue).await, (0, 1, 0));
    ack(&redis, &queue, held).await;
}

#[tokio::test]
async fn closing_gives_back_what_is_held_and_leaves_no_key() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    put(&redis, &queue, &["a", "b", "c"]).await;
    let held = redis.claim(&queue, 2, Wait::No).await.expect("claimed");
    assert_eq!(held.len(), 2);
    redis.close().await.expect("closed");
    assert_eq!(raw.run(&["LRANGE", "q", "0", "-1"]).texts(), ["c", " b", " a"]);
    assert!(keys(&mut raw, "__pymq:*").is_empty());
    let late = redis.settle(&queue, held[0].receipt.clone(), Settlement::Ack).await;
    assert_eq!(late.expect_err("closed").kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn closing_ends_a_waiting_claim_and_a_waiting_put() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let empty = queue("empty");
    let full = Arc::new(QueueSpec { maxsize: 1, ..QueueSpec::new("full") });
    put(&redis, &full, &["x"]).await;
    let claim = {
        let redis = Arc::clone(&redis);
        tokio::spawn(async move { redis.claim(&empty, 1, Wait::Forever).await.map(|_| ()) })
    };
    let push = {
        let redis = Arc::clone(&redis);
        tokio::spawn(async move { redis.push(&full, vec![bytes("y")], Wait::Forever).await })
    };
    until("it waits", || blocked(&mut raw) == 1).await;
    redis.close().await.expect("closed");
    for waiting in [claim, push] {
        let outcome = tokio::time::timeout(GUARD, waiting).await.expect("it ends");
        assert_eq!(outcome.expect("no panic").expect_err("closed").kind(), ErrorKind::Closed);
    }
    until("nothing waits", || blocked(&mut raw) == 0).await;
    raw.run(&["LPUSH", "empty", "x"]);
    assert_eq!(raw.run(&["LLEN", "empty"]).number(), 1);
}

#[tokio::test]
async fn consumers_drain_a_server_whose_memory_is_full_and_puts_say_why_they_fail() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = brief("q");
    let items: Vec<_> = (0..100).map(|number| bytes(&format!("{number:0>10000}"))).collect();
    redis.push(&queue, items, Wait::No).await.expect("put");
    raw.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let error = redis.push(&queue, vec![bytes("x")], Wait::No).await.expect_err("it is full");
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
            redis.settle(&queue, item.receipt, Settlement::Reject).await.expect("rejected");
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
    let push = redis.push(&queue, vec![bytes("x")], Wait::No).await;
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
                redis.settle_soon(&queue, item.receipt, Settlement::Ack);
                if payload == "end" {
                    redis.close().await.expect("closed");
                    return mine;
                }
                mine.push(payload);
            }
        }));
    }
    let items: Vec<_> = (0..1000).map(|number| bytes(&number.to_string())).collect();
    producer.push(&queue, items, Wait::No).await.expect("put");
    producer.push(&queue, vec![bytes("end"); 10], Wait::No).await.expect("put");
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.expect("no worker panics"));
    }
    assert_eq!(all.len(), 1000);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 1000);
    assert_eq!(stats(&producer, &queue).await, (0, 0, 0));
}
