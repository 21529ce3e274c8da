//! Rules of [`Queues`](crate::transport::Queues): putting, taking, and looking.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{FutureExt, try_join_all};

use super::{Broker, claim_one, counts, fresh_queue, kind, numbered, take_one, until};
use crate::error::{ErrorKind, Result};
use crate::transport::{SettleOptions, Settlement, Shelf, Transport, Wait};

/// Each item goes to one consumer, however many there are.
pub async fn each_item_goes_to_one_consumer(broker: &impl Broker) -> Result<()> {
    const ITEMS: usize = 200;
    let producer = broker.connect().await?;
    let queue = Arc::new(fresh_queue("one consumer"));
    let mut consumers = Vec::new();
    for _ in 0..4 {
        let (connection, queue) = (broker.connect().await?, Arc::clone(&queue));
        consumers.push(tokio::spawn(async move {
            let mut seen: Vec<Bytes> = Vec::new();
            loop {
                let claimed = match connection.claim(&queue, 3, Wait::Forever).await {
                    Err(error) if error.kind() == ErrorKind::ShutDown => return Ok(seen),
                    other => other?,
                };
                for item in claimed {
                    seen.push(item.payload);
                    connection
                        .settle(&queue, item.receipt, Settlement::Ack, SettleOptions::default())
                        .await?;
                }
            }
        }));
    }
    for number in 0..ITEMS {
        producer.push(&queue, vec![numbered(number)], Wait::No.into()).await?;
    }
    producer.shut_down(&queue).await?;
    let mut seen = Vec::new();
    for consumer in consumers {
        let theirs: Result<Vec<Bytes>> = consumer.await.expect("consuming does not panic");
        seen.extend(theirs?);
    }
    let mut expected: Vec<Bytes> = (0..ITEMS).map(numbered).collect();
    expected.sort();
    seen.sort();
    assert_eq!(seen, expected);
    Ok(())
}

/// First in, first out, put and taken one by one or many at once.
pub async fn queue_is_fifo(broker: &impl Broker) -> Result<()> {
    let (producer, consumer) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("fifo"));
    for number in 0..10 {
        producer.push(&queue, vec![numbered(number)], Wait::No.into()).await?;
    }
    producer.push(&queue, (10..20).map(numbered).collect(), Wait::No.into()).await?;
    for number in 0..5 {
        let (payload, deliveries) = take_one(&consumer, &queue, Settlement::Ack).await?;
        assert_eq!((payload, deliveries), (numbered(number), 1));
    }
    let rest = consumer.claim(&queue, 100, Wait::No).await?;
    let payloads: Vec<Bytes> = rest.into_iter().map(|item| item.payload).collect();
    assert_eq!(payloads, (5..20).map(numbered).collect::<Vec<_>>());
    Ok(())
}

/// A claim that may wait gets the item that is put later.
pub async fn a_claim_waits_for_an_item(broker: &impl Broker) -> Result<()> {
    let (producer, consumer) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("waits"));
    for wait in
        [Wait::Forever, Wait::at_most(Duration::from_secs(60)), Wait::at_most(Duration::MAX)]
    {
        let mut claim = consumer.claim(&queue, 1, wait);
        assert!((&mut claim).now_or_never().is_none(), "there is nothing to claim");
        let item = vec![Bytes::from_static(b"item")];
        let (claimed, pushed) = tokio::join!(claim, producer.push(&queue, item, Wait::No.into()));
        pushed?;
        for item in claimed? {
            assert_eq!((&*item.payload, item.deliveries), (&b"item"[..], 1));
            consumer
                .settle(&queue, item.receipt, Settlement::Ack, SettleOptions::default())
                .await?;
        }
        assert_eq!(counts(&producer, &queue).await?, (0, 0, 0));
    }
    Ok(())
}

