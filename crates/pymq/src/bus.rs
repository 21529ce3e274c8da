//! The bus: the handle that programs hold and clone.
//!
//! It ties a transport, a namespace and the runtime it was connected on together, and hands out
//! topics and queues; its events, its calls and its end are in `bus/`. It lives as long as any handle
//! made from it, and holds no global state.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::ending::RuntimeEnding;
pub(crate) use self::events::{Posted, Published};
use crate::builder::BusBuilder;
use crate::drain_list::DrainList;
use crate::error::Result;
use crate::inspect::Inspection;
use crate::limits::Limits;
use crate::name::Namespace;
use crate::queue::{ByteQueue, Handles, Queue};
use crate::rpc::{Caller, Providers};
use crate::telemetry::{Observer, Observers};
use crate::topic::Topic;
use crate::transport::{self, Capabilities, Health, State, States, Transport};

mod calls;
mod ending;
mod events;

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

    /// A topic by name, carrying values of type `T`.
    pub fn topic<T>(&self, name: impl Into<String>) -> Topic<T> {
        Topic::new(self.clone(), name.into())
    }

    /// A queue by name, carrying items of type `T`.
    pub fn queue<T>(&self, name: &str) -> Queue<T> {
        Queue::new(self.byte_queue(name))
    }

    /// A queue of bytes by name, for layers that have a codec of their own.
    pub fn byte_queue(&self, name: &str) -> ByteQueue {
        let Core { transport, drain_list, handles, limits, namespace, observers, .. } = &*self.0;
        let (transport, drain_list) = (Arc::clone(transport), Arc::clone(drain_list));
        let (handles, observers) = (Arc::clone(handles), observers.clone());
        let names = (name, namespace.whole(name));
        ByteQueue::new(transport, drain_list, handles, observers, *limits, names)
    }

    /// The capabilities of this bus's transport beyond the contract.
    pub fn capabilities(&self) -> Capabilities {
        self.0.transport.capabilities()
    }

    /// The namespace it lives in.
    pub fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    pub(crate) fn drain_list(&self) -> &Arc<DrainList> {
        &self.0.drain_list
    }

    pub(crate) fn observers(&self) -> &Observers {
        &self.0.observers
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
