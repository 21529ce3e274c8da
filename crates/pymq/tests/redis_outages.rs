//! Servers that refuse for a while, stand still, give way to others or cannot serve at all: every wait
//! goes on by itself or ends in its time, with the true reason.
#![cfg(feature = "redis")]

use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryFutureExt as _;
use futures_util::future::join_all;
use pymq::{Bus, ErrorKind, PutOptions, Wait};
use server::watched::Sentinel;
use server::{Raw, RedisServer};

mod server;

/// A test that waits for as long hangs.
const GUARD: Duration = Duration::from_secs(180);
/// What operations are given that take a time.
const SHORT: Duration = Duration::from_millis(500);
/// By far more than that, and less than it takes until a silent connection is given up.
const SOON: Duration = Duration::from_secs(6);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let guard = Instant::now() + GUARD;
    while !holds().await {
        assert!(Instant::now() < guard, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What a server does for a while, and how it is ended.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    NoReplicas,
    CannotSave,
    ReadOnly,
    Denied,
    FullOfClients,
}

impl Trouble {
    const ALL: [Self; 5] =
        [Self::NoReplicas, Self::CannotSave, Self::ReadOnly, Self::Denied, Self::FullOfClients];

    async fn begin(self, server: &RedisServer, raw: &mut Raw) {
        match self {
            Self::NoReplicas => drop(raw.run(&["CONFIG", "SET", "min-replicas-to-write", "1"])),
            Self::CannotSave => {
                raw.run(&["CONFIG", "SET", "save", "3600 1"]);
                server.lose_folder();
                raw.run(&["BGSAVE"]);
                until("it fails to save", async || {
                    raw.run(&["INFO", "persistence"]).text().contains("last_bgsave_status:err")
                })
                .await;
            }
            Self::ReadOnly => drop(raw.run(&["REPLICAOF", "127.0.0.1", "1"])),
            Self::Denied => drop(raw.run(&["ACL", "SETUSER", "w", "-@all", "resetchannels"])),
            Self::FullOfClients => {
                raw.run(&["CONFIG", "SET", "maxclients", "1"]);
                raw.run(&["CLIENT", "KILL", "USER", "w"]);
            }
        }
    }

    fn end(self, raw: &mut Raw) {
        match self {
            Self::NoReplicas => raw.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]),
            Self::CannotSave => raw.run(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]),
            Self::ReadOnly => raw.run(&["REPLICAOF", "NO", "ONE"]),
            Self::Denied => raw.run(&["ACL", "SETUSER", "w", "+@all", "allchannels"]),
            Self::FullOfClients => raw.run(&["CONFIG", "SET", "maxclients", "1000"]),
        };
    }
}

