//! Items that were fetched ahead, over a live server: uncounted until they are shown, whoever dies, and
//! settled wherever they are.

use super::leases::lasts;
use super::*;
use pymq::transport::Receipt;

const EPOCHS: &str = "__pymq:{q}:epochs";

/// The queue by a handle that fetches ahead.
fn greedy(prefetch: usize) -> Arc<QueueSpec> {
    queue_with("q", |spec| spec.prefetch = prefetch)
}

/// What lies in the lists of what was fetched ahead, or of what was shown, the oldest first.
fn held(raw: &mut Raw, ahead: bool) -> Vec<String> {
    let mut found = Vec::new();
    for key in keys(raw, "__pymq:{q}:held:*") {
        if key.contains('+') == ahead {
            found.extend(raw.run(&["LRANGE", &key, "0", "-1"]).texts().into_iter().rev());
        }
    }
    found
}

fn waiting(raw: &mut Raw) -> Vec<String> {
    raw.run(&["LRANGE", "q", "0", "-1"]).texts().into_iter().rev().collect()
}

async fn claim(redis: &Redis, queue: &Arc<QueueSpec>) -> Vec<Receipt> {
    let claimed = redis.claim(queue, 1, Wait::at_most(GUARD)).await.expect("claimed");
    claimed.into_iter().map(|item| item.receipt).collect()
}

async fn settle(redis: &Redis, queue: &Arc<QueueSpec>, receipt: &Receipt, how: Settlement) {
    let settled = redis.settle(queue, receipt.clone(), how, SettleOptions::default()).await;
    settled.expect("settled");
}

#[tokio::test]
async fn what_a_killed_consumer_had_fetched_ahead_comes_back_uncounted_behind_what_it_was_shown() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let (doomed, other) = (connect(&server).await, connect(&server).await);
    for wait in [Wait::No, Wait::at_most(GUARD)] {
        raw.run(&["FLUSHALL"]);
        put(&other, &queue("q"), &["a", "b", "c", "d"]).await;
        let claimed = doomed.claim(&greedy(4), 1, wait).await.expect("claimed");
        assert_eq!(claimed.len(), 4);
        doomed.show(&greedy(4), &claimed[1].receipt);
        until("it is noted", || held(&mut raw, false) == ["a", "b"]).await;
        assert_eq!(held(&mut raw, true), ["c", "d"]);
        killed(&mut raw, &other).await;
        assert_eq!(waiting(&mut raw), [" a", " b", "c", "d"]);
    }
}

#[tokio::test]
async fn an_item_that_was_fetched_ahead_is_settled_shown_or_not_and_only_once() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = greedy(9);
    for how in [Settlement::Ack, Settlement::Requeue, Settlement::Return, Settlement::Reject] {
        raw.run(&["FLUSHALL"]);
        // Equal ones too, which might be taken for each other.
        put(&redis, &queue, &["x", "x", "x", "x"]).await;
        let receipts = claim(&redis, &queue).await;
        assert_eq!(receipts.len(), 4);
        redis.show(&queue, &receipts[1]);
        until("it is noted", || held(&mut raw, false).len() == 2).await;
        redis.show(&queue, &receipts[2]);
        for receipt in &receipts {
            settle(&redis, &queue, receipt, how).await;
        }
        let late = redis.settle(&queue, receipts[1].clone(), how, SettleOptions::default()).await;
        assert_eq!(late.expect_err("once is enough").kind(), ErrorKind::LeaseLost, "{how:?}");
        assert!(keys(&mut raw, "__pymq:{q}:held:*").is_empty(), "{how:?}");
        let left = usize::from(how != Settlement::Ack) * 4;
        let (waiting, _, dead) = stats(&redis, &queue).await;
        assert_eq!(waiting + dead, left, "{how:?}");
    }
}

