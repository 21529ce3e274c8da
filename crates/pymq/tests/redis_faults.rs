//! Faults: servers that die, stop and forget, connections that are killed or cut mid-reply.
#![cfg(feature = "redis")]

mod driver;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use driver::server::{Answer, Raw, RedisServer};
use driver::{GUARD, blocked, bytes, connect, get, queue_with, settle, text, until};
use pymq::name::{Address, Form};
use pymq::transport::redis::{Redis, RedisOptions};
use pymq::transport::{
    Arrival, Events, Filter, Inboxes, QueueSpec, Queues, SettleOptions, Settlement, Subscription,
    Transport, Wait,
};
use pymq::{Bus, ErrorKind};

fn queue(name: &str, lease: Duration) -> Arc<QueueSpec> {
    queue_with(name, |spec| spec.lease = lease)
}

async fn arrival(subscription: &mut Subscription) -> Arrival<String> {
    let arrival = tokio::time::timeout(GUARD, subscription.recv()).await.expect("in time");
    match arrival.expect("the subscription is open") {
        Arrival::Message(message) => Arrival::Message(text(&message.payload)),
        Arrival::Lagged(missed) => Arrival::Lagged(missed),
        Arrival::Gap => Arrival::Gap,
        Arrival::Refused(why) => Arrival::Refused(why),
    }
}

/// Publishes until it works: meanwhile the connection is on its way back.
async fn publish(redis: &Redis, topic: &str, payload: &str) {
    let guard = Instant::now() + GUARD;
    while let Err(error) = redis.publish(topic, bytes(payload)).await {
        assert!(Instant::now() < guard, "{error}");
    }
}

fn subscribers(raw: &mut Raw, topic: &str) -> bool {
    let Answer::List(answer) = raw.run(&["PUBSUB", "NUMSUB", topic]) else {
        panic!("NUMSUB answers a list")
    };
    answer[1].number() > 0
}

/// Kills our connections of one kind; says how many there were.
fn kill(raw: &mut Raw, role: &str) -> usize {
    let clients = raw.run(&["CLIENT", "LIST"]).text();
    let ids =
        clients.lines().filter(|line| line.contains(&format!("name=pymq-{role}"))).map(|line| {
            let id = line.split(' ').next().and_then(|word| word.strip_prefix("id="));
            id.expect("CLIENT LIST begins with the id").to_owned()
        });
    ids.map(|id| raw.run(&["CLIENT", "KILL", "ID", &id]).number() as usize).sum()
}

#[tokio::test]
async fn everything_resumes_after_the_server_was_killed_and_started_again() {
    let mut server = RedisServer::start();
    let redis = connect(&server).await;
    let filters = [Filter::Topic("t".to_owned()), Filter::Pattern("p*".to_owned())];
    let mut subscription = redis.subscribe(&filters).await.expect("subscribed");
    let address = Address::new("inbox", Form::Inbox);
    let mut inbox = redis.open_inbox(&address).await.expect("opened");
    let jobs = queue("q", Duration::from_secs(30));
    let waiting = tokio::spawn({
        let (redis, jobs) = (Arc::clone(&redis), Arc::clone(&jobs));
        async move {
            let item = get(&redis, &jobs).await;
            let payload = text(&item.payload);
            settle(&redis, &jobs, item, Settlement::Ack).await;
            payload
        }
    });
    let mut raw = server.raw();
    until("it waits", || blocked(&mut raw) == 1).await;
    for round in 0..3 {
        server.restart();
        publish(&redis, "t", "maybe too early").await;
        while arrival(&mut subscription).await != Arrival::Gap {}
        let sent = format!("after {round}");
        publish(&redis, "t", &sent).await;
        while arrival(&mut subscription).await != Arrival::Message(sent.clone()) {}
        publish(&redis, "p1", &sent).await;
        assert_eq!(arrival(&mut subscription).await, Arrival::Message(sent));
    }
    let gap = tokio::time::timeout(GUARD, inbox.recv()).await.expect("in time");
    assert_eq!(gap, Some(Arrival::Gap));
    redis.send(&address, bytes("reply"), GUARD).await.expect("sent");
    let reply = tokio::time::timeout(GUARD, inbox.recv()).await.expect("in time");
    assert_eq!(reply, Some(Arrival::Message(bytes("reply"))));
    server.raw().run(&["LPUSH", "q", "job"]);
    assert_eq!(waiting.await.expect("no panic"), "job");
}

