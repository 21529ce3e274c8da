//! The contract between this crate and the transports that move its bytes.
//!
//! A [`Transport`] carries names and payloads and knows nothing of JSON, types or remote procedure
//! calls; users talk to [`Bus`](crate::Bus), which is written on this contract alone. Users' verbs
//! are put and get, a transport's verbs are push, claim and settle, so that code says on which side of
//! the contract it stands.
//!
//! # Contract
//! What the traits say is tried by the functions of `conformance` (feature of that name), each
//! named as a sentence; a transport is right when it passes them all. Two rules hold for everything here:
//!
//! * **Dropping works anywhere**: a [`Subscription`], an [`Inbox`] and a future of an operation may
//!   be dropped on any thread, with or without a runtime, and nothing is lost by it.
//! * **Closed says closed**: after [`Transport::close`] every operation fails with
//!   [`ErrorKind::Closed`](crate::ErrorKind::Closed) and everything that waits ends.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::future::{Either, Ready, ready};

use crate::error::{Error, Result};
use crate::name::Address;

mod capabilities;
mod connect;
mod dead_letter_log;
mod ends;
mod inspect;
#[cfg(all(feature = "ipc", target_os = "linux"))]
pub mod ipc;
mod mailbox;
pub mod memory;
mod queue;
#[cfg(feature = "redis")]
pub mod redis;
mod refusals;
mod settings;
mod state;

pub use capabilities::Capabilities;
pub(crate) use connect::{check_runtime, runtime};
pub use connect::{connect, connect_with};
pub use ends::{Ending, Ends, ends};
pub use inspect::{Finding, Holder, Inspect, Leftover, Severity};
#[cfg(feature = "blocking")]
pub(crate) use mailbox::unparking_waker;
pub use mailbox::{Arrival, Limit, Receiver, Sender, Stamp, Weigh, mailbox};
pub use queue::{
    Claimed, DeadLetter, Due, Failure, Letters, Put, PutId, PutOptions, QueueSpec, QueueStats,
    Reason, Receipt, SettleOptions, Settlement, Shelf, Wait,
};
pub use settings::{Heartbeat, Settings, Tls, TlsVerification};
pub use state::{Health, State, StateSetter, States, states};

/// The answer of an operation: ready at once, or a boxed future.
///
/// What is known without waiting (in memory, nearly everything) costs no allocation this way, and
/// the contract stays object-safe.
pub type Answer<'a, T> = Either<Ready<Result<T>>, BoxFuture<'a, Result<T>>>;

/// An [`Answer`] that is there already.
pub fn answer<'a, T>(result: Result<T>) -> Answer<'a, T> {
    Either::Left(ready(result))
}

/// An [`Answer`] that takes time.
pub fn pending<'a, T, F>(future: F) -> Answer<'a, T>
where
    F: Future<Output = Result<T>> + Send + 'a,
{
    Either::Right(Box::pin(future))
}

/// The answer of a post where [`publish`](Events::publish) is one.
pub fn posted<'a>(published: Answer<'a, Option<usize>>) -> Answer<'a, ()> {
    match published {
        Either::Left(published) => answer(published.into_inner().map(drop)),
        Either::Right(published) => pending(async move { published.await.map(drop) }),
    }
}

/// A driver for one broker or mechanism: events, addressed messages and queues.
pub trait Transport: Events + Inboxes + Queues + fmt::Debug + Send + Sync + 'static {
    /// What this transport can do beyond what every one must.
    fn capabilities(&self) -> Capabilities;

    /// How it stands to its broker: the state, and each that follows. `Closed` is the last one.
    fn states(&self) -> States;

    /// The state and what else is known of its health, without asking the broker.
    fn health(&self) -> Health;

    /// Asks the broker for a sign of life, now: where there is no connection it fails at once with
    /// `Connection`.
    fn ping(&self) -> Answer<'_, ()>;

    /// What the broker tells of its users, for people who operate it; `None` where it tells
    /// nothing.
    fn inspect(&self) -> Option<&dyn Inspect>;

    /// Ends everything: subscriptions and inboxes end, waiting operations fail with `Closed`, what
    /// this connection holds leased goes back to its queue as if requeued. Closing again does
    /// nothing.
    fn close(&self) -> Answer<'_, ()>;
}

/// Events: at-most-once, to every subscriber.
///
/// One publisher's messages on one topic arrive in order. A subscriber that is slower than its
/// mailbox is large is told how many messages it missed and goes on; publishers never wait for
/// subscribers.
pub trait Events {
    /// Sends `payload` to every subscription whose filters match `topic`; says how many received it
    /// where that can be known (connections or subscriptions, as the transport counts).
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>>;

    /// The same, waiting neither for the broker nor for a connection, at most for room in the
    /// connection's buffer: what goes wrong only later is lost, and counted as
    /// [`lost_posts`](Health::lost_posts). It keeps its place among what the same publisher publishes.
    /// A transport whose publishing does not wait answers what it has [`posted`].
    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()>;

