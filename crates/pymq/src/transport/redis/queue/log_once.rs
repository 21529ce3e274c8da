//! Keeps the log from saying the same thing about one queue again and again.
//!
//! The one invariant: what goes on is told once, and again when a minute has passed or it was over in
//! between.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::super::timing::TOLD_AGAIN;

/// The moment at which each thing was last logged.
#[derive(Debug, Default)]
pub(super) struct LogOnce(Mutex<HashMap<&'static str, Instant>>);

impl LogOnce {
    /// Whether something is to be told now.
    pub(super) fn is_news(&self, what: &'static str) -> bool {
        let mut told = self.lock();
        let news = told.get(what).is_none_or(|at| at.elapsed() >= TOLD_AGAIN);
        if news {
            told.insert(what, Instant::now());
        }
        news
    }

    /// Notes that something is over.
    pub(super) fn over(&self, what: &'static str) {
        self.lock().remove(what);
    }

    /// A panic cannot leave it half-changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_is_told_once_a_minute_and_anew_when_it_was_over() {
        let told = LogOnce::default();
        assert!(told.is_news("refused"));
        assert!(!told.is_news("refused"));
        tokio::time::advance(TOLD_AGAIN).await;
        assert!(told.is_news("refused"));
        told.over("refused");
        assert!(told.is_news("refused"));
    }
}