#[tokio::test]
async fn a_killed_connection_of_any_kind_is_replaced_and_nothing_is_lost() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let topic = [Filter::Topic("t".to_owned())];
    let mut subscription = redis.subscribe(&topic).await.expect("subscribed");
    let jobs = queue("q", Duration::from_secs(30));
    for round in 0..20 {
        let waiting = tokio::spawn({
            let (redis, jobs) = (Arc::clone(&redis), Arc::clone(&jobs));
            async move { get(&redis, &jobs).await }
        });
        until("it waits", || blocked(&mut raw) == 1).await;
        assert_eq!(kill(&mut raw, "commands"), 1);
        assert_eq!(kill(&mut raw, "waiting"), 1);
        assert_eq!(kill(&mut raw, "subscriptions"), 1);
        raw.run(&["LPUSH", "q", &round.to_string()]);
        let item = waiting.await.expect("no panic");
        assert_eq!((text(&item.payload), item.deliveries), (round.to_string(), 1));
        settle(&redis, &jobs, item, Settlement::Ack).await;
        assert_eq!(arrival(&mut subscription).await, Arrival::Gap);
        publish(&redis, "t", "x").await;
        assert_eq!(arrival(&mut subscription).await, Arrival::Message("x".to_owned()));
    }
    let stats = redis.stats(&jobs).await.expect("counted");
    assert_eq!((stats.waiting, stats.leased, stats.dead), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_on_its_way_back_is_no_missing_provider() {
    let server = RedisServer::start();
    let provider =
        Bus::builder(&server.url()).client_name("pymq-provider").connect().await.expect("up");
    let _service = provider
        .expose_fn("half", |(n,): (u32,)| async move { Ok::<_, String>(n / 2) })
        .await
        .expect("exposed");
    let half = Bus::connect(&server.url()).await.expect("up").stub::<(u32,), u32>("half");
    let mut raw = server.raw();
    let mut missed = 0;
    for n in 0..20 {
        let mut answer = half.call((2 * n,)).await;
        // One that needs longer than callers wait for its return is missing, until it is back.
        let guard = Instant::now() + GUARD;
        while answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::NoSuchRemote) {
            assert!(Instant::now() < guard, "it never comes back");
            missed += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
            answer = half.call((2 * n,)).await;
        }
        assert_eq!(answer.expect("it comes back"), n);
        assert!(kill(&mut raw, "provider") > 0);
    }
    assert!(missed < 10, "callers do not wait for a provider's return");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_killed_connections_loses_and_doubles_no_item() {
    const ITEMS: usize = 2000;
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let jobs = queue("q", Duration::from_secs(30));
    let done = Arc::new(AtomicUsize::new(0));
    let mut workers = Vec::new();
    for number in 0..8 {
        let (redis, jobs, done) = (Arc::clone(&redis), Arc::clone(&jobs), Arc::clone(&done));
        workers.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            loop {
                let wait = match number % 4 {
                    0 => Wait::No,
                    _ => Wait::at_most(Duration::from_millis(100)),
                };
                // A lost connection is an error for who does not wait; nothing is lost by it.
                let claimed = redis.claim(&jobs, 1 + number % 3, wait).await.unwrap_or_default();
                for item in claimed {
                    mine.push(text(&item.payload));
                    if number % 2 == 0 {
                        redis.settle_soon(
                            &jobs,
                            item.receipt,
                            Settlement::Ack,
                            SettleOptions::default(),
                        );
                    } else {
                        let how = Settlement::Ack;
                        let settled =
                            redis.settle(&jobs, item.receipt, how, SettleOptions::default()).await;
                        // It goes on by itself, though nobody knows how far it is.
                        let unknown = |error: &pymq::Error| error.kind() == ErrorKind::Ambiguous;
                        assert!(settled.as_ref().err().is_none_or(unknown), "{settled:?}");
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                if done.load(Ordering::Relaxed) >= ITEMS {
                    return mine;
                }
            }
        }));
    }
    let mut raw = server.raw();
    let mut kills = 0;
    for number in 0..ITEMS {
        raw.run(&["LPUSH", "q", &number.to_string()]);
        if number % 20 == 0 {
            let role = if number % 40 == 0 { "waiting" } else { "commands" };
            // It may be on its way back from the last time.
            until("there is one to kill", || {
                let killed = kill(&mut raw, role);
                kills += killed;
                killed > 0
            })
            .await;
            // So that something is done between two of them.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for worker in workers {
        let mine = tokio::time::timeout(GUARD, worker).await.expect("in time").expect("no panic");
        mine.into_iter().for_each(|item| *counts.entry(item).or_default() += 1);
    }
    assert!(kills >= ITEMS / 20, "only {kills} connections were killed");
    assert_eq!(counts.len(), ITEMS);
    assert!(counts.values().all(|&count| count == 1), "some came twice");
    until("all are confirmed", || raw.run(&["KEYS", "__pymq:{q}:held:*"]).texts().is_empty()).await;
}

#[tokio::test]
async fn a_claim_whose_reply_was_cut_is_delivered_all_the_same() {
    let server = RedisServer::start();
    let proxy = CuttingProxy::start(server.port());
    let mut raw = server.raw();
    let url = format!("redis://127.0.0.1:{}/0", proxy.port);
    let redis = Arc::new(Redis::connect(&url).await.expect("connected"));
    let jobs = queue("q", Duration::from_secs(30));
    for round in 0..20 {
        let waiting = tokio::spawn({
            let (redis, jobs) = (Arc::clone(&redis), Arc::clone(&jobs));
            async move { get(&redis, &jobs).await }
        });
        until("it waits", || blocked(&mut raw) == 1).await;
        proxy.cut_after(round);
        raw.run(&["LPUSH", "q", "job"]);
        let item = waiting.await.expect("no panic");
        assert_eq!((text(&item.payload).as_str(), item.deliveries), ("job", 1));
        settle(&redis, &jobs, item, Settlement::Ack).await;
        let stats = redis.stats(&jobs).await.expect("counted");
        assert_eq!((stats.waiting, stats.leased, stats.dead), (0, 0, 0));
    }
    assert_eq!(proxy.cuts(), 20);
}

/// A master may confirm what its successor never hears of, and a server what its log has not. Its consumer
/// lives, claims on, and keeps the lease.
#[tokio::test]
async fn what_was_confirmed_and_the_next_server_does_not_know_comes_once_more() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let jobs = queue("q", Duration::from_secs(3600));
    redis.push(&jobs, vec![bytes("job")], Wait::No.into()).await.expect("put");
    let item = get(&redis, &jobs).await;
    let held = raw.run(&["KEYS", "__pymq:{q}:held:*"]).texts().remove(0);
    let stored = raw.run(&["LRANGE", &held, "0", "-1"]).texts().remove(0);
    settle(&redis, &jobs, item, Settlement::Ack).await;
    raw.run(&["LPUSH", &held, &stored]);
    for role in ["waiting", "changes", "commands"] {
        kill(&mut raw, role);
    }
    let again = get(&redis, &jobs).await;
    assert_eq!(text(&again.payload), "job");
    settle(&redis, &jobs, again, Settlement::Ack).await;
    assert_eq!(redis.stats(&jobs).await.expect("counted").unfinished(), 0);
}