async fn resumes_after(trouble: Trouble) {
    let server = RedisServer::start();
    let mut raw = server.raw();
    raw.run(&["ACL", "SETUSER", "w", "on", ">PASSWORD", "~*", "&*", "+@all"]);
    let url = format!("redis://w:PASSWORD@127.0.0.1:{}", server.port());
    let bus = Bus::connect(&url).await.expect("connected");
    let held = bus.queue::<u32>("held");
    held.put(&1).await.expect("put");
    let delivery = held.claim().await.expect("claimed");
    let waiting = tokio::spawn({
        let jobs = bus.queue::<u32>("jobs");
        async move { jobs.get_timeout(GUARD).await }
    });
    let mut news = bus.topic::<u32>("news").subscribe().await.expect("subscribed");
    let _service = bus.expose_fn("f", |(): ()| async { Ok::<_, String>(7) }).await.expect("bound");

    trouble.begin(&server, &mut raw).await;
    // Whether it is refused or put off, it is not forgotten.
    let settled = delivery.ack().await;
    let put = bus.queue::<u32>("others").put_timeout(&1, SHORT).await;
    let error = put.expect_err("nothing can be put");
    let passes = !matches!(trouble, Trouble::Denied);
    let kind = error.kind();
    assert!(error.is_retryable() == passes || kind == ErrorKind::Ambiguous, "{trouble:?}: {error}");
    let got = bus.queue::<u32>("none").get_timeout(SHORT).await;
    got.expect_err("a server that refuses is no empty queue");
    trouble.end(&mut raw);

    let producer = Bus::connect(&server.url()).await.expect("connected");
    producer.queue("jobs").put(&5).await.expect("it serves again");
    let got = waiting.await.expect("no panic");
    if matches!(trouble, Trouble::Denied) && got.is_err() {
        // Rights do not come back by themselves: who waits is told of them.
        assert_eq!(bus.queue::<u32>("jobs").get().await.expect("allowed again"), 5);
    } else {
        assert_eq!(got.expect("the wait went on"), Some(5), "{trouble:?}");
    }
    until("it is settled", async || {
        producer.queue::<u32>("held").stats().await.is_ok_and(|stats| stats.leased == 0)
    })
    .await;
    let left = producer.queue::<u32>("held").stats().await.expect("counted");
    assert_eq!((left.waiting, left.dead), (0, 0), "{trouble:?}: {settled:?}");
    until("the function is back", async || producer.stub::<(), u32>("f").call(()).await.is_ok())
        .await;
    until("the subscription is back", async || {
        producer.topic("news").publish(&9_u32).await.expect("published");
        let arrived = tokio::time::timeout(SHORT, news.recv()).await;
        arrived.is_ok_and(|event| event.expect("the bus is open").is_ok())
    })
    .await;
    bus.close().await.expect("closed");
}

#[tokio::test]
async fn whatever_is_refused_for_a_while_goes_on_by_itself() {
    join_all(Trouble::ALL.map(async |trouble| {
        let outcome = tokio::time::timeout(GUARD * 2, resumes_after(trouble)).await;
        outcome.unwrap_or_else(|_| panic!("{trouble:?} hangs"));
    }))
    .await;
}

#[tokio::test]
async fn who_waits_for_several_queues_outlasts_an_outage_as_who_waits_for_one() {
    let mut server = RedisServer::start();
    let bus = Bus::connect(&server.url()).await.expect("connected");
    bus.ping().await.expect("it is there");
    server.kill();
    let several = ["a", "b"].map(|name| bus.queue::<u32>(name));
    let error =
        pymq::get_any(&several, Wait::No).await.expect_err("nobody says that they are empty");
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
    assert!(!error.to_string().contains("may still be done"), "{error}");
    let waits = [Wait::from(GUARD), Wait::Forever].map(|wait| {
        let several = several.clone();
        tokio::spawn(async move { pymq::get_any(&several, wait).await })
    });
    tokio::time::sleep(SHORT).await;
    server.restart();
    let producer = Bus::connect(&server.url()).await.expect("connected");
    producer.queue("b").put_many(&[1_u32, 2]).await.expect("put");
    for waits in waits {
        let got = tokio::time::timeout(GUARD, waits).await.expect("it went on");
        let (which, _) = got.expect("no panic").expect("got").expect("an item");
        assert_eq!(which, 1);
    }
}

/// One address behind which another server may stand; old connections stay open.
struct Address {
    port: u16,
    leads_to: Arc<AtomicU16>,
}

impl Address {
    fn of(server: &RedisServer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let port = listener.local_addr().expect("bound").port();
        let leads_to = Arc::new(AtomicU16::new(server.port()));
        let target = Arc::clone(&leads_to);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let to = target.load(Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let pair = |stream: &TcpStream| stream.try_clone().expect("cloned");
                copy(pair(&client), pair(&server));
                copy(server, client);
            }
        });
        Self { port, leads_to }
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn lead_to(&self, server: &RedisServer) {
        self.leads_to.store(server.port(), Ordering::SeqCst);
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    from.set_nodelay(true).expect("TCP has no delay option");
    std::thread::spawn(move || {
        // Both ends may go at any time: that is the end of it.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.flush();
        let _ = to.shutdown(Shutdown::Both);
    });
}

