//! Whose handler runs here: one that drains its own worker, or its bus, does not wait for itself.
//!
//! It is a value of the item's task, so what a handler spawns does not have it.

use std::sync::Arc;

use tokio::sync::watch;

use super::worker::Asked;
use crate::drain_list::DrainList;

tokio::task_local! {
    static CURRENT: Handling;
}

/// The worker that runs a handler.
#[derive(Clone)]
pub(super) struct Handling(Arc<Handler>);

struct Handler {
    drain_list: Arc<DrainList>,
    /// What is asked of the worker.
    asked: watch::Sender<Asked>,
}

impl Handling {
    pub(super) fn new(drain_list: &Arc<DrainList>, asked: &watch::Sender<Asked>) -> Self {
        Self(Arc::new(Handler { drain_list: Arc::clone(drain_list), asked: asked.clone() }))
    }

    /// Runs what serves an item.
    pub(super) async fn scope<F: Future>(self, serving: F) -> F::Output {
        CURRENT.scope(self, serving).await
    }
}

/// Whether a handler runs here of a worker of that bus.
pub(crate) fn is_of_bus(drain_list: &Arc<DrainList>) -> bool {
    is(|handler| Arc::ptr_eq(&handler.drain_list, drain_list))
}

/// Whether a handler runs here of the worker of which that is asked.
pub(super) fn is_of_worker(asked: &watch::Sender<Asked>) -> bool {
    is(|handler| handler.asked.same_channel(asked))
}

fn is(meant: impl FnOnce(&Handler) -> bool) -> bool {
    CURRENT.try_with(|current| meant(&current.0)).unwrap_or(false)
}

/// A function for another thread, on which the same handler runs.
#[cfg(feature = "blocking")]
pub(crate) fn carried<T>(run: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let current = CURRENT.try_with(Handling::clone).ok();
    move || match current {
        Some(current) => CURRENT.sync_scope(current, run),
        None => run(),
    }
}