/// In one thread, so that the bus closes before anybody has seen that the connection is lost.
#[tokio::test]
async fn what_was_confirmed_on_a_connection_that_is_lost_is_gone_though_its_bus_closes() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let jobs = queue("q", Duration::from_secs(3600));
    let judge = connect(&server).await;
    for _ in 0..5 {
        let redis = connect(&server).await;
        judge.push(&jobs, vec![bytes("job")], Wait::No.into()).await.expect("put");
        let item = get(&redis, &jobs).await;
        raw.run(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        let taken =
            redis.settle_soon(&jobs, item.receipt, Settlement::Ack, SettleOptions::default());
        assert!(taken, "it will be done");
        let waiting = tokio::spawn({
            let (redis, jobs) = (Arc::clone(&redis), Arc::clone(&jobs));
            async move { redis.claim(&jobs, 1, Wait::Forever).await }
        });
        // The confirmation rides with the claim, and goes with it.
        until("it is held up", || blocked(&mut raw) > 0).await;
        kill(&mut raw, "waiting");
        raw.run(&["CLIENT", "UNPAUSE"]);
        redis.close().await.expect("closed");
        waiting.await.expect("no panic").expect_err("it is closed");
        assert_eq!(judge.stats(&jobs).await.expect("counted").unfinished(), 0);
    }
}