#[tokio::test]
async fn another_master_behind_the_same_address_is_used_from_the_first_refusal_on() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let address = Address::of(&old);
    let bus = Bus::connect(&address.url()).await.expect("connected");
    let mut news = bus.topic::<u32>("news").subscribe().await.expect("subscribed");
    let _service = bus.expose_fn("f", |(): ()| async { Ok::<_, String>(7) }).await.expect("bound");
    let waiting = tokio::spawn({
        let jobs = bus.queue::<u32>("jobs");
        async move { jobs.get_timeout(GUARD).await }
    });
    until("it waits", async || {
        old.raw().run(&["INFO", "clients"]).text().contains("blocked_clients:1")
    })
    .await;
    address.lead_to(&new);
    old.raw().run(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    if let Err(refused) = bus.queue("others").put(&1).await {
        assert!(refused.is_retryable(), "{refused}");
        bus.queue("others").put(&1).await.expect("done by the new master");
    }
    assert_eq!(new.raw().run(&["LLEN", "__eventbus:global:others"]).number(), 1);
    let elsewhere = Bus::connect(&new.url()).await.expect("connected");
    elsewhere.queue("jobs").put(&5).await.expect("put");
    assert_eq!(waiting.await.expect("no panic").expect("it went on"), Some(5));
    until("the function is there", async || elsewhere.stub::<(), u32>("f").call(()).await.is_ok())
        .await;
    until("the subscription is there", async || {
        elsewhere.topic("news").publish(&9_u32).await.expect("published");
        let arrived = tokio::time::timeout(SHORT, news.recv()).await;
        arrived.is_ok_and(|event| event.expect("the bus is open").is_ok())
    })
    .await;
}

/// An operation that was given half a second is over soon after.
async fn soon<T>(what: &str, operation: impl Future<Output = pymq::Result<T>>) {
    let outcome = tokio::time::timeout(SOON, operation).await;
    let outcome = outcome.unwrap_or_else(|_| panic!("{what} does not end in its time"));
    let error = outcome.err().unwrap_or_else(|| panic!("{what}: nobody answered"));
    let honest = [ErrorKind::Connection, ErrorKind::Ambiguous, ErrorKind::Timeout];
    assert!(honest.contains(&error.kind()), "{what}: {error}");
}

#[tokio::test]
async fn every_limit_is_kept_while_the_server_stands_still() {
    let server = RedisServer::start();
    let bus = Bus::connect(&server.url()).await.expect("connected");
    let jobs = bus.queue::<u32>("jobs");
    let bounded = jobs.clone().maxsize(5);
    let ahead = jobs.clone().prefetch(10);
    let _service = bus.expose_fn("f", |(): ()| async { Ok::<_, String>(7) }).await.expect("bound");
    let stub = bus.stub::<(), u32>("f").timeout(SHORT);
    stub.call(()).await.expect("it is known");
    jobs.put(&1).await.expect("put");
    jobs.get().await.expect("got");
    server.pause();
    let paused = Instant::now();
    for round in 0..2 {
        let what = |operation: &str| format!("{operation} of round {round}");
        soon(&what("put"), jobs.put_timeout(&1, SHORT)).await;
        soon(&what("try_put"), jobs.try_put(&1)).await;
        soon(&what("put_many"), jobs.put_many_with(&[1, 2], Wait::from(SHORT))).await;
        let once = PutOptions::new().id("order-17").wait(SHORT);
        let put = jobs.put_with(&1, once).await.expect_err("nobody answers");
        // What was sent may be done when the server goes on; later the connection is given up, and
        // nothing is sent any more.
        let given_up = round > 0 || paused.elapsed() > Duration::from_secs(4);
        let honest = [ErrorKind::Ambiguous, ErrorKind::Connection];
        let honest = &honest[..=usize::from(given_up)];
        assert!(honest.contains(&put.kind()), "round {round}: {put}");
        soon(&what("bounded put"), bounded.put_timeout(&1, SHORT)).await;
        soon(&what("bounded try_put"), bounded.try_put(&1)).await;
        soon(&what("get"), jobs.get_timeout(SHORT)).await;
        soon(&what("try_get"), jobs.try_get()).await;
        soon(&what("get_many"), jobs.get_many(10, SHORT)).await;
        soon(&what("get ahead"), ahead.get_timeout(SHORT)).await;
        soon(&what("claim"), jobs.claim_timeout(SHORT)).await;
        soon(&what("try_claim"), jobs.try_claim()).await;
        soon(&what("call"), stub.call(())).await;
        soon(&what("call of a stranger"), bus.stub::<(), u32>("g").timeout(SHORT).call(())).await;
        soon(&what("call_all"), stub.call_all(())).await;
        soon(&what("ping"), bus.ping()).await;
    }
    server.resume();
}

