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
pub(crate) struct DeadLetterLog {
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

impl DeadLetterLog {
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
        let log = Arc::downgrade(self);
        runtime.spawn(async move {
            tokio::time::sleep_until(end).await;
            if let Some(log) = log.upgrade() {
                log.tell_ended(Instant::now());
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

impl Drop for DeadLetterLog {
    fn drop(&mut self) {
        for (queue, tally) in &*self.lock() {
            tally.tell(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Record};
    use tracing::{Event, Id, Metadata, Subscriber};

    use super::*;
    use crate::transport::Reason;

    /// The lines of a log.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl Lines {
        fn all(&self) -> Vec<String> {
            self.0.lock().expect("no panic under the lock").clone()
        }
    }

    impl Subscriber for Lines {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn event(&self, event: &Event<'_>) {
            let mut line = Line::default();
            event.record(&mut line);
            self.0.lock().expect("no panic under the lock").push(line.0);
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[derive(Default)]
    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.push_str(&format!("{field}={value:?} "));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn every_dead_letter_is_told_and_a_flood_of_them_in_few_lines() {
        let lines = Lines::default();
        let _kept = tracing::subscriber::set_default(lines.clone());
        let log = Arc::new(DeadLetterLog::default());
        let failure = Failure::new(Reason::Failed).error("ValueError", "secret").origin("host:1");
        for _ in 0..1000 {
            log.tell("jobs", 5, &failure, 0);
        }
        log.tell("other", 1, &Failure::new(Reason::Rejected), 2);
        let told = lines.all();
        assert_eq!(told.len(), SINGLE as usize + 1);
        for part in ["queue=\"jobs\"", "deliveries=5", "failed: ValueError, at host:1"] {
            assert!(told[0].contains(part), "{}", told[0]);
        }
        assert!(told[10].contains("rejected") && told[10].contains("dropped=2"), "{}", told[10]);
        tokio::time::sleep(WINDOW * 2).await;
        let told = lines.all();
        assert_eq!(told.len(), SINGLE as usize + 2);
        assert!(told[11].contains("items=990"), "{}", told[11]);
        assert!(!told.concat().contains("secret"));
        // The next flood begins anew, and ends with the connection at the latest.
        for _ in 0..12 {
            log.tell("jobs", 5, &failure, 0);
        }
        drop(log);
        let told = lines.all();
        assert!(told.last().expect("a line").contains("items=2"), "{told:?}");
    }
}
