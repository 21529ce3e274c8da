//! The call that is being answered here: what a function can know of its caller, and what the calls
//! that it makes itself carry on.
//!
//! It is a value of the task that runs the function, so what the function spawns does not have it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::name::Id;
use crate::wire::Metadata;

tokio::task_local! {
    static CURRENT: CurrentCall;
}

/// The call that runs on this task, see [`current_call`].
#[derive(Clone, Debug)]
pub struct CurrentCall(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    function: Arc<str>,
    metadata: Metadata,
    deadline: Option<Instant>,
    /// The providing side of the bus that runs it.
    provider: Id,
    over: AtomicBool,
    ended: Notify,
}

/// The call that is being answered here; `None` outside of an exposed function, and in tasks that
/// it has spawned.
///
/// ```
/// # use pymq::{Bus, wire::Metadata};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> pymq::Result<()> {
/// # let bus = Bus::connect("memory://").await?;
/// let handler = |(): ()| async {
///     let call = pymq::rpc::current_call().expect("a call runs here");
///     Ok::<_, String>(call.metadata().get("tenant").map(str::to_owned))
/// };
/// let _service = bus.expose_fn("tenant", handler).await?;
/// let tenant = bus.stub::<(), Option<String>>("tenant");
/// let north = tenant.metadata(Metadata::default().header("tenant", "north"));
/// assert_eq!(north.call(()).await?.as_deref(), Some("north"));
/// assert_eq!(tenant.call(()).await?, None);
/// # Ok(()) }
/// ```
pub fn current_call() -> Option<CurrentCall> {
    CURRENT.try_with(CurrentCall::clone).ok()
}

/// A function for another thread, with the call that is answered here as its own.
#[cfg(feature = "blocking")]
pub(crate) fn carried<T>(run: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let call = current_call();
    move || match call {
        Some(call) => CURRENT.sync_scope(call, run),
        None => run(),
    }
}

impl CurrentCall {
    pub(super) fn new(
        function: Arc<str>,
        metadata: Metadata,
        deadline: Option<Instant>,
        provider: Id,
    ) -> Self {
        let (over, ended) = (AtomicBool::new(false), Notify::new());
        Self(Arc::new(Inner { function, metadata, deadline, provider, over, ended }))
    }

    /// The name that was called.
    pub fn function(&self) -> &str {
        &self.0.function
    }

    /// What the caller said beside the arguments.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// How long the caller still waits; `None` where it has not said. Calls made from here end by
    /// then, too.
    pub fn left(&self) -> Option<Duration> {
        self.0.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// Which provider runs it.
    pub(super) fn provider(&self) -> Id {
        self.0.provider
    }

    /// Runs a function with this as its current call.
    pub(super) fn scope<F: Future>(&self, function: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), function)
    }

    /// Notes that the call has been answered.
    pub(super) fn end(&self) {
        self.0.over.store(true, Ordering::Release);
        self.0.ended.notify_waiters();
    }

    /// Returns when the call has been answered.
    pub(crate) async fn ended(&self) {
        // Made before the look: who ends it in between is heard.
        let ended = self.0.ended.notified();
        if !self.0.over.load(Ordering::Acquire) {
            ended.await;
        }
    }
}
