//! Rules of [`Events`](crate::transport::Events), but for patterns.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;

use super::{Broker, fresh, message, numbered, topic, until};
use crate::error::Result;
use crate::name::{Address, Form, Namespace};
use crate::transport::{Arrival, Filter, Message, Subscription};

/// The last message to a slow subscriber.
const LAST: Bytes = Bytes::from_static(b"last");

/// When `subscribe` returns, the next publish is seen, whoever publishes.
pub async fn subscribe_then_publish_is_delivered(broker: &impl Broker) -> Result<()> {
    let (subscriber, publisher) = (broker.connect().await?, broker.connect().await?);
    for round in 0..20 {
        let name = fresh("delivered");
        // What was found out about a topic without subscribers must not be believed afterwards.
        publisher.publish(&name, Bytes::from_static(b"too early")).await?;
        let mut subscription = subscriber.subscribe(&[topic(&name)]).await?;
        publisher.publish(&name, numbered(round)).await?;
        let expected =
            Message { topic: name.as_str().into(), payload: numbered(round), pattern: None };
        assert_eq!(message(&mut subscription).await, expected);
    }
    Ok(())
}

/// Events go to every subscriber, also twice to one connection that has subscribed twice.
pub async fn every_subscriber_gets_every_message(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let name = fresh("everyone");
    let filters = [topic(&name)];
    let mut subscriptions = [
        one.subscribe(&filters).await?,
        one.subscribe(&filters).await?,
        other.subscribe(&filters).await?,
    ];
    for number in 0..10 {
        one.publish(&name, numbered(number)).await?;
    }
    for subscription in &mut subscriptions {
        for number in 0..10 {
            assert_eq!(message(subscription).await.payload, numbered(number));
        }
    }
    Ok(())
}

/// `publish` says how many received it where that can be known, and nothing where it cannot.
pub async fn receiver_count_is_true_or_none(broker: &impl Broker) -> Result<()> {
    let publisher = broker.connect().await?;
    let name = fresh("receivers");
    let expected = |count| publisher.capabilities().receiver_count.then_some(count);
    assert_eq!(publisher.publish(&name, Bytes::new()).await?, expected(0));
    let mut held = Vec::new();
    // One subscription on each connection, since transports may count either.
    for filter in [topic(&name), topic(&name), Filter::Pattern(format!("{name}*"))] {
        let connection = broker.connect().await?;
        let subscription = connection.subscribe(&[filter]).await?;
        held.push((connection, subscription));
        let count = publisher.publish(&name, Bytes::new()).await?;
        assert_eq!(count, expected(held.len()));
    }
    Ok(())
}

/// What is posted keeps its place among what the same publisher publishes.
pub async fn posts_keep_their_place(broker: &impl Broker) -> Result<()> {
    const MANY: usize = 300;
    let [subscriber, publisher] = [broker.connect().await?, broker.connect().await?];
    let name = fresh("posts");
    let mut subscription = subscriber.subscribe(&[topic(&name)]).await?;
    for number in 0..MANY {
        let payload = Bytes::from(number.to_string());
        if number % 3 == 0 {
            publisher.publish(&name, payload).await?;
        } else {
            publisher.post(&name, payload).await?;
        }
    }
    for number in 0..MANY {
        assert_eq!(message(&mut subscription).await.payload, number.to_string());
    }
    assert_eq!(publisher.health().lost_posts, 0);
    Ok(())
}

/// One publisher's messages on one topic arrive in order, also beside another publisher's.
pub async fn one_publishers_messages_keep_their_order(broker: &impl Broker) -> Result<()> {
    const EACH: usize = 500;
    let subscriber = broker.connect().await?;
    let name = fresh("order");
    let mut subscription = subscriber.subscribe(&[topic(&name)]).await?;
    let publishing = ["one", "other"].map(|publisher| {
        let name = name.as_str();
        async move {
            let connection = broker.connect().await?;
            for number in 0..EACH {
                let payload = Bytes::from(format!("{publisher} {number}"));
                connection.publish(name, payload).await?;
            }
            Ok(())
        }
    });
    try_join_all(publishing).await?;
    let mut next = [0, 0];
    for _ in 0..2 * EACH {
        let payload = message(&mut subscription).await.payload;
        let publisher = usize::from(payload.starts_with(b"other"));
        let expected = format!("{} {}", ["one", "other"][publisher], next[publisher]);
        assert_eq!(payload, expected.as_bytes());
        next[publisher] += 1;
    }
    Ok(())
}

