//! `pub` and `sub`.

use std::time::SystemTime;

use futures_util::future::{Either, select};
use pymq::transport::{Arrival, Message, State};
use pymq::{Bus, Filter};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{counted, metadata};
use crate::arguments::{Pub, Sub};
use crate::failure::{Exit, Failure};
use crate::input::Values;
use crate::output::{Output, printable};
use crate::value::Shown;

#[derive(Serialize)]
struct Published<'a> {
    topic: &'a str,
    /// `null` where the transport cannot count.
    receivers: Option<usize>,
}

pub(super) async fn publish(bus: &Bus, publish: Pub, output: &Output) -> Result<(), Failure> {
    let Pub { topic, values, beside } = publish;
    let mut values = Values::new(values, beside.text);
    let metadata = metadata(&beside);
    let mut published = 0_u64;
    let told = |failure: Failure, published| match published {
        0 => failure,
        some => failure.and(&format!("; {} before it", counted(some, "event"))),
    };
    loop {
        let value = values.next().await.map_err(|failure| told(failure, published))?;
        let Some(value) = value else { break };
        let stamped = match metadata.is_empty() {
            true => metadata.clone(),
            false => metadata.clone().sent_at(SystemTime::now()),
        };
        let sent = async {
            let payload = stamped.attach(value)?;
            bus.publish_bytes(&topic, payload).await
        };
        let receivers = sent.await.map_err(|error| told(error.into(), published))?;
        published += 1;
        output.object(&Published { topic: &topic, receivers })?;
        if published == 1 && !output.is_json() {
            let received = receivers.map_or_else(
                || "how many received it is not known here".to_owned(),
                |receivers| format!("received by {}", counted(receivers, "subscriber")),
            );
            output.say(&format!("published; {received}"));
        }
    }
    if published > 1 && !output.is_json() {
        output.say(&counted(published, "event"));
    }
    Ok(())
}

#[derive(Serialize)]
struct Received<'a> {
    topic: &'a str,
    #[serde(flatten)]
    shown: Shown,
}

pub(super) async fn subscribe(bus: &Bus, subscribe: Sub, output: &Output) -> Result<(), Failure> {
    let Sub { topics, exact, count, follow, timeout } = subscribe;
    let filters = topics.into_iter().map(|name| match !exact && name.contains(['*', '?', '[']) {
        true => Filter::Pattern(name),
        false => Filter::Topic(name),
    });
    let mut events = events(bus, filters.collect()).await?;
    if output.is_terminal() {
        output.say("subscribed; Ctrl-C ends it");
    }
    let mut left = count;
    let mut away = std::pin::pin!(away(bus, follow));
    while left != Some(0) {
        let waits = async {
            match timeout {
                None => Ok(events.recv().await),
                Some(limit) => tokio::time::timeout(limit, events.recv()).await,
            }
        };
        let next = match select(std::pin::pin!(waits), &mut away).await {
            Either::Left((next, _)) => next,
            Either::Right((failure, _)) => return Err(failure),
        };
        let Ok(next) = next else {
            return Err(Failure::new(Exit::Timeout, "no event came in time"));
        };
        let Some(arrival) = next else {
            return Err(Failure::new(Exit::Connection, "the bus was closed"));
        };
        match arrival {
            Arrival::Message(message) => {
                show(bus, &message, output)?;
                left = left.map(|left| left - 1);
            }
            Arrival::Lagged(missed) => {
                let missed = counted(missed, "event");
                output.say(&format!("pymq: {missed} missed: they come faster than they are shown"));
            }
            Arrival::Gap => {
                output.say("pymq: the connection is back; events in between were missed");
            }
            Arrival::Refused(why) => {
                let words = format!("the broker allows the subscription no more: {why}");
                return Err(Failure::new(Exit::Failed, words));
            }
        }
    }
    Ok(())
}

/// What arrives of all filters, each in order; at most a few wait here.
async fn events(
    bus: &Bus,
    filters: Vec<Filter>,
) -> Result<mpsc::Receiver<Arrival<Message>>, Failure> {
    let (sender, events) = mpsc::channel(16);
    for filter in filters {
        let mut subscription = bus.subscribe_bytes(&filter).await?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(arrival) = subscription.recv().await {
                // An error says that nobody reads any more.
                if sender.send(arrival).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(events)
}

fn show(bus: &Bus, message: &Message, output: &Output) -> Result<(), Failure> {
    let topic = bus.namespace().strip(&message.topic).unwrap_or(&message.topic);
    let shown = Shown::of(&message.payload);
    let line = format!("{}  {}", printable(topic), shown.line());
    output.both(&line, &Received { topic, shown })
}

/// Returns when the server is away, unless that is waited for.
async fn away(bus: &Bus, follow: bool) -> Failure {
    let mut states = bus.states();
    while let Some(state) = states.next().await {
        if let State::Away { why, .. } = state
            && !follow
        {
            let words = format!("the server went away ({why}); --follow waits until it is back");
            return Failure::new(Exit::Connection, words);
        }
    }
    // The bus was closed, which the subscription tells.
    std::future::pending().await
}
