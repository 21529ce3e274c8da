//! What the handles of one bus say of their queues: where two contradict each other, the log says so.
//!
//! The one invariant: nothing is decided here. An option holds for what its own handle does, whatever
//! other handles and other processes say.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::name;
use crate::transport::QueueSpec;

/// How many queues are remembered; beyond that, nothing is said.
const MOST: usize = 10_000;

/// What was said of each queue by the first handle that used it.
#[derive(Debug, Default)]
pub(crate) struct Handles(Mutex<HashMap<String, Said>>);

#[derive(Debug, Default)]
struct Said {
    /// By the first that put.
    maxsize: Option<usize>,
    priorities: Option<bool>,
    /// What the log has said by now.
    told: Vec<Contradiction>,
}

/// What two handles of a queue say differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contradiction {
    Maxsize,
    Priorities,
}

/// Whether a handle has said what it says, of putting and of taking.
#[derive(Debug, Default)]
pub(super) struct Noted {
    puts: AtomicBool,
    takes: AtomicBool,
}

impl Noted {
    /// Whether this is the first time that the handle puts, or takes.
    pub(super) fn is_new(&self, puts: bool) -> bool {
        let which = if puts { &self.puts } else { &self.takes };
        !which.load(Ordering::Relaxed) && !which.swap(true, Ordering::Relaxed)
    }
}

impl Handles {
    /// Notes that a handle with these options puts into its queue, or takes from it.
    pub(super) fn note(&self, queue: &QueueSpec, puts: bool) {
        for contradiction in self.contradictions(queue, puts) {
            let name = name::shortened(&queue.name);
            match contradiction {
                Contradiction::Maxsize => tracing::warn!(
                    queue = %name, maxsize = queue.maxsize,
                    "another handle puts with another maxsize; each one's holds for its own puts"
                ),
                Contradiction::Priorities => tracing::warn!(
                    queue = %name, priorities = queue.priorities,
                    "another handle says otherwise whether items have priorities; one that does not \
                     ask for them may leave others' items lying"
                ),
            }
        }
    }

    /// What is new of it and contradicts what an earlier handle said.
    fn contradictions(&self, queue: &QueueSpec, puts: bool) -> Vec<Contradiction> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if queues.len() >= MOST && !queues.contains_key(&queue.name) {
            return Vec::new();
        }
        let said = queues.entry(queue.name.clone()).or_default();
        let mut found = Vec::new();
        // A bound is for those who put.
        if puts && *said.maxsize.get_or_insert(queue.maxsize) != queue.maxsize {
            found.push(Contradiction::Maxsize);
        }
        if *said.priorities.get_or_insert(queue.priorities) != queue.priorities {
            found.push(Contradiction::Priorities);
        }
        found.retain(|contradiction| !said.told.contains(contradiction));
        said.told.extend(&found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(maxsize: usize, priorities: bool) -> QueueSpec {
        let mut queue = QueueSpec::new("q");
        (queue.maxsize, queue.priorities) = (maxsize, priorities);
        queue
    }

    #[test]
    fn what_contradicts_an_earlier_handle_is_said_once() {
        let handles = Handles::default();
        assert_eq!(handles.contradictions(&queue(0, false), false), []);
        assert_eq!(handles.contradictions(&queue(10, false), true), [], "who takes has no bound");
        assert_eq!(handles.contradictions(&queue(10, false), true), []);
        assert_eq!(handles.contradictions(&queue(9, false), true), [Contradiction::Maxsize]);
        assert_eq!(handles.contradictions(&queue(8, true), true), [Contradiction::Priorities]);
        assert_eq!(handles.contradictions(&queue(7, true), true), []);
        assert_eq!(handles.contradictions(&QueueSpec::new("another"), true), []);
    }

    #[test]
    fn a_handle_says_each_thing_once() {
        let noted = Noted::default();
        assert!(noted.is_new(true) && noted.is_new(false));
        assert!(!noted.is_new(true) && !noted.is_new(false));
    }
}
