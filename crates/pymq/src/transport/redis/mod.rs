//! The Redis transport: events over pub/sub, queues over lists and leases, replies to inboxes.
//!
//! What the original's processes see on the server (lists, channels, bytes) is exactly theirs; side
//! keys live where they do not look. Sockets: one for commands; one for subscriptions, from the
//! first on; one for each queue on which somebody waits; one for changes, where replicas have to confirm
//! them; one to each sentinel. Everything is done by tasks of the runtime that [`Redis::connect`] ran
//! on, and they end with the [`Redis`]. This module knows no JSON and no remote procedure calls.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{RwLock, watch};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use self::cores::Cores;
use self::dialer::Dialer;
use self::link::{Link, Stage};
pub use self::options::{RedisEndpoint, RedisOptions};
use self::pool::Pool;

use self::publishing::first;
use self::pubsub::PubSub;
use self::purpose::Purpose;
use self::queue::Consumers;
use self::replicated::Replicated;
use self::resp::{Batch, Command, Fault, Posts, Wire};
use self::routes::{Name, Target};
pub use self::sentinel::RedisSentinels;
use self::standing::Role;
use self::timing::SLICE_AND_WAY;
use super::{
    Answer, Capabilities, Ends, Events, Filter, Health, Inbox, Inboxes, Inspect, Limit, States,
    Subscription, Transport, answer, mailbox, pending,
};
use crate::error::{ErrorKind, Result};
use crate::name::Address;

mod address;
mod cluster;
mod cores;
mod dialer;
mod end;
mod examine;
mod inbox;
mod inspect;
mod leftovers;
mod link;
mod options;
mod pool;

mod publishing;
mod pubsub;
mod purpose;
mod queue;
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

/// What all parts of the transport share.
struct Core {
    commands: Link,
    /// For what must not be lost with a master.
    changes: Replicated,
    /// Events whose answers nobody waits for.
    posts: Arc<Posts>,
    pubsub: PubSub,
    pool: Pool,
    dialer: Arc<Dialer>,
    consumers: Arc<Consumers>,
    /// Held shared by each reader of a list inbox while it lives.
    readers: RwLock<()>,
    /// Who we are, in the names of leases.
    identity: String,
    runtime: Handle,
    /// How much a subscription's mailbox holds.
    mailbox: Limit,
    stage: watch::Sender<Stage>,
}

impl Core {
    /// Begins with connections that stand already.
    fn start(dialer: Dialer, first: Wire, second: Option<Wire>, runtime: Handle) -> Arc<Self> {
        let identity = Uuid::new_v4().simple().to_string();
        Self::with(Arc::new(dialer), (Some(first), second), identity, runtime)
    }

    /// One for the slot of a key, which dials what it does not share.
    fn beside(&self, key: &str) -> Arc<Self> {
        let dialer = self.dialer.to_slot_of(key).map_or_else(|| self.dialer.clone(), Arc::new);
        Self::with(dialer, (None, None), self.identity.clone(), self.runtime.clone())
    }

    fn with(
        dialer: Arc<Dialer>,
        (first, second): (Option<Wire>, Option<Wire>),
        identity: String,
        runtime: Handle,
    ) -> Arc<Self> {
        let (stage, watched) = watch::channel(Stage::Open);
        let consumers = Arc::<Consumers>::default();
        let theirs = Arc::clone(&consumers);
        let last_words = move || theirs.last_words();
        let link = |role| (Arc::clone(&dialer), role);
        let commands =
            Link::start(link(Role::Commands), first, watched.clone(), last_words, &runtime);
        let replicas = dialer.options.replicas;
        let changes = match replicas {
            0 => commands.clone(),
            _ => {
                Link::start(link(Role::Changes), second, watched.clone(), Batch::default, &runtime)
            }
        };
        let patience = dialer.options.settings.reconnect_wait();
        Arc::new(Self {
            changes: Replicated::new(changes, replicas),
            commands,
            posts: Arc::default(),
            pubsub: PubSub::start(Arc::clone(&dialer), patience, watched, &runtime),
            pool: Pool::new(Arc::clone(&dialer)),
            mailbox: dialer.options.settings.mailbox.unwrap_or_default(),
            dialer,
            consumers,
            readers: RwLock::default(),
            identity,
            runtime,
            stage,
        })
    }

    /// Fails when the transport was closed.
    fn check(&self, purpose: &Purpose<'_>) -> Result<()> {
        match *self.stage.borrow() {
            Stage::Open => Ok(()),
            Stage::Closing | Stage::Closed => Err(purpose.closed()),
        }
    }

    /// Fails while a connection that is needed is missing.
    fn connected(&self, purpose: &Purpose<'_>) -> Result<()> {
        match self.dialer.standing().lacks() {
            Some(why) => {
                let why = format!("no connection ({why}); nothing was done");
                Err(purpose.error(ErrorKind::Connection, why))
            }
            None => Ok(()),
        }
    }

    /// Returns when the transport begins to close.
    async fn closing(&self) {
        let mut stage = self.stage.subscribe();
        // An error is impossible: we hold the sender.
        let _ = stage.wait_for(|stage| *stage > Stage::Open).await;
    }

    /// Whether the caller is the one who closes.
    fn begin_closing(&self) -> bool {
        self.stage.send_if_modified(|stage| {
            let open = *stage == Stage::Open;
            *stage = (*stage).max(Stage::Closing);
            open
        })
    }

