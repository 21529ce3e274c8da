//! Rules of [`Queues`](crate::transport::Queues) that jobs rest on where several things meet: ids that
//! many put at once, urgent items that are due later or died, letters that are named while others go,
//! and what can be seen of a queue. What a transport says it lacks is not asked of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{Broker, claim_one, counts, fresh_queue, numbered, take_one, until};
use crate::error::Result;
use crate::transport::{
    Claimed, Letters, Put, PutOptions, QueueSpec, SettleOptions, Settlement, Transport, Wait,
};

/// How long the first item has waited is true where it is told, and nothing is told where none waits.
pub async fn the_age_of_what_waits_is_true_or_none(broker: &impl Broker) -> Result<()> {
    let (producer, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("age"));
    assert_eq!(other.stats(&queue).await?.oldest, None);
    let before = Instant::now();
    producer.push(&queue, vec![numbered(0)], Wait::No.into()).await?;
    let put = Instant::now();
    // So that the ages of the two are not the same.
    tokio::time::sleep(Duration::from_millis(20)).await;
    producer.push(&queue, vec![numbered(1)], Wait::No.into()).await?;
    let least = put.elapsed();
    if let Some(age) = other.stats(&queue).await?.oldest {
        let most = before.elapsed();
        assert!((least..=most).contains(&age), "{age:?} is not from {least:?} to {most:?}");
    }
    let held = producer.claim(&queue, 2, Wait::No).await?;
    assert_eq!(other.stats(&queue).await?.oldest, None, "what is held does not wait");
    drop(held);
    Ok(())
}

/// Connections that hold items are consumers, each once, where consumers are counted.
pub async fn consumers_that_hold_items_are_counted_or_none(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("consumers"));
    one.push(&queue, (0..3).map(numbered).collect(), Wait::No.into()).await?;
    let mut held = one.claim(&queue, 2, Wait::No).await?;
    let seen = other.stats(&queue).await?.consumers;
    assert!(seen.is_none_or(|count| count == 1), "{seen:?}");
    let theirs = claim_one(&other, &queue).await?;
    let seen = other.stats(&queue).await?.consumers;
    assert!(seen.is_none_or(|count| count == 2), "{seen:?}");
    held.push(theirs);
    for (place, Claimed { receipt, .. }) in held.into_iter().enumerate() {
        let owner = if place < 2 { &one } else { &other };
        owner.settle(&queue, receipt, Settlement::Ack, SettleOptions::default()).await?;
    }
    until(async || Ok(other.stats(&queue).await?.consumers.is_none_or(|count| count == 0))).await
}

/// Of many puts with one id, made at once by several, one is done, for later too.
pub async fn of_many_puts_with_an_id_one_is_done(broker: &impl Broker) -> Result<()> {
    let connections = [broker.connect().await?, broker.connect().await?];
    let queue = Arc::new(fresh_queue("ids at once"));
    if !connections[0].capabilities().put_options {
        return Ok(());
    }
    for delay in [Duration::ZERO, Duration::from_millis(5)] {
        let once = || match delay {
            Duration::ZERO => PutOptions::new().id("now"),
            delay => PutOptions::new().id("later").delay(delay),
        };
        let put = |place: usize| connections[place % 2].push(&queue, vec![numbered(7)], once());
        let mut done = 0;
        for outcome in join_all((0..16).map(put)).await {
            done += usize::from(outcome? == Put::Done);
        }
        assert_eq!(done, 1);
        assert_eq!(take_one(&connections[1], &queue, Settlement::Ack).await?, (numbered(7), 1));
        assert_eq!(connections[0].stats(&queue).await?.unfinished(), 0);
    }
    Ok(())
}