/// Settlements that are under way when the server falls silent for good.
#[tokio::test]
async fn a_process_that_stood_still_reads_the_answers_that_came_meanwhile() {
    let server = RedisServer::start();
    let bus = Bus::connect(&server.url()).await.expect("connected");
    let jobs = bus.queue::<u32>("jobs");
    for number in 0..3 {
        // The only thread, and with it what reads and writes, stands still for longer than a round trip may take.
        let still = async { std::thread::sleep(Duration::from_millis(1500)) };
        let (put, ()) =
            tokio::join!(jobs.put_with(&number, PutOptions::new().wait(Wait::No)), still);
        put.expect("answered");
    }
    assert_eq!(jobs.get_many(5, Wait::No).await.expect("answered"), [0, 1, 2]);
}

#[tokio::test]
async fn what_is_under_way_when_the_server_falls_silent_ends() {
    let server = RedisServer::start();
    let bus = Bus::builder(&server.url())
        .heartbeat(Duration::from_secs(1), Duration::from_secs(6))
        .reconnect_wait(SHORT)
        .connect()
        .await
        .expect("connected");
    let jobs = bus.queue::<u32>("jobs");
    jobs.put_many(&[1, 2, 3, 4, 5, 6]).await.expect("put");
    let mut held = jobs.claim_many(6, GUARD).await.expect("claimed").into_iter();
    let mut next = || held.next().expect("six are held");
    let (acked, requeued, rejected, later, extended) = (next(), next(), next(), next(), next());
    let dropped = next();
    server.pause();
    drop(dropped);
    let ended = async {
        let (extended, ended) = tokio::join!(extended.extend(GUARD), async {
            tokio::join!(
                acked.ack(),
                requeued.requeue(),
                rejected.reject(),
                later.requeue_after(SHORT),
                jobs.stats(),
            )
        });
        [extended, ended.0, ended.1, ended.2, ended.3, ended.4.map(drop)]
    };
    let ended = tokio::time::timeout(GUARD, ended).await.expect("each ends");
    for outcome in ended {
        let error = outcome.expect_err("nobody answered");
        let honest = [ErrorKind::Connection, ErrorKind::Ambiguous];
        assert!(honest.contains(&error.kind()), "{error}");
    }
    server.resume();
    until("they are done", async || {
        let Ok(stats) = jobs.stats().await else { return false };
        // What was only extended, and what the drops of settled ones could not change.
        (stats.leased, stats.dead) == (1, 1) && stats.waiting + stats.delayed == 3
    })
    .await;
}