    /// Subscribes to all `filters`, begun in one step: when it returns, the next publish is seen.
    /// Dropping the subscription ends it; [`Subscription::end`] also waits until it is gone.
    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription>;

    /// How many subscribers each topic has by exact name; patterns do not count.
    fn count<'a>(&'a self, topics: &'a [String]) -> Answer<'a, Vec<usize>>;

    /// Counts `topics` as [`count`](Self::count) does and publishes to the first of them, in one
    /// step: those counted receive it, and every receiver by exact name is counted.
    fn publish_counted<'a>(
        &'a self,
        topics: &'a [String],
        payload: Bytes,
    ) -> Answer<'a, Vec<usize>>;

    /// Tells, from now on, when connections end that have subscribed to `topic` by exact name by then,
    /// each as often as it has; what such a one had sent has arrived by then. `None` where the
    /// broker does not tell, and whoever waits for somebody has to ask.
    fn ends<'a>(&'a self, topic: &'a str) -> Answer<'a, Option<Ends>>;
}

/// Addressed messages: to one reader, kept for a while when it is away.
pub trait Inboxes {
    /// Receives what is sent to `address`; one reader at a time has it.
    fn open_inbox<'a>(&'a self, address: &'a Address) -> Answer<'a, Inbox>;

    /// Sends to an inbox. If its reader is away, or the address is a list, the message is kept for
    /// `ttl`. Says whether a reader received it at once.
    fn send<'a>(&'a self, address: &'a Address, payload: Bytes, ttl: Duration) -> Answer<'a, bool>;
}

/// Queues: each item to one consumer, which holds it on a lease until it is settled.
///
/// First in, first out. An item whose consumer died, or let its lease run out, goes back to the
/// head with one delivery more on its count, if it had been shown; beyond
/// [`QueueSpec::max_deliveries`] of the consumer that held it, it goes to the queue's dead letters.
/// No dead letter is silent: the transport logs a warning with queue, deliveries and reason, and
/// never the item. Leases of a living process are prolonged by the transport itself, without any
/// help of the consumer's threads.
pub trait Queues {
    /// Appends `items`, in order and all in one step; waits for space as `options` say where the
    /// queue is bounded (`Full` when there was none in time; `Config`, at once, for more items than
    /// could ever fit). Never repeated by itself: a connection lost meanwhile is an `Ambiguous`
    /// error, unless the items have an id.
    ///
    /// Items that are due later are in nobody's way until then, and come in the order of their time;
    /// a bounded queue counts them. One with an id that the queue has seen within its window is put
    /// no second time. On a queue with priorities higher ones come first, first in first out within
    /// one.
    fn push<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Answer<'a, Put>;

    /// Takes up to `limit` items on lease, waiting for the first one only; none in time is an empty
    /// answer. Where the queue's [`prefetch`](QueueSpec::prefetch) is larger, up to that many may
    /// come: those beyond `limit` are not delivered yet until [`show`](Self::show) says so. A claim
    /// that is dropped while it waits loses nothing. Where items are due later, it waits until they
    /// are.
    fn claim<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        limit: usize,
        wait: Wait,
    ) -> Answer<'a, Vec<Claimed>>;

    /// Ends a lease; `LeaseLost` if it had run out, and then nothing is changed. Where there is no
    /// connection (`Connection`), or was none for the answer (`Ambiguous`), it is done by itself once
    /// there is one, if the lease lasts.
    fn settle<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> Answer<'a, ()>;

    /// Ends a lease soon: with the next claim or within 10 ms, whichever comes first. For drops
    /// and for confirmations that nobody waits for; works on any thread without a runtime.
    ///
    /// Says whether it will be done, if the connection lasts: `false` where it was closed meanwhile, so
    /// that the item goes back with all that is held, and must not be handed out as confirmed.
    fn settle_soon(
        &self,
        queue: &Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> bool;

    /// Notes that an item that was fetched ahead is handed out: its delivery counts from here on, also
    /// when its consumer dies. As [`settle_soon`](Self::settle_soon) it does not wait.
    fn show(&self, queue: &Arc<QueueSpec>, receipt: &Receipt);

    /// Makes sure that the lease lasts at least `duration` from now, without its consumer's
    /// process having to live that long.
    fn extend<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: &'a Receipt,
        duration: Duration,
    ) -> Answer<'a, ()>;

    /// How many items wait, are due later, are leased, and are dead letters. Looking decides no
    /// item's fate: what ran out of its lease is judged by the options of the consumer that held it.
    fn stats<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, QueueStats>;

    /// Up to `limit` items from the head of a shelf, left where they are.
    fn peek<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: Shelf,
        limit: usize,
    ) -> Answer<'a, Vec<Bytes>>;

    /// Deletes what is on a shelf, leases untouched; says how many. From [`Shelf::Waiting`] go the
    /// items that are due later too, what this connection gave back before (with
    /// [`settle_soon`](Self::settle_soon) too), and a shutdown.
    fn purge<'a>(&'a self, queue: &'a Arc<QueueSpec>, shelf: Shelf) -> Answer<'a, usize>;

    /// Up to `limit` dead letters after the `skip` oldest, oldest first, left where they are.
    fn letters<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        skip: usize,
        limit: usize,
    ) -> Answer<'a, Vec<DeadLetter>>;

    /// Moves dead letters, oldest first, to the tail of queue `to`, most often their own, with their
    /// counts reset; says how many. A bound of that queue does not hold them.
    fn redrive<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        which: Letters,
        to: &'a Arc<QueueSpec>,
    ) -> Answer<'a, usize>;

    /// Deletes dead letters; says how many.
    fn discard<'a>(&'a self, queue: &'a Arc<QueueSpec>, which: Letters) -> Answer<'a, usize>;

    /// Shuts the queue down for everyone: puts fail with `ShutDown`, gets too once it is empty and
    /// nothing is due later.
    fn shut_down<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, ()>;
}

