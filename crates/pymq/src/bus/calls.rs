//! Calls on a bus: functions that it exposes, stubs of those of others.
//!
//! Who executes a call, and how its answer is waited for, is [`rpc`](crate::rpc)'s.

use std::fmt::Display;
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Bus, Core};
use crate::error::Result;
use crate::rpc::{
    AllReplies, Asked, CallOptions, ExposeOptions, Function, Provider, Remote, Reply, Service, Stub,
};
use crate::wire::{Arguments, Metadata};

impl Bus {
    /// Exposes a `#[pymq::remote]` function, or the methods of a `#[pymq::service]` under one
    /// handle; dropping the [`Service`] unexposes them.
    ///
    /// Calls run side by side. Arguments bind to the parameters' names, by position and by keyword;
    /// an `Option` may be left out. A call that does not fit is answered with a `TypeError` that
    /// names the parameter; an error of the function reaches the caller as
    /// [`ErrorKind::Remote`](crate::ErrorKind::Remote).
    ///
    #[cfg_attr(feature = "macros", doc = "```")]
    #[cfg_attr(not(feature = "macros"), doc = "```ignore")]
    /// # use pymq::Bus;
    /// #[pymq::remote("shop.price")]
    /// async fn price(item: String, count: Option<u32>) -> Result<u32, String> {
    ///     match item.as_str() {
    ///         "tea" => Ok(3 * count.unwrap_or(1)),
    ///         _ => Err(format!("no {item} here")),
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// let bus = Bus::connect("memory://").await?;
    /// let _service = bus.expose(price).await?;
    /// let price = bus.stub::<(&str, u32), u32>("shop.price"); // Python: stub("shop.price")
    /// assert_eq!(price.call(("tea", 2)).await?, 6);           // ("tea", count=2)
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the connection; then nothing is exposed.
    pub async fn expose<Kind>(&self, remote: impl Remote<Kind>) -> Result<Service> {
        self.expose_with(remote, ExposeOptions::default()).await
    }

    /// Exposes as [`expose`](Self::expose) does, with more to say.
    ///
    /// ```
    /// use pymq::{Bus, ExposeOptions, rpc::Function};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let one_by_one = ExposeOptions::default().concurrency(1);
    /// let print = Function::of_one_value("print", |(page,): (String,)| async move {
    ///     Ok::<_, String>(page.len())
    /// });
    /// let _service = bus.expose_with(print, one_by_one).await?;
    /// assert_eq!(bus.stub::<_, usize>("print").call(("a page",)).await?, 6);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for options that cannot be, and as [`expose`](Self::expose).
    pub async fn expose_with<Kind>(
        &self,
        remote: impl Remote<Kind>,
        options: ExposeOptions,
    ) -> Result<Service> {
        self.expose_all(remote.functions(), options).await
    }

    /// Exposes a closure under a name; dropping the [`Service`] unexposes it.
    ///
    /// A closure's parameters have no names, so it takes one value: a tuple for positional
    /// arguments, or a struct for keyword arguments.
    ///
    /// ```
    /// # use pymq::Bus;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// let bus = Bus::connect("memory://").await?;
    /// let _service = bus
    ///     .expose_fn("product", |(a, b): (i64, i64)| async move {
    ///         a.checked_mul(b).ok_or("too large")
    ///     })
    ///     .await?;
    /// let product = bus.stub::<(i64, i64), i64>("product");
    /// assert_eq!(product.call((2, 4)).await?, 8);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn expose_fn<A, R, E, F>(
        &self,
        name: &str,
        closure: impl Fn(A) -> F + Send + Sync + 'static,
    ) -> Result<Service>
    where
        A: DeserializeOwned,
        R: Serialize,
        E: Display + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        self.expose(Function::of_one_value(name, closure)).await
    }

    async fn expose_all(
        &self,
        functions: Vec<Function>,
        options: ExposeOptions,
    ) -> Result<Service> {
        let options = options.check()?;
        let providers = functions.iter().map(|function| self.provide(function.name()));
        let providers = try_join_all(providers).await?;
        let Core { runtime, drain_list, observers, .. } = &*self.0;
        let functions = providers.into_iter().zip(functions);
        Service::start(runtime, drain_list, observers, functions, options)
    }

    /// A remote function by name, to be called with `A` for an `R`.
    pub fn stub<A: Serialize, R: DeserializeOwned>(&self, function: &str) -> Stub<A, R> {
        Stub::new(Arc::clone(&self.0.caller), self.0.observers.clone(), function)
    }

    /// Exposes a function whose calls are taken one by one from the [`Provider`].
    ///
    /// # Errors
    /// As [`expose`](Self::expose).
    pub async fn provide(&self, function: &str) -> Result<Provider> {
        self.0.providers.start(function).await
    }

    /// Calls one provider with encoded arguments; a function that fails is a reply.
    ///
    /// # Errors
    /// As [`Stub::call`], without `Remote`.
    pub async fn call_bytes(
        &self,
        function: &str,
        arguments: Arguments,
        metadata: Metadata,
        options: CallOptions,
    ) -> Result<Reply> {
        self.0.caller.call(Asked { function, arguments, metadata }, options).await
    }

    /// Calls every provider with encoded arguments.
    ///
    /// # Errors
    /// As [`Stub::call_all`].
    pub async fn call_all_bytes(
        &self,
        function: &str,
        arguments: Arguments,
        metadata: Metadata,
        options: CallOptions,
    ) -> Result<AllReplies> {
        let asked = Asked { function, arguments, metadata };
        self.0.caller.call_all(asked, options).await?.all().await
    }
}