/// `Closed` says that nothing was done: of what was sent when its bus closes, nobody knows that.
#[tokio::test]
async fn what_is_in_flight_when_its_bus_closes_is_not_called_undone() {
    let server = RedisServer::start();
    let bus = Bus::connect(&server.url()).await.expect("connected");
    let bounded = bus.queue::<u32>("bounded").maxsize(10);
    let jobs = bus.queue::<u32>("jobs");
    jobs.put(&0).await.expect("put");
    // The server knows the script from here on.
    bounded.put(&0).await.expect("put");
    jobs.put(&7).await.expect("put");
    let delivery = jobs.claim().await.expect("claimed");
    let (held, ended) = (bus.queue::<u32>("held"), bus.queue::<u32>("ended"));
    held.put(&8).await.expect("put");
    let held = held.claim().await.expect("claimed");
    server.pause();
    let (later, named) = (PutOptions::new().delay(GUARD), PutOptions::new().id("four"));
    let puts = async {
        tokio::join!(
            jobs.put(&1),
            bounded.put(&2),
            jobs.put_with(&3, later).map_ok(drop),
            jobs.put_with(&4, named).map_ok(drop),
            jobs.put_many(&[5, 6]),
        )
    };
    let others = async { tokio::join!(delivery.ack(), held.extend(GUARD), ended.shut_down()) };
    let ended = async { tokio::join!(puts, others, bus.close()) };
    let (puts, others, closed) = tokio::time::timeout(GUARD, ended).await.expect("each ends");
    closed.expect("closed");
    let others = [others.0, others.1, others.2];
    for outcome in [puts.0, puts.1, puts.2, puts.3, puts.4].into_iter().chain(others) {
        let error = outcome.expect_err("nobody answered");
        assert_eq!(error.kind(), ErrorKind::Ambiguous, "{error}");
    }
    server.resume();
    let bus = Bus::connect(&server.url()).await.expect("connected");
    let queues = ["jobs", "bounded"].map(|name| bus.queue::<u32>(name));
    until("what was sent was done", async || {
        let [jobs, bounded] = [queues[0].stats().await, queues[1].stats().await];
        let [jobs, bounded] = [jobs.expect("there"), bounded.expect("there")];
        (jobs.waiting, jobs.delayed, bounded.waiting) == (5, 1, 2)
    })
    .await;
}

/// The kind and words with which connecting is refused.
async fn refused(url: &str) -> (ErrorKind, String) {
    let error = Bus::connect(url).await.expect_err("it cannot serve");
    (error.kind(), error.to_string())
}

#[tokio::test]
async fn a_replica_is_refused_by_name_and_waited_for_where_that_is_asked() {
    let server = RedisServer::start_with(&["--replicaof", "127.0.0.1", "1"]);
    let (kind, words) = refused(&server.url()).await;
    assert_eq!(kind, ErrorKind::Connection, "it may become a master: {words}");
    assert!(words.contains("a replica"), "{words}");
    let url = server.url();
    let waiting =
        tokio::spawn(async move { Bus::builder(&url).connect_wait(GUARD).connect().await });
    server.raw().run(&["REPLICAOF", "NO", "ONE"]);
    waiting.await.expect("no panic").expect("it is a master now");
}

#[tokio::test]
async fn a_sentinel_is_refused_by_name_and_not_waited_for() {
    let sentinel = Sentinel::start(&[]);
    let url = format!("redis://127.0.0.1:{}", sentinel.port());
    let error = Bus::builder(&url).connect_wait(Duration::MAX).connect().await.expect_err("no bus");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("a sentinel"), "{error}");
}

#[tokio::test]
async fn a_cluster_of_one_node_serves_and_one_of_two_is_refused_by_name() {
    let node = |name| {
        let file = format!("nodes-{name}.conf");
        RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-config-file", &file])
    };
    let (one, two) = (node("one"), node("two"));
    one.raw().run(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let knows = |count: u8| {
        one.raw().run(&["CLUSTER", "INFO"]).text().contains(&format!("cluster_known_nodes:{count}"))
    };
    until("it knows itself", async || knows(1)).await;
    Bus::connect(&one.url()).await.expect("one node has every key");
    one.raw().run(&["CLUSTER", "MEET", "127.0.0.1", &two.port().to_string()]);
    until("they have met", async || knows(2)).await;
    let (kind, words) = refused(&one.url()).await;
    assert_eq!(kind, ErrorKind::Config, "{words}");
    assert!(words.contains("a node of a cluster"), "{words}");
}
