//! The contract, rule by rule, over a live Redis server, one for each rule.
#![cfg(all(feature = "redis", feature = "conformance"))]

mod server;

use std::sync::Arc;

use pymq::Result;
use pymq::conformance::Broker;
use pymq::transport::{Transport, connect};
use server::RedisServer;

struct Server(RedisServer);

impl Broker for Server {
    async fn connect(&self) -> Result<Arc<dyn Transport>> {
        connect(&self.0.url()).await
    }
}

pymq::conformance_suite!(redis, Server(RedisServer::start()));
