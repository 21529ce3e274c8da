//! Events over the server's channels: the contract's operations, each handed to the room that does it.

use bytes::Bytes;

use super::Redis;
use super::publishing::{self, first};
use super::purpose::Purpose;
use super::routes::{Name, Target};
use crate::transport::{Answer, Ends, Events, Filter, Subscription, answer, mailbox, pending};

impl Events for Redis {
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>> {
        let purpose = Purpose::change("publish", topic);
        if let Err(error) = self.core.check(&purpose) {
            return answer(Err(error));
        }
        pending(async move { publishing::publish(&self.core, purpose, topic, &payload).await })
    }

    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        if let Err(closed) = self.core.check(&Purpose::change("publish", topic)) {
            return answer(Err(closed));
        }
        match publishing::post(&self.core, topic, &payload) {
            None => answer(Ok(())),
            Some(room) => pending(async move {
                room.await;
                Ok(())
            }),
        }
    }

    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription> {
        pending(async move {
            let shown = filters.first().map_or("nothing", |filter| match filter {
                Filter::Topic(name) | Filter::Pattern(name) => name,
            });
            let purpose = Purpose::change("subscribe", shown);
            self.core.check(&purpose)?;
            let names = filters.iter().map(|filter| match filter {
                Filter::Topic(topic) => Name::Topic(topic.as_str().into()),
                Filter::Pattern(pattern) => Name::Pattern(pattern.as_str().into()),
            });
            let (sender, receiver) = mailbox(self.core.mailbox);
            let target = Target::Events(sender);
            let membership = self.core.pubsub.join(purpose, names.collect(), target).await?;
            Ok(Subscription::new(receiver, Box::new(membership)))
        })
    }

    fn count<'a>(&'a self, topics: &'a [String]) -> Answer<'a, Vec<usize>> {
        pending(async move {
            let purpose = Purpose::idempotent("count", first(topics));
            self.core.check(&purpose)?;
            publishing::count(&self.core, purpose, topics).await
        })
    }

    fn publish_counted<'a>(
        &'a self,
        topics: &'a [String],
        payload: Bytes,
    ) -> Answer<'a, Vec<usize>> {
        pending(async move {
            let purpose = Purpose::change("publish", first(topics));
            self.core.check(&purpose)?;
            publishing::publish_counted(&self.core, purpose, topics, &payload).await
        })
    }

    /// The server does not tell: who waits for somebody asks.
    fn ends<'a>(&'a self, topic: &'a str) -> Answer<'a, Option<Ends>> {
        answer(self.core.check(&Purpose::idempotent("watch", topic)).map(|()| None))
    }
}
