//! A master behind sentinels: found, followed wherever it goes, and what that costs.
#![cfg(feature = "redis")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use pymq::{Bus, ErrorKind, Wait};
use server::RedisServer;
use server::watched::Watched;
use tokio::task::{JoinHandle, block_in_place};

mod server;

/// A test that waits for as long hangs.
const GUARD: Duration = Duration::from_secs(180);
const SHORT: Duration = Duration::from_millis(500);
/// A port where nobody is.
const NOWHERE: u16 = 1;

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let guard = Instant::now() + GUARD;
    while !holds().await {
        assert!(Instant::now() < guard, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Puts numbers one after the other, until it is told to end; those that were confirmed.
fn produce(bus: &Bus, queue: &str, last: &Arc<AtomicU32>) -> JoinHandle<Vec<u32>> {
    let (queue, last) = (bus.queue::<u32>(queue), Arc::clone(last));
    tokio::spawn(async move {
        let mut confirmed = Vec::new();
        for number in 0.. {
            match queue.put(&number).await {
                Ok(()) => confirmed.push(number),
                // Nobody knows, or nothing was done, and who asked is told.
                Err(error) => {
                    let told = [ErrorKind::Ambiguous, ErrorKind::Connection, ErrorKind::Server];
                    assert!(told.contains(&error.kind()), "{error}");
                }
            }
            if number >= last.load(Ordering::Relaxed) {
                break;
            }
        }
        confirmed
    })
}

/// Everything that a bus can do works, and waits that had begun before go on.
struct Life {
    bus: Bus,
    other: Bus,
    news: pymq::Events<u32>,
    _service: pymq::Service,
    waiting: JoinHandle<pymq::Result<Option<u32>>>,
}

impl Life {
    async fn begin(url: &str) -> Self {
        let bus = Bus::connect(url).await.expect("connected");
        let other = Bus::connect(url).await.expect("connected");
        let news = bus.topic::<u32>("news").subscribe().await.expect("subscribed");
        let service = bus.expose_fn("f", |(): ()| async { Ok::<_, String>(7) });
        let service = service.await.expect("bound");
        let waiting = Self::wait(&bus);
        Self { bus, other, news, _service: service, waiting }
    }

    fn wait(bus: &Bus) -> JoinHandle<pymq::Result<Option<u32>>> {
        let jobs = bus.queue::<u32>("jobs");
        tokio::spawn(async move { jobs.get_timeout(GUARD).await })
    }

    async fn goes_on(&mut self, after: &str) {
        let jobs = self.other.queue::<u32>("jobs");
        until(&format!("a put works and the wait went on after {after}"), async || {
            if jobs.put(&5).await.is_err() {
                return false;
            }
            // What a master took last that is none any more is thrown away with it.
            let again = Instant::now() + Duration::from_secs(10);
            while !self.waiting.is_finished() && Instant::now() < again {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.waiting.is_finished()
        })
        .await;
        let next = Self::wait(&self.bus);
        let got = std::mem::replace(&mut self.waiting, next).await.expect("no panic");
        assert_eq!(got.expect("the wait went on"), Some(5), "{after}");
        until(&format!("a call is answered after {after}"), async || {
            self.other.stub::<(), u32>("f").call(()).await.is_ok_and(|seven| seven == 7)
        })
        .await;
        until(&format!("an event is heard after {after}"), async || {
            // The server may be about to go, or the subscription on its way.
            let _ = self.other.topic("news").publish(&9_u32).await;
            let arrived = tokio::time::timeout(SHORT, self.news.recv()).await;
            arrived.is_ok_and(|event| event.expect("the bus is open").is_ok())
        })
        .await;
        until("both are well", async || {
            [&self.bus, &self.other].iter().all(|bus| bus.health().state.is_connected())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_follows_the_master_that_the_sentinels_name_and_what_replicas_have_is_not_lost()
{
    let mut watched = block_in_place(Watched::start);
    let mut life = Life::begin(&watched.url()).await;
    let careful = Bus::connect(&format!("{}?replicas=2", watched.url())).await.expect("connected");
    let last = Arc::new(AtomicU32::new(u32::MAX));
    let produced = produce(&careful, "kept", &last);
    let named =
        |watched: &Watched| format!("redis://127.0.0.1:{}", watched.nodes[watched.master()].port());
    until("the bus names the master", async || life.bus.health().server == Some(named(&watched)))
        .await;
    life.goes_on("the beginning").await;

    // By hand: the old master lives on, and takes writes that will be thrown away.
    let first = watched.master();
    block_in_place(|| watched.fail_over());
    life.goes_on("a failover by hand").await;
    until("the bus names the new master", async || {
        life.bus.health().server == Some(named(&watched))
    })
    .await;
    block_in_place(|| {
        watched.demote(first);
        watched.until_whole();
    });

    let killed = block_in_place(|| watched.kill_master());
    life.goes_on("the master was killed").await;
    // Too few replicas are left.
    until("it is told that too few have it", async || {
        let put = careful.queue::<u32>("more").put_timeout(&1, SHORT).await;
        let error = put.expect_err("one replica has it");
        // Where the machine stands still for that time, nothing is sent.
        let unsent = error.kind() == ErrorKind::Connection;
        assert!(unsent || error.kind() == ErrorKind::Ambiguous, "{error}");
        !unsent
    })
    .await;
    block_in_place(|| {
        watched.rejoin(killed);
        watched.until_whole();
    });

    let stopped = watched.master();
    watched.nodes[stopped].pause();
    life.goes_on("the master hangs").await;
    watched.nodes[stopped].resume();
    life.goes_on("the old master takes writes again").await;
    block_in_place(|| {
        watched.demote(stopped);
        watched.until_whole();
    });

    last.store(0, Ordering::Relaxed);
    let confirmed = produced.await.expect("no panic");
    assert!(confirmed.len() > 100, "only {} puts were confirmed", confirmed.len());
    let kept = careful.queue::<u32>("kept");
    let mut left = std::collections::HashSet::new();
    until("all that is left is taken", async || match kept.get_many(1000, Wait::No).await {
        Ok(items) => {
            let none = items.is_empty();
            left.extend(items);
            none
        }
        // A server that says nothing for a moment is no empty queue.
        Err(error) => {
            assert!(error.is_retryable(), "{error}");
            false
        }
    })
    .await;
    let lost: Vec<_> = confirmed.iter().filter(|number| !left.contains(number)).collect();
    assert!(lost.is_empty(), "{} of {}: {lost:?}", lost.len(), confirmed.len());
}

#[tokio::test]
async fn where_no_master_can_be_found_it_is_said_why() {
    let server = RedisServer::start();
    let lines = [format!("sentinel monitor mymaster 127.0.0.1 {} 1", server.port())];
    let sentinel = server::watched::Sentinel::start(&lines);
    let (alone, away) = (sentinel.port(), NOWHERE);
    for (hosts, kind, words) in [
        (format!("127.0.0.1:{away}/mymaster"), ErrorKind::Connection, "no sentinel answers"),
        (format!("127.0.0.1:{alone}/other"), ErrorKind::Config, "watches a master \"other\""),
        (format!("127.0.0.1:{away},127.0.0.1:{alone}/other"), ErrorKind::Config, "\"other\""),
        (
            format!("127.0.0.1:{}/mymaster", server.port()),
            ErrorKind::Connection,
            "no sentinel, but",
        ),
    ] {
        let error = Bus::connect(&format!("redis+sentinel://{hosts}")).await.expect_err(&hosts);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    // One that answers is enough.
    let url = format!("redis+sentinel://127.0.0.1:{away},127.0.0.1:{alone}/mymaster/0");
    let bus = Bus::connect(&url).await.expect("connected");
    bus.ping().await.expect("it lives");
    let hidden = format!("redis+sentinel://u:secret@127.0.0.1:{alone}/mymaster?reconnect_wait=1");
    let error = Bus::connect(&hidden).await.expect_err("nobody has a password");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!format!("{error:?}").contains("secret"), "{error:?}");
}

#[tokio::test]
async fn sentinels_and_their_master_have_passwords_of_their_own() {
    let server = RedisServer::start_with(&["--requirepass", "data"]);
    let lines = [
        format!("sentinel monitor mymaster 127.0.0.1 {} 1", server.port()),
        "sentinel auth-pass mymaster data".to_owned(),
        "requirepass watch".to_owned(),
    ];
    let sentinel = server::watched::Sentinel::start(&lines);
    let hosts = format!("127.0.0.1:{}/mymaster", sentinel.port());
    let url = format!("redis+sentinel://:data@{hosts}?sentinel_password=watch");
    let bus = Bus::connect(&url).await.expect("let in by both");
    bus.queue("jobs").put(&1_u32).await.expect("put");
    let refused = Bus::connect(&format!("redis+sentinel://:data@{hosts}")).await;
    let error = refused.expect_err("the sentinel wants one");
    assert_eq!(error.kind(), ErrorKind::Connection);
    assert!(error.to_string().contains("no sentinel answers"), "{error}");
}
