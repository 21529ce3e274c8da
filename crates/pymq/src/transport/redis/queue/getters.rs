//! The getters that wait for items of one queue, in their order, and how many items they want.
//!
//! The one invariant: every getter gets what it asked for at once before any getter gets items ahead,
//! and items that no getter takes are returned to the caller.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::timing::SLICE;
use crate::error::{Error, Result};
use crate::transport::{Claimed, QueueSpec, Wait};

/// The most items that one round asks for on behalf of several getters.
const BATCH: usize = 128;
/// The most that it asks for on behalf of the first in line: what one claim gets at most.
pub(super) const LARGEST: usize = 1000;

/// The number of items that a round asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Want {
    /// To be handed out.
    pub(super) now: usize,
    /// Beyond them, to be fetched ahead.
    pub(super) ahead: usize,
}

impl Want {
    /// The want of one getter that asks for up to `limit`.
    pub(super) fn of(spec: &QueueSpec, limit: usize) -> Self {
        let now = limit.min(LARGEST);
        Self { now, ahead: spec.prefetch.clamp(now, LARGEST) - now }
    }

    fn sum(self) -> usize {
        self.now + self.ahead
    }
}

/// The answer to a getter.
pub(super) type Answer = Result<Vec<Claimed>>;

/// The getters that wait, in their order.
#[derive(Debug, Default)]
pub(super) struct Getters {
    waiters: VecDeque<Getter>,
    /// The number of them that do not wait any more.
    gone: usize,
}

/// One that waits.
#[derive(Debug)]
pub(super) struct Getter {
    pub(super) want: Want,
    pub(super) wait: Wait,
    pub(super) reply: oneshot::Sender<Answer>,
}

impl Getters {
    pub(super) fn join(&mut self, waiter: Getter) {
        self.waiters.push_back(waiter);
    }

    /// Notes that a getter left; says whether none waits any more.
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

    /// The number of items that a round should ask for, and the time that it may wait for the first.
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
            let Some(Getter { want, reply, .. }) = self.waiters.pop_front() else { break };
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

    /// The number of items, of `most`, that the getters want at once.
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
            // The getter may have stopped waiting.
            let _ = waiter.reply.send(Err(error()));
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
        let mut getters = Getters::default();
        let answer = joins(&mut getters, 3, 0);
        let _patient = joins(&mut getters, 2, 0);
        assert_eq!(getters.wants(Instant::now()).0, Want { now: 5, ahead: 0 });
        drop(answer);
        assert!(!getters.leave());
        assert_eq!(getters.wants(Instant::now()).0, Want { now: 2, ahead: 0 });
    }

    #[test]
    fn nobody_gets_an_item_ahead_while_another_waits_for_one() {
        let mut getters = Getters::default();
        let mut askers =
            [(1, 9), (2, 0), (1, 1)].map(|(now, ahead)| joins(&mut getters, now, ahead));
        assert_eq!(getters.wants(Instant::now()).0, Want { now: 4, ahead: 10 });
        let item = |number: u64| Claimed {
            payload: Bytes::new(),
            deliveries: 1,
            receipt: Receipt { stored: Bytes::new(), number },
        };
        assert!(getters.serve((0..6).map(item).collect()).is_empty());
        let got = askers.each_mut().map(|asker| {
            let items = asker.try_recv().expect("served").expect("items");
            items.iter().map(|item| item.receipt.number).collect::<Vec<_>>()
        });
        assert_eq!(got, [vec![0, 4, 5], vec![1, 2], vec![3]]);
    }

    fn joins(getters: &mut Getters, now: usize, ahead: usize) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        getters.join(Getter { want: Want { now, ahead }, wait: Wait::Forever, reply });
        answer
    }
}
