//! Dialling: one attempt, the first one, and for ever; whether a server can serve us at all.
//!
//! The one invariant: what fails is reported to the [`Standing`], which tells people. A connection
//! that was opened is its owner's.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::cluster::{Nodes, Place, Slot, at, slot_of};
use super::options::{RedisEndpoint, RedisOptions};
use super::refusal::Refusal;
use super::resp::{Expected, Fault, Pushes, Socket};
use super::sentinel::Master;
use super::standing::{Role, Standing};
use crate::error::{Error, ErrorKind, Result};

/// Opens connections to the one server that takes the writes.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) options: RedisOptions,
    standing: Standing,
    discovery: Discovery,
    /// Counts how often the server turned out not to be the one that takes the writes.
    doubts: watch::Sender<u64>,
}

/// How the server is found.
#[derive(Debug)]
enum Discovery {
    /// It is where the options say.
    Known,
    /// Sentinels name it.
    Sentinels(Box<Master>),
    /// It is the node of a cluster that has this slot.
    Cluster(Arc<Nodes>, Slot),
    /// It is where the options say, a node of a cluster, whatever it has.
    Node,
}

/// How often in a row a node of a cluster may say that another one has a slot before that is trouble.
const SENT_ON: u32 = 3;
/// Between two attempts after that, whatever is new.
const BREATH: Duration = Duration::from_millis(50);

/// A key, in whose slot of a cluster everything lies that is not a queue's.
const HOME: &str = "{__pymq}";

impl Dialer {
    /// Needs a runtime.
    pub(super) fn new(options: RedisOptions) -> Self {
        let standing = Standing::new(options.shown());
        let discovery = match &options.endpoint {
            RedisEndpoint::Sentinels(sentinels) => {
                Discovery::Sentinels(Box::new(Master::watch(sentinels.clone(), &options)))
            }
            RedisEndpoint::Cluster(hosts) => {
                let nodes = Nodes::watch(hosts.clone(), &options);
                Discovery::Cluster(Arc::new(nodes), Slot::of_events(HOME))
            }
            _ => Discovery::Known,
        };
        Self { options, standing, discovery, doubts: watch::Sender::new(0) }
    }

    /// One that leads to the slot of a key, on a cluster; elsewhere there is one for everything.
    pub(super) fn to_slot_of(&self, key: &str) -> Option<Self> {
        let Discovery::Cluster(nodes, _) = &self.discovery else { return None };
        Some(Self {
            options: self.options.clone(),
            standing: self.standing.of_slot(slot_of(key)),
            discovery: Discovery::Cluster(Arc::clone(nodes), Slot::of(key)),
            doubts: watch::Sender::new(0),
        })
    }

    /// One that leads to a node of a cluster, whatever it has. How that node does is not how the bus does, and
    /// it is not waited for.
    pub(super) fn to_node(&self, place: &Place) -> Self {
        let mut options = at(&self.options, place);
        options.replicas = 0;
        options.settings.reconnect_wait = Some(Duration::ZERO);
        let standing = Standing::new(self.standing.server().to_owned());
        Self { options, standing, discovery: Discovery::Node, doubts: watch::Sender::new(0) }
    }

    /// Whether a server that does not have a key is the right one all the same.
    pub(super) fn is_of_node(&self) -> bool {
        matches!(self.discovery, Discovery::Node)
    }

    /// Whether it leads to queues alone.
    pub(super) fn is_for_queues(&self) -> bool {
        self.standing.is_of_slot()
    }

    /// A key in the slot where it leads, on a cluster.
    pub(super) fn home(&self) -> Option<&str> {
        match &self.discovery {
            Discovery::Cluster(_, slot) => Some(slot.key()),
            _ => None,
        }
    }

    /// The nodes of a cluster.
    pub(super) fn nodes(&self) -> Option<&Nodes> {
        match &self.discovery {
            Discovery::Cluster(nodes, _) => Some(nodes),
            _ => None,
        }
    }

