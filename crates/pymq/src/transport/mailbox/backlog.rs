//! What lies in a mailbox: messages in the order of arrival, and what was lost between them.
//!
//! The invariant: a loss stands where it happened, and is told before what came after it; an
//! overflow takes the oldest. It knows no lock and no reader.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Arrival, Limit, Stamp, Weigh};

/// The arrivals that wait.
pub(super) struct Backlog<T> {
    /// Messages, and between them what was lost there.
    queue: VecDeque<(Stamp, Arrival<T>)>,
    /// How many of them are messages, and their bytes.
    messages: usize,
    bytes: usize,
    limit: Limit,
    /// What was lost before everything in the queue.
    before: Losses,
    /// How many messages were thrown away so far.
    missed: u64,
}

/// Losses at one place that nobody was told of yet.
#[derive(Default)]
struct Losses {
    missed: u64,
    gap: bool,
    refused: Option<Arc<str>>,
    /// The place in the order of arrival; something was lost there if it has one.
    at: Option<Stamp>,
}

impl Losses {
    fn next<T>(&mut self) -> Option<Arrival<T>> {
        if self.missed > 0 {
            return Some(Arrival::Lagged(std::mem::take(&mut self.missed)));
        }
        if let Some(why) = self.refused.take() {
            return Some(Arrival::Refused(why));
        }
        self.at = None;
        std::mem::take(&mut self.gap).then_some(Arrival::Gap)
    }

    /// Where the next one stands.
    fn stamp(&self) -> Option<Stamp> {
        let any = self.missed > 0 || self.gap || self.refused.is_some();
        self.at.filter(|_| any)
    }
}

impl<T> Backlog<T> {
    pub(super) fn new(limit: Limit) -> Self {
        Self {
            queue: VecDeque::new(),
            messages: 0,
            bytes: 0,
            limit,
            before: Losses::default(),
            missed: 0,
        }
    }

    /// How many arrivals wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes everything out.
    pub(super) fn empty(&mut self) -> impl Sized + use<T> {
        (self.messages, self.bytes) = (0, 0);
        std::mem::take(&mut self.queue)
    }

    /// How many messages wait, and how many were thrown away so far.
    pub(super) fn load(&self) -> (usize, u64) {
        (self.messages, self.missed)
    }
}

impl<T: Weigh> Backlog<T> {
    /// Adds a message, and throws the oldest away while there is too much.
    pub(super) fn add(&mut self, message: T) {
        self.bytes += message.weight();
        self.messages += 1;
        if self.queue.capacity() == 0 {
            // Into that of a call one message comes in its life, and four are as large as all else of it.
            self.queue.reserve_exact(1);
        }
        self.queue.push_back((Stamp::now(), Arrival::Message(message)));
        let Limit { messages, bytes } = self.limit;
        while self.messages > messages || (self.bytes > bytes && self.messages > 1) {
            self.lose_oldest();
        }
    }

    /// Notes that so many messages were thrown away before they came here.
    pub(super) fn lag(&mut self, missed: u64) {
        self.missed += missed;
        self.note(Arrival::Lagged(missed));
    }

    /// Takes the oldest arrival out; losses that it stood behind come first.
    pub(super) fn next(&mut self) -> Option<Arrival<T>> {
        self.before.next().or_else(|| {
            let (_, arrival) = self.queue.pop_front()?;
            self.forget(&arrival);
            Some(arrival)
        })
    }

    fn forget(&mut self, arrival: &Arrival<T>) {
        if let Arrival::Message(message) = arrival {
            self.messages -= 1;
            self.bytes -= message.weight();
        }
    }

    /// The stamp of what [`next`](Self::next) would give.
    pub(super) fn oldest(&self) -> Option<Stamp> {
        self.before.stamp().or_else(|| self.queue.front().map(|(stamp, _)| *stamp))
    }

    /// Throws the oldest away; losses that stood there are told with the new one.
    fn lose_oldest(&mut self) {
        let Some((stamp, arrival)) = self.queue.pop_front() else { return };
        self.forget(&arrival);
        self.before.at = Some(stamp);
        match arrival {
            Arrival::Message(_) => {
                self.before.missed += 1;
                self.missed += 1;
            }
            Arrival::Lagged(missed) => self.before.missed += missed,
            Arrival::Gap => self.before.gap = true,
            Arrival::Refused(why) => self.before.refused = Some(why),
        }
    }

    /// Notes a loss behind what is in the queue. Losses with no message between them are one each
    /// of their kind, so that there are never many more of them than of messages.
    pub(super) fn note(&mut self, loss: Arrival<T>) {
        let last = self.queue.iter_mut().rev().map(|(_, arrival)| arrival);
        for there in last.take_while(|arrival| !matches!(arrival, Arrival::Message(_))) {
            match (there, &loss) {
                (Arrival::Lagged(before), Arrival::Lagged(missed)) => return *before += missed,
                (Arrival::Gap, Arrival::Gap) => return,
                (Arrival::Refused(before), Arrival::Refused(why)) => {
                    return *before = Arc::clone(why);
                }
                _ => {}
            }
        }
        self.queue.push_back((Stamp::now(), loss));
    }
}
