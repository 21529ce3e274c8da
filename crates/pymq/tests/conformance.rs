//! The contract, rule by rule, on every transport of this crate.

use pymq::conformance::Url;

pymq::conformance_suite!(memory, Url::new("memory://conformance"));

#[cfg(feature = "redis")]
mod server;

#[cfg(feature = "redis")]
mod over_redis {
    use std::sync::Arc;

    use pymq::conformance::Broker;
    use pymq::transport::{Transport, connect};

    use super::server::RedisServer;

    /// A server for each rule, so that rules may look at all that it holds.
    pub(super) struct Server(pub RedisServer);

    impl Broker for Server {
        async fn connect(&self) -> pymq::Result<Arc<dyn Transport>> {
            connect(&self.0.url()).await
        }
    }
}

#[cfg(feature = "redis")]
pymq::conformance_suite!(redis, super::over_redis::Server(super::server::RedisServer::start()));