    /// The node of a cluster where it leads, as far as that is known.
    pub(super) fn node(&self) -> Option<Place> {
        match &self.discovery {
            Discovery::Cluster(nodes, slot) => nodes.known_owner(slot),
            _ => None,
        }
    }

    /// The key of that name where it leads: on a cluster those that are no queue's have a tag.
    pub(super) fn key<'a>(&self, name: &'a str) -> Cow<'a, str> {
        match &self.discovery {
            Discovery::Cluster(..) => format!("{HOME}{name}").into(),
            _ => name.into(),
        }
    }

    /// There will be no connection any more.
    pub(super) fn close(&self) {
        self.standing.close();
        match &self.discovery {
            Discovery::Known | Discovery::Node => {}
            Discovery::Sentinels(master) => master.close(),
            Discovery::Cluster(nodes, _) => nodes.close(),
        }
    }

    /// The server as it is known at the time: of several the one that takes the writes.
    pub(super) fn server(&self) -> String {
        let found = match &self.discovery {
            Discovery::Sentinels(master) => master.shown(),
            _ => None,
        };
        found.unwrap_or_else(|| self.standing.server().to_owned())
    }

    /// How the connections stand.
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The first connection, whose failure is the user's to see; tried again until `until` where
    /// the failure is one that passes.
    pub(super) async fn dial_first(&self, role: Role, until: Option<Instant>) -> Result<Socket> {
        let _dialing = self.standing.dialing(role);
        let mut attempts = 0;
        loop {
            let news = self.news();
            let fault = match self.open(role, None).await {
                Ok(socket) => return Ok(socket),
                Err(fault) => fault,
            };
            attempts += 1;
            let pause = Instant::now() + back_off(attempts);
            let left = until.is_some_and(|until| pause < until);
            let (kind, why) = match fault {
                Fault::Lost(words) => (ErrorKind::Connection, self.not_there(&words)),
                Fault::Refused(refusal) if refusal.passes() => {
                    (ErrorKind::Connection, refusal.not_admitted())
                }
                Fault::Refused(refusal) => (ErrorKind::Config, refusal.not_admitted()),
            };
            if !left || kind == ErrorKind::Config {
                return Err(Error::new(kind, "connect", self.options.shown(), why));
            }
            self.standing.refused(role, &why);
            tokio::select! {
                () = sleep_until(pause) => {}
                () = news => {}
            }
        }
    }

    /// Why there is no server for us, in words that help: neither side of a connection of which one
    /// speaks TLS can tell what the other does.
    fn not_there(&self, words: &str) -> String {
        if !matches!(self.discovery, Discovery::Known) {
            return words.to_owned();
        }
        match self.options.settings.tls {
            None => {
                format!("{words}; is a Redis server there? If it wants TLS, use rediss://")
            }
            Some(_) => {
                format!("{words}; is a Redis server with TLS there? If it wants none, use redis://")
            }
        }
    }

    /// Tries until a connection stands, waiting longer from time to time.
    pub(super) async fn dial(&self, role: Role, pushes: Option<Pushes>) -> Socket {
        let dialing = self.standing.dialing(role);
        let mut attempts = 0;
        loop {
            // Asked for before the attempt, so that nothing is missed during it.
            let news = self.news();
            match self.open(role, pushes.clone()).await {
                Ok(socket) => {
                    dialing.done();
                    return socket;
                }
                Err(fault) => {
                    attempts += 1;
                    // It says itself which node to ask instead, which is no trouble unless it goes on.
                    if attempts > SENT_ON
                        || !matches!(&fault, Fault::Refused(no) if no.is_of_a_cluster())
                    {
                        self.standing.refused(role, &self.trouble_of(&fault));
                    }
                    // Nodes that send us to and fro are news each time.
                    let breath = if attempts > SENT_ON { BREATH } else { Duration::ZERO };
                    tokio::select! {
                        () = sleep(back_off(attempts)) => {}
                        () = async { sleep(breath).await; news.await } => {}
                    }
                }
            }
        }
    }

    /// Returns when another server may be worth an attempt.
    fn news(&self) -> impl Future<Output = ()> + Send + use<> {
        let (master, nodes) = match &self.discovery {
            Discovery::Known | Discovery::Node => (None, None),
            Discovery::Sentinels(master) => (Some(master.news()), None),
            Discovery::Cluster(nodes, _) => (None, Some(nodes.news())),
        };
        async move {
            match (master, nodes) {
                (Some(news), _) => news.await,
                (_, Some(news)) => news.await,
                (None, None) => std::future::pending().await,
            }
        }
    }

    fn trouble_of(&self, fault: &Fault) -> String {
        match fault {
            Fault::Lost(why) => why.clone(),
            Fault::Refused(refusal) => refusal.not_admitted(),
        }
    }

    /// One attempt: a connection to a server that can serve us.
    async fn open(&self, role: Role, pushes: Option<Pushes>) -> Result<Socket, Fault> {
        match &self.discovery {
            Discovery::Known => {
                Socket::open(&self.options, Expected::Server, role.name(), pushes).await
            }
            Discovery::Node => {
                Socket::open(&self.options, Expected::Member, role.name(), pushes).await
            }
            Discovery::Sentinels(master) => master.open(role.name(), pushes).await,
            Discovery::Cluster(nodes, slot) if self.shares(role) => {
                nodes.shared(slot, role.name()).await
            }
            Discovery::Cluster(nodes, slot) => match (role, pushes) {
                (Role::Waiting, None) => nodes.waiting(slot, role.name()).await,
                (_, pushes) => nodes.open(slot, role.name(), pushes).await,
            },
        }
    }

    /// Whether connections for that are shared with those who want another slot of the same node: for
    /// commands that are answered at once.
    pub(super) fn shares(&self, role: Role) -> bool {
        matches!(self.discovery, Discovery::Cluster(..) | Discovery::Node)
            && matches!(role, Role::Commands | Role::Changes)
    }

    /// Notes that the server said no to who takes the writes: connections are made anew.
    pub(super) fn doubt(&self, refusal: &Refusal) {
        if let Discovery::Cluster(nodes, _) = &self.discovery {
            nodes.refused(refusal);
        }
        self.doubts.send_modify(|count| *count += 1);
    }

    /// Returns at the next doubt about a connection, with words for people: nothing is lost where a
    /// slot of a cluster has moved. There, one that is not shared ends by itself.
    pub(super) fn doubted(
        &self,
        role: Role,
        socket: &Socket,
    ) -> impl Future<Output = Option<&'static str>> + use<> {
        let mut doubts = self.doubts.subscribe();
        let clustered = matches!(self.discovery, Discovery::Cluster(..));
        let ends_itself = clustered && !self.shares(role);
        let moved = match (&self.discovery, socket.place()) {
            (Discovery::Cluster(nodes, slot), Some(place)) => Some(nodes.moved_from(slot, place)),
            _ => None,
        };
        async move {
            if ends_itself {
                std::future::pending::<()>().await;
            }
            let moved = async {
                match moved {
                    Some(moved) => moved.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // An error says that the transport is gone; then nobody is left to wait.
                doubted = doubts.changed() => if doubted.is_err() {
                    std::future::pending::<()>().await;
                },
                () = moved => {}
            }
            (!clustered).then_some("another server takes the writes by now")
        }
    }
}

/// 50 ms at first, doubling, later anything from 0.5 to 2 s: a thousand clients of a restarted
/// server should not come all at once.
pub(super) fn back_off(attempts: u32) -> Duration {
    let limit = Duration::from_millis(50) * 2_u32.saturating_pow(attempts.saturating_sub(1).min(5));
    if attempts < 5 {
        jitter(limit / 2, limit)
    } else {
        jitter(Duration::from_millis(500), Duration::from_secs(2))
    }
}

/// A random length between two.
pub(super) fn jitter(least: Duration, most: Duration) -> Duration {
    // The library has one source of randomness already, and nothing here needs a better one.
    let part = (Uuid::new_v4().as_u128() & 0xFFFF) as u32;
    least + (most - least) * part / 0xFFFF
}
