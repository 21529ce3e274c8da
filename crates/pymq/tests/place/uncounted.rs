//! A transport that cannot count who subscribes, as a broker without such a question: it says so, and
//! is otherwise the one in memory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pymq::name::Address;
use pymq::transport::memory::Memory;
use pymq::transport::{
    Answer, Capabilities, Claimed, DeadLetter, Ends, Events, Filter, Health, Inbox, Inboxes,
    Inspect, Letters, QueueSpec, QueueStats, Queues, Receipt, SettleOptions, Settlement, Shelf,
    States, Subscription, Transport, Wait, answer, pending, posted,
};
use pymq::{Error, ErrorKind, Put, PutOptions};

#[derive(Debug)]
pub struct Uncounted(Memory);

impl Uncounted {
    pub fn connect(url: &str) -> Self {
        Self(Memory::connect(url).expect("an address in memory"))
    }
}

fn unsupported<'a, T: Send + 'a>(operation: &'static str) -> Answer<'a, T> {
    let why = "this broker counts no receivers";
    answer(Err(Error::new(ErrorKind::Unsupported, operation, "uncounted://", why)))
}

impl Transport for Uncounted {
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    fn states(&self) -> States {
        self.0.states()
    }

    fn health(&self) -> Health {
        self.0.health()
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.0.ping()
    }

    fn inspect(&self) -> Option<&dyn Inspect> {
        None
    }

    fn close(&self) -> Answer<'_, ()> {
        self.0.close()
    }
}

impl Events for Uncounted {
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>> {
        pending(async move { self.0.publish(topic, payload).await.map(|_| None) })
    }

    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        posted(self.publish(topic, payload))
    }

    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription> {
        self.0.subscribe(filters)
    }

    fn count<'a>(&'a self, _topics: &'a [String]) -> Answer<'a, Vec<usize>> {
        unsupported("count")
    }

    fn publish_counted<'a>(
        &'a self,
        _topics: &'a [String],
        _payload: Bytes,
    ) -> Answer<'a, Vec<usize>> {
        unsupported("publish")
    }

    fn ends<'a>(&'a self, _topic: &'a str) -> Answer<'a, Option<Ends>> {
        answer(Ok(None))
    }
}

impl Inboxes for Uncounted {
    fn open_inbox<'a>(&'a self, address: &'a Address) -> Answer<'a, Inbox> {
        self.0.open_inbox(address)
    }

    fn send<'a>(&'a self, address: &'a Address, payload: Bytes, ttl: Duration) -> Answer<'a, bool> {
        self.0.send(address, payload, ttl)
    }
}

impl Queues for Uncounted {
    fn push<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        items: Vec<Bytes>,
        options: PutOptions,
    ) -> Answer<'a, Put> {
        self.0.push(queue, items, options)
    }

    fn claim<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        limit: usize,
        wait: Wait,
    ) -> Answer<'a, Vec<Claimed>> {
        self.0.claim(queue, limit, wait)
    }

    fn settle<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> Answer<'a, ()> {
        self.0.settle(queue, receipt, how, options)
    }

    fn settle_soon(
        &self,
        queue: &Arc<QueueSpec>,
        receipt: Receipt,
        how: Settlement,
        options: SettleOptions,
    ) -> bool {
        self.0.settle_soon(queue, receipt, how, options)
    }

    fn show(&self, queue: &Arc<QueueSpec>, receipt: &Receipt) {
        self.0.show(queue, receipt);
    }

    fn extend<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        receipt: &'a Receipt,
        duration: Duration,
    ) -> Answer<'a, ()> {
        self.0.extend(queue, receipt, duration)
    }

    fn stats<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, QueueStats> {
        self.0.stats(queue)
    }

    fn peek<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: Shelf,
        limit: usize,
    ) -> Answer<'a, Vec<Bytes>> {
        self.0.peek(queue, from, limit)
    }

    fn purge<'a>(&'a self, queue: &'a Arc<QueueSpec>, shelf: Shelf) -> Answer<'a, usize> {
        self.0.purge(queue, shelf)
    }

    fn letters<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        from: usize,
        limit: usize,
    ) -> Answer<'a, Vec<DeadLetter>> {
        self.0.letters(queue, from, limit)
    }

    fn discard<'a>(&'a self, queue: &'a Arc<QueueSpec>, letters: Letters) -> Answer<'a, usize> {
        self.0.discard(queue, letters)
    }

    fn redrive<'a>(
        &'a self,
        queue: &'a Arc<QueueSpec>,
        letters: Letters,
        to: &'a Arc<QueueSpec>,
    ) -> Answer<'a, usize> {
        self.0.redrive(queue, letters, to)
    }

    fn shut_down<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, ()> {
        self.0.shut_down(queue)
    }
}
