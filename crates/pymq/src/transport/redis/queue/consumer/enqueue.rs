//! How getters join and leave a consumer, and the failure that keeps items from them.
//!
//! The one invariant: a getter is answered, and leaves, under the same lock. So an answer is either seen by
//! its getter, or its items are given back.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::getters::{Answer, Getter, Want};
use super::super::ticket::Ticket;
use super::{Consumer, State, copy};
use crate::error::Error;
use crate::transport::{QueueSpec, Wait};

impl Consumer {
    /// Lets a getter wait behind the others; `None` when the consumer has retired.
    pub(crate) fn enqueue(
        self: &Arc<Self>,
        spec: &QueueSpec,
        limit: usize,
        wait: Wait,
    ) -> Option<Ticket> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        if !self.is_open() {
            return None;
        }
        state.call(spec);
        state.getters.join(Getter { want: Want::of(spec, limit), wait, reply });
        drop(state);
        self.changed.notify_one();
        Some(Ticket::in_line(Arc::clone(self), answer))
    }

    /// A ticket whose answer the caller gives himself, through [`answer`](Self::answer).
    pub(crate) fn ticket(
        self: &Arc<Self>,
        spec: &QueueSpec,
    ) -> Option<(Ticket, oneshot::Sender<Answer>)> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        if !self.is_open() {
            return None;
        }
        state.call(spec);
        let reaps = state.reap_at <= Instant::now();
        drop(state);
        if reaps {
            self.changed.notify_one();
        }
        Some((Ticket::apart(Arc::clone(self), answer), reply))
    }

    pub(crate) fn answer(&self, reply: oneshot::Sender<Answer>, answer: Answer) {
        let mut state = self.lock();
        if let Err(Ok(unwanted)) = reply.send(answer) {
            state.give_back(unwanted);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Takes the answer of a getter that leaves: either it gets the answer here, or none is given any more.
    pub(crate) fn leave_line(
        &self,
        answer: &mut oneshot::Receiver<Answer>,
        in_line: bool,
    ) -> Option<Answer> {
        let mut state = self.lock();
        answer.close();
        let last = answer.try_recv().ok();
        if last.is_none() && in_line && state.getters.leave() {
            self.changed.notify_one();
        }
        last
    }

    /// The failure that kept items away until now, for a getter whose time is up.
    pub(crate) fn trouble(&self) -> Option<Error> {
        self.lock().trouble.as_ref().map(|error| copy(error, "claim"))
    }

    /// Notes the failure that keeps items away; says whether there was none before.
    pub(crate) fn set_trouble(&self, error: &Error) -> bool {
        let news = self.lock().trouble.replace(copy(error, "claim")).is_none();
        self.calmed.notify_waiters();
        news
    }

    /// Notes that claims get through.
    pub(crate) fn clear_trouble(&self) -> bool {
        self.lock().trouble.take().is_some()
    }

    /// Fails all getters that wait.
    pub(crate) fn fail_all(&self, error: impl Fn() -> Error) {
        let mut state = self.lock();
        state.getters.fail_all(error);
    }
}

impl State {
    /// Notes that a getter asks for an item.
    pub(super) fn call(&mut self, spec: &QueueSpec) {
        self.bounded |= spec.maxsize > 0;
        self.called = true;
        self.used = Instant::now();
    }
}
