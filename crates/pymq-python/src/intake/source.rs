//! What an intake reads: the mailbox of a subscription or of a provider.
//!
//! It is shared by the handle that Python holds and the intake it is attached to, and ends with the
//! last of them. [`end`](Source::end) tells the broker and leaves what has arrived to be read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use pymq::transport::{Arrival, Guard, Message, Receiver, Stamp, Subscription};
use pymq::{Namespace, rpc};

use super::merged;
use crate::connection::Connection;
use crate::operation::{Operation, Task, nothing};
use crate::runtime::io_driver::Expecting;

/// A mailbox with what keeps it filled.
pub(crate) struct Source {
    // Before the bus, so that it is dropped first.
    feed: Mutex<Feed>,
    connection: Arc<Connection>,
    /// What arrives must not wait for a thread of Python's to come by, but for the one that serves it.
    _expecting: Expecting,
}

enum Feed {
    Events { messages: Receiver<Message>, guard: Option<Box<dyn Guard>> },
    Calls(rpc::Provider),
}

/// What is taken out of a source.
pub(crate) enum Item {
    Event(Message),
    /// So many events were missed; how many is unknown where a connection was lost.
    Missed(Option<u64>),
    Request(rpc::Call),
}

impl Source {
    pub(crate) fn events(connection: Arc<Connection>, subscription: Subscription) -> Arc<Self> {
        let (messages, guard) = subscription.split();
        Self::new(connection, Feed::Events { messages, guard: Some(guard) })
    }

    pub(crate) fn calls(connection: Arc<Connection>, provider: rpc::Provider) -> Arc<Self> {
        Self::new(connection, Feed::Calls(provider))
    }

    fn new(connection: Arc<Connection>, feed: Feed) -> Arc<Self> {
        let _expecting = connection.runtime().expect();
        Arc::new(Self { feed: Mutex::new(feed), connection, _expecting })
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        self.connection.bus().namespace()
    }

    /// Ends it and waits until the broker knows; ending again does nothing.
    pub(crate) fn end(self: &Arc<Self>) -> Operation {
        let source = Arc::clone(self);
        Operation::new(Task::new(self.connection.runtime(), async move {
            source.end_now().await?;
            Ok(nothing())
        }))
    }

    async fn end_now(&self) -> pymq::Result<()> {
        // Also when the wait for the broker is broken off: dropping the guard ends it, too.
        let _closing = Closing(self);
        let (guard, retired) = match &mut *self.lock() {
            Feed::Events { guard, .. } => (guard.take(), None),
            Feed::Calls(provider) => (None, Some(provider.retire())),
        };
        if let Some(retired) = retired {
            retired.await;
        }
        match guard {
            Some(guard) => guard.release().await,
            None => Ok(()),
        }
    }

    /// No code of others runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl merged::Source for Source {
    type Item = Item;

    /// As [`Receiver::poll_oldest`].
    fn poll_oldest(&self, context: &mut Context<'_>) -> Poll<Option<Stamp>> {
        match &mut *self.lock() {
            Feed::Events { messages, .. } => messages.poll_oldest(context),
            Feed::Calls(provider) => provider.poll_oldest(context),
        }
    }

    /// As [`Receiver::drain`].
    fn drain(&self, before: Stamp, limit: usize) -> Vec<Self::Item> {
        match &mut *self.lock() {
            Feed::Events { messages, .. } => {
                let mut arrivals = Vec::new();
                messages.drain(before, limit, &mut arrivals);
                arrivals.into_iter().map(Item::from).collect()
            }
            Feed::Calls(provider) => {
                let mut calls = Vec::new();
                provider.drain(before, limit, &mut calls);
                calls.into_iter().map(Item::Request).collect()
            }
        }
    }
}

/// Tells the reader that nothing more comes. A provider does so by itself.
struct Closing<'a>(&'a Source);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if let Feed::Events { messages, .. } = &mut *self.0.lock() {
            messages.close();
        }
    }
}

impl From<Arrival<Message>> for Item {
    fn from(arrival: Arrival<Message>) -> Self {
        match arrival {
            Arrival::Message(message) => Self::Event(message),
            Arrival::Lagged(missed) => Self::Missed(Some(missed)),
            Arrival::Gap | Arrival::Refused(_) => Self::Missed(None),
        }
    }
}
