//! Where events go, as far as one connection knows.
//!
//! The invariant: what is kept was found at some generation of the bus, and holds as long as the bus is
//! at the same; so one that knows that nobody subscribes need not even take the lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::topics::Target;

/// How many ways are kept; when there are more, all are forgotten and found again.
const KEPT: usize = 32_768;

/// The ways of topics to those who subscribe.
#[derive(Default)]
pub(super) struct Routes(Mutex<HashMap<Box<str>, Route>>);

/// A way, and the generation at which it was found.
type Route = (u64, Arc<[Target]>);

impl Routes {
    /// The way of a topic, found where it is not known.
    pub(super) fn to(
        &self,
        topic: &str,
        generation: u64,
        find: impl FnOnce() -> Arc<[Target]>,
    ) -> Arc<[Target]> {
        let mut routes = self.lock();
        if let Some((known, targets)) = routes.get(topic)
            && *known == generation
        {
            return Arc::clone(targets);
        }
        let targets = find();
        if routes.len() >= KEPT {
            routes.clear();
        }
        routes.insert(topic.into(), (generation, Arc::clone(&targets)));
        targets
    }

    /// Whether it is known that nobody subscribes.
    pub(super) fn is_unheard(&self, topic: &str, generation: u64) -> bool {
        let routes = self.lock();
        routes.get(topic).is_some_and(|(known, targets)| *known == generation && targets.is_empty())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Route>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
