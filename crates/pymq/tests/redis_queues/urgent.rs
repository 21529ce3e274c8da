//! Priorities over a live server: whoever waits, whoever gives back, and old peers beside them.

use pymq::transport::{Failure, PutOptions, Reason};

use super::*;

/// The queue by a handle with priorities.
fn urgent() -> Arc<QueueSpec> {
    queue_with("q", |spec| spec.priorities = true)
}

async fn put_urgent(redis: &Redis, priority: u8, items: &[&str]) {
    let options = PutOptions::new().wait(Wait::No).priority(priority);
    let items = items.iter().map(|item| bytes(item)).collect();
    redis.push(&urgent(), items, options).await.expect("put");
}

/// What is there, in the order in which it is given out; all of it is confirmed.
async fn drain(redis: &Redis) -> Vec<String> {
    let mut found = Vec::new();
    loop {
        let items = redis.claim(&urgent(), 3, Wait::No).await.expect("claimed");
        if items.is_empty() {
            return found;
        }
        for item in items {
            found.push(text(&item.payload));
            ack(redis, &urgent(), item).await;
        }
    }
}

fn no_key(raw: &mut Raw) -> bool {
    keys(raw, "*q*").is_empty()
}

#[tokio::test]
async fn each_of_those_who_wait_gets_one_of_many_urgent_items_put_together() {
    const MANY: usize = 8;
    let server = RedisServer::start();
    let mut raw = server.raw();
    let producer = connect(&server).await;
    let mut waiting = Vec::new();
    for _ in 0..MANY {
        let redis = connect(&server).await;
        waiting.push(tokio::spawn(async move {
            let item = get(&redis, &urgent()).await;
            (text(&item.payload), redis, item)
        }));
    }
    until("all wait", || blocked(&mut raw) == MANY).await;
    let items: Vec<String> = (0..MANY).map(|number| number.to_string()).collect();
    put_urgent(&producer, 7, &items.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut got = Vec::new();
    for one in waiting {
        let (item, redis, claimed) = one.await.expect("no panic");
        ack(&redis, &urgent(), claimed).await;
        got.push(item);
    }
    got.sort();
    assert_eq!(got, items);
}

#[tokio::test]
async fn urgent_items_come_first_whoever_was_put_first_and_old_peers_take_part() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    put_urgent(&redis, 5, &["e", "f"]).await;
    raw.run(&["LPUSH", "q", "g"]);
    put_urgent(&redis, 0, &["h"]).await;
    put_urgent(&redis, 9, &["a", "b"]).await;
    put_urgent(&redis, 6, &["c", "d"]).await;
    assert_eq!(redis.stats(&urgent()).await.expect("counted").waiting, 8);
    let seen = redis.peek(&urgent(), Shelf::Waiting, 5).await.expect("peeked");
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    assert_eq!(drain(&redis).await, ["a", "b", "c", "d", "e", "f", "g", "h"]);
    // An old peer reads what is urgent too, since only JSON's own spaces stand before it.
    put_urgent(&redis, 3, &["1", "2"]).await;
    assert_eq!(raw.run(&["BRPOP", "q", "1"]).texts()[1], "\t\t\t1");
    assert_eq!(drain(&redis).await, ["2"]);
    until("no key is left", || no_key(&mut raw)).await;
}

#[tokio::test]
async fn what_comes_back_keeps_its_priority_and_stands_first_there() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let (redis, doomed) = (connect(&server).await, connect(&server).await);
    put_urgent(&redis, 5, &["x", "y"]).await;
    put_urgent(&redis, 0, &["low"]).await;
    put_urgent(&redis, 9, &["top"]).await;
    let all = doomed.claim(&urgent(), 4, Wait::No).await.expect("claimed");
    let receipts: Vec<_> = all.into_iter().map(|item| item.receipt).collect();
    put_urgent(&redis, 5, &["z"]).await;
    put_urgent(&redis, 0, &["lower"]).await;
    // One is returned, one fails, one fails for later; the last one's consumer dies.
    for (which, how, delay) in [(2, Settlement::Return, 0), (3, Settlement::Requeue, 0)] {
        let options = SettleOptions::default().delay(Duration::from_millis(delay));
        let receipt = receipts[which].clone();
        doomed.settle(&urgent(), receipt, how, options).await.expect("settled");
    }
    let later = SettleOptions::default().delay(Duration::from_millis(100));
    let receipt = receipts[0].clone();
    doomed.settle(&urgent(), receipt, Settlement::Requeue, later).await.expect("settled");
    for epoch in raw.run(&["ZRANGE", "__pymq:{q}:epochs", "0", "-1"]).texts() {
        raw.run(&["ZADD", "__pymq:{q}:epochs", "XX", "0", &epoch]);
    }
    // Given back by one who has no priorities.
    redis.stats(&queue("q")).await.expect("counted");
    until("it is due", || {
        let later = raw.run(&["ZRANGE", "__pymq:{q}:later", "0", "0", "WITHSCORES"]).texts();
        let time = raw.run(&["TIME"]).texts();
        let now = time[0].parse::<f64>().expect("seconds") * 1000.0
            + time[1].parse::<f64>().expect("microseconds") / 1000.0;
        later[1].parse::<f64>().expect("a time") < now
    })
    .await;
    assert_eq!(drain(&redis).await, ["top", "x", "y", "z", "low", "lower"]);
}

