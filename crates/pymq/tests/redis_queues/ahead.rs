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

/// Until when what is shown is leased, and what is fetched ahead, by the server's clock.
fn ends(raw: &mut Raw) -> Option<(f64, f64)> {
    let words = raw.run(&["ZRANGE", EPOCHS, "0", "-1", "WITHSCORES"]).texts();
    let end = |ahead| {
        let ends = words.chunks(2).filter(|entry| entry[0].contains('+') == ahead);
        ends.filter_map(|entry| entry[1].parse().ok()).reduce(f64::max)
    };
    end(false).zip(end(true))
}

/// Takes items and confirms them; says whether the lease lasted so long.
async fn takes(redis: &Redis, queue: &Arc<QueueSpec>, limit: usize, wait: Wait) -> bool {
    put(redis, queue, &["x", "y"]).await;
    let Ok(claimed) = redis.claim(queue, limit, wait).await else { return false };
    for Claimed { receipt, .. } in claimed {
        let options = SettleOptions::default();
        if redis.settle(queue, receipt, Settlement::Ack, options).await.is_err() {
            return false;
        }
    }
    true
}

/// Fetches ahead, then takes for so long without it that the lease is prolonged; `None` where it was over
/// meanwhile.
async fn fetches_then_only_takes(
    redis: &Redis,
    raw: &mut Raw,
    greedy: &Arc<QueueSpec>,
    (other, limit, wait): (&Arc<QueueSpec>, usize, Wait),
) -> Option<()> {
    takes(redis, greedy, 1, wait).await.then_some(())?;
    let began = ends(raw)?;
    loop {
        takes(redis, other, limit, wait).await.then_some(())?;
        let (shown, ahead) = ends(raw)?;
        assert!(ahead >= shown || ahead > began.1, "for {} ms less", shown - ahead);
        if shown > began.0 {
            return Some(());
        }
    }
}

/// A reaper would take what is fetched next, if the end of that list's lease were an old one.
#[tokio::test]
async fn who_fetches_nothing_ahead_lets_no_lease_of_those_who_do_grow_old() {
    let server = RedisServer::start();
    let (mut raw, redis) = (server.raw(), connect(&server).await);
    // A handle without `prefetch`, and one that is asked for more than it would fetch ahead.
    for (prefetch, limit) in [(1, 1), (4, 9)] {
        for wait in [Wait::No, Wait::at_most(GUARD)] {
            let (mut kept, mut leases) = (None, lengths(Duration::from_millis(300)));
            // Where the whole program stands still for as long, a lease is over, as it should be.
            while kept.is_none() {
                raw.run(&["FLUSHALL"]);
                let lease = leases.next().expect("a lease is kept");
                let with = |prefetch| {
                    queue_with("q", |spec| (spec.prefetch, spec.lease) = (prefetch, lease))
                };
                let others = (&with(prefetch), limit, wait);
                kept = fetches_then_only_takes(&redis, &mut raw, &with(4), others).await;
            }
        }
    }
}

#[tokio::test]
async fn a_lease_that_the_server_may_not_forget_does_not_grow_old_beside_what_is_fetched_next() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    refusals::allow(&server, "w", &["+@all", "-zrem"]);
    let url = format!("redis://w:PASSWORD@127.0.0.1:{}", server.port());
    let redis = Redis::connect(&url).await.expect("it may connect");
    put(&redis, &greedy(2), &["x", "y"]).await;
    for receipt in claim(&redis, &greedy(2)).await {
        settle(&redis, &greedy(2), &receipt, Settlement::Ack).await;
    }
    let refused = |raw: &mut Raw| format!("{:?}", raw.run(&["ACL", "LOG"])) != "List([])";
    until("it is to be forgotten", || refused(&mut raw)).await;
    put(&redis, &queue("q"), &["z"]).await;
    let _item = get(&redis, &queue("q")).await;
    let (shown, ahead) = ends(&mut raw).expect("both are registered");
    assert!(ahead >= shown, "for {} ms less", shown - ahead);
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
