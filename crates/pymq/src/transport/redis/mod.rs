//! The Redis transport: events over pub/sub, queues over lists and leases, replies to inboxes.
//!
//! What the original's processes see on the server (lists, channels, bytes) is exactly theirs; side
//! keys live where they do not look. Sockets: one for commands; one for subscriptions, from the
//! first on; one for each queue on which somebody waits; one for changes, where replicas have to confirm
//! them; one to each sentinel. Everything is done by tasks of the runtime that [`Redis::connect`] ran
//! on, and they end with the [`Redis`]. This module knows no JSON and no remote procedure calls.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use self::core::{Core, finish_closing};
use self::cores::Cores;
use self::dialer::Dialer;
pub use self::options::{RedisEndpoint, RedisOptions};
use self::purpose::Purpose;
use self::resp::Socket;
pub use self::sentinel::RedisSentinels;
use self::standing::Role;
use super::{Answer, Capabilities, Health, Inspect, States, Transport, pending};
use crate::error::{Error, Result};

mod address;
mod cluster;
mod core;
mod cores;
mod dialer;
mod events;
mod examine;
mod inboxes;
mod inspect;
mod latch;
mod leftovers;
mod link;
mod membership;
mod options;
mod poll;
mod pool;
mod pubsub;
mod purpose;
mod queue;
mod quotation;
mod refusal;
mod replicated;
mod resp;
mod routes;
mod script;
mod sentinel;
mod standing;
mod subscribing;
mod timing;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

/// A connection to a Redis (6.2 or later) or Valkey server.
///
/// It heals by itself: after a lost connection it reconnects for ever, subscriptions and waiting
/// claims resume, subscribers are told of the gap. An operation waits for a lost connection for
/// its setting `reconnect_wait`, then fails with `Connection`; one that was under way fails
/// with `Ambiguous`, unless doing it twice is doing it once.
pub struct Redis {
    /// Where events and calls go.
    core: Arc<Core>,
    cores: Arc<Cores>,
}

impl Redis {
    /// Connects to `redis://[user[:password]@]host[:port][/database]`, `rediss://`,
    /// `redis+unix:///path?db=0`, the master that sentinels name,
    /// `redis+sentinel://host[:port][,host…]/master`, or a cluster,
    /// `redis+cluster://host[:port][,host…]`; [`RedisOptions::from_url`] has the whole of an address. Needs a
    /// tokio runtime, whose tasks do the work from then on.
    ///
    /// # Errors
    /// `Config` for a malformed address, where the server refuses us and where we refuse its
    /// certificate; `Connection` where there is none.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::with_options(RedisOptions::from_url(url)?).await
    }

    /// Connects as [`connect`](Self::connect) does, with more to say.
    ///
    /// # Errors
    /// As of [`connect`](Self::connect).
    pub async fn with_options(options: RedisOptions) -> Result<Self> {
        options.check()?;
        let runtime = super::runtime()?;
        if !Socket::can_be_opened() {
            let why = "the tokio runtime has no sockets; build it with enable_all()";
            return Err(Error::config("bus", why));
        }
        let until = Instant::now().checked_add(options.settings.connect_wait());
        let dialer = Dialer::new(options);
        let first = dialer.dial_first(Role::Commands, until).await?;
        let second = match dialer.options.replicas {
            0 => None,
            _ => Some(dialer.dial_first(Role::Changes, until).await?),
        };
        let core = Core::start(dialer, first, second, runtime);
        let cores = Arc::new(Cores::new(Arc::clone(&core)));
        Ok(Self { core, cores })
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("stage", &*self.core.stage.borrow()).finish_non_exhaustive()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // The tasks see it and end themselves, if the runtime lives on; where `main` returns with the
        // last handle, there is no later.
        let cores = Arc::clone(&self.cores);
        if cores.begin_closing() {
            cores.all().iter().for_each(|core| core.commands.say_last_words());
            self.core.runtime.spawn(async move { finish_closing(&cores).await });
        }
    }
}

/// What it can do.
const ABLE: Capabilities = Capabilities {
    receiver_count: true,
    counts_connections: true,
    cross_process: true,
    originals: true,
    put_options: true,
    letters: true,
    ..Capabilities::NONE
};

impl Transport for Redis {
    fn capabilities(&self) -> Capabilities {
        // Programs of the original know one server, which has a part of a cluster's keys.
        Capabilities { originals: self.core.dialer.home().is_none(), ..ABLE }
    }

    fn states(&self) -> States {
        self.core.dialer.standing().states()
    }

    fn health(&self) -> Health {
        let standing = self.core.dialer.standing();
        let mut health = Health::new(standing.now());
        health.server = Some(self.core.dialer.server());
        health.reconnects = standing.reconnects();
        (health.unread_events, health.lost_events) = self.core.pubsub.load();
        health.lost_posts = self.core.posts.lost();
        health.absent_nodes = self.cores.absent().names();
        for core in self.cores.all() {
            let (consumers, heartbeat) = core.consumers.load();
            health.consumers += consumers;
            health.oldest_heartbeat = health.oldest_heartbeat.max(heartbeat);
        }
        health
    }

    fn ping(&self) -> Answer<'_, ()> {
        pending(async move {
            let purpose = Purpose::idempotent("ping", self.core.dialer.standing().server());
            let closed = || self.core.check(&purpose).err();
            match closed() {
                Some(closed) => Err(closed),
                None => self.core.commands.ping().await.map_err(|lost| closed().unwrap_or(lost)),
            }
        })
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        Some(self)
    }

    fn close(&self) -> Answer<'_, ()> {
        pending(async {
            if self.cores.begin_closing() {
                // In a task of its own: it is finished even if nobody waits for it.
                let cores = Arc::clone(&self.cores);
                let closing = self.core.runtime.spawn(async move { finish_closing(&cores).await });
                // An error says that the runtime has ended, and every task with it.
                if closing.await.is_err() {
                    self.cores.all().iter().for_each(|core| core.abandon());
                }
            } else {
                self.cores.closed().await;
            }
            Ok(())
        })
    }
}
