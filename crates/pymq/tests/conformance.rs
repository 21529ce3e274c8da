//! The contract, rule by rule, on every transport of this crate.

use pymq::conformance::Url;

pymq::conformance_suite!(memory, Url::new("memory://conformance"));

#[cfg(feature = "redis")]
mod server;

/// A server of the test's own, so that tests may run at once and none outlives its test.
#[cfg(feature = "redis")]
struct Redis(server::RedisServer);

#[cfg(feature = "redis")]
impl pymq::conformance::Broker for Redis {
    async fn connect(&self) -> pymq::Result<std::sync::Arc<dyn pymq::transport::Transport>> {
        pymq::transport::connect(&self.0.url()).await
    }
}

#[cfg(feature = "redis")]
pymq::conformance_suite!(redis, Redis(server::RedisServer::start()));

#[cfg(all(feature = "ipc", target_os = "linux"))]
#[path = "place/shared.rs"]
mod shared;

#[cfg(all(feature = "ipc", target_os = "linux"))]
impl pymq::conformance::Broker for shared::Directory {
    async fn connect(&self) -> pymq::Result<std::sync::Arc<dyn pymq::transport::Transport>> {
        pymq::transport::connect(&self.url()).await
    }
}

#[cfg(all(feature = "ipc", target_os = "linux"))]
pymq::conformance_suite!(ipc, shared::Directory::new());
