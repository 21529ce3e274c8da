//! The replies of one provider on their way out.
//!
//! To answer a call never means to wait for the broker. Where the broker takes a reply at once, as in
//! memory and in a shared file, the answering thread hands it over and wakes nobody else for it.
//! Elsewhere a task sends the replies, several at a time. It ends with the outbox, which says when all
//! has been sent. What waits to be sent counts towards the provider's [`Load`](super::load::Load).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::Either;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Duration;

use super::load::Share;
use super::{REPLIES_KEPT, REPLY_LIST_KEPT};
use crate::error::Result;
use crate::name::{Address, Form};
use crate::transport::Transport;

/// How many replies are under way at a time; a round trip of one hides those of the others.
const AT_ONCE: usize = 64;
/// How many signs of life may wait; more of them say nothing more.
const MOST_SIGNS: usize = 65_536;

/// One message to be sent. An outcome has a share in the load; a sign of life has none, and is
/// dropped where too many of them wait, since its caller asks again.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) to: Address,
    pub(super) text: Bytes,
    pub(super) share: Option<Share>,
}

/// Sends the replies of one provider.
#[derive(Debug)]
pub(super) struct Outbox {
    transport: Arc<dyn Transport>,
    /// Whether the transport takes time, as far as its first answer told.
    takes_time: OnceLock<bool>,
    /// Bounded by the load, and by `MOST_SIGNS`.
    letters: UnboundedSender<Unsent>,
    tally: Arc<Tally>,
}

/// How many letters were posted and not sent yet.
#[derive(Debug, Default)]
struct Tally {
    unsent: AtomicUsize,
    idle: Notify,
}

/// A letter, and that it counts until it was sent or is given up.
type Unsent = (Outgoing, Counted);

#[derive(Debug)]
struct Counted(Arc<Tally>);

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.unsent.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Outbox {
    pub(super) fn new(transport: Arc<dyn Transport>, runtime: &Handle) -> Self {
        let (letters, posted) = unbounded_channel();
        runtime.spawn(send_all(Arc::clone(&transport), posted));
        Self { transport, takes_time: OnceLock::new(), letters, tally: Arc::default() }
    }

    /// Sends soon; on any thread.
    pub(super) fn post(&self, letter: Outgoing) {
        // Behind what waits already, so that it does not overtake that.
        let is_first = self.tally.unsent.load(Ordering::Acquire) == 0;
        if is_first && self.takes_time.get() != Some(&true) && self.give(&letter) {
            return;
        }
        let before = self.tally.unsent.fetch_add(1, Ordering::AcqRel);
        let counted = Counted(Arc::clone(&self.tally));
        if letter.share.is_some() || before < MOST_SIGNS {
            // Refused only when the runtime has ended: then it goes nowhere, as the bus has ended too.
            let _ = self.letters.send((letter, counted));
        }
    }

    /// Sends at once, where the transport can; nothing was done where it cannot.
    fn give(&self, letter: &Outgoing) -> bool {
        let given = self.transport.send(&letter.to, letter.text.clone(), kept(&letter.to));
        let Either::Left(given) = given else {
            self.takes_time.get_or_init(|| true);
            return false;
        };
        self.takes_time.get_or_init(|| false);
        note(&letter.to, given.into_inner());
        true
    }

    /// Waits until everything has been sent, or has failed to be.
    pub(super) async fn emptied(&self) {
        loop {
            // Made before the look: who empties it in between is heard.
            let idle = self.tally.idle.notified();
            if self.tally.unsent.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Sends what is posted until the outbox is gone, and then what is left.
async fn send_all(transport: Arc<dyn Transport>, mut posted: UnboundedReceiver<Unsent>) {
    let mut sending = FuturesUnordered::new();
    loop {
        // Both cancel-safe: a channel, and a set of futures that stays where it is. What was posted
        // comes first, so that what was posted together is written together.
        tokio::select! {
            biased;
            unsent = posted.recv(), if sending.len() < AT_ONCE => match unsent {
                Some(unsent) => sending.push(send(&*transport, unsent)),
                None => break,
            },
            Some(()) = sending.next() => {}
        }
    }
    while sending.next().await.is_some() {}
}

async fn send(transport: &dyn Transport, (letter, _counted): Unsent) {
    // Its share is given up when it was sent.
    let Outgoing { to, text, share: _share } = letter;
    note(&to, transport.send(&to, text, kept(&to)).await);
}

/// For how long a reply is kept for a caller that is away.
fn kept(to: &Address) -> Duration {
    match to.form() {
        Form::Inbox => REPLIES_KEPT,
        Form::List => REPLY_LIST_KEPT,
    }
}

fn note(to: &Address, sent: Result<bool>) {
    if let Err(error) = sent {
        // The caller asks again by identity, and the reply is kept here.
        tracing::debug!(to = to.name(), %error, "could not send a reply");
    }
}
