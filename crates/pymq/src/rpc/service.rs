//! Exposed functions at work: each behind a provider of its own, calls side by side up to a bound.
//!
//! A call whose caller has stopped waiting is dropped where it stands. What a call does is a
//! [`Function`]'s business.

use futures_util::future::{Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Function;
use super::provider::{Call, Provider};

/// How many calls of one function run at a time.
const CONCURRENT_CALLS: usize = 1024;

/// An exposed function, or several exposed together; dropping it unexposes them, on any thread.
///
/// Calls that were running when it was dropped are answered with an error.
#[derive(Debug)]
#[must_use = "dropping a service unexposes its functions"]
pub struct Service {
    exposed: Vec<Exposed>,
}

/// One function and the task that serves it.
#[derive(Debug)]
struct Exposed {
    task: JoinHandle<()>,
    function: Function,
    end: Option<oneshot::Sender<()>>,
}

impl Service {
    pub(crate) fn start(
        runtime: &Handle,
        functions: impl IntoIterator<Item = (Provider, Function)>,
    ) -> Self {
        let expose = |(provider, function): (Provider, Function)| {
            let (end, ended) = oneshot::channel();
            let task = runtime.spawn(serve(provider, function.clone(), ended));
            Exposed { task, function, end: Some(end) }
        };
        Self { exposed: functions.into_iter().map(expose).collect() }
    }

    /// The names of its functions.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.exposed.iter().map(|exposed| exposed.function.name())
    }

    /// Unexposes the functions, waits until the broker knows and the calls that run have ended.
    pub async fn end(mut self) {
        for end in self.exposed.iter_mut().filter_map(|exposed| exposed.end.take()) {
            // A task that is over already needs no telling.
            let _ = end.send(());
        }
        for exposed in &mut self.exposed {
            let _ = (&mut exposed.task).await;
        }
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut provider: Provider, function: Function, mut ended: oneshot::Receiver<()>) {
    let mut running = FuturesUnordered::new();
    loop {
        // Cancel-safe: a mailbox, a set of futures that stays where it is, a one-shot.
        tokio::select! {
            call = provider.recv(), if running.len() < CONCURRENT_CALLS => match call {
                Some(call) => running.push(answer(call, &function)),
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

/// Runs one call, unless its caller stops waiting first.
async fn answer(call: Call, function: &Function) {
    let arguments = call.arguments().clone();
    let cancelled = std::pin::pin!(call.cancelled());
    let outcome = std::pin::pin!(function.run(&arguments));
    match select(outcome, cancelled).await {
        Either::Left((outcome, _)) => call.answer(outcome),
        Either::Right(_) => drop(call),
    }
}