/// No item in time is an empty answer, not sooner than the time is up.
pub async fn claim_times_out_to_nothing(broker: &impl Broker) -> Result<()> {
    let consumer = broker.connect().await?;
    let queue = Arc::new(fresh_queue("times out"));
    assert!(consumer.claim(&queue, 1, Wait::No).await?.is_empty());
    assert!(consumer.claim(&queue, 1, Wait::at_most(Duration::ZERO)).await?.is_empty());
    let (begun, length) = (Instant::now(), Duration::from_millis(50));
    assert!(consumer.claim(&queue, 1, Wait::at_most(length)).await?.is_empty());
    assert!(begun.elapsed() >= length);
    // What was given up does not keep what comes later, though it may still be on its way to be
    // ended at the broker, and catch it for a moment.
    consumer.push(&queue, vec![Bytes::from_static(b"late")], Wait::No.into()).await?;
    until(async || Ok(counts(&consumer, &queue).await? == (1, 0, 0))).await?;
    assert_eq!(claim_one(&consumer, &queue).await?.deliveries, 1);
    Ok(())
}

/// A claim takes what is there up to its limit, and waits for the first item only.
pub async fn claim_takes_up_to_limit(broker: &impl Broker) -> Result<()> {
    let (producer, consumer) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("limit"));
    producer.push(&queue, (0..5).map(numbered).collect(), Wait::No.into()).await?;
    assert_eq!(consumer.claim(&queue, 3, Wait::Forever).await?.len(), 3);
    assert_eq!(consumer.claim(&queue, 3, Wait::Forever).await?.len(), 2);
    let push = producer.push(&queue, vec![numbered(5)], Wait::No.into());
    let (claimed, pushed) = tokio::join!(consumer.claim(&queue, 3, Wait::Forever), push);
    pushed?;
    assert_eq!(claimed?.len(), 1);
    for wait in [Wait::No, Wait::Forever] {
        producer.push(&queue, (0..600).map(numbered).collect(), Wait::No.into()).await?;
        assert_eq!(consumer.claim(&queue, 600, wait).await?.len(), 600);
    }
    Ok(())
}

/// `stats` tells how many items wait, are leased, and are dead letters.
pub async fn stats_tell_waiting_leased_and_dead(broker: &impl Broker) -> Result<()> {
    let (consumer, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("stats"));
    assert_eq!(counts(&other, &queue).await?, (0, 0, 0));
    consumer.push(&queue, (0..6).map(numbered).collect(), Wait::No.into()).await?;
    assert_eq!(counts(&other, &queue).await?, (6, 0, 0));
    let held = consumer.claim(&queue, 2, Wait::No).await?;
    take_one(&consumer, &queue, Settlement::Reject).await?;
    assert_eq!(counts(&other, &queue).await?, (3, 2, 1));
    for item in held {
        consumer.settle(&queue, item.receipt, Settlement::Ack, SettleOptions::default()).await?;
    }
    assert_eq!(counts(&other, &queue).await?, (3, 0, 1));
    Ok(())
}

/// `peek` shows items from the head of a shelf and leaves them where they are.
pub async fn peek_leaves_items(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = Arc::new(fresh_queue("peek"));
    connection.push(&queue, (0..5).map(numbered).collect(), Wait::No.into()).await?;
    for _ in 0..2 {
        take_one(&connection, &queue, Settlement::Reject).await?;
    }
    for _ in 0..2 {
        let waiting = connection.peek(&queue, Shelf::Waiting, 2).await?;
        assert_eq!(waiting, [numbered(2), numbered(3)]);
        let dead = connection.peek(&queue, Shelf::Dead, 10).await?;
        assert_eq!(dead, [numbered(0), numbered(1)]);
    }
    assert_eq!(counts(&connection, &queue).await?, (3, 0, 2));
    assert_eq!(claim_one(&connection, &queue).await?.deliveries, 1);
    Ok(())
}

