//! Events over the server's channels: on their way to it, and how many subscribers topics have there.
//!
//! The one invariant: on a cluster it is the node that has the slot of events and calls that is asked,
//! where all subscribers are, so that counts are of all of them. It finds out itself that it has the
//! slot, by a script that names a key of it. Whatever is published there reaches every other node, and
//! whoever subscribed there with another library. What is subscribed to is the business of `pubsub`.

use bytes::Bytes;

use super::cluster::Nodes;
use super::link::Link;
use super::purpose::Purpose;
use super::refusal::Refusal;
use super::resp::{Command, Reply, Words};
use super::routes::{Name, Target};
use super::script::Script;
use super::{Core, Redis};
use crate::error::{Error, Result};
use crate::transport::{Answer, Ends, Events, Filter, Subscription, answer, mailbox, pending};

static PUBLISH: Script = Script::new(include_str!("publish.lua"));
static COUNT: Script = Script::new(include_str!("count.lua"));

/// How many topics one run of a script counts: it can take so many words at once.
const PORTION: usize = 1000;

impl Events for Redis {
    fn publish<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, Option<usize>> {
        let purpose = Purpose::change("publish", topic);
        if let Err(error) = self.core.check(&purpose) {
            return answer(Err(error));
        }
        pending(async move { publish(&self.core, &purpose, topic, &payload).await })
    }

    fn post<'a>(&'a self, topic: &'a str, payload: Bytes) -> Answer<'a, ()> {
        if let Err(closed) = self.core.check(&Purpose::change("publish", topic)) {
            return answer(Err(closed));
        }
        match post(&self.core, topic, &payload) {
            None => answer(Ok(())),
            Some(room) => pending(async move {
                room.await;
                Ok(())
            }),
        }
    }

    fn subscribe<'a>(&'a self, filters: &'a [Filter]) -> Answer<'a, Subscription> {
        pending(async move {
            let shown = filters.first().map_or("nothing", Filter::text);
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
            count(&self.core, purpose, topics).await
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
            publish_counted(&self.core, purpose, topics, &payload).await
        })
    }

    /// The server does not tell: who waits for somebody asks.
    fn ends<'a>(&'a self, topic: &'a str) -> Answer<'a, Option<Ends>> {
        answer(self.core.check(&Purpose::idempotent("watch", topic)).map(|()| None))
    }
}

/// Publishes; how many received it, patterns included, if the server says so. While a cluster's events have
/// just moved to another node, it is not known that nobody has received it.
pub(super) async fn publish(
    core: &Core,
    purpose: &Purpose<'_>,
    topic: &str,
    payload: &Bytes,
) -> Result<Option<usize>> {
    let command = Words([b"PUBLISH", topic.as_bytes(), payload]);
    let plain = async || core.commands.run(*purpose, &command).await;
    let receivers = match core.dialer.home() {
        None => plain().await?,
        Some(home) => {
            let (keys, words) = ([home], [topic.as_bytes(), payload]);
            match core.commands.script(purpose.at_once(), &PUBLISH, &keys, &words).await {
                Err(error) if is_on_its_way(&error) => plain().await?,
                answer => answer?,
            }
        }
    };
    let receivers = receivers.number().and_then(|receivers| usize::try_from(receivers).ok());
    // Nobody there is not yet nobody.
    let gathers = core.dialer.nodes().is_some_and(Nodes::gathers);
    Ok(receivers.filter(|receivers| *receivers > 0 || !gathers))
}

/// Publishes without waiting for the answer; gives back what is to be waited for where there is no room.
/// It needs no count, so that any node of a cluster takes it.
fn post(
    core: &Core,
    topic: &str,
    payload: &Bytes,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    if let Some(nodes) = core.dialer.nodes() {
        nodes.note_post();
    }
    core.commands.post(publish_command(topic, payload), core.posts.begin())
}

/// Counts the exact subscribers of topics, and publishes to the first of them in the same step.
async fn publish_counted(
    core: &Core,
    purpose: Purpose<'_>,
    topics: &[String],
    payload: &Bytes,
) -> Result<Vec<usize>> {
    let Some(home) = core.dialer.home() else {
        return count_and_publish(&core.commands, purpose, topics, payload).await;
    };
    let mut words: Vec<&[u8]> = vec![first(topics).as_bytes(), payload];
    words.extend(topics.iter().map(String::as_bytes));
    match among_all(core, purpose, &PUBLISH, home, &words).await {
        Err(error) if is_on_its_way(&error) => {
            count_and_publish(&core.commands, purpose, topics, payload).await
        }
        outcome => Ok(outcome?.items().iter().skip(1).map(Reply::count).collect()),
    }
}

/// Counts the exact subscribers of topics.
async fn count(core: &Core, purpose: Purpose<'_>, topics: &[String]) -> Result<Vec<usize>> {
    let Some(home) = core.dialer.home() else {
        return Ok(counts(core.commands.run(purpose, &count_command(topics)).await?));
    };
    let mut counted = Vec::with_capacity(topics.len());
    for topics in topics.chunks(PORTION) {
        let words: Vec<_> = topics.iter().map(String::as_bytes).collect();
        let answer = match among_all(core, purpose, &COUNT, home, &words).await {
            Err(error) if is_on_its_way(&error) => {
                core.commands.run(purpose, &count_command(topics)).await?
            }
            answer => answer?,
        };
        counted.extend(counts(answer));
    }
    Ok(counted)
}

/// Runs a script that counts, where all who are counted are: when the slot has moved, they follow first.
async fn among_all(
    core: &Core,
    purpose: Purpose<'_>,
    script: &'static Script,
    home: &str,
    words: &[&[u8]],
) -> Result<Reply> {
    loop {
        if let Some(nodes) = core.dialer.nodes() {
            nodes.gathered().await;
        }
        match core.commands.script(purpose.here(), script, &[home], words).await {
            Err(error) if Refusal::has_moved(&error) => {
                // Follows it, for as long as any command may.
                let follows = Purpose::idempotent(purpose.operation, purpose.object).at_once();
                let found = core.commands.run(follows, &Command::new("EXISTS").arg(home)).await;
                found
                    .map(drop)
                    .or_else(|why| if is_on_its_way(&why) { Ok(()) } else { Err(why) })?;
            }
            answer => return answer,
        }
    }
}

/// A node whose slot is on its way to another one has it, and its subscribers, until it is there; only
/// of its keys it does not know. Nothing here needs one.
fn is_on_its_way(error: &Error) -> bool {
    Refusal::within(error).is_some_and(Refusal::is_on_its_way)
}

async fn count_and_publish(
    commands: &Link,
    purpose: Purpose<'_>,
    topics: &[String],
    payload: &Bytes,
) -> Result<Vec<usize>> {
    let both = vec![count_command(topics), publish_command(first(topics), payload)];
    let replies = commands.transaction(purpose, both).await?;
    Ok(replies.into_iter().next().map(counts).unwrap_or_default())
}

fn publish_command(topic: &str, payload: &Bytes) -> Command {
    Command::with_room("PUBLISH", topic.len() + payload.len()).arg(topic).arg(payload)
}

pub(super) fn count_command(topics: &[String]) -> Command {
    Command::new("PUBSUB").arg("NUMSUB").args(topics)
}

/// The numbers of `PUBSUB NUMSUB`, which answers name, number, name, number.
pub(super) fn counts(reply: Reply) -> Vec<usize> {
    let numbers = reply.items().into_iter().skip(1).step_by(2);
    numbers.map(|reply| reply.count()).collect()
}

fn first(topics: &[String]) -> &str {
    topics.first().map_or("", String::as_str)
}
