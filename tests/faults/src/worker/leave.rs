//! A worker in Rust whose tasks and runtimes end with items in hand.
//!
//! The one invariant: whoever takes an item for the first time ends with it, which is noted; the next
//! one does it and confirms it.

use std::collections::HashSet;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use pymq::transport::{Settlement, Wait};
use pymq::{ByteDelivery, ByteQueue};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::{Outcome, Worker, connect, number_of};
use crate::history::{History, What};

/// What those who take items have in common.
#[derive(Clone)]
struct Taker {
    history: Arc<History>,
    seen: Arc<Mutex<HashSet<u64>>>,
}

impl Taker {
    /// Takes an item; one that nobody took before is given back to the caller, to end with.
    async fn take(&self, queue: &ByteQueue, way: &str) -> Option<ByteDelivery> {
        let item = queue.claim(Wait::Forever).await.ok().flatten()?;
        let number = number_of(&item);
        self.history.note(What::Got, [(number, u64::from(item.deliveries()))]);
        if self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
            self.history.fail(What::Failed, number, 0, way);
            return Some(item);
        }
        self.history.note(What::Done, [(number, 0)]);
        match item.settle(Settlement::Ack).await {
            Ok(()) => self.history.note(What::Acked, [(number, 0)]),
            Err(error) => {
                self.history.fail(What::Unsettled, number, 0, &format!("{:?}", error.kind()));
            }
        }
        None
    }
}

impl Worker {
    /// Takes items by turns in tasks that panic, in tasks that are aborted, and in runtimes that end.
    pub(super) async fn leave(&self) -> Outcome {
        let taker = Taker { history: Arc::clone(&self.history), seen: Arc::default() };
        loop {
            let (queue, theirs) = (self.queue(), taker.clone());
            let panics = async move {
                let left = theirs.take(&queue, "task").await;
                assert!(left.is_none(), "as a task does");
            };
            // Its panic is what it is for.
            let _ = tokio::spawn(panics).await;
            self.abort_one(taker.clone()).await;
            self.end_one(taker.clone()).await?;
        }
    }

    async fn abort_one(&self, taker: Taker) {
        let (queue, (holds, held)) = (self.queue(), oneshot::channel());
        let task = tokio::spawn(async move {
            let left = taker.take(&queue, "aborted task").await;
            let _ = holds.send(());
            if left.is_some() {
                pending::<()>().await;
            }
        });
        let _ = held.await;
        task.abort();
    }

    /// Its last task holds the item for ever, as a server's does that `main` returns from.
    async fn end_one(&self, taker: Taker) -> Outcome {
        let (url, options) = (self.url.clone(), self.options.clone());
        let mut stopped = self.stopped.clone();
        let life = move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(async {
                let bus = connect(&url, stopped.clone()).await;
                let queue = options.queue_of(&bus);
                // Else the end of the worker would wait for the next item.
                let left = tokio::select! {
                    left = taker.take(&queue, "runtime") => left,
                    _ = stopped.wait_for(|stopped| *stopped) => None,
                };
                tokio::spawn(async move {
                    pending::<()>().await;
                    drop((left, bus));
                });
            });
            Ok(())
        };
        tokio::task::spawn_blocking(life).await.map_err(|error| error.to_string())?
    }
}
