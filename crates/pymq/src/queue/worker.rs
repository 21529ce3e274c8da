//! A worker: it claims items and runs a handler for each, so many at once.
//!
//! The one invariant: every item it claims is handed to [`serve`](super::serve), which settles it, or
//! is returned when it was never begun. How a lost connection comes back is the transport's; the
//! worker only asks again.

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::sleep;

use super::bytes::ByteQueue;
use super::delivery::{ByteDelivery, Delivery};
use super::handling::{self, Handling};
use super::{Queue, serve};
use crate::drain_list::DrainEntry;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::Wait;

/// How long a worker waits before it claims again after a failure: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

impl<T: DeserializeOwned + Send + 'static> Queue<T> {
    /// Serves the queue with a handler, up to `concurrency` items at once, until the [`Worker`] is
    /// drained or dropped, this handle [stopped](Self::stop), or the queue is shut down and empty.
    ///
    /// At least once: an item is acknowledged when its handler has returned `Ok`. With `Err`, or if
    /// the handler panics, it comes again later, to this worker or another: by default after 1, 4, 16
    /// and 64 s ([`retry`](Self::retry) says otherwise), until [`max_deliveries`](Self::max_deliveries)
    /// makes it a dead letter that tells the error. An item whose process dies comes again within its
    /// [`lease`](Self::lease). An item that is no `T` becomes a dead letter at once. Lost connections
    /// are waited for. Handlers run as tasks of the current runtime.
    ///
    /// ```
    /// # use pymq::{Bus, Retry};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs").retry(Retry::never());
    /// jobs.put_many(&[1, 2, 3]).await?;
    /// let worker = jobs.work(2, async |number: u32| match number {
    ///     2 => Err("two is too much"),
    ///     _ => Ok(()),
    /// })?;
    /// jobs.join().await?;
    /// worker.drain().await?;
    /// let letters = jobs.dead_letters().read(0, 10).await?;
    /// assert_eq!(letters[0].failure().words, "two is too much");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for a concurrency of 0, and outside a tokio runtime.
    pub fn work<E, F>(
        &self,
        concurrency: usize,
        handler: impl Fn(T) -> F + Send + Sync + 'static,
    ) -> Result<Worker>
    where
        E: fmt::Display + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (queue, handler) = (Arc::new(self.bytes.clone()), Arc::new(handler));
        Worker::start(self.bytes.apart(), concurrency, move |delivery| {
            serve::item(Arc::clone(&queue), delivery, Arc::clone(&handler))
        })
    }

    /// Serves the queue as [`work`](Self::work) does, with a handler that sees the delivery: how often
    /// the item was handed out; and that may extend its lease, or settle it itself. A delivery that the
    /// handler drops is settled by what it returns.
    ///
    /// ```
    /// # use pymq::{Bus, Delivery};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
    /// # let bus = Bus::connect("memory://").await?;
    /// let jobs = bus.queue::<u32>("jobs");
    /// jobs.put_many(&[1, 2, 3]).await?;
    /// let worker = jobs.work_deliveries(2, async |job: Delivery<u32>| match *job {
    ///     2 => job.reject_because("two is too much").await,
    ///     _ => Ok(()),
    /// })?;
    /// jobs.join().await?;
    /// worker.drain().await?;
    /// assert_eq!(jobs.dead_letters().len().await?, 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`work`](Self::work).
    pub fn work_deliveries<E, F>(
        &self,
        concurrency: usize,
        handler: impl Fn(Delivery<T>) -> F + Send + Sync + 'static,
    ) -> Result<Worker>
    where
        E: fmt::Display + 'static,
        F: Future<Output = Result<(), E>> + Send + 'static,
    {
        let (queue, handler) = (Arc::new(self.bytes.clone()), Arc::new(handler));
        Worker::start(self.bytes.apart(), concurrency, move |delivery| {
            serve::delivery(Arc::clone(&queue), delivery, Arc::clone(&handler))
        })
    }
}

/// Items being served, see [`Queue::work`](super::Queue::work).
///
/// Dropping it stops at once, on any thread: handlers are cancelled where they wait, and what they
/// had in hand is given back, counted as a delivery. [`drain`](Self::drain) ends it gently.
#[must_use = "dropping a worker stops it"]
pub struct Worker {
    name: Arc<str>,
    /// What is asked of the loop; closed when that has ended.
    asked: watch::Sender<Asked>,
    serving: JoinHandle<Result<()>>,
    _entry: DrainEntry,
}

/// What a worker is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Serve,
    Drain,
}

