//! What can be exposed: a function's name, its parameters' names, and how a call of it runs.
//!
//! A [`Function`] hides all types, so that a provider runs one as another; whatever happens inside
//! it becomes an outcome. It knows no provider and no transport.

use std::any::Any;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::last_name;
use super::{BoundArguments, Failure};
use crate::codec;
use crate::error::{Error, Result};
use crate::wire::{Arguments, Outcome, tags};

/// What [`Bus::expose`](crate::Bus::expose) takes: one function, or several on shared state.
///
/// `#[pymq::remote]` functions and the servers of `#[pymq::service]` traits are such; so is a
/// [`Function`]. `Kind` only keeps functions of different arity apart, and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be exposed: it says no name and no parameter names",
    label = "neither a `#[pymq::remote]` function nor the server of a `#[pymq::service]`",
    note = "write `#[pymq::remote]` above the function",
    note = "give a closure a name: `bus.expose_fn(\"name\", |(a, b): (i64, i64)| async move {{ … }})`",
    note = "wrap what implements a `#[pymq::service]` trait: `bus.expose(CalculatorServer::new(…))`"
)]
pub trait Remote<Kind = ()>: Send {
    /// The functions, each to be exposed under its name.
    fn functions(self) -> Vec<Function>;
}

/// A function as a provider runs it, all types hidden.
///
/// By hand, what `#[pymq::remote]` writes:
///
/// ```
/// use pymq::{Bus, rpc::Function};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// let product = Function::new("product", &["a", "b"], |arguments| {
///     let (a, b): (i64, i64) = (arguments.take()?, arguments.take()?);
///     Ok(async move { a.checked_mul(b).ok_or("too large") })
/// });
/// let bus = Bus::connect("memory://").await?;
/// let _service = bus.expose(product).await?;
/// assert_eq!(bus.stub::<_, i64>("product").call((2, 4)).await?, 8);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Function {
    name: Arc<str>,
    run: Arc<Run>,
}

type Run = dyn Fn(&Arguments) -> Result<Running> + Send + Sync;
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

impl Function {
    /// A function whose arguments bind to parameter names, by position and by keyword.
    ///
    /// `begin` takes the arguments and gives the call to run. An error of it reaches the caller as
    /// a `TypeError`, one of the call as [`ErrorKind::Remote`](crate::ErrorKind::Remote).
    pub fn new<R, E, F>(
        name: &str,
        parameters: &'static [&'static str],
        begin: impl Fn(&mut BoundArguments<'_>) -> Result<F> + Send + Sync + 'static,
    ) -> Self
    where
        R: Serialize,
        E: Display + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        Self::over(name, move |name, arguments| {
            begin(&mut BoundArguments::bind(name, parameters, arguments)?)
        })
    }

    /// A function of one value, for closures: positional arguments become a tuple, keyword arguments
    /// a struct.
    ///
    /// [`Bus::expose_fn`](crate::Bus::expose_fn) makes one of these; by itself it goes to
    /// [`Bus::expose_with`](crate::Bus::expose_with).
    pub fn of_one_value<A, R, E, F>(
        name: &str,
        handler: impl Fn(A) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned,
        R: Serialize,
        E: Display + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        Self::over(name, move |name, arguments| Ok(handler(decode_whole(name, arguments)?)))
    }

    fn over<R, E, F>(
        name: &str,
        begin: impl Fn(&str, &Arguments) -> Result<F> + Send + Sync + 'static,
    ) -> Self
    where
        R: Serialize,
        E: Display + 'static,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        let name: Arc<str> = name.into();
        let function = Arc::clone(&name);
        let run = move |arguments: &Arguments| -> Result<Running> {
            let (running, function) = (begin(&function, arguments)?, Arc::clone(&function));
            Ok(Box::pin(async move { outcome(&function, running.await) }))
        };
        Self { name, run: Arc::new(run) }
    }

    pub(super) fn shared_name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// The name it is exposed under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs it; whatever happens becomes an outcome.
    pub(super) async fn run(&self, arguments: &Arguments) -> Outcome {
        // What panicked is given up, so nothing half-changed of it is seen again by us.
        let begun = std::panic::catch_unwind(AssertUnwindSafe(|| (self.run)(arguments)));
        let outcome = match begun {
            Ok(Ok(running)) => AssertUnwindSafe(running).catch_unwind().await,
            Ok(Err(misfit)) => Ok(Outcome::failure("TypeError", misfit.message())),
            Err(panic) => Err(panic),
        };
        outcome.unwrap_or_else(|_| {
            tracing::error!(function = &*self.name, "function panicked");
            Outcome::failure("Panic", "the function panicked")
        })
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Function").field(&self.name).finish()
    }
}

