//! A ticket: what a getter holds while it waits.
//!
//! The one invariant: an item that was put into a ticket is either taken out by its holder or goes
//! back to the head of the queue, uncounted, whenever and wherever the ticket is dropped.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::consumer::Consumer;
use super::state::Calm;
use crate::error::Result;
use crate::transport::{Claimed, Wait};

/// What a getter is told.
pub(super) type Answer = Result<Vec<Claimed>>;

/// Where its answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The claimer, in turn.
    InLine,
    /// A task of its own.
    Apart,
    /// The answer was taken.
    Served,
}

/// What a getter holds while it waits; dropping it gives back what it may have got.
pub(super) struct Ticket {
    pub(super) consumer: Arc<Consumer>,
    pub(super) answer: oneshot::Receiver<Answer>,
    pub(super) place: Place,
}

impl Ticket {
    /// The answer; `None` when the consumer ended without one.
    pub(super) async fn wait(&mut self, wait: Wait) -> Option<Answer> {
        let answer = match wait {
            Wait::No | Wait::Forever => (&mut self.answer).await,
            Wait::Until(deadline) => match timeout_at(deadline, &mut self.answer).await {
                Ok(answer) => answer,
                Err(_) => return Some(self.give_up().await),
            },
        };
        self.place = Place::Served;
        answer.ok()
    }

    /// The answer when time is up: it is empty only once nothing can be claimed for us any more.
    async fn give_up(&mut self) -> Answer {
        match self.leave() {
            Some(answer) => answer,
            None => {
                self.consumer.calm(Calm::Claims).await;
                Ok(Vec::new())
            }
        }
    }

    /// Leaves the line; what had come in the last moment is the answer.
    fn leave(&mut self) -> Option<Answer> {
        let place = std::mem::replace(&mut self.place, Place::Served);
        if place == Place::Served {
            return None;
        }
        // Under the lock, as answers are given: an answer is either seen here or not given.
        let mut state = self.consumer.lock();
        self.answer.close();
        let answer = self.answer.try_recv().ok();
        if answer.is_none() && place == Place::InLine && state.count_gone() {
            self.consumer.changed.notify_one();
        }
        answer
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(Ok(items)) = self.leave() {
            self.consumer.lock().give_back(items);
            self.consumer.changed.notify_one();
        }
    }
}
