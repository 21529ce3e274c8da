//! Where a user's journey runs: in memory, between processes without a server, and on a redis-server.
//!
//! The one invariant: a journey is written once and runs everywhere, under a hang guard of a
//! minute. It knows nothing of what the journeys do.
#![allow(
    dead_code,
    missing_debug_implementations,
    unreachable_pub,
    reason = "each test binary uses its own part of this module"
)]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pymq::{Bus, Namespace};

#[path = "../server/mod.rs"]
pub mod server;
#[cfg(all(feature = "ipc", target_os = "linux"))]
pub mod shared;
mod uncounted;

/// A broker that a test connects to as often as it wants.
pub enum Place {
    /// A named broker of this process.
    Memory(String),
    /// The same, behind a transport that cannot count who subscribes.
    Uncounted(String),
    /// A bus between processes, in a directory of the test's own.
    #[cfg(all(feature = "ipc", target_os = "linux"))]
    Ipc(shared::Directory),
    /// A server of the test's own.
    #[cfg(feature = "redis")]
    Redis(server::RedisServer),
}

impl Place {
    pub fn memory() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        Self::Memory(format!("memory://place{}", NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn uncounted() -> Self {
        let Self::Memory(url) = Self::memory() else { unreachable!("it is in memory") };
        Self::Uncounted(url)
    }

    #[cfg(all(feature = "ipc", target_os = "linux"))]
    pub fn ipc() -> Self {
        Self::Ipc(shared::Directory::new())
    }

    #[cfg(feature = "redis")]
    pub fn redis() -> Self {
        Self::Redis(server::RedisServer::start())
    }

    /// Its address.
    pub fn url(&self) -> String {
        match self {
            Self::Memory(url) | Self::Uncounted(url) => url.clone(),
            #[cfg(all(feature = "ipc", target_os = "linux"))]
            Self::Ipc(directory) => directory.url(),
            #[cfg(feature = "redis")]
            Self::Redis(server) => server.url(),
        }
    }

    /// Whether an item goes to a claim that waits, also while nobody asks for its answer.
    pub fn deals(&self) -> bool {
        match self {
            #[cfg(all(feature = "ipc", target_os = "linux"))]
            Self::Ipc(_) => false,
            _ => true,
        }
    }

    /// A new connection.
    pub async fn bus(&self) -> Bus {
        match self {
            Self::Uncounted(url) => {
                let transport = uncounted::Uncounted::connect(url);
                Bus::over(std::sync::Arc::new(transport), Namespace::default()).expect("a runtime")
            }
            _ => Bus::connect(&self.url()).await.expect("the broker is there"),
        }
    }

    /// Several connections.
    pub async fn buses<const N: usize>(&self) -> [Bus; N] {
        let mut buses = Vec::new();
        for _ in 0..N {
            buses.push(self.bus().await);
        }
        buses.try_into().expect("as many as asked for")
    }
}

/// Fails a journey that hangs.
pub async fn guarded(journey: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(180), journey).await.expect("the journey hangs");
}

/// Lengths of time in which something must happen: a machine may stand still for any of them, and has
/// the next, longer one then.
pub fn lengths(first: Duration) -> impl Iterator<Item = Duration> {
    (0..4).map(move |more| first * 4_u32.pow(more))
}

/// Runs each journey, an `async fn(&Place)`, on every transport.
#[macro_export]
macro_rules! everywhere {
    ($($journey:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $journey() {
                let place = $crate::place::Place::memory();
                $crate::place::guarded(super::$journey(&place)).await;
            })*
        }

        #[cfg(all(feature = "ipc", target_os = "linux"))]
        mod ipc {
            $(#[tokio::test]
            async fn $journey() {
                let place = $crate::place::Place::ipc();
                $crate::place::guarded(super::$journey(&place)).await;
            })*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[tokio::test]
            async fn $journey() {
                let place = $crate::place::Place::redis();
                $crate::place::guarded(super::$journey(&place)).await;
            })*
        }
    };
}

/// The same, and behind a transport that cannot count: calls need no more than the contract.
#[macro_export]
macro_rules! everywhere_and_uncounted {
    ($($journey:ident),* $(,)?) => {
        everywhere!($($journey),*);

        mod uncounted {
            $(#[tokio::test]
            async fn $journey() {
                let place = $crate::place::Place::uncounted();
                $crate::place::guarded(super::$journey(&place)).await;
            })*
        }
    };
}
