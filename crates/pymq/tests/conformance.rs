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

/// One cluster for all rules that run at once.
#[cfg(feature = "redis")]
struct Cluster(std::sync::Arc<server::clustered::Clustered>);

#[cfg(feature = "redis")]
impl pymq::conformance::Broker for Cluster {
    async fn connect(&self) -> pymq::Result<std::sync::Arc<dyn pymq::transport::Transport>> {
        pymq::transport::connect(&self.0.url()).await
    }
}

#[cfg(feature = "redis")]
pymq::conformance_suite!(redis_cluster, Cluster(server::clustered::Clustered::shared()));

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