/// What a subscription is to: whole names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Filter {
    /// One topic by its exact name.
    Topic(String),
    /// Every topic that matches a glob pattern, see [`name::matches`](crate::name::matches).
    Pattern(String),
}

impl Filter {
    /// The name, or the pattern.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Topic(name) | Self::Pattern(name) => name,
        }
    }
}

/// An event as it came: where it was published, its bytes, and the pattern that caught it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The whole name of the topic.
    pub topic: Arc<str>,
    /// The bytes as they were published.
    pub payload: Bytes,
    /// The whole pattern that matched; `None` for an exact subscription.
    pub pattern: Option<Arc<str>>,
}

impl Weigh for Message {
    fn weight(&self) -> usize {
        self.payload.len() + self.topic.len()
    }
}

/// What ends when a subscription or an inbox does.
///
/// Dropping the box starts the end, on any thread; [`release`](Self::release) also waits for it.
pub trait Guard: Send + Sync {
    /// Ends it and waits until the broker knows; what it had sent until then has been delivered.
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<()>>;
}

/// A live subscription: read it as the [`Receiver`] it holds; drop it to end it.
#[must_use = "dropping a subscription ends it"]
pub struct Subscription {
    messages: Receiver<Message>,
    guard: Box<dyn Guard>,
}

impl Subscription {
    /// A subscription that reads `messages` until `guard` is let go.
    pub fn new(messages: Receiver<Message>, guard: Box<dyn Guard>) -> Self {
        Self { messages, guard }
    }

    /// The mailbox.
    pub fn messages(&mut self) -> &mut Receiver<Message> {
        &mut self.messages
    }

    /// The next message or loss; `None` when the bus was closed.
    pub async fn recv(&mut self) -> Option<Arrival<Message>> {
        self.messages.recv().await
    }

    /// Unsubscribes and waits until the broker knows.
    ///
    /// # Errors
    /// If the broker refuses; nothing more arrives all the same. A lost connection is no error: the
    /// subscription ended with it.
    pub async fn end(self) -> Result<()> {
        self.guard.release().await
    }

    /// The mailbox, and what ends the subscription, for a reader that outlives its end: when the
    /// guard was released, [`Receiver::close`] leaves what had arrived.
    pub fn split(self) -> (Receiver<Message>, Box<dyn Guard>) {
        (self.messages, self.guard)
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("messages", &self.messages).finish_non_exhaustive()
    }
}

/// The reading end of an address; drop it to close it.
#[must_use = "dropping an inbox closes it"]
pub struct Inbox {
    messages: Receiver<Bytes>,
    _guard: Box<dyn Guard>,
}

impl Inbox {
    /// An inbox that reads `messages` until `guard` is let go.
    pub fn new(messages: Receiver<Bytes>, guard: Box<dyn Guard>) -> Self {
        Self { messages, _guard: guard }
    }

    /// The next message or loss; `None` when the bus was closed.
    pub async fn recv(&mut self) -> Option<Arrival<Bytes>> {
        self.messages.recv().await
    }

    /// Waits on the calling thread itself, until `deadline` if there is one.
    ///
    /// # Errors
    /// `Timeout` when nothing came in time.
    pub fn recv_blocking(
        &mut self,
        deadline: Option<std::time::Instant>,
    ) -> Result<Option<Arrival<Bytes>>> {
        self.messages.recv_blocking(deadline).ok_or_else(|| {
            Error::new(crate::ErrorKind::Timeout, "receive", "inbox", "nothing came in time")
        })
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("messages", &self.messages).finish_non_exhaustive()
    }
}
