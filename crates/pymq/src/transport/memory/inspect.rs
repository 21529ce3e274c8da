//! What the broker in memory tells of those who use it.

use std::sync::Arc;

use super::Memory;
use crate::transport::{Answer, Finding, Holder, Inspect, Leftover, QueueSpec, Severity, answer};

impl Inspect for Memory {
    fn topics<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<(String, usize)>> {
        let open = self.check_open("list", pattern);
        answer(open.map(|()| self.broker.events.topics(pattern)))
    }

    fn queues<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<String>> {
        let open = self.check_open("list", pattern);
        answer(open.map(|()| self.broker.queues.names(pattern)))
    }

    fn holders<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, Vec<Holder>> {
        let open = self.check_open("list", &queue.name);
        answer(open.map(|()| {
            let holders = self.broker.queues.with(|state, _| {
                state.existing(&queue.name).map(|queue| queue.holders()).unwrap_or_default()
            });
            let named = |(id, items): (super::ConnectionId, usize)| {
                Holder::new(format!("connection {}", id.0), items)
            };
            holders.into_iter().map(named).collect()
        }))
    }

    fn examine<'a>(&'a self, _namespace: &'a str) -> Answer<'a, Vec<Finding>> {
        let words = "what is in memory ends with its process, and no other process reaches it";
        let found = Finding::new(Severity::Note, "memory://", words);
        answer(self.check_open("examine", "memory://").map(|()| vec![found]))
    }

    /// A connection that ends leaves nothing behind.
    fn leftovers<'a>(&'a self, _pattern: &'a str) -> Answer<'a, Vec<Leftover>> {
        answer(self.check_open("examine", "memory://").map(|()| Vec::new()))
    }

    fn tidy<'a>(&'a self, _leftover: &'a Leftover) -> Answer<'a, ()> {
        answer(self.check_open("examine", "memory://"))
    }
}
