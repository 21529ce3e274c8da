//! What the file tells of those who use it.

use std::sync::Arc;

use super::peers::Step;
use super::survey::{Found, buses, clean};
use super::{Ipc, layout, peers, shelves, topics};
use crate::name::matches;
use crate::transport::{Answer, Finding, Holder, Inspect, Leftover, QueueSpec, Severity, answer};

impl Inspect for Ipc {
    fn topics<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<(String, usize)>> {
        self.hub.run("list", pattern, move |step| {
            let mut names = topics::subscribed_topics(step);
            names.retain(|name| matches(pattern.as_bytes(), name.as_bytes()));
            let count = |name: String| {
                let subscribers = topics::count(step, &name);
                (name, subscribers)
            };
            let counted: Vec<_> = names.into_iter().map(count).collect();
            // Those of the dead are taken away a moment later.
            Ok(counted.into_iter().filter(|(_, subscribers)| *subscribers > 0).collect())
        })
    }

    fn queues<'a>(&'a self, pattern: &'a str) -> Answer<'a, Vec<String>> {
        self.hub.run("list", pattern, move |step| {
            let mut names = shelves::in_use(step);
            names.retain(|name| matches(pattern.as_bytes(), name.as_bytes()));
            Ok(names)
        })
    }

    fn holders<'a>(&'a self, queue: &'a Arc<QueueSpec>) -> Answer<'a, Vec<Holder>> {
        self.hub.run("list", &queue.name, move |step| Ok(holders(step, &queue.name)))
    }

    fn examine<'a>(&'a self, _namespace: &'a str) -> Answer<'a, Vec<Finding>> {
        let words = "what is on this bus is in a file of this machine: processes of this user reach \
                     it, and it ends with the machine unless it lies on a disk";
        let found = Finding::new(Severity::Note, "ipc://", words);
        answer(self.hub.check_open("examine", "ipc://").and_then(|()| {
            let other =
                |bus: Found| Finding::new(Severity::Note, bus.address.as_str(), bus.words());
            let others = buses()?.into_iter().map(other);
            Ok([found].into_iter().chain(others).collect())
        }))
    }

    /// Who dies on this bus is cleared up after by those who live. What is listed are all the buses of
    /// this machine on which the dead have left something that nobody has noticed.
    fn leftovers<'a>(&'a self, _pattern: &'a str) -> Answer<'a, Vec<Leftover>> {
        answer(self.hub.check_open("examine", "ipc://").and_then(|()| {
            let left = buses()?.into_iter().filter(Found::has_leftovers);
            let named = |bus: Found| {
                let words = format!("{}; tidying takes away what is nobody's", bus.words());
                Leftover::new(bus.address, words)
            };
            Ok(left.map(named).collect())
        }))
    }

    fn tidy<'a>(&'a self, leftover: &'a Leftover) -> Answer<'a, ()> {
        let open = self.hub.check_open("examine", "ipc://");
        answer(open.and_then(|()| clean(&leftover.name).map(drop)))
    }
}

fn holders(step: &Step<'_>, name: &str) -> Vec<Holder> {
    let queue = shelves::named(step, name);
    let holder = |slot: u64| {
        let items = shelves::held_by(step, peers::in_slot(step, slot), queue);
        let process = step.get(layout::process(slot));
        (items > 0).then(|| Holder::new(format!("process {process}"), items))
    };
    match queue {
        0 => Vec::new(),
        _ => peers::slots(step).into_iter().filter_map(holder).collect(),
    }
}
