//! The calls that wait for an answer, by identity.
//!
//! A response reaches the call of its identity or nobody: an unknown one is dropped, so no answer
//! ever completes another call.

use std::sync::Arc;

use super::id_map::IdMap;
use crate::name::Id;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::transport::{Arrival, Limit, Receiver, Sender, Weigh, mailbox};
use crate::wire::Said;

impl Weigh for Said {
    fn weight(&self) -> usize {
        self.outcome.value.len()
    }
}

/// All calls of one bus that are open.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<OpenCalls>);

#[derive(Debug, Default)]
struct OpenCalls {
    open: IdMap<Sender<Said>>,
    /// No response will come any more, for calls yet to be opened neither.
    closed: bool,
}

impl Pending {
    /// Expects responses to `call` until the answer is dropped.
    pub(super) fn open(self: &Arc<Self>, call: Id) -> Waiting {
        let (sender, responses) = mailbox(Limit::default());
        let mut state = self.lock();
        if state.closed {
            sender.close();
        }
        state.open.insert(call, sender);
        drop(state);
        Waiting { call, responses, pending: Arc::clone(self) }
    }

    /// Hands a response to its call.
    pub(super) fn route(&self, said: Said) {
        let call = said.ours.call;
        let waiting = self.lock().open.get(&call).cloned();
        match waiting {
            Some(sender) => sender.send(said),
            None => tracing::debug!(%call, "response to a call that is over"),
        }
    }

    /// Tells every call that responses may have been lost.
    pub(super) fn gap(&self) {
        self.senders().iter().for_each(Sender::gap);
    }

    /// Ends every call: no response will come any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.senders().iter().for_each(Sender::close);
    }

    /// All mailboxes, to be told when the lock is free: what wakes a call may end it, and an ending
    /// call takes the lock.
    fn senders(&self) -> Vec<Sender<Said>> {
        self.lock().open.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, OpenCalls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call's responses.
#[derive(Debug)]
pub(super) struct Waiting {
    call: Id,
    responses: Receiver<Said>,
    pending: Arc<Pending>,
}

impl Waiting {
    pub(super) fn call(&self) -> Id {
        self.call
    }

    /// The next response or gap; `None` when the bus was closed. Cancel-safe.
    pub(super) async fn recv(&mut self) -> Option<Arrival<Said>> {
        self.responses.recv().await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.pending.lock().open.remove(&self.call);
    }
}
