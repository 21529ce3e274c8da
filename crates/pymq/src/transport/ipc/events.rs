//! Events over the shared file: see [`topics`](super::topics) for how they find their way.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_core::future::BoxFuture;

use super::hub::Hub;
use super::recipients::Subscribed;
use super::{Ipc, topics, watches};
use crate::error::Result;
use crate::transport::{
    Answer, Ends, Events, Filter, Guard, Subscription, answer, ends, mailbox, posted,
};

impl Events for Ipc {
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>> {
        if self.hub.is_unheard(topic) {
            return answer(self.hub.check_open("publish", topic).map(|()| Some(0)));
        }
        self.hub.run("publish", topic, move |step| {
            let targets = self.hub.route(step, topic);
            topics::deliver(step, &targets, topic, &payload).map(Some)
        })
    }

    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        posted(self.publish(topic, payload))
    }

    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription> {
        self.hub.run("subscribe", filters.first().map_or("", Filter::text), move |step| {
            let (number, at) = topics::subscribe(step, self.hub.peer, filters)?;
            let (sender, messages) = mailbox(self.mailbox);
            // Before the step is over and anything comes.
            let subscribed = Subscribed::new(at, filters, sender);
            self.hub.recipients().subscriptions.insert(number, subscribed);
            let guard = Ended { hub: Arc::downgrade(&self.hub), number };
            Ok(Subscription::new(messages, Box::new(guard)))
        })
    }

    fn count<'a>(&'a self, topics: &'a [String]) -> Answer<'a, Vec<usize>> {
        self.hub.run("count", first(topics), move |step| Ok(counts(step, topics)))
    }

    fn publish_counted<'a>(
        &'a self,
        topics: &'a [String],
        payload: Bytes,
    ) -> Answer<'a, Vec<usize>> {
        self.hub.run("publish", first(topics), move |step| {
            let counts = counts(step, topics);
            if let Some(topic) = topics.first() {
                let targets = self.hub.route(step, topic);
                topics::deliver(step, &targets, topic, &payload)?;
            }
            Ok(counts)
        })
    }

    fn ends<'a>(&'a self, topic: &'a str) -> Answer<'a, Option<Ends>> {
        self.hub.run("watch", topic, move |step| {
            let number = step.number()?;
            watches::begin(step, self.hub.peer, topic, number)?;
            let (ending, ends) = ends(Watching { hub: Arc::downgrade(&self.hub), number });
            // Before the step is over and anybody ends.
            self.hub.recipients().endings.insert(number, ending);
            Ok(Some(ends))
        })
    }
}

fn counts(step: &mut super::peers::Step<'_>, topics: &[String]) -> Vec<usize> {
    topics.iter().map(|topic| topics::count(step, topic)).collect()
}

fn first(topics: &[String]) -> &str {
    topics.first().map_or("", String::as_str)
}

/// Ends a subscription when it is dropped.
struct Ended {
    hub: Weak<Hub>,
    number: u64,
}

impl Guard for Ended {
    fn release(self: Box<Self>) -> BoxFuture<'static, Result<()>> {
        let (hub, number) = (self.hub.upgrade(), self.number);
        Box::pin(async move {
            // The drop of `self` does it; where the lock was not free, what it has begun is awaited.
            drop(self);
            let Some(hub) = hub else { return Ok(()) };
            let is_there = || hub.recipients().subscriptions.contains_key(&number);
            while hub.check_open("unsubscribe", "ipc://").is_ok() && is_there() {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            Ok(())
        })
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let number = self.number;
        if let Some(hub) = self.hub.upgrade() {
            hub.soon(move |hub, patience| hub.unsubscribe(number, patience));
        }
    }
}

/// Ends a watch when it is dropped.
struct Watching {
    hub: Weak<Hub>,
    number: u64,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let number = self.number;
        if let Some(hub) = self.hub.upgrade() {
            hub.soon(move |hub, patience| hub.unwatch(number, patience));
        }
    }
}