/// `purge` deletes what waits on a shelf, not what is leased, says how many, and lifts a shutdown.
pub async fn purge_deletes_and_lifts_shutdown(broker: &impl Broker) -> Result<()> {
    let (connection, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("purge"));
    connection.push(&queue, (0..5).map(numbered).collect(), Wait::No.into()).await?;
    take_one(&connection, &queue, Settlement::Reject).await?;
    let held = claim_one(&connection, &queue).await?;
    other.shut_down(&queue).await?;
    assert_eq!(other.purge(&queue, Shelf::Waiting).await?, 3);
    assert_eq!(counts(&connection, &queue).await?, (0, 1, 1));
    connection.push(&queue, vec![numbered(5)], Wait::No.into()).await?;
    connection.settle(&queue, held.receipt, Settlement::Ack, SettleOptions::default()).await?;
    assert_eq!(other.purge(&queue, Shelf::Dead).await?, 1);
    assert_eq!(other.purge(&queue, Shelf::Dead).await?, 0);
    assert_eq!(counts(&connection, &queue).await?, (1, 0, 0));
    Ok(())
}

/// `purge` deletes what its connection gave back before, however softly.
pub async fn purge_deletes_what_was_given_back(broker: &impl Broker) -> Result<()> {
    let (connection, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("given back"));
    for how in [Settlement::Return, Settlement::Requeue] {
        // A broker that is slow to answer is waited for only for a moment: it gets some tries.
        for tries_left in (0..10).rev() {
            connection.push(&queue, (0..3).map(numbered).collect(), Wait::No.into()).await?;
            for item in connection.claim(&queue, 3, Wait::No).await? {
                connection.settle_soon(&queue, item.receipt, how, SettleOptions::default());
            }
            let deleted = connection.purge(&queue, Shelf::Waiting).await?;
            if deleted == 3 {
                break;
            }
            assert!(tries_left > 0, "{how:?}: {deleted} of 3");
            while counts(&other, &queue).await? != (0, 0, 0) {
                connection.purge(&queue, Shelf::Waiting).await?;
            }
        }
        assert_eq!(counts(&other, &queue).await?, (0, 0, 0));
    }
    Ok(())
}

/// After `shut_down`, puts fail with `ShutDown` for everyone, and gets too once it is empty.
pub async fn shut_down_ends_puts_and_then_gets(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("shut down"));
    one.push(&queue, vec![numbered(0), numbered(1)], Wait::No.into()).await?;
    one.shut_down(&queue).await?;
    one.shut_down(&queue).await?;
    for connection in [&one, &other] {
        let push = connection.push(&queue, vec![numbered(2)], Wait::Forever.into()).await;
        assert_eq!(kind(push), Some(ErrorKind::ShutDown));
        take_one(connection, &queue, Settlement::Ack).await?;
    }
    for connection in [&one, &other] {
        for wait in [Wait::No, Wait::Forever] {
            let claim = connection.claim(&queue, 1, wait).await;
            assert_eq!(kind(claim), Some(ErrorKind::ShutDown));
        }
    }
    Ok(())
}

/// `shut_down` ends the gets and puts that wait, on every connection.
pub async fn shut_down_ends_what_waits(broker: &impl Broker) -> Result<()> {
    let closing = broker.connect().await?;
    let empty = Arc::new(fresh_queue("gets wait"));
    let mut bounded = fresh_queue("puts wait");
    bounded.maxsize = 1;
    let bounded = Arc::new(bounded);
    closing.push(&bounded, vec![numbered(0)], Wait::No.into()).await?;
    let mut connections: Vec<Arc<dyn Transport>> = vec![Arc::clone(&closing)];
    connections.push(broker.connect().await?);
    let mut waiting = Vec::new();
    for connection in &connections {
        waiting.push(connection.claim(&empty, 1, Wait::Forever).map(kind).boxed());
        let push = connection.push(&bounded, vec![numbered(1)], Wait::Forever.into());
        waiting.push(push.map(kind).boxed());
    }
    for operation in &mut waiting {
        assert_eq!(operation.now_or_never(), None, "it waits");
    }
    let ended = try_join_all(waiting.into_iter().map(|operation| operation.map(Ok)));
    let shut = async {
        closing.shut_down(&empty).await?;
        closing.shut_down(&bounded).await
    };
    let (ended, shut) = tokio::join!(ended, shut);
    shut?;
    assert_eq!(ended?, vec![Some(ErrorKind::ShutDown); 4]);
    assert_eq!(counts(&closing, &bounded).await?, (1, 0, 0));
    Ok(())
}
