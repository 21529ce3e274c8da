//! Notices that a subscriber's connection has ended, from brokers that see it.
//!
//! A connection ends with all that it could still have sent. A subscriber that only unsubscribes has not
//! ended.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// How many of those have ended who had subscribed to a topic when it was asked for; see
/// [`Events::ends`](super::Events::ends).
pub struct Ends {
    count: watch::Receiver<usize>,
    _guard: Box<dyn Any + Send + Sync>,
}

/// The other side of [`Ends`], in the hands of a transport.
#[derive(Clone, Debug)]
pub struct Ending(Arc<watch::Sender<usize>>);

/// Nobody has ended yet; `guard` goes when nobody wants to know any more.
pub fn ends(guard: impl Any + Send + Sync) -> (Ending, Ends) {
    let (sender, count) = watch::channel(0);
    (Ending(Arc::new(sender)), Ends { count, _guard: Box::new(guard) })
}

impl Ending {
    /// One more has ended.
    pub fn tell(&self) {
        self.0.send_modify(|count| *count += 1);
    }
}

impl Ends {
    /// How many have ended.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until more than `known` have ended. Cancel-safe.
    pub async fn more_than(&self, known: usize) {
        let mut count = self.count.clone();
        if count.wait_for(|count| *count > known).await.is_err() {
            // Nobody tells any more: this connection is over, which whoever waits hears elsewhere.
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Debug for Ends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ends").field("count", &self.count()).finish_non_exhaustive()
    }
}
