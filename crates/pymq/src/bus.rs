//! The bus: the handle that programs hold and clone.
//!
//! It ties a transport, a namespace and the runtime it was connected on together, and hands out
//! topics, queues, stubs and services; what those do is in their own modules. It lives as long as
//! any handle made from it, and holds no global state.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::ending::RuntimeEnding;
pub(crate) use self::sending::{Posted, Published};
use crate::builder::BusBuilder;
use crate::drain_list::DrainList;
use crate::error::Result;
use crate::inspect::Inspection;
use crate::limits::Limits;
use crate::name::{self, Namespace};
use crate::queue::{ByteQueue, Handles, Queue};
use crate::rpc::{Caller, Providers};
use crate::telemetry::{Observer, Observers};
use crate::topic::{self, Event, Events, PatternEvents, Topic};
use crate::transport::{
    self, Capabilities, Filter, Health, State, States, Subscription, Transport,
};
use crate::wire::Metadata;

mod calls;
mod ending;
mod sending;

/// A connection to everything: events, queues and remote procedure calls.
///
/// Cheap to clone; all clones are the same bus. Its tasks run on the runtime it was connected on;
/// when that has ended, the bus is closed. Operations are awaited within a tokio runtime, that one or
/// another, and fail with `Config` elsewhere. Streams may be read, handles dropped and the bus closed
/// anywhere.
///
/// ```
/// use pymq::Bus;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let bus = Bus::connect("memory://").await?;
/// let jobs = bus.queue::<String>("jobs");
/// jobs.put(&"sweep the floor".to_owned()).await?;
/// assert_eq!(jobs.get().await?, "sweep the floor");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Bus(Arc<Core>);

struct Core {
    transport: Arc<dyn Transport>,
    namespace: Namespace,
    runtime: Handle,
    caller: Arc<Caller>,
    providers: Arc<Providers>,
    limits: Limits,
    drain_list: Arc<DrainList>,
    handles: Arc<Handles>,
    observers: Observers,
    /// Dropped with the last handle, by which the watch over the runtime ends.
    _watched: oneshot::Sender<()>,
}

