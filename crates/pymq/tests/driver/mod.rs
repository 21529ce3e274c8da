//! The Redis transport itself, as its tests hold it: names and bytes over a server of their own.
//!
//! The one invariant: whatever waits here does so for at most [`GUARD`], which no test needs. It
//! knows nothing of buses; users' journeys are in `place`.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    reason = "each test binary uses its own part of this module"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pymq::transport::redis::Redis;
use pymq::transport::{Claimed, QueueSpec, Queues, SettleOptions, Settlement, Wait};
use server::{Raw, RedisServer};

#[path = "../server/mod.rs"]
pub mod server;

/// A test that waits for as long hangs.
pub const GUARD: Duration = Duration::from_secs(180);

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub async fn connect(server: &RedisServer) -> Arc<Redis> {
    Arc::new(Redis::connect(&server.url()).await.expect("the server is there"))
}

/// A queue with an option of its own.
pub fn queue_with(name: &str, change: impl FnOnce(&mut QueueSpec)) -> Arc<QueueSpec> {
    let mut spec = QueueSpec::new(name);
    change(&mut spec);
    Arc::new(spec)
}

/// The first item, waiting for one.
pub async fn get(redis: &Redis, queue: &Arc<QueueSpec>) -> Claimed {
    let claimed = redis.claim(queue, 1, Wait::at_most(GUARD)).await.expect("claimed");
    claimed.into_iter().next().expect("an item in time")
}

/// Ends the lease of an item that is still ours.
pub async fn settle(redis: &Redis, queue: &Arc<QueueSpec>, item: Claimed, how: Settlement) {
    let settled = redis.settle(queue, item.receipt, how, SettleOptions::default()).await;
    settled.unwrap_or_else(|error| panic!("{how:?}: {error}"));
}

/// Leases, and times to wait, in which something must happen: a machine may stand still for any of
/// them, and has the next, longer one then.
pub fn lengths(first: Duration) -> impl Iterator<Item = Duration> {
    (0..4).map(move |more| first * 4_u32.pow(more))
}

/// Waits until a condition holds that nothing announces.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let guard = Instant::now() + GUARD;
    while !holds() {
        assert!(Instant::now() < guard, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many connections wait in a blocking command.
pub fn blocked(raw: &mut Raw) -> usize {
    let text = raw.run(&["INFO", "clients"]).text();
    let line = text.lines().find_map(|line| line.strip_prefix("blocked_clients:"));
    line.expect("INFO counts blocked clients").trim().parse().expect("a number")
}