#[tokio::test]
async fn urgent_items_are_counted_by_a_bound_purged_and_drained_from_a_full_server() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let mut spec = QueueSpec::new("q");
    (spec.priorities, spec.maxsize) = (true, 3);
    let bounded = Arc::new(spec);
    let put = async |priority| {
        let options = PutOptions::new().wait(Wait::No).priority(priority);
        redis.push(&bounded, vec![bytes("x")], options).await
    };
    for priority in [5, 0, 9] {
        put(priority).await.expect("there is space");
    }
    for priority in [0, 5] {
        assert_eq!(put(priority).await.expect_err("it is full").kind(), ErrorKind::Full);
    }
    assert_eq!(redis.purge(&bounded, Shelf::Waiting).await.expect("purged"), 3);
    assert!(no_key(&mut raw));
    let large = &*"x".repeat(20_000);
    for priority in [0, 4, 8] {
        put_urgent(&redis, priority, &[large; 20]).await;
    }
    raw.run(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let waits = redis.claim(&urgent(), 1, Wait::at_most(GUARD)).await.expect("claimed");
    assert_eq!(waits.len(), 1);
    assert_eq!(drain(&redis).await.len(), 59);
}

#[tokio::test]
async fn a_dead_letter_keeps_its_priority_for_a_queue_that_has_some() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    put_urgent(&redis, 9, &["x", "y"]).await;
    for _ in 0..2 {
        let item = get(&redis, &urgent()).await;
        let options = SettleOptions::default().failure(Failure::new(Reason::Failed));
        redis.settle(&urgent(), item.receipt, Settlement::Reject, options).await.expect("rejected");
    }
    let letters = redis.letters(&urgent(), 0, 9).await.expect("read");
    assert_eq!(letters[0].payload, "x");
    put_urgent(&redis, 8, &["later"]).await;
    let oldest = Letters::Oldest(1);
    assert_eq!(redis.redrive(&urgent(), oldest.clone(), &urgent()).await.expect("moved"), 1);
    assert_eq!(redis.redrive(&urgent(), oldest, &queue("plain")).await.expect("moved"), 1);
    assert_eq!(drain(&redis).await, ["x", "later"]);
    assert_eq!(raw.run(&["LRANGE", "plain", "0", "-1"]).texts(), ["y"]);
}

#[tokio::test]
async fn what_is_fetched_ahead_are_the_most_urgent_and_they_go_back_uncounted() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let (doomed, redis) = (connect(&server).await, connect(&server).await);
    let mut spec = QueueSpec::new("q");
    (spec.priorities, spec.prefetch) = (true, 3);
    let greedy = Arc::new(spec);
    put_urgent(&redis, 0, &["c", "d"]).await;
    put_urgent(&redis, 2, &["a", "b"]).await;
    for wait in [Wait::No, Wait::at_most(GUARD)] {
        let claimed = doomed.claim(&greedy, 1, wait).await.expect("claimed");
        let payloads: Vec<_> = claimed.iter().map(|item| text(&item.payload)).collect();
        assert_eq!(payloads, ["a", "b", "c"]);
        for item in claimed.into_iter().rev() {
            let (receipt, options) = (item.receipt, SettleOptions::default());
            doomed.settle(&greedy, receipt, Settlement::Return, options).await.expect("returned");
        }
    }
    let _held = doomed.claim(&greedy, 1, Wait::No).await.expect("claimed");
    killed(&mut raw, &redis).await;
    let claimed = redis.claim(&urgent(), 9, Wait::No).await.expect("claimed");
    let told: Vec<_> = claimed.iter().map(|item| (text(&item.payload), item.deliveries)).collect();
    let expected = [("a", 2), ("b", 1), ("c", 1), ("d", 1)];
    assert_eq!(told, expected.map(|(item, deliveries)| (item.to_owned(), deliveries)));
}

#[tokio::test]
async fn whatever_is_denied_no_urgent_item_is_lost_or_doubled() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    for command in ["lmove", "rpush", "lpush", "lrem", "lrange", "exists", "lpop", "rpop", "zadd"] {
        raw.run(&["FLUSHALL"]);
        refusals::allow(&server, "w", &["+@all"]);
        let url = format!("redis://w:PASSWORD@127.0.0.1:{}", server.port());
        let redis = Redis::connect(&url).await.expect("it may connect");
        put_urgent(&redis, 3, &["a", "b"]).await;
        put_urgent(&redis, 7, &["c", "d"]).await;
        let held = redis.claim(&urgent(), 2, Wait::No).await.expect("claimed");
        raw.run(&["LPUSH", "__pymq:{q}:held:dead-1.5p", "\t\t\t\t\te"]);
        raw.run(&["ZADD", "__pymq:{q}:epochs", "1", "dead-1.5p"]);
        refusals::deny(&server, "w", &[command]);
        for item in held {
            let (receipt, options) = (item.receipt, SettleOptions::default());
            let _ = redis.settle(&urgent(), receipt, Settlement::Requeue, options).await;
        }
        let _ = redis.stats(&urgent()).await;
        let _ = redis.claim(&urgent(), 9, Wait::at_most(Duration::from_millis(100))).await;
        assert_eq!(refusals::all(&mut raw), ["a", "b", "c", "d", "e"], "without {command}");
        redis.close().await.expect("closed");
        assert_eq!(refusals::all(&mut raw), ["a", "b", "c", "d", "e"], "without {command}");
    }
}
