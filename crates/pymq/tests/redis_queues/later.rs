//! Items for later over a live server: none early, none late for long, none lost, and no old peer sees
//! one before its time.

use std::collections::BTreeMap;
use std::time::Instant;

use pymq::transport::{Put, PutOptions};

use super::*;

fn delayed(delay: u64) -> PutOptions {
    PutOptions::new().delay(Duration::from_millis(delay))
}

#[tokio::test]
async fn ten_thousand_items_due_within_a_second_come_once_and_none_early() {
    const ITEMS: usize = 10_000;
    let server = RedisServer::start();
    let producer = connect(&server).await;
    let queue = queue("q");
    let begun = Instant::now();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let mut consumers = Vec::new();
    for _ in 0..4 {
        let redis = connect(&server).await;
        let (queue, told) = (Arc::clone(&queue), told.clone());
        consumers.push(tokio::spawn(async move {
            while let Ok(items) = redis.claim(&queue, 100, Wait::Forever).await {
                for item in items {
                    let number: usize = text(&item.payload).parse().expect("a number");
                    told.send((number, begun.elapsed())).expect("somebody counts");
                    redis.settle_soon(&queue, item.receipt, Settlement::Ack, Default::default());
                }
            }
        }));
    }
    let mut due = BTreeMap::new();
    for portion in 0..100 {
        let (delay, first) = (1000 + portion * 10, portion as usize * 100);
        let items = (first..first + 100).map(|number| bytes(&number.to_string())).collect();
        let least = begun.elapsed() + Duration::from_millis(delay);
        due.extend((first..first + 100).map(|number| (number, least)));
        assert_eq!(producer.push(&queue, items, delayed(delay)).await.expect("put"), Put::Done);
    }
    for _ in 0..ITEMS {
        let next = tokio::time::timeout(GUARD, heard.recv()).await;
        let (number, at) = next.expect("all come").expect("consumers live");
        let least = due.remove(&number).expect("each comes once");
        assert!(at >= least, "{number} came after {at:?}, due after {least:?}");
    }
    let all = producer.stats(&queue).await.expect("counted");
    assert_eq!((all.waiting, all.delayed, all.dead), (0, 0, 0));
    consumers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_item_for_later_is_in_no_list_before_its_time_and_equal_ones_stay_as_many() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    let (items, begun) = (vec![bytes("same"), bytes("same")], Instant::now());
    redis.push(&queue, items, delayed(200)).await.expect("put");
    redis.push(&queue, vec![bytes("same")], delayed(200)).await.expect("put");
    let listed = raw.run(&["LLEN", "q"]).number();
    assert!(listed == 0 || begun.elapsed() >= Duration::from_millis(200), "{listed} are early");
    for _ in 0..3 {
        let item = get(&redis, &queue).await;
        assert_eq!((text(&item.payload).as_str(), item.deliveries), ("same", 1));
        ack(&redis, &queue, item).await;
    }
    assert!(keys(&mut raw, "__pymq:{q}:later").is_empty());
}

#[tokio::test]
async fn a_producer_elsewhere_wakes_who_has_waited_for_long_at_the_time_and_not_with_the_slice() {
    let server = RedisServer::start();
    let (redis, producer) = (connect(&server).await, connect(&server).await);
    let queue = queue("q");
    let mut late = Vec::new();
    // A machine may stand still for as long as a slice, but not each time.
    while late.len() < 5 {
        let waiting = tokio::spawn({
            let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
            async move { (get(&redis, &queue).await, Instant::now()) }
        });
        let mut raw = server.raw();
        let hints = ["PUBSUB", "CHANNELS", "__pymq:{q}:hint"];
        until("it listens", || !raw.run(&hints).texts().is_empty()).await;
        let begun = Instant::now();
        producer.push(&queue, vec![bytes("x")], delayed(300)).await.expect("put");
        let (item, at) = waiting.await.expect("no panic");
        assert_eq!(item.deliveries, 1);
        assert!(at - begun >= Duration::from_millis(300));
        if at - begun < Duration::from_secs(3) {
            return;
        }
        ack(&redis, &queue, item).await;
        late.push(at - begun);
    }
    panic!("it came after {late:?}");
}

#[tokio::test]
async fn what_is_given_back_for_later_outlives_its_consumer_and_keeps_its_count() {
    let server = RedisServer::start();
    let queue = queue("q");
    let dies = connect(&server).await;
    put(&dies, &queue, &["x"]).await;
    let receipt = get(&dies, &queue).await.receipt;
    let (delay, begun) = (Duration::from_millis(300), Instant::now());
    let later = SettleOptions::default().delay(delay);
    dies.settle(&queue, receipt, Settlement::Requeue, later).await.expect("given back");
    dies.close().await.expect("closed");
    let redis = connect(&server).await;
    let all = redis.stats(&queue).await.expect("counted");
    let (all, is_due) = ((all.waiting, all.delayed, all.leased), begun.elapsed() >= delay);
    assert!(all == (0, 1, 0) || is_due, "{all:?} before it is due");
    let item = get(&redis, &queue).await;
    assert_eq!((text(&item.payload).as_str(), item.deliveries), ("x", 2));
}

#[tokio::test]
async fn a_put_with_an_id_that_is_refused_is_not_remembered() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    raw.run(&["SET", "q", "no list"]);
    let once = PutOptions::new().id("order-17");
    redis.push(&queue, vec![bytes("x")], once.clone()).await.expect_err("no list");
    raw.run(&["DEL", "q"]);
    until("it is forgotten", || keys(&mut raw, "__pymq:{q}:id:*").is_empty()).await;
    for expected in [Put::Done, Put::Already] {
        assert_eq!(
            redis.push(&queue, vec![bytes("x")], once.clone()).await.expect("put"),
            expected
        );
    }
    assert_eq!(raw.run(&["LLEN", "q"]).number(), 1);
}

#[tokio::test]
async fn who_does_not_wait_gets_what_is_due_while_it_holds_something_else() {
    let server = RedisServer::start();
    let (redis, producer) = (connect(&server).await, connect(&server).await);
    let queue = queue("q");
    put(&redis, &queue, &["held"]).await;
    let held = get(&redis, &queue).await;
    assert!(redis.claim(&queue, 1, Wait::No).await.expect("claimed").is_empty());
    producer.push(&queue, vec![bytes("x")], delayed(50)).await.expect("put");
    // Time is what has to pass: afterwards it is due on any machine.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let items = redis.claim(&queue, 1, Wait::No).await.expect("claimed");
    assert_eq!(items.len(), 1);
    ack(&redis, &queue, held).await;
}

#[tokio::test]
async fn what_a_stranger_put_for_later_is_an_item_and_keeps_no_other_from_its_getter() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    for (due, member) in [("-inf", "1"), ("0", ""), ("1", ":"), ("+inf", "never"), ("2", "a:b:2")] {
        raw.run(&["ZADD", "__pymq:{q}:later", due, member]);
    }
    redis.push(&queue, vec![bytes("3")], Wait::No.into()).await.expect("put");
    let mut got = HashSet::new();
    while got.len() < 4 {
        let claimed = redis.claim(&queue, 9, Wait::at_most(GUARD)).await.expect("claimed");
        got.extend(claimed.iter().map(|item| text(&item.payload)));
    }
    assert_eq!(got, HashSet::from(["1", "", "b:2", "3"].map(str::to_owned)));
}