#[tokio::test]
async fn a_lease_of_what_is_fetched_ahead_is_kept_and_can_be_extended() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let (redis, other) = (connect(&server).await, connect(&server).await);
    let (mut kept, mut leases) = (false, lengths(Duration::from_millis(300)));
    // Where the whole program stands still for as long, a lease is over, as it should be.
    while !kept {
        let lease = leases.next().expect("a lease is kept");
        let name = format!("kept for {}", lease.as_millis());
        let queue = queue_with(&name, |spec| (spec.prefetch, spec.lease) = (3, lease));
        put(&redis, &queue, &["a", "b", "c"]).await;
        let _receipts = claim(&redis, &queue).await;
        kept = lasts(&other, &queue, (0, 3, 0)).await;
    }
    let queue = greedy(3);
    put(&redis, &queue, &["a", "b", "c"]).await;
    let receipts = claim(&redis, &queue).await;
    settle(&redis, &queue, &receipts[0], Settlement::Ack).await;
    for (receipt, lease) in [(&receipts[1], 0), (&receipts[2], 3600)] {
        redis.show(&queue, receipt);
        redis.extend(&queue, receipt, Duration::from_secs(lease)).await.expect("it is ours");
        until("it is noted", || held(&mut raw, true).len() < 2).await;
        redis.extend(&queue, receipt, Duration::from_secs(lease)).await.expect("it is ours still");
        settle(&redis, &queue, receipt, Settlement::Ack).await;
    }
    assert_eq!(stats(&other, &queue).await, (0, 0, 0));
}

#[tokio::test]
async fn a_server_that_does_not_note_what_was_shown_loses_and_doubles_nothing() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    for command in ["lpush", "lrem", "lpos", "zadd", "evalsha"] {
        raw.run(&["FLUSHALL"]);
        refusals::allow(&server, "w", &["+@all"]);
        let url = format!("redis://w:PASSWORD@127.0.0.1:{}", server.port());
        let redis = Redis::connect(&url).await.expect("it may connect");
        let queue = greedy(3);
        put(&redis, &queue, &["a", "b", "c"]).await;
        let receipts = claim(&redis, &queue).await;
        refusals::deny(&server, "w", &[command]);
        redis.show(&queue, &receipts[1]);
        // For the server to refuse it; nothing is lost or doubled before or after.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(refusals::all(&mut raw), ["a", "b", "c"], "without {command}");
        refusals::allow(&server, "w", &["+@all"]);
        for receipt in &receipts {
            settle(&redis, &queue, receipt, Settlement::Ack).await;
        }
        assert!(refusals::all(&mut raw).is_empty(), "without {command}");
        redis.close().await.expect("closed");
    }
}

#[tokio::test]
async fn who_fetches_nothing_ahead_has_one_list() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    put(&redis, &queue("q"), &["a", "b"]).await;
    let held = redis.claim(&queue("q"), 2, Wait::No).await.expect("claimed");
    assert_eq!((held.len(), keys(&mut raw, "__pymq:{q}:held:*").len()), (2, 1));
    assert_eq!(raw.run(&["ZCARD", EPOCHS]).number(), 1);
}

/// The confirmation travels on another connection than what moves the item from one list to the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_that_is_confirmed_in_the_moment_in_which_it_is_shown_is_confirmed() {
    const ITEMS: usize = 6000;
    let server = RedisServer::start();
    let redis = Arc::new(connect(&server).await);
    let queue = greedy(16);
    let items: Vec<String> = (0..ITEMS).map(|number| number.to_string()).collect();
    put(&redis, &queue, &items.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut settling = tokio::task::JoinSet::new();
    while settling.len() < ITEMS {
        for item in redis.claim(&queue, 1, Wait::at_most(GUARD)).await.expect("claimed") {
            redis.show(&queue, &item.receipt);
            let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
            let number = settling.len() as u64;
            settling.spawn(async move {
                // Anywhere around the moment in which what was shown is noted.
                let moment = Duration::from_micros(900 + number * 37 % 700);
                tokio::time::sleep(moment).await;
                redis.settle(&queue, item.receipt, Settlement::Ack, SettleOptions::default()).await
            });
        }
    }
    while let Some(settled) = settling.join_next().await {
        settled.expect("no panic").expect("it was ours all the while");
    }
    let mut raw = server.raw();
    assert_eq!((held(&mut raw, true).len(), held(&mut raw, false).len()), (0, 0));
}
