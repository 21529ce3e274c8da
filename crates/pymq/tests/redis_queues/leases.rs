//! Leases over a live server: how they end, what comes back and in which order, dead letters.

use super::*;

const EPOCHS: &str = "__pymq:{q}:epochs";

/// Whether the counts stay as they are for several leases of a consumer that does nothing.
pub(super) async fn lasts(
    other: &Redis,
    queue: &Arc<QueueSpec>,
    counts: (usize, usize, usize),
) -> bool {
    for _ in 0..10 {
        // Time is what has to pass: three leases and more.
        tokio::time::sleep(queue.lease / 3).await;
        if stats(other, queue).await != counts {
            return false;
        }
    }
    true
}

/// Who is registered as holding something.
fn epochs(raw: &mut Raw) -> Vec<String> {
    raw.run(&["ZRANGE", EPOCHS, "0", "-1"]).texts()
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
        settle(&redis, &queue, item, Settlement::Requeue).await;
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
        settle(&redis, &queue, item, Settlement::Return).await;
    }
}

#[tokio::test]
async fn hopeless_items_become_dead_letters_without_marks_and_can_be_redriven() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue_with("q", |spec| spec.max_deliveries = 3);
    put(&redis, &queue, &["poison", "rejected"]).await;
    for delivery in 1..=3 {
        let item = get(&redis, &queue).await;
        assert_eq!((text(&item.payload).as_str(), item.deliveries), ("poison", delivery));
        settle(&redis, &queue, item, Settlement::Requeue).await;
    }
    let item = get(&redis, &queue).await;
    settle(&redis, &queue, item, Settlement::Reject).await;
    assert_eq!(stats(&redis, &queue).await, (0, 0, 2));
    let dead = redis.peek(&queue, Shelf::Dead, 10).await.expect("peeked");
    assert_eq!(dead, ["poison", "rejected"]);
    assert_eq!(redis.redrive(&queue, Letters::Oldest(1), &queue).await.expect("redriven"), 1);
    let item = get(&redis, &queue).await;
    assert_eq!((text(&item.payload).as_str(), item.deliveries), ("poison", 1));
    assert_eq!(redis.purge(&queue, Shelf::Dead).await.expect("purged"), 1);
    assert_eq!(redis.redrive(&queue, Letters::Oldest(10), &queue).await.expect("redriven"), 0);
}

#[tokio::test]
async fn max_deliveries_of_zero_never_gives_up() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue_with("q", |spec| spec.max_deliveries = 0);
    put(&redis, &queue, &["x"]).await;
    for delivery in 1..=20 {
        let item = get(&redis, &queue).await;
        assert_eq!(item.deliveries, delivery);
        settle(&redis, &queue, item, Settlement::Requeue).await;
    }
}

#[tokio::test]
async fn equal_items_are_counted_each_for_itself() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let queue = queue_with("q", |spec| spec.max_deliveries = 2);
    put(&redis, &queue, &["same", "same", "same"]).await;
    let item = get(&redis, &queue).await;
    settle(&redis, &queue, item, Settlement::Requeue).await;
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
    let queue = queue("q");
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
            settle(&other, &queue, item, Settlement::Return).await;
            // Who looks gives back what is over.
            assert_eq!(stats(&other, &queue).await.0, 4);
            let item = get(&other, &queue).await;
            assert_eq!((text(&item.payload).as_str(), item.deliveries), (expected, 2));
        } else {
            assert_eq!((text(&item.payload).as_str(), item.deliveries), (expected, 2));
        }
    }
    let late = lost
        .settle(&queue, held[0].receipt.clone(), Settlement::Ack, SettleOptions::default())
        .await;
    assert_eq!(late.expect_err("it is another's").kind(), ErrorKind::LeaseLost);
}

#[tokio::test]
async fn a_lease_of_a_living_process_is_prolonged_whatever_its_consumer_does() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let other = connect(&server).await;
    // Where the whole program stands still for as long, a lease is over, as it should be.
    for lease in lengths(Duration::from_millis(300)) {
        let queue = leased(&format!("q{}", lease.as_millis()), lease);
        put(&redis, &queue, &["x"]).await;
        let _item = get(&redis, &queue).await;
        if lasts(&other, &queue, (0, 1, 0)).await {
            return;
        }
    }
    panic!("no lease was prolonged");
}