#[tokio::test]
async fn a_stopped_server_is_noticed_and_used_again_when_it_goes_on() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let topic = [Filter::Topic("t".to_owned())];
    let mut subscription = redis.subscribe(&topic).await.expect("subscribed");
    server.pause();
    let error = redis.publish("t", bytes("x")).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
    assert!(!error.is_retryable());
    server.resume();
    // The other connection may have been given up as well, or have answered in its last moment:
    // only what is published after it is back arrives.
    let guard = Instant::now() + GUARD;
    loop {
        publish(&redis, "t", "after").await;
        let soon = Duration::from_millis(100);
        let arrived = tokio::time::timeout(soon, subscription.recv()).await;
        if let Ok(Some(Arrival::Message(message))) = arrived
            && text(&message.payload) == "after"
        {
            return;
        }
        assert!(Instant::now() < guard, "nothing arrives");
    }
}

#[tokio::test]
async fn a_short_stall_is_no_reason_to_reconnect() {
    let server = RedisServer::start();
    let redis = connect(&server).await;
    let topic = [Filter::Topic("t".to_owned())];
    let mut subscription = redis.subscribe(&topic).await.expect("subscribed");
    server.pause();
    let stall = async {
        // Longer than it takes until a connection is asked for a sign of life, and by far less than it
        // takes until it is given up.
        tokio::time::sleep(Duration::from_secs(6)).await;
        server.resume();
    };
    let (published, ()) = tokio::join!(redis.publish("t", bytes("late")), stall);
    published.expect("published");
    assert_eq!(arrival(&mut subscription).await, Arrival::Message("late".to_owned()));
}

#[tokio::test]
async fn without_a_server_operations_fail_as_not_sent_after_their_patience() {
    let mut server = RedisServer::start();
    let mut options = RedisOptions::from_url(&server.url()).expect("an address");
    options.settings.reconnect_wait = Some(Duration::from_millis(100));
    let redis = Redis::with_options(options).await.expect("connected");
    let jobs = queue("q", Duration::from_secs(30));
    server.kill();
    // The first may still be sent into the dying connection: then nobody knows.
    let _ = redis.publish("t", bytes("x")).await;
    let publish = redis.publish("t", bytes("x")).await.map(|_| ());
    let push = redis.push(&jobs, vec![bytes("x")], Wait::No.into()).await.map(drop);
    let claim = redis.claim(&jobs, 1, Wait::No).await.map(|_| ());
    let subscribe = redis.subscribe(&[Filter::Topic("t".to_owned())]).await.map(|_| ());
    for outcome in [publish, push, claim, subscribe] {
        let error = outcome.expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    }
    let none = redis.claim(&jobs, 1, Wait::at_most(Duration::from_millis(50))).await;
    let error = none.expect_err("an outage is no empty queue");
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    redis.close().await.expect("closed without a server too");
}

