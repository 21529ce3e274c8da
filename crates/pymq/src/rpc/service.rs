//! Exposed functions at work: each behind a provider of its own, calls side by side up to a bound.
//!
//! A call whose caller has stopped waiting is dropped where it stands. What a call does is a
//! [`Function`]'s business.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::{Either, FutureExt as _, join_all, select};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Function;
use super::call::Call;
use super::current::{CurrentCall, current_call};
use super::provider::Provider;
use crate::drain_list::{DrainEntry, DrainList};
use crate::error::{Error, Result};
use crate::name::Id;
use crate::telemetry::{self, Observed, Observers, Operation, Received, Verb};
use crate::wire::{Arguments, Outcome};

/// How exposed functions are served, see [`Bus::expose_with`](crate::Bus::expose_with).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExposeOptions {
    /// How many calls of one function run at a time; the others wait, and are told apart from dead
    /// ones by their callers. 1024 by default.
    pub concurrency: usize,
}

impl Default for ExposeOptions {
    fn default() -> Self {
        Self { concurrency: 1024 }
    }
}

impl ExposeOptions {
    /// The same with a bound on how many calls of one function run at a time.
    #[must_use]
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls;
        self
    }

    /// # Errors
    /// `Config` for options under which no call would ever run.
    pub(crate) fn check(self) -> Result<Self> {
        if self.concurrency == 0 {
            let why = "no call would ever run; it is 1 or more";
            return Err(Error::new(crate::ErrorKind::Config, "expose", "concurrency", why));
        }
        Ok(self)
    }
}

/// An exposed function, or several exposed together; dropping it unexposes them, on any thread.
///
/// Calls that were running when it was dropped are answered with an error, and those that had not
/// begun go to another provider; [`drain`](Self::drain) lets both finish.
#[derive(Debug)]
#[must_use = "dropping a service unexposes its functions"]
pub struct Service {
    exposed: Vec<Exposed>,
}

/// One function and the task that serves it.
#[derive(Debug)]
struct Exposed {
    task: JoinHandle<()>,
    provider: Id,
    function: Function,
    entry: DrainEntry,
}

impl Service {
    /// # Errors
    /// `Closed` when the bus drains.
    pub(crate) fn start(
        runtime: &Handle,
        drain_list: &Arc<DrainList>,
        observers: &Observers,
        functions: impl IntoIterator<Item = (Provider, Function)>,
        options: ExposeOptions,
    ) -> Result<Self> {
        let expose = |(provider, function): (Provider, Function)| {
            let (end, ended) = oneshot::channel();
            let (done, over) = oneshot::channel::<()>();
            let stop = Box::new(move || -> futures_core::future::BoxFuture<'static, _> {
                Box::pin(async move {
                    // A task that is over already needs no telling, and drops its end.
                    let _ = end.send(());
                    let _ = over.await;
                    Ok(())
                })
            });
            let entry = drain_list.open("expose", function.name(), stop)?;
            let (observers, id) = (observers.clone(), provider.id());
            let served = serve(provider, function.clone(), options, observers, ended);
            let task = runtime.spawn(async move {
                served.await;
                drop(done);
            });
            Ok(Exposed { task, provider: id, function, entry })
        };
        Ok(Self { exposed: functions.into_iter().map(expose).collect::<Result<_>>()? })
    }

    /// The names of its functions.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.exposed.iter().map(|exposed| exposed.function.name())
    }

    /// Unexposes the functions in good order: waits until the broker knows, and until the calls
    /// that had arrived have been answered and the answers sent.
    ///
    /// It waits as long as they take. Dropping the future gives them up, as dropping the service
    /// does. A function that drains its own service does not wait for itself: then this returns at
    /// once, and the service ends when the calls have.
    ///
    /// ```
    /// # use pymq::{Bus, ErrorKind};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let service = bus.expose_fn("f", |(): ()| async { Ok::<_, String>(1) }).await?;
    /// assert_eq!(bus.stub::<(), i64>("f").call(()).await?, 1);
    /// service.drain().await;
    /// let error = bus.stub::<(), i64>("f").call(()).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::NoSuchRemote);
    /// # Ok(()) }
    /// ```
    pub async fn drain(self) {
        let runs_here =
            |call: CurrentCall| self.exposed.iter().any(|one| one.provider == call.provider());
        if current_call().is_some_and(runs_here) {
            tokio::spawn(self.drain_now());
        } else {
            self.drain_now().await;
        }
    }

    async fn drain_now(mut self) {
        for stopped in join_all(self.exposed.iter().map(|exposed| exposed.entry.stop())).await {
            if let Err(error) = stopped {
                tracing::debug!(%error, "could not unexpose");
            }
        }
        for exposed in &mut self.exposed {
            // Where the bus drains meanwhile, the task is still to be waited for.
            let _ = (&mut exposed.task).await;
        }
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut provider: Provider,
    function: Function,
    options: ExposeOptions,
    observers: Observers,
    mut ended: oneshot::Receiver<()>,
) {
    let mut running = FuturesUnordered::new();
    let mut retired = false;
    loop {
        // Cancel-safe: a mailbox, a set of futures that stays where it is, a one-shot.
        tokio::select! {
            call = provider.recv(), if running.len() < options.concurrency => match call {
                Some(call) => running.push(answer(call, &function, provider.id(), &observers)),
                None => break,
            },
            Some(()) = running.next() => {}
            // From now on nothing new arrives; what had arrived is taken to its end. An error says
            // that the service was dropped, and this task with it; it is heard once, too.
            _ = &mut ended, if !retired => {
                retired = true;
                drop(provider.retire());
            }
        }
    }
    while running.next().await.is_some() {}
    // What was answered is on its way; a bus that closes next must not overtake it.
    provider.sent().await;
}

/// Runs one call, unless its caller stops waiting first. Whatever it does, the others go on.
async fn answer(call: Call, function: &Function, provider: Id, observers: &Observers) {
    let current = CurrentCall::new(
        function.shared_name(),
        call.metadata().clone(),
        call.deadline(),
        provider,
    );
    // A function that panics has its outcome; this is for what panics while it is dropped.
    let run = AssertUnwindSafe(current.scope(run(&call, function, observers)));
    match run.catch_unwind().await {
        Ok(Some(outcome)) => call.answer(outcome),
        Ok(None) => drop(call),
        Err(_) => {
            tracing::error!(function = function.name(), "a call panicked while it was given up");
            drop(call);
        }
    }
    current.end();
}

/// `None` for a call whose caller has stopped waiting.
async fn run(call: &Call, function: &Function, observers: &Observers) -> Option<Outcome> {
    let arguments = call.arguments();
    let serve = Operation::new(Verb::Serve, function.name());
    let observed = observers.begin(serve.with(Received::new(call.metadata(), None)));
    // Without an outcome, what is watched is told as cancelled: it was dropped without an end.
    let outcome = outcome(call, arguments, function, observed.as_ref()).await?;
    if let Some(observed) = observed {
        observed.end(1, outcome.failed.then_some(&outcome.type_name));
    }
    Some(outcome)
}

async fn outcome(
    call: &Call,
    arguments: &Arguments,
    function: &Function,
    observed: Option<&Observed>,
) -> Option<Outcome> {
    let (cancelled, running) = (pin!(call.cancelled()), pin!(function.run(arguments)));
    let outcome = pin!(telemetry::run(observed, running));
    match select(outcome, cancelled).await {
        Either::Left((outcome, _)) => Some(outcome),
        Either::Right(_) => None,
    }
}
