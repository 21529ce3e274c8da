//! The transport of a test's bus: that of memory, which writes down what passes.
//!
//! The one invariant: whatever is asked is done as the transport of memory does it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use super::{Failed, Published, PutItem};
use crate::error::Result;
use crate::name::{Address, Namespace};
use crate::transport::memory::Memory;
use crate::transport::{
    Answer, Capabilities, Claimed, DeadLetter, Ends, Events, Filter, Health, Inbox, Inboxes,
    Inspect, Letters, Message, Put, PutOptions, QueueSpec, QueueStats, Queues, Receipt, Sender,
    SettleOptions, Settlement, Shelf, States, Subscription, Transport, Wait, pending,
};

/// The transport of memory, and what passed it.
#[derive(Debug)]
pub(super) struct Recorder {
    inner: Memory,
    namespace: Namespace,
    notes: Mutex<Notes>,
}

/// What passed.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) published: Vec<Published>,
    pub(super) put: Vec<PutItem>,
    pub(super) failed: Vec<Failed>,
    /// Of every subscription that is there, and what it is of.
    mailboxes: Vec<(String, Sender<Message>)>,
}

impl Recorder {
    pub(super) fn new(namespace: Namespace) -> Result<Self> {
        let inner = Memory::connect("memory://")?;
        Ok(Self { inner, namespace, notes: Mutex::default() })
    }

    /// Nothing of others runs under the lock, so a poisoned one is as good as any.
    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much has passed, if everybody who reads has read all.
    pub(super) fn count_if_quiet(&self) -> Option<usize> {
        let mut notes = self.notes();
        notes.mailboxes.retain(|(_, mailbox)| !mailbox.is_closed());
        let quiet = notes.mailboxes.iter().all(|(_, mailbox)| mailbox.is_read_out());
        quiet.then(|| notes.published.len() + notes.put.len())
    }

    /// What those subscriptions are of that have something unread, or whose readers are busy.
    pub(super) fn busy(&self) -> Vec<String> {
        let notes = self.notes();
        let busy = notes.mailboxes.iter().filter(|(_, mailbox)| !mailbox.is_read_out());
        busy.map(|(filters, _)| filters.clone()).collect()
    }

    /// The user's name of a whole one; none for those of ours.
    fn name(&self, whole: &str) -> Option<String> {
        self.namespace.strip(whole).map(str::to_owned)
    }

    fn note_published(&self, topic: &str, payload: &Bytes) {
        if let Some(topic) = self.name(topic) {
            let payload = payload.clone();
            self.notes().published.push(Published { topic, payload });
        }
    }

    fn note_failure(&self, queue: &QueueSpec, options: &SettleOptions) {
        let Some(failure) = options.failure.as_deref().cloned() else { return };
        let queue = self.name(&queue.name).unwrap_or_default();
        self.notes().failed.push(Failed { queue, failure });
    }
}

impl Events for Recorder {
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>> {
        self.note_published(topic, &payload);
        self.inner.publish(topic, payload)
    }

    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        self.note_published(topic, &payload);
        self.inner.post(topic, payload)
    }

    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription> {
        pending(async move {
            let mut subscription = self.inner.subscribe(filters).await?;
            let mailbox = subscription.messages().sender();
            let names = filters.iter().filter_map(|filter| self.name(filter.text()));
            let names: Vec<String> = names.collect();
            self.notes().mailboxes.push((names.join(", "), mailbox));
            Ok(subscription)
        })
    }

    fn count<'a>(&'a self, topics: &'a [String]) -> Answer<'a, Vec<usize>> {
        self.inner.count(topics)
    }

    fn ends<'a>(&'a self, topic: &'a str) -> Answer<'a, Option<Ends>> {
        self.inner.ends(topic)
    }

    fn publish_counted<'a>(
        &'a self,
        topics: &'a [String],
        payload: Bytes,
    ) -> Answer<'a, Vec<usize>> {
        self.inner.publish_counted(topics, payload)
    }
}

impl Inboxes for Recorder {
    fn open_inbox<'a>(&'a self, address: &'a Address) -> Answer<'a, Inbox> {
        self.inner.open_inbox(address)
    }

    fn send<'a>(&'a self, address: &'a Address, payload: Bytes, ttl: Duration) -> Answer<'a, bool> {
        self.inner.send(address, payload, ttl)
    }
}

impl Queues for Recorder {
    fn push<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Answer<'a, Put> {
        pending(async move {
            let payloads = items.clone();
            let outcome = self.inner.push(queue, items, options).await?;
            if outcome == Put::Done {
                let name = self.name(&queue.name).unwrap_or_default();
                let item = |payload| PutItem { queue: name.clone(), payload };
                self.notes().put.extend(payloads.into_iter().map(item));
            }
            Ok(outcome)
        })
    }

    fn claim<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        limit: usize,
        wait: Wait,
    ) -> Answer<'a, Vec<Claimed>> {
        self.inner.claim(queue, limit, wait)
    }

    fn settle<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> Answer<'a, ()> {
        self.note_failure(queue, &options);
        self.inner.settle(queue, receipt, how, options)
    }

    fn settle_soon(
        &self,
        queue: &Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> bool {
        self.note_failure(queue, &options);
        self.inner.settle_soon(queue, receipt, how, options)
    }

    fn show(&self, queue: &Arc<QueueSpec>, receipt: &Receipt) {
        self.inner.show(queue, receipt);
    }

    fn extend<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: &'a Receipt,
        duration: Duration,
    ) -> Answer<'a, ()> {
        self.inner.extend(queue, receipt, duration)
    }

    fn stats<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, QueueStats> {
        self.inner.stats(queue)
    }

    fn peek<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: Shelf,
        limit: usize,
    ) -> Answer<'a, Vec<Bytes>> {
        self.inner.peek(queue, from, limit)
    }

    fn purge<'a>(&'a self, queue: &'a Arc<QueueSpec>, shelf: Shelf) -> Answer<'a, usize> {
        self.inner.purge(queue, shelf)
    }

    fn letters<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        skip: usize,
        limit: usize,
    ) -> Answer<'a, Vec<DeadLetter>> {
        self.inner.letters(queue, skip, limit)
    }

    fn redrive<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        which: Letters,
        to: &'a Arc<QueueSpec>,
    ) -> Answer<'a, usize> {
        self.inner.redrive(queue, which, to)
    }

    fn discard<'a>(&'a self, queue: &'a Arc<QueueSpec>, which: Letters) -> Answer<'a, usize> {
        self.inner.discard(queue, which)
    }

    fn shut_down<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, ()> {
        self.inner.shut_down(queue)
    }
}

impl Transport for Recorder {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn states(&self) -> States {
        self.inner.states()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.inner.ping()
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        self.inner.inspect()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.inner.close()
    }
}
