//! The same bus for programs without a runtime: every operation waits on the calling thread.
//!
//! The one invariant: nothing is decided here. Each method waits for the one of its name in the
//! async API, whose documentation says what it does, promises and fails with; a thread of the bus
//! drives sockets and timers meanwhile. It is not for async code, whose threads must not wait.
//!
//! ```
//! use pymq::blocking::Bus;
//!
//! # fn main() -> pymq::Result<()> {
//! let bus = Bus::connect("memory://")?;
//!
//! let mut notes = bus.topic::<String>("notes").subscribe()?;
//! bus.topic("notes").publish(&"hello".to_owned())?;
//! assert_eq!(notes.next().expect("the bus is open")?, "hello");
//!
//! let jobs = bus.queue::<String>("jobs");
//! jobs.put(&"pack".to_owned())?;
//! assert_eq!(jobs.get()?, "pack");
//!
//! let _service = bus.expose_fn("product", |(a, b): (i64, i64)| {
//!     a.checked_mul(b).ok_or("too large")
//! })?;
//! assert_eq!(bus.stub::<_, i64>("product").call((2, 4))?, 8);
//! # Ok(()) }
//! ```
//!
//! What is not mirrored here is reached through [`Bus::asynchronous`] and [`Bus::wait`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_core::Stream;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::builder::BusBuilder;
use crate::error::{Error, ErrorKind, Result};
use crate::name::Namespace;
use crate::telemetry::Observer;
use crate::topic::{self, Event};
use crate::transport::{Capabilities, Filter, Health, State, States};
use crate::wire::Metadata;

mod calls;
mod inspect;
mod mirror;
mod queue;
mod thread;

pub use calls::{Service, Stub, function};
pub use inspect::Inspection;
pub use queue::{DeadLetters, Delivery, Queue, Worker};

use mirror::settings;
use thread::BusThread;

/// As [`pymq::Bus`](crate::Bus), waiting; with a thread of its own.
///
/// Cheap to clone. The thread ends with the last handle that was made from it; dropping that one
/// waits up to a second for the broker to be told.
#[derive(Clone, Debug)]
pub struct Bus(Arc<BusThread>);

impl Bus {
    /// As [`pymq::Bus::connect`](crate::Bus::connect).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::connect`](crate::Bus::connect); and `Config` if the system gives no thread.
    pub fn connect(url: &str) -> Result<Self> {
        Self::connect_with(BusBuilder::new(url))
    }

    /// Connects with more to say than an address.
    ///
    /// ```
    /// # fn main() -> pymq::Result<()> {
    /// let builder = pymq::Bus::builder("memory://").namespace("shop");
    /// let bus = pymq::blocking::Bus::connect_with(builder)?;
    /// assert_eq!(bus.topic("till").publish(&3)?, Some(0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`BusBuilder::connect`]; and `Config` if the system gives no thread.
    pub fn connect_with(builder: BusBuilder) -> Result<Self> {
        Ok(Self(BusThread::connect(builder)?))
    }

    /// The async bus beneath, for what is not mirrored here; its futures go to [`wait`](Self::wait).
    pub fn asynchronous(&self) -> &crate::Bus {
        self.0.bus()
    }

    /// Waits on the calling thread for anything that the async API does.
    ///
    /// ```
    /// # fn main() -> pymq::Result<()> {
    /// # let bus = pymq::blocking::Bus::connect("memory://")?;
    /// let jobs = bus.asynchronous().queue::<u32>("jobs");
    /// let waiting = bus.wait(async {
    ///     jobs.put(&7).await?;
    ///     jobs.len().await
    /// })?;
    /// assert_eq!(waiting, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// On the bus's own thread, which runs the async functions that were exposed on it: nothing
    /// would ever come there. So does whatever else waits.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.0.wait(future)
    }

    /// As [`pymq::Bus::publish`](crate::Bus::publish).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::publish`](crate::Bus::publish).
    pub fn publish<E: Event>(&self, event: &E) -> Result<Option<usize>> {
        self.wait(self.asynchronous().publish(event))
    }

    /// As [`pymq::Bus::post`](crate::Bus::post).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::post`](crate::Bus::post).
    pub fn post<E: Event>(&self, event: &E) -> Result<()> {
        self.wait(self.asynchronous().post(event))
    }

    /// As [`pymq::Bus::subscribe`](crate::Bus::subscribe).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::subscribe`](crate::Bus::subscribe).
    pub fn subscribe<E: Event>(&self) -> Result<Incoming<topic::Events<E>>> {
        self.incoming(self.wait(self.asynchronous().subscribe())?)
    }

    /// As [`pymq::Bus::pattern`](crate::Bus::pattern).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::pattern`](crate::Bus::pattern).
    pub fn pattern<T: DeserializeOwned>(
        &self,
        pattern: &str,
    ) -> Result<Incoming<topic::PatternEvents<T>>> {
        self.incoming(self.wait(self.asynchronous().pattern(pattern))?)
    }

    /// As [`pymq::Bus::subscribe_to`](crate::Bus::subscribe_to).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::subscribe_to`](crate::Bus::subscribe_to).
    pub fn subscribe_to<T: DeserializeOwned>(
        &self,
        filters: &[Filter],
    ) -> Result<Incoming<topic::PatternEvents<T>>> {
        self.incoming(self.wait(self.asynchronous().subscribe_to(filters))?)
    }

    /// As [`pymq::Bus::topic`](crate::Bus::topic).
    pub fn topic<T>(&self, name: impl Into<String>) -> Topic<T> {
        Topic { inner: self.asynchronous().topic(name), bus: self.clone() }
    }

    /// As [`pymq::Bus::capabilities`](crate::Bus::capabilities).
    pub fn capabilities(&self) -> Capabilities {
        self.asynchronous().capabilities()
    }

    /// As [`pymq::Bus::namespace`](crate::Bus::namespace).
    pub fn namespace(&self) -> &Namespace {
        self.asynchronous().namespace()
    }

    /// As [`pymq::Bus::state`](crate::Bus::state).
    pub fn state(&self) -> State {
        self.asynchronous().state()
    }

    /// As [`pymq::Bus::states`](crate::Bus::states).
    pub fn states(&self) -> Incoming<States> {
        Incoming { stream: self.asynchronous().states(), bus: self.clone() }
    }

    /// As [`pymq::Bus::health`](crate::Bus::health).
    pub fn health(&self) -> Health {
        self.asynchronous().health()
    }

    /// As [`pymq::Bus::observe`](crate::Bus::observe).
    pub fn observe(&self, observer: impl Observer + 'static) {
        self.asynchronous().observe(observer);
    }

    /// As [`pymq::Bus::ping`](crate::Bus::ping).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::ping`](crate::Bus::ping).
    pub fn ping(&self) -> Result<Duration> {
        self.wait(self.asynchronous().ping())
    }

    /// As [`pymq::Bus::drain`](crate::Bus::drain).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::drain`](crate::Bus::drain).
    pub fn drain(&self) -> Result<()> {
        self.wait(self.asynchronous().drain())
    }

    /// As [`pymq::Bus::close`](crate::Bus::close).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::close`](crate::Bus::close).
    pub fn close(&self) -> Result<()> {
        self.wait(self.asynchronous().close())
    }

    fn incoming<S>(&self, stream: S) -> Result<Incoming<S>> {
        Ok(Incoming { stream, bus: self.clone() })
    }
}