    /// Gives back what is leased, then ends the connections.
    async fn finish_closing(&self) {
        self.consumers.finish().await;
        // Readers of lists give back what they had just taken.
        let _ = timeout(SLICE_AND_WAY, self.readers.write()).await;
        if self.posts.are_under_way() {
            // Answered after what was posted before; what is not answered then is counted as lost.
            let _ = self.commands.ping().await;
        }
        self.stage.send_replace(Stage::Closed);
        self.pool.clear();
    }

    /// Ends everything that waits here, where there is no runtime any more that could end it well.
    fn abandon(&self) {
        self.commands.say_last_words();
        self.consumers.abandon();
        self.stage.send_replace(Stage::Closed);
        self.dialer.close();
    }

    /// Ends a waiting command and reads its answer, so that an item that it took is not lost. `spare`
    /// is a key that is never there.
    async fn unblock<T, F>(
        &self,
        wire: &Wire,
        spare: &str,
        mut answer: Pin<&mut F>,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let pause = Duration::from_millis(20);
        let knock = async {
            loop {
                self.unblock_once(wire, spare).await;
                // Ours may have overtaken the command: they run on different sockets.
                sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            outcome = &mut answer => return outcome,
            _ = timeout(SLICE_AND_WAY, knock) => {}
        }
        wire.cut();
        answer.await
    }

    /// Tells the server to end what a connection waits for; where that is forbidden, its slice ends
    /// by itself.
    ///
    /// In one step with a write, which waits while writes are paused (`CLIENT PAUSE`, `FAILOVER`): a
    /// server of that time holds the command of the other connection back, and `CLIENT UNBLOCK` for
    /// such a one ends the process (7.0 to 7.4), or with `ERROR` answers one time too often.
    async fn unblock_once(&self, wire: &Wire, spare: &str) {
        let Some(id) = wire.id() else { return };
        let purpose = Purpose::idempotent("unblock", "connection");
        let write = Command::new("DEL").arg(spare);
        let unblock = Command::new("CLIENT").arg("UNBLOCK").number(id).arg("ERROR");
        if let Err(error) = self.commands.transaction(purpose, vec![write, unblock]).await {
            tracing::debug!(%error, "cannot unblock; waiting for the slice to end");
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("stage", &*self.stage.borrow()).finish_non_exhaustive()
    }
}

/// Gives back what is leased, then ends the connections: those of events and calls last.
async fn finish_closing(cores: &Cores) {
    let all = cores.all();
    let Some((home, queues)) = all.split_last() else { return };
    join_all(queues.iter().map(|core| core.finish_closing())).await;
    home.finish_closing().await;
    home.dialer.close();
}

/// What it can do.
const ABLE: Capabilities = Capabilities {
    receiver_count: true,
    cross_process: true,
    originals: true,
    delays: true,
    put_ids: true,
    letters: true,
    priorities: true,
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

impl Events for Redis {
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>> {
        let purpose = Purpose::change("publish", topic);
        if let Err(error) = self.core.check(&purpose) {
            return answer(Err(error));
        }
        pending(async move { publishing::publish(&self.core, purpose, topic, &payload).await })
    }

    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        if let Err(closed) = self.core.check(&Purpose::change("publish", topic)) {
            return answer(Err(closed));
        }
        match publishing::post(&self.core, topic, &payload) {
            None => answer(Ok(())),
            Some(room) => pending(async move {
                room.await;
                Ok(())
            }),
        }
    }

    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription> {
        pending(async move {
            let shown = filters.first().map_or("nothing", |filter| match filter {
                Filter::Topic(name) | Filter::Pattern(name) => name,
            });
            let purpose = Purpose::change("subscribe", shown);
            self.core.check(&purpose)?;
            let names = filters.iter().map(|filter| match filter {
                Filter::Topic(topic) => Name::Topic(topic.as_str().into()),
                Filter::Pattern(pattern) => Name::Pattern(pattern.as_str().into()),
            });
            let (sender, receiver) = mailbox(self.core.mailbox);
            let target = Target::Events(sender);
            let membership = self.core.pubsub.join(purpose, names.collect(), target).await?;
            Ok(Subscription::new(receiver, Box::new(membership)))
        })
    }

    fn count<'a>(&'a self, topics: &'a [String]) -> Answer<'a, Vec<usize>> {
        pending(async move {
            let purpose = Purpose::idempotent("count", first(topics));
            self.core.check(&purpose)?;
            publishing::count(&self.core, purpose, topics).await
        })
    }

    fn publish_counted<'a>(
        &'a self,
        topics: &'a [String],
        payload: Bytes,
    ) -> Answer<'a, Vec<usize>> {
        pending(async move {
            let purpose = Purpose::change("publish", first(topics));
            self.core.check(&purpose)?;
            publishing::publish_counted(&self.core, purpose, topics, &payload).await
        })
    }

    /// The server does not tell: who waits for somebody asks.
    fn ends<'a>(&'a self, topic: &'a str) -> Answer<'a, Option<Ends>> {
        answer(self.core.check(&Purpose::idempotent("watch", topic)).map(|()| None))
    }
}

impl Inboxes for Redis {
    fn open_inbox<'a>(&'a self, address: &'a Address) -> Answer<'a, Inbox> {
        pending(inbox::open(&self.core, address))
    }

    fn send<'a>(&'a self, address: &'a Address, payload: Bytes, ttl: Duration) -> Answer<'a, bool> {
        pending(inbox::send(&self.core, address, payload, ttl))
    }
}
