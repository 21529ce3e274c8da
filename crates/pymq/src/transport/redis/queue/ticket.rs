//! The ticket that a getter holds while it waits for items.
//!
//! The one invariant: items that were put into a ticket are either taken out by its holder, or go back
//! to the head of the queue without counting as delivered, whenever and wherever the ticket is dropped.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::consumer::Consumer;
use super::getters::Answer;
use crate::error::{Error, ErrorKind};
use crate::transport::Wait;

/// The source of a ticket's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// The claimer, in turn.
    InLine,
    /// A task of its own.
    Apart,
    /// The answer was taken.
    Served,
}

/// Held by a getter while it waits; dropping it gives back the items that it may have got.
pub(super) struct Ticket {
    consumer: Arc<Consumer>,
    answer: oneshot::Receiver<Answer>,
    position: Position,
}

impl Ticket {
    pub(super) fn in_line(consumer: Arc<Consumer>, answer: oneshot::Receiver<Answer>) -> Self {
        Self { consumer, answer, position: Position::InLine }
    }

    pub(super) fn apart(consumer: Arc<Consumer>, answer: oneshot::Receiver<Answer>) -> Self {
        Self { consumer, answer, position: Position::Apart }
    }

    /// The answer; `None` when the consumer ended without one.
    pub(super) async fn wait(&mut self, wait: Wait) -> Option<Answer> {
        let answer = match wait {
            Wait::No | Wait::Forever => (&mut self.answer).await,
            Wait::Until(deadline) => match timeout_at(deadline, &mut self.answer).await {
                Ok(answer) => answer,
                Err(_) => return Some(self.give_up().await),
            },
        };
        self.position = Position::Served;
        answer.ok()
    }

    /// The answer when time is up: it is empty only once nothing can be claimed for us any more, and
    /// only if the server was there to say so.
    async fn give_up(&mut self) -> Answer {
        if let Some(answer) = self.leave() {
            return answer;
        }
        if self.consumer.has_answered().await {
            return self.consumer.trouble().map_or_else(|| Ok(Vec::new()), Err);
        }
        let why = "the server does not answer; whether there are items is not known";
        Err(Error::new(ErrorKind::Connection, "claim", &*self.consumer.keys().name, why))
    }

    /// Leaves the line; what had come in the last moment is the answer.
    fn leave(&mut self) -> Option<Answer> {
        match std::mem::replace(&mut self.position, Position::Served) {
            Position::Served => None,
            position => self.consumer.leave_line(&mut self.answer, position == Position::InLine),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(Ok(items)) = self.leave() {
            self.consumer.return_unwanted(items);
        }
    }
}