#[tokio::test]
async fn a_settlement_without_a_server_is_done_once_it_is_back() {
    let mut server = RedisServer::start_with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let mut options = RedisOptions::from_url(&server.url()).expect("an address");
    options.settings.reconnect_wait = Some(Duration::from_millis(100));
    let redis = Redis::with_options(options).await.expect("connected");
    let jobs = queue("q", Duration::from_secs(30));
    redis
        .push(&jobs, vec![bytes("x"), bytes("y"), bytes("z")], Wait::No.into())
        .await
        .expect("put");
    let items = redis.claim(&jobs, 3, Wait::No).await.expect("claimed");
    server.kill();
    // Something has to run into the dead connection first.
    let _ = redis.publish("t", bytes("x")).await;
    let hows = [Settlement::Ack, Settlement::Requeue, Settlement::Reject];
    for (item, how) in items.into_iter().zip(hows) {
        let outcome = redis.settle(&jobs, item.receipt, how, SettleOptions::default()).await;
        let error = outcome.expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    }
    server.restart();
    let guard = Instant::now() + GUARD;
    while redis.stats(&jobs).await.map_or(3, |stats| stats.leased) > 0 {
        assert!(Instant::now() < guard, "they were forgotten");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let stats = redis.stats(&jobs).await.expect("counted");
    assert_eq!((stats.waiting, stats.leased, stats.dead), (1, 0, 1));
    assert_eq!(get(&redis, &jobs).await.deliveries, 2);
}

#[tokio::test]
async fn a_settlement_that_a_read_only_server_refuses_is_done_once_it_may_be() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let jobs = queue("q", Duration::from_secs(30));
    redis.push(&jobs, vec![bytes("x")], Wait::No.into()).await.expect("put");
    let item = get(&redis, &jobs).await;
    // As after a failover: the server that we know has become a replica.
    raw.run(&["REPLICAOF", "127.0.0.1", "1"]);
    let error = redis
        .settle(&jobs, item.receipt, Settlement::Ack, SettleOptions::default())
        .await
        .expect_err("read-only");
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    raw.run(&["REPLICAOF", "NO", "ONE"]);
    let held = |raw: &mut Raw| raw.run(&["KEYS", "__pymq:{q}:held:*"]).texts().len();
    until("it is done", || held(&mut raw) == 0).await;
    let stats = redis.stats(&jobs).await.expect("counted");
    assert_eq!((stats.waiting, stats.leased, stats.dead), (0, 0, 0));
}

#[tokio::test]
async fn subscribing_while_the_server_is_away_waits_until_it_is_back() {
    let mut server = RedisServer::start();
    let redis = connect(&server).await;
    let _other = redis.subscribe(&[Filter::Topic("other".to_owned())]).await.expect("subscribed");
    server.kill();
    let subscribing = tokio::spawn({
        let redis = Arc::clone(&redis);
        async move { redis.subscribe(&[Filter::Topic("t".to_owned())]).await }
    });
    tokio::task::yield_now().await;
    server.restart();
    let mut subscription = subscribing.await.expect("no panic").expect("subscribed");
    assert!(subscribers(&mut server.raw(), "t"));
    publish(&redis, "t", "x").await;
    assert_eq!(arrival(&mut subscription).await, Arrival::Message("x".to_owned()));
}

#[tokio::test]
async fn a_put_that_was_under_way_is_ambiguous_and_never_done_twice() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let jobs = queue("q", Duration::from_secs(30));
    raw.run(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let putting = tokio::spawn({
        let (redis, jobs) = (Arc::clone(&redis), Arc::clone(&jobs));
        async move { redis.push(&jobs, vec![bytes("x")], Wait::No.into()).await }
    });
    until("it is held up", || blocked(&mut raw) == 1).await;
    assert_eq!(kill(&mut raw, "commands"), 1);
    let error = putting.await.expect("no panic").expect_err("no answer came");
    assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
    raw.run(&["CLIENT", "UNPAUSE"]);
    // The connection may still be on its way back, which who does not wait is told.
    redis.push(&jobs, vec![bytes("y")], Wait::Forever.into()).await.expect("put");
    let items = raw.run(&["LRANGE", "q", "0", "-1"]).texts();
    assert!(items.iter().filter(|item| *item == "x").count() <= 1, "{items:?}");
}