/// As [`pymq::Topic`](crate::Topic), waiting.
#[derive(Clone)]
pub struct Topic<T> {
    inner: topic::Topic<T>,
    bus: Bus,
}

impl<T> Topic<T> {
    /// Its name, without the namespace.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    settings! {
        Topic:
        fn metadata(self, metadata: Metadata) -> Self;
    }

    /// As [`pymq::Topic::publish`](crate::Topic::publish).
    ///
    /// # Errors
    /// Those of [`pymq::Topic::publish`](crate::Topic::publish).
    pub fn publish(&self, value: &T) -> Result<Option<usize>>
    where
        T: Serialize,
    {
        self.bus.wait(self.inner.publish(value))
    }

    /// As [`pymq::Topic::post`](crate::Topic::post).
    ///
    /// # Errors
    /// Those of [`pymq::Topic::post`](crate::Topic::post).
    pub fn post(&self, value: &T) -> Result<()>
    where
        T: Serialize,
    {
        self.bus.wait(self.inner.post(value))
    }

    /// As [`pymq::Topic::subscribe`](crate::Topic::subscribe).
    ///
    /// # Errors
    /// Those of [`pymq::Topic::subscribe`](crate::Topic::subscribe).
    pub fn subscribe(&self) -> Result<Incoming<topic::Events<T>>>
    where
        T: DeserializeOwned,
    {
        self.bus.incoming(self.bus.wait(self.inner.subscribe())?)
    }
}

impl<T> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A stream of the async API as an iterator: events, or the answers to a call.
///
/// `next` waits for the next item; it ends as the stream does. Dropping it drops the stream.
#[derive(Debug)]
pub struct Incoming<S> {
    stream: S,
    bus: Bus,
}

impl<S: Stream + Unpin> Incoming<S> {
    /// The next item, if it comes within `timeout`; `None` when there are no more.
    ///
    /// ```
    /// use std::time::Duration;
    /// # fn main() -> pymq::Result<()> {
    /// # let bus = pymq::blocking::Bus::connect("memory://")?;
    /// let mut notes = bus.topic::<String>("notes").subscribe()?;
    /// let error = notes.next_within(Duration::from_millis(10)).unwrap_err();
    /// assert_eq!(error.kind(), pymq::ErrorKind::Timeout);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Timeout` when none came; the next one is still to be had.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<S::Item>> {
        let Self { stream, bus } = self;
        // The timer is made where it is polled: there the bus's runtime is at hand.
        let timed = async { tokio::time::timeout(timeout, next(stream)).await };
        bus.wait(timed).map_err(|_| {
            let why = format!("nothing came within {timeout:?}");
            Error::new(ErrorKind::Timeout, "receive", "stream", why)
        })
    }
}

impl<T: DeserializeOwned, I: topic::Given<T>> Incoming<topic::Events<T, I>> {
    /// The next event with what travelled beside it; `None` when there are no more.
    pub fn next_message(&mut self) -> Option<Result<topic::Message<T>>> {
        self.bus.wait(self.stream.recv_message())
    }
}

impl<S: Stream + Unpin> Iterator for Incoming<S> {
    type Item = S::Item;

    fn next(&mut self) -> Option<S::Item> {
        let Self { stream, bus } = self;
        bus.wait(next(stream))
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *stream).poll_next(context)).await
}
