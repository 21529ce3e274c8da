//! Servers that cannot serve are refused by name.
#![cfg(feature = "redis")]

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pymq::{Bus, ErrorKind};
use server::{RedisServer, free_port};

mod server;

/// A test that waits for as long hangs.
const GUARD: Duration = Duration::from_secs(60);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let guard = Instant::now() + GUARD;
    while !holds().await {
        assert!(Instant::now() < guard, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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

/// A sentinel, which ends with the test.
struct Sentinel {
    port: u16,
    process: Child,
}

impl Sentinel {
    fn start() -> Self {
        let port = free_port();
        let file = std::env::temp_dir().join(format!("pymq-sentinel-{port}.conf"));
        std::fs::write(&file, format!("port {port}\n")).expect("the folder is writable");
        let binary = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let process = Command::new(binary)
            .arg(file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn()
            .expect("a redis-server is there");
        let guard = Instant::now() + GUARD;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < guard, "the sentinel does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { port, process }
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // Errors say that it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let name = format!("pymq-sentinel-{}.conf", self.port);
        let _ = std::fs::remove_file(std::env::temp_dir().join(name));
    }
}

#[tokio::test]
async fn a_sentinel_is_refused_by_name_and_not_waited_for() {
    let sentinel = Sentinel::start();
    let url = format!("redis://127.0.0.1:{}", sentinel.port);
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