#[test]
fn a_consumer_that_slept_longer_than_its_lease_loses_it_and_goes_on() {
    let server = RedisServer::start();
    let jobs = queue("q", Duration::from_millis(300));
    let sleeper = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let sleeper = sleeper.expect("a runtime");
    let (redis, item) = sleeper.block_on(async {
        let redis = connect(&server).await;
        redis.push(&jobs, vec![bytes("x"), bytes("y")], Wait::No.into()).await.expect("put");
        let item = get(&redis, &jobs).await;
        (redis, item)
    });
    // Outside block_on nothing of that runtime runs: the process sleeps, as far as Redis sees.
    let awake = tokio::runtime::Runtime::new().expect("a runtime");
    let kept = queue("q", Duration::from_secs(30));
    let (other, again) = awake.block_on(async {
        let other = connect(&server).await;
        let guard = Instant::now() + GUARD;
        // Who looks gives back what is nobody's any more.
        while other.stats(&kept).await.expect("counted").waiting < 2 {
            assert!(Instant::now() < guard, "the lease of a sleeper never ends");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let again = get(&other, &kept).await;
        assert_eq!(text(&get(&other, &kept).await.payload), "y");
        (other, again)
    });
    assert_eq!((text(&again.payload).as_str(), again.deliveries), ("x", 2));
    sleeper.block_on(async {
        let late =
            redis.settle(&jobs, item.receipt, Settlement::Ack, SettleOptions::default()).await;
        assert_eq!(late.expect_err("it is another's").kind(), ErrorKind::LeaseLost);
        redis.push(&jobs, vec![bytes("z")], Wait::No.into()).await.expect("put");
        // With so short a lease it may be lost again, and come again.
        loop {
            let z = get(&redis, &jobs).await;
            assert_eq!(text(&z.payload), "z");
            let how = Settlement::Ack;
            match redis.settle(&jobs, z.receipt, how, SettleOptions::default()).await {
                Err(lost) if lost.kind() == ErrorKind::LeaseLost => {}
                settled => break settled.expect("settled"),
            }
        }
    });
    awake.block_on(async {
        settle(&other, &kept, again, Settlement::Ack).await;
    });
}

#[tokio::test]
async fn a_server_that_forgot_everything_is_used_as_a_new_one() {
    let server = RedisServer::start();
    let mut raw = server.raw();
    let redis = connect(&server).await;
    let jobs = queue("q", Duration::from_millis(300));
    redis.push(&jobs, vec![bytes("x")], Wait::No.into()).await.expect("put");
    let item = get(&redis, &jobs).await;
    raw.run(&["FLUSHALL"]);
    let late = redis.settle(&jobs, item.receipt, Settlement::Ack, SettleOptions::default()).await;
    assert_eq!(late.expect_err("it is gone").kind(), ErrorKind::LeaseLost);
    let guard = Instant::now() + GUARD;
    loop {
        redis.push(&jobs, vec![bytes("y")], Wait::No.into()).await.expect("put");
        let item = get(&redis, &jobs).await;
        assert_eq!(text(&item.payload), "y");
        settle(&redis, &jobs, item, Settlement::Ack).await;
        // From its next heartbeat on it is known again, and would be reaped if it died.
        if raw.run(&["ZCARD", "__pymq:{q}:epochs"]).number() > 0 {
            break;
        }
        assert!(Instant::now() < guard, "it never registered again");
    }
}

/// A proxy that lets everything pass, until it is told to cut a reply to a waiting connection.
struct CuttingProxy {
    port: u16,
    /// One more than the bytes that the next reply may have; 0 lets replies pass.
    allowance: Arc<AtomicUsize>,
    cuts: Arc<AtomicUsize>,
}

impl CuttingProxy {
    fn start(server: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("bound").port();
        let (allowance, cuts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (shared, counted) = (Arc::clone(&allowance), Arc::clone(&cuts));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else { return };
                Self::join(client, server, &shared, &counted);
            }
        });
        Self { port, allowance, cuts }
    }

    /// Cuts the next reply to a connection that waits, behind that many bytes.
    fn cut_after(&self, bytes: usize) {
        self.allowance.store(bytes + 1, Ordering::SeqCst);
    }

    fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }

    fn join(
        client: TcpStream,
        server: TcpStream,
        allowance: &Arc<AtomicUsize>,
        cuts: &Arc<AtomicUsize>,
    ) {
        let waits = Arc::new(AtomicUsize::new(0));
        let (mut from, mut to) =
            (client.try_clone().expect("cloned"), server.try_clone().expect("cloned"));
        let seen = Arc::clone(&waits);
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                if buffer[..length].windows(12).any(|word| word == b"pymq-waiting") {
                    seen.store(1, Ordering::SeqCst);
                }
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
        let (mut from, mut to) = (server, client);
        let (allowance, cuts) = (Arc::clone(allowance), Arc::clone(cuts));
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let allowed = match waits.load(Ordering::SeqCst) {
                    0 => 0,
                    _ => allowance.swap(0, Ordering::SeqCst),
                };
                if allowed > 0 {
                    // First, since whoever gets the reply may ask at once.
                    cuts.fetch_add(1, Ordering::SeqCst);
                    let _ = to.write_all(&buffer[..length.min(allowed - 1)]);
                    let _ = from.shutdown(Shutdown::Both);
                    break;
                }
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

#[tokio::test]
async fn posts_that_the_server_does_not_get_are_counted_and_are_no_errors() {
    let mut server = RedisServer::start();
    let bus = Bus::connect(&server.url()).await.expect("connected");
    let topic = bus.topic("t");
    topic.post(&0).await.expect("posted");
    bus.ping().await.expect("what was posted before is answered before");
    assert_eq!(bus.health().lost_posts, 0);
    server.kill();
    until("the connection is lost", || !bus.state().is_connected()).await;
    for number in 0..10 {
        topic.post(&number).await.expect("posted");
    }
    assert_eq!(bus.health().lost_posts, 10);
    server.restart();
    until("the connection is back", || bus.state().is_connected()).await;
    topic.post(&1).await.expect("posted");
    bus.ping().await.expect("answered");
    assert_eq!(bus.health().lost_posts, 10);
}

#[tokio::test]
async fn of_what_was_posted_when_the_connection_broke_nothing_is_uncounted() {
    const MANY: usize = 5_000;
    let server = RedisServer::start();
    let (bus, subscriber) = (server.url(), server.url());
    let bus = Bus::connect(&bus).await.expect("connected");
    let subscriber = Bus::connect(&subscriber).await.expect("connected");
    let mut events = subscriber.topic::<usize>("t").subscribe().await.expect("subscribed");
    let mut raw = server.raw();
    let topic = bus.topic("t");
    for number in 0..MANY {
        topic.post(&number).await.expect("posted");
        if number == MANY / 2 {
            tokio::task::yield_now().await;
            assert!(kill(&mut raw, "commands") > 0);
        }
    }
    // A publish may still meet the connection that breaks; of two one arrives.
    while topic.publish(&MANY).await.is_err() {}
    let mut arrived = 0;
    while events.recv().await.expect("open").expect("an event") != MANY {
        arrived += 1;
    }
    let lost = usize::try_from(bus.health().lost_posts).expect("few");
    assert!(lost > 0 && arrived + lost >= MANY, "{arrived} arrived, {lost} are counted as lost");
}