impl Bus {
    /// Connects to an address: `memory://`, `memory://NAME`, `ipc://NAME` (Linux),
    /// `redis://[user[:password]@]host[:port][/db]`, `rediss://…` for TLS (feature `tls`),
    /// `redis+unix://…`, `redis+sentinel://host,host/master`, `redis+cluster://host,host`. What more
    /// it can say is a [page of its own](https://github.com/pymq-rs/pymq/blob/main/docs/addresses.md).
    ///
    /// # Errors
    /// `Config` for an address that cannot be used, `Connection` if the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_in(url, Namespace::default()).await
    }

    /// Connects with more to say than an address: namespace, credentials, limits, heartbeat.
    pub fn builder(url: &str) -> BusBuilder {
        BusBuilder::new(url)
    }

    /// Connects within a namespace of its own; programs see each other within one only.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_in(url: &str, namespace: Namespace) -> Result<Self> {
        Self::builder(url).within(namespace).connect().await
    }

    /// A bus over any transport, a third party's too. Its tasks run on the tokio runtime that it is
    /// called on; when that has ended, the bus is closed.
    ///
    /// # Errors
    /// `Config` outside a tokio runtime: the tasks of the bus need one.
    pub fn over(transport: Arc<dyn Transport>, namespace: Namespace) -> Result<Self> {
        Self::with_limits(transport, namespace, Limits::default())
    }

    pub(crate) fn with_limits(
        transport: Arc<dyn Transport>,
        namespace: Namespace,
        limits: Limits,
    ) -> Result<Self> {
        namespace.check()?;
        let runtime = transport::runtime()?;
        let caller =
            Caller::new(Arc::clone(&transport), namespace.clone(), runtime.clone(), limits);
        let providers =
            Providers::new(Arc::clone(&transport), namespace.clone(), runtime.clone(), limits);
        let drain_list = Arc::<DrainList>::default();
        let observers = Observers::of(&transport);
        let (watched, bus_is_gone) = oneshot::channel();
        let ending = RuntimeEnding::new(&transport, &drain_list);
        runtime.spawn(ending.watch(bus_is_gone));
        Ok(Self(Arc::new(Core {
            transport,
            namespace,
            runtime,
            caller: Arc::new(caller),
            providers: Arc::new(providers),
            limits,
            drain_list,
            handles: Arc::default(),
            observers,
            _watched: watched,
        })))
    }

    /// The state of the connection to its broker: connected, away, or closed.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// let bus = Bus::connect("memory://").await?;
    /// assert_eq!(bus.state().word(), "connected");
    /// bus.close().await?;
    /// assert_eq!(bus.state().word(), "closed");
    /// # Ok(()) }
    /// ```
    pub fn state(&self) -> State {
        self.0.transport.states().now()
    }

    /// The state, then each that follows: a stream that ends after `Closed`.
    pub fn states(&self) -> States {
        self.0.transport.states()
    }

    /// The state and what else is known of its health, for a health endpoint; nothing is asked of
    /// the broker.
    pub fn health(&self) -> Health {
        self.0.transport.health()
    }

    /// A look at who is on the bus, for people who operate it: topics with their subscribers,
    /// functions with their providers, queues by name.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// let bus = Bus::connect("memory://").await?;
    /// let _notes = bus.topic::<String>("notes").subscribe().await?;
    /// bus.queue("jobs").put(&"sweep").await?;
    /// assert_eq!(bus.inspect().topics().await?[0].name, "notes");
    /// assert_eq!(bus.inspect().queues().await?, ["jobs"]);
    /// # Ok(()) }
    /// ```
    pub fn inspect(&self) -> Inspection {
        let Core { transport, namespace, caller, .. } = &*self.0;
        Inspection::new(Arc::clone(transport), namespace.clone(), Arc::clone(caller))
    }

    /// Tells `observer` from now on what this bus does: publishes, puts, receipts, calls, and what
    /// runs handlers and exposed functions, whenever those were begun. There may be several, and they
    /// stay until the bus is gone. See [`telemetry`](crate::telemetry).
    pub fn observe(&self, observer: impl Observer + 'static) {
        self.0.observers.add(Arc::new(observer));
    }

    /// Asks the broker for a sign of life, now; says how long the round trip took.
    ///
    /// # Errors
    /// `Connection`, at once where there is no connection, within seconds where the broker is
    /// silent; `Closed`.
    pub async fn ping(&self) -> Result<Duration> {
        transport::check_runtime(&*self.0.transport, "ping", "broker")?;
        let asked = Instant::now();
        self.0.transport.ping().await?;
        Ok(asked.elapsed())
    }

    /// Publishes an event on its type's topic; says how many received it, where that is known.
    ///
    /// At most once: who is not subscribed, away, or too slow does not get it. How many receive is
    /// counted as the transport counts: subscriptions in memory, connections on Redis.
    ///
    /// # Errors
    /// `Encode`, and those of the connection; after `Ambiguous` it may have been published.
    pub async fn publish<E: Event>(&self, event: &E) -> Result<Option<usize>> {
        self.send::<Published, _>(E::TOPIC, event, &Metadata::default()).await
    }

    /// Publishes an event on its type's topic without waiting for the broker, see [`Topic::post`].
    ///
    /// # Errors
    /// Those of [`Topic::post`].
    pub async fn post<E: Event>(&self, event: &E) -> Result<()> {
        self.send::<Posted, _>(E::TOPIC, event, &Metadata::default()).await
    }

    /// Subscribes to a type's topic; the next event published is seen.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn subscribe<E: Event>(&self) -> Result<Events<E>> {
        self.topic(E::TOPIC).subscribe().await
    }

    /// A topic by name, carrying values of type `T`.
    pub fn topic<T>(&self, name: impl Into<String>) -> Topic<T> {
        Topic::new(self.clone(), name.into())
    }

    /// Subscribes to all topics that match a glob pattern (`*`, `?`, `[a-z]`, `\`).
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn pattern<T: DeserializeOwned>(&self, pattern: &str) -> Result<PatternEvents<T>> {
        self.subscribe_to(&[Filter::Pattern(pattern.to_owned())]).await
    }

    /// Subscribes to several topics and patterns in one step; the next event published on any of
    /// them is seen. An event that several of them match comes once for each.
    ///
    /// ```
    /// use pymq::{Bus, Filter};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let filters = [Filter::Topic("till".into()), Filter::Pattern("shop.*".into())];
    /// let mut amounts = bus.subscribe_to::<u32>(&filters).await?;
    /// bus.topic("shop.north").publish(&30).await?;
    /// let (topic, amount) = amounts.recv().await.expect("the bus is open")?;
    /// assert_eq!((topic.as_str(), amount), ("shop.north", 30));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for no filter at all or a bad name, and those of the connection.
    pub async fn subscribe_to<T: DeserializeOwned>(
        &self,
        filters: &[Filter],
    ) -> Result<PatternEvents<T>> {
        PatternEvents::subscribe(self.clone(), filters).await
    }

    /// A queue by name, carrying items of type `T`.
    pub fn queue<T>(&self, name: &str) -> Queue<T> {
        Queue::new(self.byte_queue(name))
    }

    /// The capabilities of this bus's transport beyond the contract.
    pub fn capabilities(&self) -> Capabilities {
        self.0.transport.capabilities()
    }

    // For layers above that have a codec of their own: bytes instead of types.

    /// Publishes bytes that are an encoded value already.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_bytes(&self, topic: &str, payload: Bytes) -> Result<Option<usize>> {
        self.send_bytes::<Published>(topic, payload).await
    }

    /// Posts bytes, see [`Topic::post`].
    ///
    /// # Errors
    /// Those of [`Topic::post`], but for encoding.
    pub async fn post_bytes(&self, topic: &str, payload: Bytes) -> Result<()> {
        self.send_bytes::<Posted>(topic, payload).await
    }

    /// Subscribes to a topic, or to a pattern, and reads bytes; names in it are whole names.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub async fn subscribe_bytes(&self, filter: &Filter) -> Result<Subscription> {
        self.subscribe_filters(std::slice::from_ref(filter)).await
    }

    pub(crate) async fn subscribe_filters(&self, filters: &[Filter]) -> Result<Subscription> {
        let namespace = &self.0.namespace;
        let whole = filters.iter().map(|filter| match filter {
            Filter::Topic(topic) => {
                name::check_topic("subscribe", topic)?;
                Ok(Filter::Topic(namespace.whole(topic)))
            }
            Filter::Pattern(pattern) => {
                name::check_topic("subscribe", pattern)?;
                Ok(Filter::Pattern(namespace.whole_pattern(pattern)))
            }
        });
        let whole = whole.collect::<Result<Vec<_>>>()?;
        let shown = topic::shown(filters)?;
        transport::check_runtime(&*self.0.transport, "subscribe", &shown)?;
        match self.0.transport.subscribe(&whole).await {
            Ok(subscription) => Ok(topic::named(subscription, shown)),
            Err(error) => Err(error.of("subscribe", shown)),
        }
    }

    pub(crate) fn drain_list(&self) -> &Arc<DrainList> {
        &self.0.drain_list
    }

    pub(crate) fn observers(&self) -> &Observers {
        &self.0.observers
    }

    /// A queue of bytes.
    pub fn byte_queue(&self, name: &str) -> ByteQueue {
        let Core { transport, drain_list, handles, limits, namespace, observers, .. } = &*self.0;
        let (transport, drain_list) = (Arc::clone(transport), Arc::clone(drain_list));
        let (handles, observers) = (Arc::clone(handles), observers.clone());
        let names = (name, namespace.whole(name));
        ByteQueue::new(transport, drain_list, handles, observers, *limits, names)
    }

    /// The namespace it lives in.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("transport", &self.0.transport)
            .field("namespace", &self.0.namespace)
            .finish_non_exhaustive()
    }
}
