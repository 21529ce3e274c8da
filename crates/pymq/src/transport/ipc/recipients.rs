//! What a process keeps for its connection: where what comes in the post is to go.
//!
//! The invariant: nothing is given to anybody while it is locked, so that whoever is woken may come
//! back at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::heap::{At, Heap};
use super::peers::Post;
use super::topics;
use crate::transport::{Ending, Filter, Message, Sender};

/// What this process knows of its connection.
#[derive(Default)]
pub(super) struct Recipients {
    pub(super) subscriptions: HashMap<u64, Subscribed>,
    pub(super) seats: HashMap<u64, Sender<Bytes>>,
    pub(super) bells: HashMap<u64, Arc<Notify>>,
    /// Who wants to hear of ends, by the numbers of the watches.
    pub(super) endings: HashMap<u64, Ending>,
    /// The items that we hold, by the numbers of their leases.
    pub(super) leases: HashMap<u64, At>,
    /// Queues at which somebody waits, and when something is due there.
    pub(super) dues: HashMap<Box<str>, u64>,
}

/// A subscription: where it lies, what it asks for, and its mailbox.
pub(super) struct Subscribed {
    pub(super) at: At,
    filters: Box<[(Arc<str>, bool)]>,
    pub(super) sender: Sender<Message>,
}

impl Subscribed {
    pub(super) fn new(at: At, filters: &[Filter], sender: Sender<Message>) -> Self {
        let filters = filters.iter().map(|filter| match filter {
            Filter::Topic(name) => (Arc::from(name.as_str()), false),
            Filter::Pattern(pattern) => (Arc::from(pattern.as_str()), true),
        });
        Self { at, filters: filters.collect(), sender }
    }

    /// An event as its reader gets it; `None` for bytes that are none.
    fn message(&self, filter: usize, body: &Bytes) -> Option<Message> {
        let (name, is_pattern) = self.filters.get(filter)?;
        let (topic, begin) = topics::parts(body)?;
        let (topic, pattern) = match is_pattern {
            true => (Arc::from(topic), Some(Arc::clone(name))),
            false => (Arc::clone(name), None),
        };
        Some(Message { topic, payload: body.slice(begin..), pattern })
    }
}

/// What was in the post, with the bytes.
pub(super) enum Piece {
    Event(u64, usize, Bytes),
    Letter(u64, Bytes),
    Turn(u64),
    Unseated(u64),
    Lost(u64, u64),
}

impl Piece {
    /// A piece of post with its bytes. Several in a row are mostly the same event.
    pub(super) fn read(heap: &Heap<'_>, post: Post, last: &mut (At, Bytes)) -> Self {
        let mut read = |body| {
            if last.0 != body {
                *last = (body, heap.bytes(body).into());
            }
            last.1.clone()
        };
        match post {
            Post::Event { subscription, filter, body } => {
                Self::Event(subscription, filter, read(body))
            }
            Post::Letter { seat, body } => Self::Letter(seat, read(body)),
            Post::Turn { ticket } => Self::Turn(ticket),
            Post::Unseated { seat } => Self::Unseated(seat),
            Post::Lost { number, missed } => Self::Lost(number, missed),
        }
    }

    /// Gives it to whom it is for, who may be gone.
    pub(super) fn give_out(self, shared: &Mutex<Recipients>) {
        let recipients = lock(shared);
        match self {
            Self::Event(number, filter, body) => {
                let Some(subscribed) = recipients.subscriptions.get(&number) else { return };
                let Some(message) = subscribed.message(filter, &body) else { return };
                let sender = subscribed.sender.clone();
                drop(recipients);
                sender.send(message);
            }
            Self::Letter(number, body) => {
                let Some(sender) = recipients.seats.get(&number).cloned() else { return };
                drop(recipients);
                sender.send(body);
            }
            Self::Turn(ticket) => {
                let (bell, ending) =
                    (recipients.bells.get(&ticket), recipients.endings.get(&ticket));
                let (bell, ending) = (bell.cloned(), ending.cloned());
                drop(recipients);
                bell.into_iter().for_each(|bell| bell.notify_one());
                ending.into_iter().for_each(|ending| ending.tell());
            }
            Self::Unseated(number) => {
                let Some(sender) = recipients.seats.get(&number).cloned() else { return };
                drop(recipients);
                sender.close();
            }
            Self::Lost(number, missed) => {
                let letters = recipients.seats.get(&number).cloned();
                let events =
                    recipients.subscriptions.get(&number).map(|found| found.sender.clone());
                drop(recipients);
                letters.into_iter().for_each(|sender| sender.lagged(missed));
                events.into_iter().for_each(|sender| sender.lagged(missed));
            }
        }
    }
}

pub(super) fn lock(recipients: &Mutex<Recipients>) -> MutexGuard<'_, Recipients> {
    recipients.lock().unwrap_or_else(PoisonError::into_inner)
}
