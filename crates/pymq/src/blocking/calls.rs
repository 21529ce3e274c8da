//! Calls that wait, and functions that may.
//!
//! The one invariant: a function that waits runs on a thread of a pool, so that the bus's own thread
//! goes on showing that its provider is alive. Who executes and who is waited for is `rpc`'s.

use std::fmt::{self, Display};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::mirror::waiting;
use super::{Bus, Incoming};
use crate::error::Result;
use crate::queue;
use crate::rpc::{self, CallOptions, ExposeOptions, Function, Remote, Replies, StubReply};
use crate::telemetry;
use crate::wire::Metadata;

/// A function out of a closure that may wait: each call runs on a thread of the bus's pool.
///
/// The closure takes one value, as that of [`pymq::Bus::expose_fn`](crate::Bus::expose_fn) does. A
/// call whose caller gives up is run to its end all the same, since nothing can stop a thread.
///
/// ```
/// use pymq::{ExposeOptions, blocking};
/// # fn main() -> pymq::Result<()> {
/// # let bus = blocking::Bus::connect("memory://")?;
/// let read = blocking::function("size", |(path,): (String,)| {
///     std::fs::metadata(path).map(|file| file.len())
/// });
/// let four_at_a_time = ExposeOptions::default().concurrency(4);
/// let _service = bus.expose_with(read, four_at_a_time)?;
/// let error = bus.stub::<_, u64>("size").call(("no such file",)).unwrap_err();
/// assert_eq!(error.kind(), pymq::ErrorKind::Remote);
/// # Ok(()) }
/// ```
pub fn function<A, R, E>(
    name: &str,
    closure: impl Fn(A) -> Result<R, E> + Send + Sync + 'static,
) -> Function
where
    A: DeserializeOwned + Send + 'static,
    R: Serialize + Send + 'static,
    E: Display + Send + 'static,
{
    let closure = Arc::new(closure);
    Function::of_one_value(name, move |value: A| {
        let closure = Arc::clone(&closure);
        on_a_thread(move || closure(value))
    })
}

/// Runs what may wait on a thread of the pool.
pub(super) async fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let run = rpc::carried(queue::carried(telemetry::carried(run)));
    tokio::task::spawn_blocking(run).await.unwrap_or_else(|error| {
        match error.try_into_panic() {
            // It goes on here, where functions that panic are answered for.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => panic!("the bus ended while the function ran"),
        }
    })
}

impl Bus {
    /// As [`pymq::Bus::stub`](crate::Bus::stub).
    pub fn stub<A: Serialize, R: DeserializeOwned>(&self, function: &str) -> Stub<A, R> {
        Stub { inner: self.asynchronous().stub(function), bus: self.clone() }
    }

    /// As [`pymq::Bus::expose`](crate::Bus::expose). Async functions run on the bus's one thread and
    /// must not block it; for those that do there is [`expose_fn`](Self::expose_fn).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::expose`](crate::Bus::expose).
    pub fn expose<Kind>(&self, remote: impl Remote<Kind>) -> Result<Service> {
        self.expose_with(remote, ExposeOptions::default())
    }

    /// As [`pymq::Bus::expose_with`](crate::Bus::expose_with).
    ///
    /// # Errors
    /// Those of [`pymq::Bus::expose_with`](crate::Bus::expose_with).
    pub fn expose_with<Kind>(
        &self,
        remote: impl Remote<Kind>,
        options: ExposeOptions,
    ) -> Result<Service> {
        let inner = self.wait(self.asynchronous().expose_with(remote, options))?;
        Ok(Service { inner, bus: self.clone() })
    }

    /// Exposes a closure that may wait, see [`function`].
    ///
    /// # Errors
    /// As [`pymq::Bus::expose_fn`](crate::Bus::expose_fn).
    pub fn expose_fn<A, R, E>(
        &self,
        name: &str,
        closure: impl Fn(A) -> Result<R, E> + Send + Sync + 'static,
    ) -> Result<Service>
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        E: Display + Send + 'static,
    {
        self.expose(function(name, closure))
    }
}

/// As [`pymq::Stub`](crate::Stub), waiting.
pub struct Stub<A, R> {
    inner: rpc::Stub<A, R>,
    bus: Bus,
}

impl<A: Serialize, R: DeserializeOwned> Stub<A, R> {
    /// As [`pymq::Stub::timeout`](crate::Stub::timeout).
    #[must_use]
    pub fn timeout(&self, timeout: Duration) -> Self {
        self.with(self.inner.timeout(timeout))
    }

    /// As [`pymq::Stub::options`](crate::Stub::options).
    #[must_use]
    pub fn options(&self, options: CallOptions) -> Self {
        self.with(self.inner.options(options))
    }

    /// As [`pymq::Stub::metadata`](crate::Stub::metadata); functions that wait read it with
    /// [`current_call`](crate::rpc::current_call), too.
    #[must_use]
    pub fn metadata(&self, metadata: Metadata) -> Self {
        self.with(self.inner.metadata(metadata))
    }

    /// As [`pymq::Stub::keywords`](crate::Stub::keywords).
    ///
    /// # Errors
    /// Those of [`pymq::Stub::keywords`](crate::Stub::keywords).
    pub fn keywords<K: Serialize + ?Sized>(&self, keywords: &K) -> Result<Self> {
        Ok(self.with(self.inner.keywords(keywords)?))
    }

    waiting! {
        Stub:
        fn call(&self, arguments: A) -> Result<R>;
        fn call_all(&self, arguments: A) -> Result<Vec<StubReply<R>>>;
    }

    /// As [`pymq::Stub::call_all_stream`](crate::Stub::call_all_stream).
    ///
    /// # Errors
    /// Those of [`pymq::Stub::call_all_stream`](crate::Stub::call_all_stream).
    pub fn call_all_iter(&self, arguments: A) -> Result<Incoming<Replies<R>>> {
        self.bus.incoming(self.bus.wait(self.inner.call_all_stream(arguments))?)
    }

    fn with(&self, inner: rpc::Stub<A, R>) -> Self {
        Self { inner, bus: self.bus.clone() }
    }
}

impl<A, R> Clone for Stub<A, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), bus: self.bus.clone() }
    }
}

impl<A, R> fmt::Debug for Stub<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// As [`pymq::Service`](crate::Service): dropping it unexposes its functions.
#[derive(Debug)]
#[must_use = "dropping a service unexposes its functions"]
pub struct Service {
    inner: rpc::Service,
    bus: Bus,
}

impl Service {
    /// The names of its functions.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.inner.functions()
    }

    /// As [`pymq::Service::drain`](crate::Service::drain).
    pub fn drain(self) {
        let Self { inner, bus } = self;
        bus.wait(inner.drain());
    }
}
