//! The replies of one provider on their way out, and what waits for it on the way in.
//!
//! To answer a call never means to wait for the broker: replies are sent by tasks, of which the outbox
//! owns a few and says when all has been sent. What waits to run and what waits to be sent count towards
//! one [`Load`], so that a provider takes in no more than it gets rid of.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Duration;

use super::{REPLIES_KEPT, REPLY_LIST_KEPT};
use crate::name::{Address, Form};
use crate::transport::{Limit, Transport};

/// How many replies are under way at a time; a round trip of one hides those of the others.
const SENDERS: usize = 64;
/// How many signs of life may wait; more of them say nothing more.
const MOST_SIGNS: usize = 65_536;

/// What a provider holds in memory for its callers.
#[derive(Debug, Default)]
pub(super) struct Load {
    messages: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    /// Room for one more message, unless `limit` is reached.
    pub(super) fn within(self: &Arc<Self>, limit: Limit, bytes: usize) -> Option<Share> {
        let share = self.over(bytes);
        let fits = self.messages.load(Ordering::Relaxed) <= limit.messages
            && self.bytes.load(Ordering::Relaxed) <= limit.bytes;
        fits.then_some(share)
    }

    /// Room for one more message, whatever is there already.
    pub(super) fn over(self: &Arc<Self>, bytes: usize) -> Share {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Share { load: Arc::clone(self), bytes }
    }
}

/// A message's share of the load, until it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    load: Arc<Load>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.load.messages.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One message to be sent. An outcome has a share in the load; a sign of life has none, and is
/// dropped where too many of them wait, since its caller asks again.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) to: Address,
    pub(super) text: Bytes,
    pub(super) share: Option<Share>,
}

#[derive(Debug)]
pub(super) struct Outbox {
    transport: Arc<dyn Transport>,
    runtime: Handle,
    state: Mutex<Outgoing>,
    idle: Notify,
}

#[derive(Debug, Default)]
struct Outgoing {
    waiting: VecDeque<Letter>,
    senders: usize,
}

impl Outbox {
    pub(super) fn new(transport: Arc<dyn Transport>, runtime: Handle) -> Self {
        Self { transport, runtime, state: Mutex::default(), idle: Notify::new() }
    }

    /// Sends soon; on any thread.
    pub(super) fn post(self: &Arc<Self>, letter: Letter) {
        let mut state = self.lock();
        if state.senders == SENDERS {
            if letter.share.is_some() || state.waiting.len() < MOST_SIGNS {
                state.waiting.push_back(letter);
            }
            return;
        }
        state.senders += 1;
        drop(state);
        let sender = Sender { outbox: Arc::clone(self), counted_off: false };
        self.runtime.spawn(async move { sender.send_all(letter).await });
    }

    /// Waits until everything has been sent, or has failed to be.
    pub(super) async fn emptied(&self) {
        loop {
            // Made before the look: who empties it in between is heard.
            let idle = self.idle.notified();
            if self.lock().senders == 0 {
                return;
            }
            idle.await;
        }
    }

    /// The next letter for a sender; where there is none, the sender is counted off.
    fn next(&self) -> Option<Letter> {
        let mut state = self.lock();
        let next = state.waiting.pop_front();
        if next.is_some() {
            return next;
        }
        state.senders -= 1;
        let idle = state.senders == 0;
        drop(state);
        if idle {
            self.idle.notify_waiters();
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Outgoing> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that sends until nothing waits. Should its runtime end first, what waits goes nowhere: the
/// bus has ended with it.
struct Sender {
    outbox: Arc<Outbox>,
    counted_off: bool,
}

impl Sender {
    async fn send_all(mut self, first: Letter) {
        let mut next = Some(first);
        while let Some(letter) = next {
            self.send(letter).await;
            next = self.outbox.next();
        }
        self.counted_off = true;
    }

    async fn send(&self, Letter { to, text, share }: Letter) {
        let kept: Duration = match to.form() {
            Form::Inbox => REPLIES_KEPT,
            Form::List => REPLY_LIST_KEPT,
        };
        if let Err(error) = self.outbox.transport.send(&to, text, kept).await {
            // The caller asks again by identity, and the reply is kept here.
            tracing::debug!(to = to.name(), %error, "could not send a reply");
        }
        drop(share);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.counted_off {
            let waiting = std::mem::take(&mut self.outbox.lock().waiting);
            drop(waiting);
            self.outbox.next();
        }
    }
}
