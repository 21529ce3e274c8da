//! Who waits over a live server, for an item or for space: is served in turn, and leaves without a trace.

use super::*;

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
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let queue = queue("q");
    let patient = tokio::spawn({
        let (redis, queue) = (Arc::clone(&redis), Arc::clone(&queue));
        async move { text(&get(&redis, &queue).await.payload) }
    });
    // Before that the brief ones could learn that nothing is known yet, which is no empty queue.
    until("it waits", || blocked(&mut raw) == 1).await;
    // Each begins to count when it is in the line: whose time is over before asks the server once instead.
    let brief = (0..3000)
        .map(async |_| redis.claim(&queue, 1, Wait::at_most(Duration::from_millis(1))).await);
    for claimed in futures_util::future::join_all(brief).await {
        assert!(claimed.expect("claimed").is_empty());
    }
    put(&redis, &queue, &["x"]).await;
    assert_eq!(patient.await.expect("no panic"), "x");
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
    redis.push(&queue, items, Wait::No.into()).await.expect("put");
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
    // About how long it takes until an item that was put is handed over, on this machine.
    let mut moment = Duration::from_micros(200);
    for round in 0..1000_u32 {
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
        while began.elapsed() < moment * (round % 20) / 10 {
            tokio::task::yield_now().await;
        }
        claim.abort();
        let outcome = claim.await;
        putting.await.expect("no panic");
        let receipt = match outcome {
            Ok((payload, deliveries, receipt)) => {
                assert_eq!((payload.as_str(), deliveries), ("x", 1));
                served += 1;
                moment = moment * 19 / 20;
                receipt
            }
            Err(error) => {
                assert!(error.is_cancelled());
                cancelled += 1;
                moment = moment * 20 / 19 + Duration::from_nanos(100);
                let item = get(&redis, &queue).await;
                assert_eq!((text(&item.payload).as_str(), item.deliveries), ("x", 1));
                item.receipt
            }
        };
        redis
            .settle(&queue, receipt, Settlement::Ack, SettleOptions::default())
            .await
            .expect("acknowledged");
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
    let queue = queue_with("q", |spec| spec.maxsize = 3);
    let mut putters = Vec::new();
    for number in 0..20 {
        let redis = Arc::clone(if number % 2 == 0 { &redis } else { &other });
        let queue = Arc::clone(&queue);
        putters.push(tokio::spawn(async move {
            let item = vec![bytes(&number.to_string())];
            redis.push(&queue, item, Wait::at_most(GUARD).into()).await.expect("put in time");
        }));
    }
    let mut raw = server.raw();
    until("it is full", || raw.run(&["LLEN", "q"]).number() == 3).await;
    let full = redis.push(&queue, vec![bytes("x")], Wait::No.into()).await.expect_err("it is full");
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
    let many = redis.push(&queue, vec![bytes("x"); 4], Wait::Forever.into()).await;
    assert_eq!(many.expect_err("they can never fit").kind(), ErrorKind::Config);
    redis.push(&queue, vec![bytes("x"); 3], Wait::No.into()).await.expect("they just fit");
}

#[tokio::test]
async fn a_shutdown_is_for_everyone_and_gets_drain_first() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let other = connect(&server).await;
    let queue = queue("q");
    let bounded = queue_with("q", |spec| spec.maxsize = 5);
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
        let put = redis.push(queue, vec![bytes("x"), bytes("y")], Wait::No.into()).await;
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
async fn closing_ends_a_waiting_claim_and_a_waiting_put() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let empty = queue("empty");
    let full = queue_with("full", |spec| spec.maxsize = 1);
    put(&redis, &full, &["x"]).await;
    let claim = {
        let redis = Arc::clone(&redis);
        tokio::spawn(async move { redis.claim(&empty, 1, Wait::Forever).await.map(|_| ()) })
    };
    let push = {
        let redis = Arc::clone(&redis);
        tokio::spawn(async move {
            redis.push(&full, vec![bytes("y")], Wait::Forever.into()).await.map(drop)
        })
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
