//! Rules of a look at the broker, for transports that offer one.

use std::sync::Arc;
use std::time::Duration;

use super::{Broker, claim_one, counts, fresh, fresh_queue, kind, numbered, topic, until};
use crate::error::{ErrorKind, Result};
use crate::transport::{Filter, Inspect, PutOptions, SettleOptions, Settlement, Shelf, Wait};

/// Exact subscriptions are counted, by the whole name; patterns are not, and who has left is gone.
pub async fn topics_are_inspected_by_exact_name(broker: &impl Broker) -> Result<()> {
    let (looks, subscribes) = (broker.connect().await?, broker.connect().await?);
    let Some(look) = looks.inspect() else { return Ok(()) };
    let (name, other) = (fresh("inspected"), fresh("another"));
    let subscription = subscribes.subscribe(&[topic(&name), topic(&other)]).await?;
    let everything = Filter::Pattern("*".to_owned());
    let _pattern = subscribes.subscribe(&[everything]).await?;
    assert_eq!(subscribers(look, &name).await?, 1);
    assert_eq!(subscribers(look, &other).await?, 1);
    drop(subscription);
    until(async || Ok(subscribers(look, &name).await? == 0)).await
}

async fn subscribers(look: &dyn Inspect, name: &str) -> Result<usize> {
    // A pattern of its own: what is special in one stands for itself.
    let pattern: String = name.chars().flat_map(|letter| ['\\', letter]).collect();
    let topics = look.topics(&pattern).await?;
    assert!(topics.iter().all(|(topic, _)| topic == name), "{topics:?}");
    Ok(topics.first().map_or(0, |(_, subscribers)| *subscribers))
}

/// A queue is there while anything of it is: what waits, is due later, is held, or died.
pub async fn queues_are_inspected_while_they_hold_anything(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let Some(look) = connection.inspect() else { return Ok(()) };
    let queue = Arc::new(fresh_queue("inspected"));
    let there = async || Ok(look.queues("*").await?.contains(&queue.name));
    assert!(!there().await?, "nothing is there yet");
    connection.push(&queue, vec![numbered(1)], PutOptions::new()).await?;
    assert!(there().await?, "an item waits");
    let claimed = claim_one(&connection, &queue).await?;
    assert!(there().await?, "an item is held");
    let reject = SettleOptions::default();
    connection.settle(&queue, claimed.receipt, Settlement::Reject, reject).await?;
    assert!(there().await?, "an item is a dead letter");
    connection.purge(&queue, Shelf::Dead).await?;
    if connection.capabilities().put_options {
        let later = PutOptions::new().delay(Duration::from_secs(600));
        connection.push(&queue, vec![numbered(2)], later).await?;
        assert!(there().await?, "an item is due later");
        connection.purge(&queue, Shelf::Waiting).await?;
    }
    drop(connection.claim(&queue, 1, Wait::No).await?);
    Ok(())
}

/// Who holds items is told with how many, until they are settled.
pub async fn holders_are_inspected_by_what_they_hold(broker: &impl Broker) -> Result<()> {
    let (looks, holds) = (broker.connect().await?, broker.connect().await?);
    let Some(look) = looks.inspect() else { return Ok(()) };
    let queue = Arc::new(fresh_queue("inspected"));
    holds.push(&queue, vec![numbered(1), numbered(2)], PutOptions::new()).await?;
    assert_eq!(look.holders(&queue).await?, []);
    let (one, two) = (claim_one(&holds, &queue).await?, claim_one(&holds, &queue).await?);
    let holders = look.holders(&queue).await?;
    assert_eq!(holders.iter().map(|holder| holder.items).sum::<usize>(), 2, "{holders:?}");
    for claimed in [one, two] {
        holds.settle(&queue, claimed.receipt, Settlement::Ack, SettleOptions::default()).await?;
    }
    assert_eq!(look.holders(&queue).await?, []);
    Ok(())
}

/// A look changes nothing: not what waits, is held or died, and not how often it was handed out.
pub async fn inspecting_changes_nothing(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let Some(look) = connection.inspect() else { return Ok(()) };
    let queue = Arc::new(fresh_queue("inspected"));
    connection.push(&queue, (1..=3).map(numbered).collect(), PutOptions::new()).await?;
    let dead = claim_one(&connection, &queue).await?;
    let reject = SettleOptions::default();
    connection.settle(&queue, dead.receipt, Settlement::Reject, reject).await?;
    let held = claim_one(&connection, &queue).await?;
    let before = counts(&connection, &queue).await?;
    look.topics("*").await?;
    look.queues("*").await?;
    look.holders(&queue).await?;
    look.examine("conformance").await?;
    look.leftovers("*").await?;
    assert_eq!(counts(&connection, &queue).await?, before);
    connection.settle(&queue, held.receipt, Settlement::Ack, SettleOptions::default()).await?;
    let last = claim_one(&connection, &queue).await?;
    assert_eq!((last.payload, last.deliveries), (numbered(3), 1));
    Ok(())
}

/// A connection that was closed tells nothing any more, and says so.
pub async fn a_closed_connection_is_not_inspected(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let Some(look) = connection.inspect() else { return Ok(()) };
    connection.close().await?;
    assert_eq!(kind(look.queues("*").await), Some(ErrorKind::Closed));
    assert_eq!(kind(look.topics("*").await), Some(ErrorKind::Closed));
    assert_eq!(kind(look.holders(&Arc::new(fresh_queue("closed"))).await), Some(ErrorKind::Closed));
    Ok(())
}
