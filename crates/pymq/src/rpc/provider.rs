//! The providing side of one function: requests come in as [`Call`]s, outcomes go back.
//!
//! It runs nothing: the holder of the [`Provider`] does. Its end is told to the broker first, then
//! what had arrived is handed out, so that nobody waits for a provider that is not there.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::time::{Duration, timeout};

use super::call::Call;
use super::current::CurrentCall;
use super::provider_task::ProviderTask;
use super::siblings::Sibling;
use crate::error::Result;
use crate::limits::Limits;
use crate::name::{self, Id, Namespace};
use crate::transport::{self, Arrival, Filter, Limit, Receiver, Sender, Stamp, Transport, mailbox};

/// How long a bus that closes waits for its last answers to be sent.
const FAREWELL: Duration = Duration::from_secs(1);
/// Calls are bounded before they come to their mailbox, by what they weigh.
const NO_LIMIT: Limit = Limit { messages: usize::MAX, bytes: usize::MAX };

/// One exposed function; dropping it ends it, on any thread.
///
/// Calls that were waiting then go to other providers; those that run may still be answered.
#[derive(Debug)]
pub struct Provider {
    calls: Receiver<Call>,
    task: Arc<ProviderTask>,
}

impl Provider {
    /// The function's name.
    pub fn function(&self) -> &str {
        &self.task.function
    }

    /// This provider's identity, as callers see it.
    pub fn id(&self) -> Id {
        self.task.id
    }

    /// The next call; `None` when the bus was closed. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Call> {
        loop {
            let arrival = self.calls.recv().await?;
            if let Some(call) = awaited(arrival) {
                return Some(call);
            }
        }
    }

    /// As [`Receiver::poll_oldest`].
    pub fn poll_oldest(&mut self, context: &mut Context<'_>) -> Poll<Option<Stamp>> {
        self.calls.poll_oldest(context)
    }

    /// Moves the calls that came before `before`, out of `limit` arrivals at most, to the end of
    /// `batch`; never waits.
    pub fn drain(&mut self, before: Stamp, limit: usize, batch: &mut Vec<Call>) {
        let mut arrivals = Vec::new();
        self.calls.drain(before, limit, &mut arrivals);
        batch.extend(arrivals.into_iter().filter_map(awaited));
    }

    /// Ends it and waits until the broker knows; calls that run may still be answered.
    ///
    /// # Errors
    /// Does not fail today; a lost connection ends it as well.
    pub async fn end(self) -> Result<()> {
        self.retire().await;
        Ok(())
    }

    /// Begins to end it; the future returns when the broker knows. Calls that came before can still
    /// be taken, and then there are no more.
    pub fn retire(&self) -> impl Future<Output = ()> + Send + use<> {
        self.task.end();
        self.task.ended()
    }

    /// Returns when every answer that was given has been sent.
    pub(super) fn sent(&self) -> impl Future<Output = ()> + Send + use<> {
        let task = Arc::clone(&self.task);
        async move { task.sent().await }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        if !self.task.has_ended() {
            self.task.end();
        }
    }
}

/// A call that somebody still waits for.
fn awaited(arrival: Arrival<Call>) -> Option<Call> {
    match arrival {
        Arrival::Message(call) => (!call.is_cancelled()).then_some(call),
        Arrival::Gap | Arrival::Lagged(_) | Arrival::Refused(_) => None,
    }
}

/// The providing side of a bus: all its providers, for as long as they live.
#[derive(Debug)]
pub(crate) struct Providers {
    transport: Arc<dyn Transport>,
    namespace: Namespace,
    runtime: Handle,
    limits: Limits,
    tasks: Mutex<Vec<Weak<ProviderTask>>>,
}

impl Providers {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        namespace: Namespace,
        runtime: Handle,
        limits: Limits,
    ) -> Self {
        Self { transport, namespace, runtime, limits, tasks: Mutex::default() }
    }

    /// Exposes a function; when this returns, the next caller finds it.
    ///
    /// # Errors
    /// `Config` for its name, and those of the connection.
    pub(crate) async fn start(&self, function: &str) -> Result<Provider> {
        name::check("expose", function)?;
        transport::check_runtime(&*self.transport, "expose", function)?;
        let id = Id::random();
        let filters = [
            Filter::Topic(self.namespace.whole(function)),
            Filter::Topic(self.namespace.marker(function)),
            Filter::Topic(self.namespace.instance(id)),
        ];
        let begun = self.transport.subscribe(&filters).await;
        let subscription = begun.map_err(|error| error.of("expose", name::shortened(function)))?;
        let (sender, calls) = mailbox(NO_LIMIT);
        let task = self.task((function, id), sender);
        self.runtime.spawn(Arc::clone(&task).attend(subscription));
        Ok(Provider { calls, task })
    }

    /// Ends them all and answers what is open, as far as that takes no time; for a bus that closes.
    pub(crate) async fn farewell(&self) {
        let tasks = std::mem::take(&mut *self.lock());
        let tasks: Vec<_> = tasks.iter().filter_map(Weak::upgrade).collect();
        if tasks.is_empty() {
            return;
        }
        let farewells = join_all(tasks.iter().map(|task| async {
            task.end();
            task.ended().await;
            task.forsake();
            task.sent().await;
        }));
        if timeout(FAREWELL, farewells).await.is_err() {
            tracing::debug!("the bus closed before its last answers were sent");
        }
    }

    /// Whether one of these runs the call.
    pub(crate) fn serves(&self, call: &CurrentCall) -> bool {
        let mut tasks = self.lock();
        tasks.retain(|task| task.strong_count() > 0);
        tasks.iter().filter_map(Weak::upgrade).any(|task| task.id == call.provider())
    }

    /// Waits until every answer that was given has been sent.
    pub(crate) async fn sent(&self) {
        let tasks: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        join_all(tasks.iter().map(|task| task.sent())).await;
    }

    /// The task of one more, which knows of those that provide the same.
    fn task(&self, (function, id): (&str, Id), calls: Sender<Call>) -> Arc<ProviderTask> {
        let mut tasks = self.lock();
        tasks.retain(|task| task.strong_count() > 0);
        let mut others = tasks.iter().filter_map(Weak::upgrade);
        let sibling = others.find_map(|task| task.sibling_of(function));
        let task = Arc::new(ProviderTask::new(
            (function, id),
            (Arc::clone(&self.transport), self.runtime.clone()),
            (self.namespace.clone(), self.limits),
            (calls, sibling.unwrap_or_else(Sibling::first)),
        ));
        tasks.push(Arc::downgrade(&task));
        task
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<ProviderTask>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
