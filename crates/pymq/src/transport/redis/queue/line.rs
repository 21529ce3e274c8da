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
use crate::transport::{Claimed, QueueSpec, Wait};

/// The most items that one round asks for on behalf of several getters.
const BATCH: usize = 128;
/// The most that it asks for on behalf of the first in line: what one claim gets at most.
pub(super) const LARGEST: usize = 1000;

/// How many items a round takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    /// To be handed out.
    pub(super) now: usize,
    /// Beyond them, to be fetched ahead.
    pub(super) ahead: usize,
}

impl Want {
    /// What one getter wants who asks for up to `limit`.
    pub(super) fn of(spec: &QueueSpec, limit: usize) -> Self {
        let now = limit.min(LARGEST);
        Self { now, ahead: spec.prefetch.clamp(now, LARGEST) - now }
    }

    fn sum(self) -> usize {
        self.now + self.ahead
    }
}

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
    pub(super) want: Want,
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
        // Those who left stay until they come to the head; behind one who waits for ever they would
        // pile up.
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
    pub(super) fn wants(&self, now: Instant) -> (Want, Duration) {
        let (mut want, mut most, mut longest) = (Want { now: 0, ahead: 0 }, BATCH, Duration::ZERO);
        for waiter in self.waiters.iter().filter(|waiter| !waiter.reply.is_closed()) {
            if want.now == 0 {
                most = waiter.want.sum().clamp(BATCH, LARGEST);
            }
            want.now += waiter.want.now;
            want.ahead += waiter.want.ahead;
            let left = match waiter.wait {
                Wait::Until(until) => until.saturating_duration_since(now),
                Wait::No | Wait::Forever => SLICE,
            };
            longest = longest.max(left);
            if want.sum() >= most && longest >= SLICE {
                break;
            }
        }
        let now = want.now.clamp(1, most);
        (Want { now, ahead: want.ahead.min(most - now) }, longest)
    }

    /// Deals items out, to each what it asked for before anybody gets some ahead; returns those that
    /// nobody wants.
    pub(super) fn serve(&mut self, mut items: VecDeque<Claimed>) -> Vec<Claimed> {
        let mut ahead = items.split_off(self.wanted_now(items.len()));
        while !items.is_empty() || !ahead.is_empty() {
            let Some(Waiter { want, reply, .. }) = self.waiters.pop_front() else { break };
            let mut portion: Vec<_> = items.drain(..want.now.min(items.len())).collect();
            let more = (want.sum() - portion.len()).min(ahead.len());
            portion.extend(ahead.drain(..more));
            if let Err(Ok(unwanted)) = reply.send(Ok(portion)) {
                self.gone = self.gone.saturating_sub(1);
                unwanted.into_iter().rev().for_each(|item| items.push_front(item));
            }
        }
        items.extend(ahead);
        items.into()
    }

    /// How many of so many items are for those in the line at once.
    fn wanted_now(&self, most: usize) -> usize {
        let mut wanted = 0;
        for waiter in self.waiters.iter().filter(|waiter| !waiter.reply.is_closed()) {
            wanted += waiter.want.now;
            if wanted >= most {
                return most;
            }
        }
        wanted
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
enum Position {
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::transport::Receipt;

    #[test]
    fn who_leaves_the_line_is_not_asked_for() {
        let mut line = Line::default();
        let answer = joins(&mut line, 3, 0);
        let _patient = joins(&mut line, 2, 0);
        assert_eq!(line.wants(Instant::now()).0, Want { now: 5, ahead: 0 });
        drop(answer);
        assert!(!line.leave());
        assert_eq!(line.wants(Instant::now()).0, Want { now: 2, ahead: 0 });
    }

    #[test]
    fn nobody_gets_an_item_ahead_while_another_waits_for_one() {
        let mut line = Line::default();
        let mut getters = [(1, 9), (2, 0), (1, 1)].map(|(now, ahead)| joins(&mut line, now, ahead));
        assert_eq!(line.wants(Instant::now()).0, Want { now: 4, ahead: 10 });
        let item = |number: u64| Claimed {
            payload: Bytes::new(),
            deliveries: 1,
            receipt: Receipt { stored: Bytes::new(), number },
        };
        assert!(line.serve((0..6).map(item).collect()).is_empty());
        let got = getters.each_mut().map(|getter| {
            let items = getter.try_recv().expect("served").expect("items");
            items.iter().map(|item| item.receipt.number).collect::<Vec<_>>()
        });
        assert_eq!(got, [vec![0, 4, 5], vec![1, 2], vec![3]]);
    }

    fn joins(line: &mut Line, now: usize, ahead: usize) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        line.join(Waiter { want: Want { now, ahead }, wait: Wait::Forever, reply });
        answer
    }
}
