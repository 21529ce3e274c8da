//! What all parts of the transport share for one slot of the server: connections, consumers, and the
//! stage from open to closed.
//!
//! The one invariant: what is leased is given back, and lists are left by their readers, before the
//! connections end.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::{RwLock, watch};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::cluster::Place;
use super::cores::Cores;
use super::dialer::Dialer;
use super::link::Link;
use super::pool::Pool;
use super::pubsub::PubSub;
use super::purpose::Purpose;
use super::queue::Roster;
use super::replicated::Replicated;
use super::resp::{Batch, Command, Fault, Posts, Socket};
use super::standing::Role;
use super::timing::{ROUND_TRIP, SLICE_AND_WAY};
use crate::error::{ErrorKind, Result};
use crate::transport::Limit;

/// The stage of a transport, from open to closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// In use.
    Open,
    /// New operations fail; what is held is given back.
    Closing,
    /// No connection is left.
    Closed,
}

/// What all parts of the transport share.
pub(super) struct Core {
    pub(super) commands: Link,
    /// For what must not be lost with a master.
    pub(super) changes: Replicated,
    /// Events whose answers nobody waits for.
    pub(super) posts: Arc<Posts>,
    pub(super) pubsub: PubSub,
    pub(super) pool: Pool,
    pub(super) dialer: Arc<Dialer>,
    pub(super) consumers: Arc<Roster>,
    /// Held shared by each reader of a list inbox while it lives.
    pub(super) readers: RwLock<()>,
    /// Held shared by each put.
    pub(super) pushes: RwLock<()>,
    /// Who we are, in the names of leases.
    pub(super) identity: String,
    pub(super) runtime: Handle,
    /// How much a subscription's mailbox holds.
    pub(super) mailbox: Limit,
    pub(super) stage: watch::Sender<Stage>,
}

impl Core {
    /// A core over connections that are open already.
    pub(super) fn start(
        dialer: Dialer,
        first: Socket,
        second: Option<Socket>,
        runtime: Handle,
    ) -> Arc<Self> {
        let identity = Uuid::new_v4().simple().to_string();
        Self::with(Arc::new(dialer), (Some(first), second), Arc::default(), identity, runtime)
    }

    /// A core for the slot of a key; it opens the connections that it does not share.
    pub(super) fn beside(&self, key: &str) -> Arc<Self> {
        let dialer = self.dialer.to_slot_of(key).map_or_else(|| self.dialer.clone(), Arc::new);
        let consumers = Arc::new(self.consumers.beside());
        Self::with(dialer, (None, None), consumers, self.identity.clone(), self.runtime.clone())
    }

    /// A core for one node of a cluster, whatever it has, over a connection to it that others may share.
    pub(super) fn of_node(&self, place: &Place, socket: Socket) -> Arc<Self> {
        let dialer = Arc::new(self.dialer.to_node(place));
        let consumers = Arc::new(self.consumers.beside());
        let (identity, runtime) = (self.identity.clone(), self.runtime.clone());
        Self::with(dialer, (Some(socket), None), consumers, identity, runtime)
    }

    pub(super) fn with(
        dialer: Arc<Dialer>,
        (first, second): (Option<Socket>, Option<Socket>),
        consumers: Arc<Roster>,
        identity: String,
        runtime: Handle,
    ) -> Arc<Self> {
        let (stage, watched) = watch::channel(Stage::Open);
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
            posts: Arc::new(Posts::new(runtime.clone())),
            pubsub: PubSub::start(Arc::clone(&dialer), patience, watched, &runtime),
            pool: Pool::new(Arc::clone(&dialer)),
            mailbox: dialer.options.settings.mailbox.unwrap_or_default(),
            dialer,
            consumers,
            readers: RwLock::default(),
            pushes: RwLock::default(),
            identity,
            runtime,
            stage,
        })
    }

    /// Fails when the transport was closed.
    pub(super) fn check(&self, purpose: &Purpose<'_>) -> Result<()> {
        match *self.stage.borrow() {
            Stage::Open => Ok(()),
            Stage::Closing | Stage::Closed => Err(purpose.closed()),
        }
    }

    /// Fails while a connection that is needed is missing.
    pub(super) fn connected(&self, purpose: &Purpose<'_>) -> Result<()> {
        match self.dialer.standing().lacks() {
            Some(why) => {
                let why = format!("no connection ({why}); nothing was done");
                Err(purpose.error(ErrorKind::Connection, why))
            }
            None => Ok(()),
        }
    }

    /// Returns when the transport begins to close.
    pub(super) async fn closing(&self) {
        let mut stage = self.stage.subscribe();
        // An error is impossible: we hold the sender.
        let _ = stage.wait_for(|stage| *stage > Stage::Open).await;
    }

    /// Begins to close; `false` where that has begun already.
    pub(super) fn begin_closing(&self) -> bool {
        self.stage.send_if_modified(|stage| {
            let open = *stage == Stage::Open;
            *stage = (*stage).max(Stage::Closing);
            open
        })
    }

    /// Gives back what is leased, then ends the connections.
    pub(super) async fn finish_closing(&self) {
        self.consumers.finish().await;
        // Readers of lists give back what they had just taken.
        let _ = timeout(SLICE_AND_WAY, self.readers.write()).await;
        // Whoever puts hears what became of it, unless the server is silent.
        let _ = timeout(ROUND_TRIP, self.pushes.write()).await;
        if self.posts.are_under_way() {
            // Answered after what was posted before; what is not answered then is counted as lost.
            let _ = self.commands.ping().await;
        }
        self.stage.send_replace(Stage::Closed);
        self.posts.close();
        self.pool.clear();
    }

    /// Ends everything that waits here, where there is no runtime any more that could end it well.
    pub(super) fn abandon(&self) {
        self.commands.say_last_words();
        self.consumers.abandon();
        self.stage.send_replace(Stage::Closed);
        self.posts.close();
        self.dialer.close();
    }

    /// Ends a waiting command and reads its answer, so that an item that it took is not lost. `spare`
    /// is a key that is never there.
    pub(super) async fn unblock<T, F>(
        &self,
        socket: &Socket,
        spare: &str,
        mut answer: Pin<&mut F>,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let pause = Duration::from_millis(20);
        let knock = async {
            loop {
                self.unblock_once(socket, spare).await;
                // Ours may have overtaken the command: they run on different sockets.
                sleep(pause).await;
            }
        };
        tokio::select! {
            biased;
            outcome = &mut answer => return outcome,
            _ = timeout(SLICE_AND_WAY, knock) => {}
        }
        socket.cut();
        answer.await
    }

    /// Tells the server to end what a connection waits for; where that is forbidden, its slice ends
    /// by itself.
    ///
    /// In one step with a write, which waits while writes are paused (`CLIENT PAUSE`, `FAILOVER`): a
    /// server of that time holds the command of the other connection back, and `CLIENT UNBLOCK` for
    /// such a one ends the process (7.0 to 7.4), or with `ERROR` answers one time too often.
    pub(super) async fn unblock_once(&self, socket: &Socket, spare: &str) {
        let Some(id) = socket.id() else { return };
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
pub(super) async fn finish_closing(cores: &Cores) {
    let all = cores.all();
    let Some((home, queues)) = all.split_last() else { return };
    join_all(queues.iter().map(|core| core.finish_closing())).await;
    home.finish_closing().await;
    home.dialer.close();
}
