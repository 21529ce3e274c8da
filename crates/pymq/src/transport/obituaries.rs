//! The log of dead letters: none is silent, and a flood of them is told in few lines.
//!
//! The one invariant: every dead letter is in exactly one line, its own or that of so many more. A
//! line says queue, deliveries and reason, never the item.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Failure;

/// How many dead letters of a queue have a line of their own within a window.
const SINGLE: u32 = 10;
/// For how long the further ones are counted before they are told together.
const WINDOW: Duration = Duration::from_secs(10);

/// What a connection, or a broker, tells of dead letters.
#[derive(Debug, Default)]
pub(crate) struct Obituaries {
    tallies: Mutex<HashMap<Box<str>, Tally>>,
}

#[derive(Debug)]
struct Tally {
    begun: Instant,
    single: u32,
    more: u64,
    /// How many older ones were dropped for these.
    dropped: usize,
    last: Failure,
}

impl Obituaries {
    /// Tells that an item of `queue` became a dead letter after so many deliveries, and that so many
    /// older ones were dropped for it, as the bound wants.
    pub(crate) fn tell(
        self: &Arc<Self>,
        queue: &str,
        deliveries: u32,
        failure: &Failure,
        dropped: usize,
    ) {
        let now = Instant::now();
        let mut tallies = self.lock();
        if tallies.get(queue).is_some_and(|tally| now - tally.begun >= WINDOW)
            && let Some(ended) = tallies.remove(queue)
        {
            ended.tell(queue);
        }
        let tally = tallies.entry(queue.into()).or_insert_with(|| Tally {
            begun: now,
            single: 0,
            more: 0,
            dropped: 0,
            last: Failure::default(),
        });
        if tally.single < SINGLE {
            tally.single += 1;
            drop(tallies);
            let queue = crate::name::shortened(queue);
            tracing::warn!(
                queue, deliveries, reason = %failure, dropped, "an item became a dead letter"
            );
            return;
        }
        tally.more += 1;
        tally.dropped += dropped;
        tally.last = failure.clone();
        if tally.more == 1 {
            let end = tally.begun + WINDOW;
            drop(tallies);
            self.tell_at(end);
        }
    }

    /// Tells the counted ones when their window is over. Without a runtime the next dead letter
    /// does, or the end of the connection.
    fn tell_at(self: &Arc<Self>, end: Instant) {
        let Ok(runtime) = Handle::try_current() else { return };
        let obituaries = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep_until(end).await;
            if let Some(obituaries) = obituaries.upgrade() {
                obituaries.tell_ended(Instant::now());
            }
        });
    }

    fn tell_ended(&self, now: Instant) {
        self.lock().retain(|queue, tally| {
            let goes_on = now - tally.begun < WINDOW;
            if !goes_on {
                tally.tell(queue);
            }
            goes_on
        });
    }

    /// Nothing of anybody else's runs under the lock but the log, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, HashMap<Box<str>, Tally>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tally {
    fn tell(&self, queue: &str) {
        let Self { more, dropped, last, .. } = self;
        if *more > 0 {
            let queue = crate::name::shortened(queue);
            tracing::warn!(
                queue, items = more, reason = %last, dropped, "more items became dead letters"
            );
        }
    }
}

impl Drop for Obituaries {
    fn drop(&mut self) {
        for (queue, tally) in &*self.lock() {
            tally.tell(queue);
        }
    }
}