impl Remote for Function {
    fn functions(self) -> Vec<Function> {
        vec![self]
    }
}

/// What `#[pymq::remote]` implements on the type of its name; not for writing by hand.
pub trait RemoteFn {
    /// What the function returns.
    type Output;

    /// The function, to be exposed.
    fn function() -> Function;
}

/// A call of a `#[pymq::remote]` function within its own program: await it.
///
/// No bus is involved. Its type is how [`Bus::expose`](crate::Bus::expose) recognises the function.
#[must_use = "a call does nothing until it is awaited"]
pub struct LocalCall<R: RemoteFn> {
    running: Pin<Box<dyn Future<Output = R::Output> + Send>>,
    remote: PhantomData<fn() -> R>,
}

impl<R: RemoteFn> LocalCall<R> {
    /// A call that runs when it is awaited.
    pub fn new(running: impl Future<Output = R::Output> + Send + 'static) -> Self {
        Self { running: Box::pin(running), remote: PhantomData }
    }
}

impl<R: RemoteFn> Future for LocalCall<R> {
    type Output = R::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R::Output> {
        self.running.as_mut().poll(context)
    }
}

impl<R: RemoteFn> fmt::Debug for LocalCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalCall").field(&R::function()).finish()
    }
}

/// One function for each number of parameters.
macro_rules! remote_functions {
    ($($first:ident $($rest:ident)*)?) => {
        impl<Called, Named, $($first, $($rest,)*)?> Remote<fn($($first, $($rest),*)?)> for Called
        where
            Called: Fn($($first, $($rest),*)?) -> LocalCall<Named> + Send,
            Named: RemoteFn,
        {
            fn functions(self) -> Vec<Function> {
                vec![Named::function()]
            }
        }

        $(remote_functions!($($rest)*);)?
    };
}

remote_functions!(A B C D E F G H I J K L);

fn outcome<R: Serialize, E: Display + 'static>(function: &str, result: Result<R, E>) -> Outcome {
    let result = match result {
        Ok(result) => codec::encode_plain(function, &result),
        Err(error) => {
            return match (&error as &dyn Any).downcast_ref::<Failure>() {
                Some(failure) => failure.outcome(),
                None => Outcome::failure(error_name::<E>(), &error.to_string()),
            };
        }
    };
    match result {
        Ok(value) => {
            let type_name = tags::type_name(&value).to_owned();
            Outcome::result(value, type_name)
        }
        Err(error) => Outcome::failure("TypeError", &error.to_string()),
    }
}

/// Positional arguments become a tuple, keyword arguments a struct.
fn decode_whole<A: DeserializeOwned>(function: &str, arguments: &Arguments) -> Result<A> {
    let Arguments { positional, keywords, .. } = arguments;
    let (no_positional, no_keywords) = (&positional[..] == b"[]", &keywords[..] == b"{}");
    let decoded = match (no_positional, no_keywords) {
        (true, true) => codec::decode_plain(function, b"[]")
            .or_else(|_| codec::decode_plain(function, b"null"))
            .or_else(|_| codec::decode_plain(function, b"{}")),
        (false, true) => codec::decode_plain(function, positional),
        (true, false) => codec::decode_plain(function, keywords),
        (false, false) => Err(Error::decode(
            function,
            "takes positional or keyword arguments, not both in one call",
        )),
    };
    decoded.map_err(|error| Error::decode(function, format!("{function}(): {}", error.message())))
}

/// The last part of an error type's path, as Python names its own.
fn error_name<E>() -> &'static str {
    match last_name::<E>() {
        "str" | "String" | "Box" => "Error",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct OutOfStock<T>(T);

    #[test]
    fn errors_are_named_by_their_type_and_texts_are_plain_errors() {
        assert_eq!(error_name::<OutOfStock<std::io::Error>>(), "OutOfStock");
        assert_eq!(error_name::<std::io::Error>(), "Error");
        for name in [
            error_name::<&'static str>(),
            error_name::<String>(),
            error_name::<Box<dyn std::error::Error>>(),
        ] {
            assert_eq!(name, "Error");
        }
    }

    #[tokio::test]
    async fn a_panic_before_the_first_await_is_an_outcome_too() {
        let function =
            Function::of_one_value("f", |(): ()| -> std::future::Ready<Result<(), String>> {
                panic!("at once")
            });
        assert_eq!(function.run(&Arguments::none()).await.type_name, "Panic");
    }
}