#[tokio::test]
async fn after_a_missed_lease_settling_says_so_and_harms_nobody() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let (redis, other) = (connect(&server).await, connect(&server).await);
    let queue = queue("q");
    put(&redis, &queue, &["x"]).await;
    let item = get(&redis, &queue).await;
    let epoch = epochs(&mut raw).remove(0);
    // As if nothing had been heard of it for long; who looks gives back what is over.
    raw.run(&["ZADD", EPOCHS, "XX", "0", &epoch]);
    assert_eq!(stats(&other, &queue).await, (1, 0, 0));
    for how in [Settlement::Ack, Settlement::Requeue, Settlement::Return, Settlement::Reject] {
        let late = redis.settle(&queue, item.receipt.clone(), how, SettleOptions::default()).await;
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
    let (mut held, mut extended) = (None, lengths(Duration::from_millis(300)));
    // Where the program stands still for as long, a lease is over before it can be extended.
    while held.is_none() {
        let queue = leased("q", extended.next().expect("a lease can be extended"));
        raw.run(&["FLUSHALL"]);
        put(&redis, &queue, &["x"]).await;
        let item = get(&redis, &queue).await;
        let longer = redis.extend(&queue, &item.receipt, Duration::from_secs(3600)).await;
        held = longer.ok().map(|()| (queue, item));
    }
    let (queue, item) = held.expect("it is extended");
    let last = |raw: &mut Raw| raw.run(&["ZRANGE", EPOCHS, "-1", "-1", "WITHSCORES"]).texts();
    let extended = last(&mut raw);
    for _ in 0..20 {
        // So that heartbeats come in between.
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(last(&mut raw), extended);
    }
    ack(&redis, &queue, item).await;
    assert_eq!(stats(&redis, &queue).await, (0, 0, 0));
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
        let soon = move || {
            redis.settle_soon(&queue, item.receipt, Settlement::Ack, SettleOptions::default());
        };
        std::thread::spawn(soon).join().expect("no runtime is needed");
    }
    until("all are gone", || keys(&mut raw, "__pymq:{q}:held:*").is_empty()).await;
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
    let late = redis
        .settle(&queue, held[0].receipt.clone(), Settlement::Ack, SettleOptions::default())
        .await;
    assert_eq!(late.expect_err("closed").kind(), ErrorKind::Closed);
}

/// Extended for longer than its handle's lease, an item goes into a list of its own, by another connection
/// than that of its confirmation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_is_settled_while_its_lease_is_extended_is_settled_and_not_left_leased() {
    let server = RedisServer::start();
    let redis = Arc::new(connect(&server).await);
    let queue = queue("q");
    let longer = Duration::from_secs(600);
    for round in 0_u64..400 {
        put(&redis, &queue, &["x"]).await;
        let Claimed { receipt, .. } = get(&redis, &queue).await;
        let extending: Vec<_> = (0..2)
            .map(|_| {
                let (redis, queue, receipt) =
                    (Arc::clone(&redis), Arc::clone(&queue), receipt.clone());
                tokio::spawn(async move { redis.extend(&queue, &receipt, longer).await })
            })
            .collect();
        if round % 3 == 0 {
            // Nobody hears how it ended.
            extending[0].abort();
        }
        // So that one or the other is first, or both are at once.
        tokio::time::sleep(Duration::from_micros(round % 8 * 60)).await;
        let how = if round % 2 == 0 { Settlement::Ack } else { Settlement::Reject };
        let settled = redis.settle(&queue, receipt, how, SettleOptions::default()).await;
        settled.unwrap_or_else(|error| panic!("round {round}: {error}"));
        for extending in extending {
            // Of what is settled already no lease can be extended.
            if let Ok(Err(error)) = extending.await {
                assert_eq!(error.kind(), ErrorKind::LeaseLost);
            }
        }
    }
    let stats = redis.stats(&queue).await.expect("stats");
    assert_eq!((stats.waiting, stats.leased, stats.dead), (0, 0, 200));
}

#[tokio::test]
async fn a_claim_that_is_answered_late_is_under_a_lease_all_the_same() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let jobs = queue("q");
    for _ in 0..3 {
        put(&redis, &jobs, &["one"]).await;
        let one = get(&redis, &jobs).await;
        ack(&redis, &jobs, one).await;
        put(&redis, &jobs, &["two"]).await;
        // Meanwhile what holds nothing is left, half a second after it was used.
        server.pause();
        let late = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            server.resume();
        };
        let (two, ()) = tokio::join!(redis.claim(&jobs, 1, Wait::No), late);
        let two = match two {
            Ok(two) => two.into_iter().next().expect("it is there"),
            Err(error) => {
                assert!(!error.to_string().contains("lease"), "{error}");
                get(&redis, &jobs).await
            }
        };
        assert_eq!(text(&two.payload), "two");
        ack(&redis, &jobs, two).await;
    }
}
