//! Where the deliveries of a handle come from, and where their leases end.
//!
//! The one invariant: an error of the transport names the queue as the user names it, and the user's verb:
//! `get` for every way to take an item.

use std::sync::Arc;

use crate::drain_list::DrainList;
use crate::error::Result;
use crate::name;
use crate::transport::{self, Claimed, QueueSpec, Transport, Wait};

/// Where deliveries come from and are settled.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) transport: Arc<dyn Transport>,
    /// The queue's name without the namespace, as errors have it.
    pub(super) name: Arc<str>,
    pub(super) spec: Arc<QueueSpec>,
    pub(super) drain_list: Arc<DrainList>,
}

impl Origin {
    pub(super) async fn claim(&self, limit: usize, wait: Wait) -> Result<Vec<Claimed>> {
        let claim = self.transport.claim(&self.spec, limit, wait);
        self.named("get", self.drain_list.unless_draining("get", &self.name, claim).await)
    }

    /// Fails when the bus drains or was closed.
    pub(super) fn check(&self) -> Result<()> {
        self.named("get", self.drain_list.check("get", &self.name))
    }

    /// Fails outside of a tokio runtime.
    pub(super) fn check_runtime(&self, operation: &'static str) -> Result<()> {
        transport::check_runtime(&*self.transport, operation, &self.name)
    }

    /// What the transport said, but under the user's verb and name.
    pub(super) fn named<T>(&self, operation: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.of(operation, name::shortened(&self.name)))
    }
}