/// Who waits is given an urgent item as any other; a bound counts it; and it keeps its priority when it
/// is due later, given back, and brought back from the dead letters.
pub async fn urgent_items_keep_their_priority_whatever_becomes_of_them(
    broker: &impl Broker,
) -> Result<()> {
    let (producer, consumer) = (broker.connect().await?, broker.connect().await?);
    let mut queue = fresh_queue("urgent");
    (queue.priorities, queue.maxsize) = (true, 2);
    let queue = Arc::new(queue);
    if !producer.capabilities().put_options {
        return Ok(());
    }
    let put = async |number: usize, options: PutOptions| {
        producer.push(&queue, vec![numbered(number)], options.wait(Wait::No)).await
    };
    let urgent = || PutOptions::new().priority(9);
    let (taken, done) =
        tokio::join!(take_one(&consumer, &queue, Settlement::Ack), put(0, urgent()));
    assert_eq!((taken?, done?), ((numbered(0), 1), Put::Done));

    put(1, PutOptions::new()).await?;
    put(2, urgent()).await?;
    assert!(put(3, urgent()).await.is_err(), "the bound counts urgent ones");
    take_one(&consumer, &queue, Settlement::Reject).await?;
    assert_eq!(consumer.redrive(&queue, Letters::Oldest(1), &queue).await?, 1);
    assert_eq!(take_one(&consumer, &queue, Settlement::Requeue).await?, (numbered(2), 1));
    let later = SettleOptions::default().delay(Duration::from_millis(1));
    let Claimed { payload, receipt, .. } = claim_one(&consumer, &queue).await?;
    assert_eq!(payload, numbered(2));
    consumer.settle(&queue, receipt, Settlement::Requeue, later).await?;
    is_due(&consumer, &queue).await?;
    let first = claim_one(&consumer, &queue).await?;
    assert_eq!(first.payload, numbered(2));
    consumer.settle(&queue, first.receipt, Settlement::Ack, SettleOptions::default()).await?;
    // A consumer hears from others that something is due later, and takes what it finds until it has.
    for _ in 0..20 {
        put(3, urgent().delay(Duration::from_millis(1))).await?;
        is_due(&consumer, &queue).await?;
        let first = take_one(&consumer, &queue, Settlement::Ack).await?.0;
        let second = take_one(&consumer, &queue, Settlement::Ack).await?.0;
        if (&first, &second) == (&numbered(3), &numbered(1)) {
            return Ok(());
        }
        assert_eq!((first, second), (numbered(1), numbered(3)));
        put(1, PutOptions::new()).await?;
    }
    panic!("what was due was never taken first");
}

/// Waits until nothing is due later any more.
async fn is_due(connection: &Arc<dyn Transport>, queue: &Arc<QueueSpec>) -> Result<()> {
    until(async || Ok(connection.stats(queue).await?.delayed == 0)).await
}

/// Letters that are named are found and taken out once, though others before and behind them went since
/// they were read; those that are equal are as many as they are.
pub async fn named_letters_are_found_though_others_went(broker: &impl Broker) -> Result<()> {
    const COUNT: usize = 300;
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("named"));
    if !one.capabilities().letters {
        return Ok(());
    }
    one.push(&queue, (0..COUNT).map(|number| numbered(number / 2)).collect(), Wait::No.into())
        .await?;
    for Claimed { receipt, .. } in one.claim(&queue, COUNT, Wait::No).await? {
        one.settle(&queue, receipt, Settlement::Reject, SettleOptions::default()).await?;
    }
    while counts(&one, &queue).await?.2 < COUNT {
        take_one(&one, &queue, Settlement::Reject).await?;
    }
    let letters = one.letters(&queue, 0, COUNT).await?;
    let every = |step: usize, first: usize| {
        let chosen = letters.iter().skip(first).step_by(step);
        Letters::These(chosen.map(|letter| letter.receipt.clone()).collect())
    };
    assert_eq!(other.redrive(&queue, Letters::Oldest(50), &queue).await?, 50);
    // Of every other pair behind the first hundred, one.
    assert_eq!(other.discard(&queue, every(4, 100)).await?, 50);
    assert_eq!(one.redrive(&queue, every(2, 1), &queue).await?, 125);
    assert_eq!(one.redrive(&queue, every(1, 0), &queue).await?, 75);
    assert_eq!(counts(&one, &queue).await?, (COUNT - 50, 0, 0));
    let mut back = Vec::new();
    while counts(&one, &queue).await?.0 > 0 {
        back.push(take_one(&one, &queue, Settlement::Ack).await?);
    }
    assert!(back.iter().all(|(_, deliveries)| *deliveries == 1));
    for number in 0..COUNT / 2 {
        let times = back.iter().filter(|(item, _)| *item == numbered(number)).count();
        let gone = usize::from(number >= 50 && number % 2 == 0);
        assert_eq!(times, 2 - gone, "{number}");
    }
    Ok(())
}
