//! The ids of the puts that a queue remembers, each for its window.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use crate::transport::PutId;

#[derive(Default)]
pub(super) struct PutIds {
    ids: HashSet<Arc<str>>,
    /// The same by when they are forgotten; what no clock can hold is remembered for ever.
    ends: BTreeSet<(Instant, Arc<str>)>,
}

impl PutIds {
    /// Whether a put of that id was done within its window.
    pub(super) fn has(&mut self, put: &PutId) -> bool {
        self.forget();
        self.ids.contains(&put.id)
    }

    pub(super) fn note(&mut self, put: PutId) {
        if let Some(end) = Instant::now().checked_add(put.window) {
            self.ends.insert((end, Arc::clone(&put.id)));
        }
        self.ids.insert(put.id);
    }

    pub(super) fn is_empty(&mut self) -> bool {
        self.forget();
        self.ids.is_empty()
    }

    fn forget(&mut self) {
        if self.ends.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((end, _)) = self.ends.first()
            && *end <= now
            && let Some((_, id)) = self.ends.pop_first()
        {
            self.ids.remove(&id);
        }
    }
}
