//! The line of those who wait for items of one queue, and what each holds in his hand.
//!
//! The one invariant: an item that was put into a ticket is either taken out by its holder or goes
//! back to the head of the queue, uncounted, whenever and wherever the ticket is dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::super::timing::SLICE;
use super::consumer::Consumer;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::{Claimed, Wait};

/// The most items that one round asks for on behalf of several getters.
const BATCH: usize = 128;
/// The most that it asks for on behalf of the first in line: what one claim gets at most.
pub(super) const LARGEST: usize = 1000;

/// What a getter is told.
pub(super) type Answer = Result<Vec<Claimed>>;

/// Those who wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Line {
    waiters: VecDeque<Waiter>,
    /// How many of them do not wait any more.
    gone: usize,
}

/// Somebody in the line.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) limit: usize,
    pub(super) wait: Wait,
    pub(super) reply: oneshot::Sender<Answer>,
}

impl Line {
    pub(super) fn join(&mut self, waiter: Waiter) {
        self.waiters.push_back(waiter);
    }

    /// Notes that somebody left; says whether nobody is in it any more.
    pub(super) fn leave(&mut self) -> bool {
        self.gone += usize::from(!self.waiters.is_empty());
        // Behind one who waits for ever, those who left would pile up.
        if self.gone > 32 && self.gone > self.waiters.len() / 2 {
            self.waiters.retain(|waiter| !waiter.reply.is_closed());
            self.gone = 0;
        }
        self.nobody_waits()
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.gone >= self.waiters.len()
    }

    /// How many items a round should ask for, and how long it may wait for the first.
    pub(super) fn wants(&self, now: Instant) -> (usize, Duration) {
        let (mut want, mut most, mut longest) = (0, BATCH, Duration::ZERO);
        for waiter in self.waiters.iter().filter(|waiter| !waiter.reply.is_closed()) {
            if want == 0 {
                most = waiter.limit.clamp(BATCH, LARGEST);
            }
            want += waiter.limit.min(most);
            let left = match waiter.wait {
                Wait::Until(until) => until.saturating_duration_since(now),
                Wait::No | Wait::Forever => SLICE,
            };
            longest = longest.max(left);
            if want >= most && longest >= SLICE {
                break;
            }
        }
        (want.clamp(1, most), longest)
    }

    /// Deals items out; returns those that nobody wants.
    pub(super) fn serve(&mut self, mut items: VecDeque<Claimed>) -> Vec<Claimed> {
        while !items.is_empty() {
            let Some(waiter) = self.waiters.pop_front() else { break };
            let portion: Vec<_> = items.drain(..waiter.limit.min(items.len())).collect();
            if let Err(Ok(unwanted)) = waiter.reply.send(Ok(portion)) {
                self.gone = self.gone.saturating_sub(1);
                unwanted.into_iter().rev().for_each(|item| items.push_front(item));
            }
        }
        items.into()
    }

    /// Tells everybody of a failure.
    pub(super) fn fail_all(&mut self, error: impl Fn() -> Error) {
        self.gone = 0;
        for waiter in std::mem::take(&mut self.waiters) {
            // Whoever asked may have stopped waiting.
            let _ = waiter.reply.send(Err(error()));
        }
    }
}

/// Where the answer of a ticket comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The claimer, in turn.
    InLine,
    /// A task of its own.
    Apart,
    /// The answer was taken.
    Served,
}

/// What a getter holds while it waits; dropping it gives back what it may have got.
pub(super) struct Ticket {
    consumer: Arc<Consumer>,
    answer: oneshot::Receiver<Answer>,
    place: Place,
}

impl Ticket {
    pub(super) fn in_line(consumer: Arc<Consumer>, answer: oneshot::Receiver<Answer>) -> Self {
        Self { consumer, answer, place: Place::InLine }
    }

    pub(super) fn apart(consumer: Arc<Consumer>, answer: oneshot::Receiver<Answer>) -> Self {
        Self { consumer, answer, place: Place::Apart }
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
        self.place = Place::Served;
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
        Err(Error::new(ErrorKind::Connection, "get", &*self.consumer.keys().list, why))
    }

    /// Leaves the line; what had come in the last moment is the answer.
    fn leave(&mut self) -> Option<Answer> {
        match std::mem::replace(&mut self.place, Place::Served) {
            Place::Served => None,
            place => self.consumer.leave_line(&mut self.answer, place == Place::InLine),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_the_line_is_not_asked_for() {
        let mut line = Line::default();
        let wait = Wait::Forever;
        let (reply, answer) = oneshot::channel();
        line.join(Waiter { limit: 3, wait, reply });
        let (reply, _patient) = oneshot::channel();
        line.join(Waiter { limit: 2, wait, reply });
        assert_eq!(line.wants(Instant::now()).0, 5);
        drop(answer);
        assert!(!line.leave());
        assert_eq!(line.wants(Instant::now()).0, 2);
    }
}
