//! Rules of [`Queues::push`](crate::transport::Queues::push) on bounded queues.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::FutureExt;

use super::{Broker, counts, fresh_queue, kind, numbered, take_one};
use crate::error::{ErrorKind, Result};
use crate::transport::{QueueSpec, Settlement, Wait};

fn bounded(what: &str, maxsize: usize) -> Arc<QueueSpec> {
    let mut queue = fresh_queue(what);
    queue.maxsize = maxsize;
    Arc::new(queue)
}

/// A push to a full queue waits until there is space, whoever makes it.
pub async fn bounded_queue_waits_for_space(broker: &impl Broker) -> Result<()> {
    let (producer, consumer) = (broker.connect().await?, broker.connect().await?);
    let queue = bounded("waits for space", 2);
    producer.push(&queue, vec![numbered(0), numbered(1)], Wait::No.into()).await?;
    for (number, wait) in [(2, Wait::Forever), (3, Wait::at_most(Duration::from_secs(60)))] {
        let mut push = producer.push(&queue, vec![numbered(number)], wait.into());
        assert!((&mut push).now_or_never().is_none(), "there is no space");
        assert_eq!(counts(&consumer, &queue).await?, (2, 0, 0));
        let (pushed, taken) = tokio::join!(push, take_one(&consumer, &queue, Settlement::Ack));
        pushed?;
        assert_eq!(taken?.0, numbered(number - 2));
    }
    for number in 2..4 {
        assert_eq!(take_one(&consumer, &queue, Settlement::Ack).await?.0, numbered(number));
    }
    Ok(())
}

/// `Full` when there was no space in time; then nothing was put, and trying again is right.
pub async fn bounded_queue_says_full(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let queue = bounded("full", 1);
    one.push(&queue, vec![numbered(0)], Wait::No.into()).await?;
    let length = Duration::from_millis(50);
    for connection in [&one, &other] {
        let begun = Instant::now();
        for wait in [Wait::No, Wait::at_most(length)] {
            let refused = connection.push(&queue, vec![numbered(1)], wait.into()).await;
            let error = refused.expect_err("the queue is full");
            assert_eq!(error.kind(), ErrorKind::Full);
            assert!(error.is_retryable());
        }
        assert!(begun.elapsed() >= length);
    }
    assert_eq!(take_one(&one, &queue, Settlement::Ack).await?.0, numbered(0));
    assert_eq!(counts(&one, &queue).await?, (0, 0, 0));
    one.push(&queue, vec![numbered(1)], Wait::No.into()).await?;
    Ok(())
}

/// Items pushed together are put together: all of them or, where there is no space, none.
pub async fn a_push_is_one_step(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let queue = bounded("one step", 4);
    one.push(&queue, vec![numbered(0), numbered(1)], Wait::No.into()).await?;
    let refused = other.push(&queue, (2..5).map(numbered).collect(), Wait::No.into()).await;
    assert_eq!(kind(refused), Some(ErrorKind::Full));
    assert_eq!(counts(&one, &queue).await?, (2, 0, 0));
    other.push(&queue, (2..4).map(numbered).collect(), Wait::No.into()).await?;
    for number in 0..4 {
        assert_eq!(take_one(&one, &queue, Settlement::Ack).await?.0, numbered(number));
    }
    Ok(())
}

/// A push that is dropped while it waits has put nothing, and puts nothing later.
pub async fn a_dropped_push_puts_nothing(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = bounded("dropped push", 1);
    connection.push(&queue, vec![numbered(0)], Wait::No.into()).await?;
    let mut dropped = connection.push(&queue, vec![numbered(1)], Wait::Forever.into());
    assert!((&mut dropped).now_or_never().is_none(), "there is no space");
    drop(dropped);
    assert_eq!(take_one(&connection, &queue, Settlement::Ack).await?.0, numbered(0));
    connection.push(&queue, vec![numbered(2)], Wait::Forever.into()).await?;
    assert_eq!(take_one(&connection, &queue, Settlement::Ack).await?.0, numbered(2));
    assert_eq!(counts(&connection, &queue).await?, (0, 0, 0));
    Ok(())
}

/// More items than could ever fit are refused at once, however long they might wait.
pub async fn a_push_that_never_fits_is_refused(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = bounded("never fits", 2);
    for wait in [Wait::No, Wait::at_most(Duration::from_secs(60)), Wait::Forever] {
        let refused = connection.push(&queue, (0..3).map(numbered).collect(), wait.into()).await;
        assert_eq!(kind(refused), Some(ErrorKind::Config));
    }
    connection.push(&queue, (0..2).map(numbered).collect(), Wait::Forever.into()).await?;
    assert_eq!(counts(&connection, &queue).await?, (2, 0, 0));
    Ok(())
}