/// A subscriber that is slower than its mailbox is large is told how many messages it missed, and
/// goes on; publishers do not wait for it.
pub async fn a_slow_subscriber_is_told_it_lagged(broker: &impl Broker) -> Result<()> {
    let (subscriber, publisher) = (broker.connect().await?, broker.connect().await?);
    let name = fresh("lag");
    let mut slow = subscriber.subscribe(&[topic(&name)]).await?;
    let mut quick = subscriber.subscribe(&[topic(&name)]).await?;
    let (batches, size) = (broker.mailbox().messages / 500 + 2, 500);
    let publishing = async {
        for _ in 0..batches {
            let batch = (0..size).map(|_| publisher.publish(&name, Bytes::from_static(b"event")));
            try_join_all(batch).await?;
        }
        publisher.publish(&name, LAST).await
    };
    // That another one has read the last message shows that it has come as far as the mailboxes.
    let (published, _) = tokio::join!(publishing, tally(&mut quick));
    published?;
    let (received, missed) = tally(&mut slow).await;
    assert!(missed > 0, "a mailbox of {:?} held {received} messages", broker.mailbox());
    assert_eq!(received + missed, batches * size + 1);
    publisher.publish(&name, Bytes::from_static(b"afterwards")).await?;
    assert_eq!(message(&mut slow).await.payload, "afterwards");
    Ok(())
}

/// Reads up to [`LAST`]; says how many messages came and how many were missed.
async fn tally(subscription: &mut Subscription) -> (usize, usize) {
    let (mut received, mut missed) = (0, 0);
    loop {
        match subscription.recv().await {
            Some(Arrival::Message(message)) => {
                received += 1;
                if message.payload == LAST {
                    return (received, missed);
                }
            }
            Some(Arrival::Lagged(count)) => missed += usize::try_from(count).unwrap_or(usize::MAX),
            other => panic!("expected messages, but there came {other:?}"),
        }
    }
}

/// A subscription to several filters has begun with all of them when `subscribe` returns.
pub async fn several_filters_begin_in_one_step(broker: &impl Broker) -> Result<()> {
    let (subscriber, publisher) = (broker.connect().await?, broker.connect().await?);
    let name = fresh("several");
    let exact: Vec<String> = (0..20).map(|number| format!("{name} exact {number}")).collect();
    let begun: Vec<String> = (0..20).map(|number| format!("{name} pattern {number}.")).collect();
    let patterns = begun.iter().map(|begin| Filter::Pattern(format!("{begin}*")));
    let filters: Vec<Filter> = exact.iter().map(|name| topic(name)).chain(patterns).collect();
    let mut subscription = subscriber.subscribe(&filters).await?;
    let mut expected: Vec<String> = exact.into_iter().chain(begun).collect();
    for name in &expected {
        publisher.publish(name, Bytes::new()).await?;
    }
    let mut arrived = Vec::new();
    for _ in 0..expected.len() {
        arrived.push(message(&mut subscription).await.topic.to_string());
    }
    // Order is promised within one topic only.
    expected.sort();
    arrived.sort();
    assert_eq!(arrived, expected);
    Ok(())
}

/// Dropping a subscription ends it at the broker too, and no other of the same connection.
pub async fn dropping_a_subscription_unsubscribes(broker: &impl Broker) -> Result<()> {
    let (subscriber, publisher) = (broker.connect().await?, broker.connect().await?);
    let (name, other) = (fresh("dropped"), fresh("not dropped"));
    let dropped = subscriber.subscribe(&[topic(&name), topic(&other)]).await?;
    let mut stays = subscriber.subscribe(&[topic(&other)]).await?;
    drop(dropped);
    if publisher.capabilities().receiver_count {
        let asked = [name];
        until(async || Ok(publisher.count(&asked).await? == [0])).await?;
    }
    publisher.publish(&other, Bytes::from_static(b"still there")).await?;
    assert_eq!(message(&mut stays).await.payload, "still there");
    Ok(())
}

/// When `end` returns, the subscription is gone at the broker too.
pub async fn ended_subscription_is_gone(broker: &impl Broker) -> Result<()> {
    let (subscriber, publisher) = (broker.connect().await?, broker.connect().await?);
    let names = [fresh("ended"), fresh("ended with it")];
    for _ in 0..20 {
        let filters = [topic(&names[0]), Filter::Pattern(format!("{}*", names[1]))];
        subscriber.subscribe(&filters).await?.end().await?;
        if publisher.capabilities().receiver_count {
            assert_eq!(publisher.count(&names).await?, [0, 0]);
            assert_eq!(publisher.publish(&names[1], Bytes::new()).await?, Some(0));
        }
    }
    let mut again = subscriber.subscribe(&[topic(&names[0])]).await?;
    publisher.publish(&names[0], Bytes::from_static(b"again")).await?;
    assert_eq!(message(&mut again).await.payload, "again");
    Ok(())
}

