//! A typed function behind a provider: decode the arguments, run it, encode what comes out.
//!
//! Calls run side by side, up to a bound; a handler that panics or fails is an answer, and a call
//! whose caller has stopped waiting is dropped where it stands.

use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::future::{Either, FutureExt as _, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::provider::{Call, Provider};
use crate::codec;
use crate::error::{Error, Result};
use crate::wire::{Arguments, Outcome};

/// How many calls of one function run at a time.
const CONCURRENT_CALLS: usize = 1024;

/// An exposed function; dropping it unexposes it, on any thread.
///
/// Calls that were running when it was dropped are answered with an error.
#[derive(Debug)]
#[must_use = "dropping a service unexposes its function"]
pub struct Service {
    task: JoinHandle<()>,
    function: String,
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Service {
    pub(crate) fn start<A, R, E, F>(
        runtime: &Handle,
        provider: Provider,
        handler: impl Fn(A) -> F + Send + Sync + 'static,
    ) -> Self
    where
        A: DeserializeOwned + Send + 'static,
        R: Serialize,
        E: Display,
        F: Future<Output = Result<R, E>> + Send + 'static,
    {
        let function = provider.function().to_owned();
        let name: Arc<str> = function.as_str().into();
        let handler = Arc::new(handler);
        let (end, ended) = tokio::sync::oneshot::channel();
        let run = move |call: Call| {
            let (handler, name) = (Arc::clone(&handler), Arc::clone(&name));
            async move {
                let arguments = call.arguments().clone();
                let cancelled = std::pin::pin!(call.cancelled());
                let outcome = std::pin::pin!(run(&name, &*handler, &arguments));
                match select(outcome, cancelled).await {
                    Either::Left((outcome, _)) => call.answer(outcome),
                    Either::Right(_) => drop(call),
                }
            }
        };
        let task = runtime.spawn(serve(provider, run, ended));
        Self { task, function, end: Some(end) }
    }

    /// The function's name.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// Unexposes the function, waits until the broker knows and the calls that run have ended.
    pub async fn end(mut self) {
        if let Some(end) = self.end.take() {
            // A task that is over already needs no telling.
            let _ = end.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<F: Future<Output = ()> + Send>(
    mut provider: Provider,
    run: impl Fn(Call) -> F,
    mut ended: tokio::sync::oneshot::Receiver<()>,
) {
    let mut running = FuturesUnordered::new();
    loop {
        // Cancel-safe: a mailbox, a set of futures that stays where it is, a one-shot.
        tokio::select! {
            call = provider.recv(), if running.len() < CONCURRENT_CALLS => match call {
                Some(call) => running.push(run(call)),
                None => break,
            },
            Some(()) = running.next() => {}
            _ = &mut ended => {
                if let Err(error) = provider.end().await {
                    tracing::debug!(%error, "could not unexpose");
                }
                break;
            }
        }
    }
    while running.next().await.is_some() {}
}

/// Runs a handler on wire arguments; whatever happens becomes an outcome.
async fn run<A, R, E, F>(function: &str, handler: impl Fn(A) -> F, arguments: &Arguments) -> Outcome
where
    A: DeserializeOwned,
    R: Serialize,
    E: Display,
    F: Future<Output = Result<R, E>>,
{
    let arguments = match decode_arguments(function, arguments) {
        Ok(arguments) => arguments,
        Err(error) => return Outcome::failure("TypeError", &error.to_string()),
    };
    // The handler is given up after a panic, so nothing half-changed of it is seen again by us.
    match AssertUnwindSafe(async { handler(arguments).await }).catch_unwind().await {
        Ok(Ok(result)) => match codec::encode_plain(function, &result) {
            Ok(value) => Outcome {
                type_name: codec::type_name(&value).to_owned(),
                value,
                types: None,
                failed: false,
            },
            Err(error) => Outcome::failure("TypeError", &error.to_string()),
        },
        Ok(Err(error)) => Outcome::failure(error_name::<E>(), &error.to_string()),
        Err(_) => {
            tracing::error!(function, "handler panicked");
            Outcome::failure("Panic", "the function panicked")
        }
    }
}

/// Positional arguments become a tuple, keyword arguments a struct.
fn decode_arguments<A: DeserializeOwned>(function: &str, arguments: &Arguments) -> Result<A> {
    let Arguments { positional, keywords, .. } = arguments;
    let (no_positional, no_keywords) = (&positional[..] == b"[]", &keywords[..] == b"{}");
    match (no_positional, no_keywords) {
        (true, true) => codec::decode_plain(function, b"[]")
            .or_else(|_| codec::decode_plain(function, b"null"))
            .or_else(|_| codec::decode_plain(function, b"{}")),
        (false, true) => codec::decode_plain(function, positional),
        (true, false) => codec::decode_plain(function, keywords),
        (false, false) => Err(Error::decode(
            function,
            "takes positional or keyword arguments, not both in one call",
        )),
    }
}

/// The last part of an error type's path, as Python names its own.
fn error_name<E>() -> &'static str {
    let whole = std::any::type_name::<E>();
    let plain = whole.split('<').next().unwrap_or(whole).trim_start_matches('&');
    match plain.rsplit("::").next() {
        Some("str" | "String") | None => "Error",
        Some(name) => name,
    }
}