impl Worker {
    /// `serve` makes the future of one item, which settles it.
    pub(super) fn start<F>(
        queue: ByteQueue,
        concurrency: usize,
        serve: impl Fn(ByteDelivery) -> F + Send + Sync + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name: Arc<str> = queue.name().into();
        let refused = |why: &'static str| Error::new(ErrorKind::Config, "work", &*name, why);
        if concurrency == 0 {
            return Err(refused("a concurrency of 0 serves nothing; use 1 or more"));
        }
        let Ok(runtime) = Handle::try_current() else {
            return Err(refused("there is no tokio runtime here; call it from within one"));
        };
        let (asked, asking) = watch::channel(Asked::Serve);
        let asking_too = asked.clone();
        let stop = Box::new(move || -> BoxFuture<'static, _> {
            asking_too.send_replace(Asked::Drain);
            Box::pin(async move {
                asking_too.closed().await;
                Ok(())
            })
        });
        let _entry = queue.drain_list().open("work", &name, stop)?;
        let handling = Handling::new(queue.drain_list(), &asked);
        let running = JoinSet::new();
        let serving = Serving { queue, concurrency, begin: serve, handling, running };
        let serving = runtime.spawn(serving.run(asking));
        Ok(Self { name, asked, serving, _entry })
    }

    /// Stops claiming, lets the handlers in hand finish, and returns what was fetched ahead.
    ///
    /// Dropping the future instead, as a timeout does, cancels the handlers and gives their items
    /// back. A handler that drains its own worker does not wait for itself: then this returns at once,
    /// and the worker ends when the handlers have.
    ///
    /// # Errors
    /// The failure that had ended the worker before, because it does not pass by itself; `Closed` if
    /// its runtime ended under it.
    pub async fn drain(mut self) -> Result<()> {
        self.asked.send_replace(Asked::Drain);
        if handling::is_of_worker(&self.asked) {
            tokio::spawn(async move {
                if let Err(error) = self.ended_well().await {
                    tracing::warn!(queue = &*self.name, %error, "a worker had ended before");
                }
            });
            return Ok(());
        }
        self.ended_well().await
    }

    async fn ended_well(&mut self) -> Result<()> {
        match (&mut self.serving).await {
            Ok(result) => result,
            // Its runtime ended under it; then leases give the items back.
            Err(_) => Err(Error::closed("work", &*self.name)),
        }
    }

    /// Returns when the worker has ended: the queue was shut down and is empty, its handle was
    /// stopped and what was in hand is done, the bus was closed, or a failure does not pass by
    /// itself, which [`drain`](Self::drain) then tells. Cancel-safe.
    pub async fn ended(&self) {
        self.asked.closed().await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // With the loop go its handlers, and with them their deliveries.
        self.serving.abort();
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Worker").field(&self.name).finish()
    }
}

type Claim = BoxFuture<'static, Result<Vec<ByteDelivery>>>;

/// The loop behind a worker; `begin` makes the task of one item.
struct Serving<B> {
    queue: ByteQueue,
    concurrency: usize,
    begin: B,
    handling: Handling,
    running: JoinSet<()>,
}

/// Whether the queue can bring something now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Supply {
    Open,
    /// Shut down and empty, until a handler gives something back.
    Dry,
}

impl<B, W> Serving<B>
where
    B: Fn(ByteDelivery) -> W,
    W: Future<Output = ()> + Send + 'static,
{
    async fn run(mut self, mut asking: watch::Receiver<Asked>) -> Result<()> {
        let result = tokio::select! {
            // When the bus drains, it asks before it ends the claims.
            biased;
            // An error is the end of the worker itself, which aborts this task.
            _ = asking.wait_for(|asked| *asked == Asked::Drain) => Ok(()),
            result = self.serve_all() => result,
        };
        self.queue.give_back();
        while let Some(ended) = self.running.join_next().await {
            report(self.queue.name(), ended);
        }
        result
    }

    /// Serves items until there will be none. Cancel-safe: a claim that waits loses nothing.
    async fn serve_all(&mut self) -> Result<()> {
        let (mut claim, mut supply, mut pause): (Option<Claim>, _, _) =
            (None, Supply::Open, PAUSES.0);
        loop {
            let free = self.concurrency - self.running.len();
            if claim.is_none() && free > 0 && supply == Supply::Open {
                claim = Some(claim_in(self.queue.clone(), free, Duration::ZERO));
            }
            if supply == Supply::Dry && self.running.is_empty() {
                return Ok(());
            }
            let claimed = tokio::select! {
                Some(ended) = self.running.join_next() => {
                    report(self.queue.name(), ended);
                    supply = Supply::Open;
                    continue;
                }
                claimed = next(&mut claim) => claimed,
            };
            claim = None;
            match claimed {
                Ok(deliveries) => {
                    pause = PAUSES.0;
                    for delivery in deliveries {
                        let serving = (self.begin)(delivery);
                        self.running.spawn(self.handling.clone().scope(serving));
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::ShutDown => supply = Supply::Dry,
                    // A regular end, whoever wanted it.
                    ErrorKind::Closed => return Ok(()),
                    ErrorKind::Config | ErrorKind::Unsupported => {
                        return Err(error);
                    }
                    _ => {
                        tracing::warn!(queue = self.queue.name(), %error, "claiming again soon");
                        claim = Some(claim_in(self.queue.clone(), free, pause));
                        pause = (pause * 2).min(PAUSES.1);
                    }
                },
            }
        }
    }
}

fn claim_in(queue: ByteQueue, limit: usize, pause: Duration) -> Claim {
    Box::pin(async move {
        if !pause.is_zero() {
            sleep(pause).await;
        }
        queue.claim_many(limit, Wait::Forever).await
    })
}

async fn next(claim: &mut Option<Claim>) -> Result<Vec<ByteDelivery>> {
    match claim {
        Some(claim) => claim.await,
        None => pending().await,
    }
}

/// A handler that panics fails its item; what panics beside it (the destructor of an item) has given
/// the item back.
fn report(queue: &str, ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(queue, "serving an item panicked; it is given back");
    }
}