/// What was published before `release` is in the mailbox when it returns, also where others of the
/// same connection stay subscribed.
pub async fn release_leaves_what_was_published_before(broker: &impl Broker) -> Result<()> {
    let (subscriber, publisher) = (broker.connect().await?, broker.connect().await?);
    let names = [fresh("left alone"), fresh("left by one of two")];
    let _stays = subscriber.subscribe(&[topic(&names[1])]).await?;
    for name in &names {
        for _ in 0..20 {
            let (mut messages, guard) = subscriber.subscribe(&[topic(name)]).await?.split();
            publisher.publish(name, Bytes::from_static(b"just before")).await?;
            guard.release().await?;
            messages.close();
            let first = messages.recv().await;
            assert!(matches!(first, Some(Arrival::Message(_))), "{first:?}");
            assert_eq!(messages.recv().await, None);
        }
    }
    Ok(())
}

/// `count` tells the subscribers of each topic by exact name; patterns do not count.
pub async fn count_counts_exact_names_only(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    if !one.capabilities().receiver_count {
        return Ok(());
    }
    let names = ["both", "one", "none"].map(fresh);
    let _pattern =
        one.subscribe(&[Filter::Pattern(Namespace::new("conformance").whole("*"))]).await?;
    let _one = one.subscribe(&[topic(&names[0]), topic(&names[1])]).await?;
    let _other = other.subscribe(&[topic(&names[0])]).await?;
    assert_eq!(one.count(&names).await?, [2, 1, 0]);
    assert_eq!(one.count(&[]).await?, Vec::<usize>::new());
    Ok(())
}

/// `publish_counted` counts all topics and publishes to the first in one step: who is counted
/// receives, and who receives by exact name is counted.
pub async fn publish_counted_counts_and_publishes_in_one_step(broker: &impl Broker) -> Result<()> {
    let (subscriber, publisher) = (broker.connect().await?, broker.connect().await?);
    if !publisher.capabilities().receiver_count {
        return Ok(());
    }
    for _ in 0..50 {
        let names = [fresh("counted and published"), fresh("counted only")];
        let _other = publisher.subscribe(&[topic(&names[1])]).await?;
        let subscribing = tokio::spawn({
            let (subscriber, filter) = (subscriber.clone(), topic(&names[0]));
            async move { subscriber.subscribe(&[filter]).await }
        });
        let counts = publisher.publish_counted(&names, Bytes::from_static(b"counted")).await?;
        let mut subscription = subscribing.await.expect("subscribing does not panic")?;
        publisher.publish(&names[0], Bytes::from_static(b"afterwards")).await?;
        let first = message(&mut subscription).await.payload;
        assert_eq!(counts, [usize::from(first == "counted"), 1]);
    }
    Ok(())
}

/// Where ends are told, that of a connection that has subscribed is, behind what it had sent; who merely subscribes
/// no more, or by a pattern, has not ended.
pub async fn the_end_of_a_subscriber_is_told_once_it_has_ended(broker: &impl Broker) -> Result<()> {
    let (watcher, other) = (broker.connect().await?, broker.connect().await?);
    let (name, address) = (fresh("ends"), Address::new(fresh("ends"), Form::Inbox));
    let mut inbox = watcher.open_inbox(&address).await?;
    let leaves = other.subscribe(&[topic(&name)]).await?;
    let stays = other.subscribe(&[topic(&name), topic(&fresh("else"))]).await?;
    let by_pattern = broker.connect().await?;
    let _pattern = by_pattern.subscribe(&[Filter::Pattern(format!("{name}*"))]).await?;
    let Some(ends) = watcher.ends(&name).await? else { return Ok(()) };
    by_pattern.close().await?;
    leaves.end().await?;
    other.send(&address, numbered(0), Duration::from_secs(60)).await?;
    assert_eq!(ends.count(), 0);
    drop(stays);
    other.close().await?;
    let again = broker.connect().await?;
    let subscribed = again.subscribe(&[topic(&name)]).await?;
    let Some(ends) = watcher.ends(&name).await? else { return Ok(()) };
    again.send(&address, numbered(1), Duration::from_secs(60)).await?;
    drop(again);
    ends.more_than(0).await;
    assert_eq!(ends.count(), 1);
    drop(subscribed);
    for number in 0..2 {
        assert_eq!(inbox.recv().await, Some(Arrival::Message(numbered(number))));
    }
    Ok(())
}
