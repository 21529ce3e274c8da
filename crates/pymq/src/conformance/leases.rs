//! Rules of [`Queues`](crate::transport::Queues): leases, and how they end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::FutureExt;

use super::{
    Broker, claim_one, counts, fresh_queue, kind, numbered, on_a_plain_thread, take_one, until,
};
use crate::error::{ErrorKind, Result};
use crate::transport::{
    Claimed, Letters, QueueSpec, SettleOptions, Settlement, Shelf, Transport, Wait,
};

/// `settle_soon` settles, called on a thread without a runtime, and whatever happens next.
pub async fn settling_soon_settles(broker: &impl Broker) -> Result<()> {
    let (connection, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("soon"));
    for how in [Settlement::Ack, Settlement::Requeue, Settlement::Reject] {
        connection.push(&queue, vec![Bytes::from_static(b"item")], Wait::No.into()).await?;
        let Claimed { receipt, .. } = claim_one(&connection, &queue).await?;
        let (connection, spec) = (Arc::clone(&connection), Arc::clone(&queue));
        on_a_plain_thread(move || {
            connection.settle_soon(&spec, receipt, how, SettleOptions::default());
        })
        .await;
        until(async || Ok(other.stats(&queue).await?.leased == 0)).await?;
        if how == Settlement::Requeue {
            assert_eq!(take_one(&other, &queue, Settlement::Ack).await?.1, 2);
        }
    }
    assert_eq!(counts(&other, &queue).await?, (0, 0, 1));
    Ok(())
}

/// Settling what was settled says `LeaseLost` and changes nothing.
pub async fn settling_twice_says_lease_lost(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = Arc::new(fresh_queue("twice"));
    // Equal items, which a transport might take for each other.
    connection.push(&queue, vec![Bytes::from_static(b"item"); 3], Wait::No.into()).await?;
    let Claimed { receipt, .. } = claim_one(&connection, &queue).await?;
    connection
        .settle(&queue, receipt.clone(), Settlement::Requeue, SettleOptions::default())
        .await?;
    for how in [Settlement::Ack, Settlement::Requeue, Settlement::Return, Settlement::Reject] {
        let again = connection.settle(&queue, receipt.clone(), how, SettleOptions::default()).await;
        assert_eq!(kind(again), Some(ErrorKind::LeaseLost), "{how:?}");
    }
    assert_eq!(counts(&connection, &queue).await?, (3, 0, 0));
    assert_eq!(take_one(&connection, &queue, Settlement::Ack).await?.1, 2);
    assert_eq!(take_one(&connection, &queue, Settlement::Ack).await?.1, 1);
    Ok(())
}

/// `extend` succeeds while the lease lasts, says `LeaseLost` when it has ended, and leaves the
/// delivery to be settled as before.
pub async fn extending_works_while_the_lease_lasts(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = Arc::new(fresh_queue("extend"));
    connection.push(&queue, vec![numbered(0), numbered(1)], Wait::No.into()).await?;
    for how in [Settlement::Ack, Settlement::Requeue] {
        let Claimed { receipt, .. } = claim_one(&connection, &queue).await?;
        for seconds in [1, 120] {
            connection.extend(&queue, &receipt, Duration::from_secs(seconds)).await?;
        }
        assert_eq!(connection.stats(&queue).await?.leased, 1);
        connection.settle(&queue, receipt.clone(), how, SettleOptions::default()).await?;
        let late = connection.extend(&queue, &receipt, Duration::from_secs(60)).await;
        assert_eq!(kind(late), Some(ErrorKind::LeaseLost));
    }
    assert_eq!(take_one(&connection, &queue, Settlement::Ack).await?, (numbered(1), 2));
    Ok(())
}

/// What a claim took beyond what it was asked for is delivered when that is said, and no earlier: it
/// goes back uncounted when its consumer's connection ends.
pub async fn what_is_fetched_ahead_counts_when_it_is_shown(broker: &impl Broker) -> Result<()> {
    let other = broker.connect().await?;
    let mut queue = fresh_queue("ahead");
    queue.prefetch = 4;
    let queue = Arc::new(queue);
    other.push(&queue, (0..4).map(numbered).collect(), Wait::No.into()).await?;
    let greedy = broker.connect().await?;
    let mut claimed = greedy.claim(&queue, 1, Wait::Forever).await?;
    if claimed.len() == 1 {
        // It fetches nothing ahead: then each claim is a delivery.
        claimed.extend(greedy.claim(&queue, 3, Wait::Forever).await?);
        assert_eq!(claimed.len(), 4);
        return Ok(());
    }
    assert_eq!(claimed.len(), 4);
    assert!(claimed.iter().all(|item| item.deliveries == 1));
    greedy.show(&queue, &claimed[1].receipt);
    let settle = async |which: usize, how| {
        let receipt = claimed[which].receipt.clone();
        greedy.settle(&queue, receipt, how, SettleOptions::default()).await
    };
    // Settled, whether or not it was shown; and once.
    settle(3, Settlement::Return).await?;
    assert_eq!(kind(settle(3, Settlement::Ack).await), Some(ErrorKind::LeaseLost));
    assert_eq!(counts(&other, &queue).await?, (1, 3, 0));
    greedy.close().await?;
    let all = other.claim(&queue, 4, Wait::Forever).await?;
    let told: Vec<_> = all.into_iter().map(|item| (item.payload, item.deliveries)).collect();
    let expected = [(0, 2), (1, 2), (2, 1), (3, 1)];
    assert_eq!(told, expected.map(|(number, deliveries)| (numbered(number), deliveries)));
    Ok(())
}

/// A lease outlasts its length while its process lives, without any help of the consumer's.
pub async fn leases_of_a_living_process_are_prolonged(broker: &impl Broker) -> Result<()> {
    let (consumer, other) = (broker.connect().await?, broker.connect().await?);
    // Where the whole process stands still for as long, a lease is over, as it should be.
    for seconds in [1, 4, 16] {
        let mut queue = fresh_queue("prolonged");
        queue.lease = Duration::from_secs(seconds);
        let queue = Arc::new(queue);
        consumer.push(&queue, vec![numbered(0)], Wait::No.into()).await?;
        let Claimed { receipt, .. } = claim_one(&consumer, &queue).await?;
        let waited = other.claim(&queue, 1, Wait::at_most(queue.lease * 7 / 2)).await?;
        if waited.is_empty() {
            consumer.settle(&queue, receipt, Settlement::Ack, SettleOptions::default()).await?;
            assert_eq!(counts(&other, &queue).await?, (0, 0, 0));
            return Ok(());
        }
    }
    panic!("the item was given to another")
}

/// Both `Requeue` and `Return` put an item back at the head; only the former counts a delivery.
pub async fn requeue_counts_and_return_does_not(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = Arc::new(fresh_queue("requeue"));
    connection.push(&queue, vec![numbered(0), numbered(1)], Wait::No.into()).await?;
    for (deliveries, how) in [
        (1, Settlement::Return),
        (1, Settlement::Requeue),
        (2, Settlement::Return),
        (2, Settlement::Requeue),
        (3, Settlement::Ack),
    ] {
        let taken = take_one(&connection, &queue, how).await?;
        assert_eq!(taken, (numbered(0), deliveries), "{how:?}");
    }
    assert_eq!(take_one(&connection, &queue, Settlement::Ack).await?, (numbered(1), 1));
    Ok(())
}

/// An item that was delivered `max_deliveries` times in vain goes to the dead letters as it was
/// put; with 0 it never does.
pub async fn too_many_deliveries_make_a_dead_letter(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let mut queue = fresh_queue("too many");
    queue.max_deliveries = 3;
    let mut patient = queue.clone();
    patient.max_deliveries = 0;
    let (queue, patient) = (Arc::new(queue), Arc::new(patient));
    connection
        .push(&queue, vec![Bytes::from_static(b"poison"), numbered(1)], Wait::No.into())
        .await?;
    for deliveries in 1..=3 {
        let taken = take_one(&connection, &queue, Settlement::Requeue).await?;
        assert_eq!(taken, (Bytes::from_static(b"poison"), deliveries));
    }
    assert_eq!(counts(&connection, &queue).await?, (1, 0, 1));
    assert_eq!(connection.peek(&queue, Shelf::Dead, 9).await?, ["poison"]);
    for deliveries in 1..=10 {
        let taken = take_one(&connection, &patient, Settlement::Requeue).await?;
        assert_eq!(taken, (numbered(1), deliveries));
    }
    Ok(())
}

/// `Reject` sends an item to the dead letters at once, as it was put.
pub async fn reject_makes_a_dead_letter(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = Arc::new(fresh_queue("reject"));
    connection.push(&queue, (0..3).map(numbered).collect(), Wait::No.into()).await?;
    take_one(&connection, &queue, Settlement::Reject).await?;
    take_one(&connection, &queue, Settlement::Requeue).await?;
    assert_eq!(take_one(&connection, &queue, Settlement::Reject).await?, (numbered(1), 2));
    assert_eq!(counts(&connection, &queue).await?, (1, 0, 2));
    assert_eq!(connection.peek(&queue, Shelf::Dead, 9).await?, [numbered(0), numbered(1)]);
    Ok(())
}

/// `redrive` moves dead letters, oldest first, to the tail of the queue, with their counts reset.
pub async fn redrive_brings_dead_letters_back(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = Arc::new(fresh_queue("redrive"));
    connection.push(&queue, (0..4).map(numbered).collect(), Wait::No.into()).await?;
    take_one(&connection, &queue, Settlement::Requeue).await?;
    for _ in 0..3 {
        take_one(&connection, &queue, Settlement::Reject).await?;
    }
    assert_eq!(connection.redrive(&queue, Letters::Oldest(2), &queue).await?, 2);
    assert_eq!(counts(&connection, &queue).await?, (3, 0, 1));
    for number in [3, 0, 1] {
        let taken = take_one(&connection, &queue, Settlement::Ack).await?;
        assert_eq!(taken, (numbered(number), 1));
    }
    assert_eq!(connection.redrive(&queue, Letters::Oldest(10), &queue).await?, 1);
    assert_eq!(connection.redrive(&queue, Letters::Oldest(10), &queue).await?, 0);
    // A consumer that waits is given what is brought back.
    take_one(&connection, &queue, Settlement::Reject).await?;
    let (taken, redriven) = tokio::join!(
        take_one(&connection, &queue, Settlement::Ack),
        connection.redrive(&queue, Letters::Oldest(1), &queue)
    );
    assert_eq!((taken?, redriven?), ((numbered(2), 1), 1));
    Ok(())
}

/// What a connection holds when it is closed goes back to the head, in order, with one delivery
/// more on its count; beyond the limit it goes to the dead letters.
pub async fn items_of_a_closed_connection_come_back_to_the_head(
    broker: &impl Broker,
) -> Result<()> {
    let (closing, other) = (broker.connect().await?, broker.connect().await?);
    let mut queue = fresh_queue("closed");
    queue.max_deliveries = 2;
    let queue = Arc::new(queue);
    other.push(&queue, (0..4).map(numbered).collect(), Wait::No.into()).await?;
    take_one(&other, &queue, Settlement::Requeue).await?;
    assert_eq!(closing.claim(&queue, 3, Wait::No).await?.len(), 3);
    closing.close().await?;
    for expected in [(numbered(1), 2), (numbered(2), 2), (numbered(3), 1)] {
        assert_eq!(take_one(&other, &queue, Settlement::Ack).await?, expected);
    }
    assert_eq!(other.peek(&queue, Shelf::Dead, 9).await?, [numbered(0)]);
    assert_eq!(counts(&other, &queue).await?, (0, 0, 1));
    Ok(())
}

/// A claim that is dropped before it is begun, while it waits, or when an item came for it that it
/// did not hand over, loses nothing and counts nothing.
pub async fn cancelled_claim_loses_nothing(broker: &impl Broker) -> Result<()> {
    let (consumer, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("cancelled"));
    let push = |number| other.push(&queue, vec![numbered(number)], Wait::No.into());

    push(0).await?;
    drop(consumer.claim(&queue, 1, Wait::Forever));
    assert_eq!(take_one(&other, &queue, Settlement::Ack).await?, (numbered(0), 1));

    for number in 1..20 {
        let mut claim = consumer.claim(&queue, 1, Wait::Forever);
        assert!((&mut claim).now_or_never().is_none(), "there is nothing to claim");
        if number % 2 == 0 {
            drop(claim);
            push(number).await?;
        } else {
            push(number).await?;
            drop(claim);
        }
        assert_eq!(take_one(&other, &queue, Settlement::Ack).await?, (numbered(number), 1));
    }
    assert_eq!(counts(&other, &queue).await?, (0, 0, 0));
    Ok(())
}

/// The same with chance: claims that are cancelled at any moment of the hand-over.
pub async fn claims_cancelled_at_any_moment_lose_nothing(broker: &impl Broker) -> Result<()> {
    const ROUNDS: usize = 200;
    // What a machine does that is too slow for all of them.
    const FEWER: usize = 40;
    const ENOUGH: Duration = Duration::from_secs(10);
    let (consumer, other) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("races"));
    // How long a hand-over takes shows when there is something to disturb.
    let mut length = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        let claim = tokio::spawn(claimed(Arc::clone(&consumer), Arc::clone(&queue)));
        other.push(&queue, vec![numbered(0)], Wait::No.into()).await?;
        let item = claim.await.expect("claiming does not panic")?;
        length = length.max(begun.elapsed());
        consumer.settle(&queue, item.receipt, Settlement::Ack, SettleOptions::default()).await?;
    }
    let (mut finished, mut cancelled) = (0, 0);
    let first = Instant::now();
    for round in 0..ROUNDS {
        if round >= FEWER && finished > 0 && cancelled > 0 && first.elapsed() > ENOUGH {
            break;
        }
        let claim = tokio::spawn(claimed(Arc::clone(&consumer), Arc::clone(&queue)));
        let (begun, delay) = (Instant::now(), length.mul_f64((round % 20) as f64 / 10.0));
        let push = other.push(&queue, vec![numbered(round)], Wait::No.into());
        let cancel = async {
            while begun.elapsed() < delay {
                tokio::task::yield_now().await;
            }
            claim.abort();
        };
        let (pushed, ()) = tokio::join!(push, cancel);
        pushed?;
        let (owner, item) = match claim.await {
            Ok(item) => {
                finished += 1;
                (&consumer, item?)
            }
            Err(_) => {
                cancelled += 1;
                (&other, claim_one(&other, &queue).await?)
            }
        };
        assert_eq!((item.payload, item.deliveries), (numbered(round), 1));
        owner.settle(&queue, item.receipt, Settlement::Ack, SettleOptions::default()).await?;
    }
    assert!(finished > 0 && cancelled > 0, "{finished} finished, {cancelled} cancelled");
    Ok(())
}

async fn claimed(connection: Arc<dyn Transport>, queue: Arc<QueueSpec>) -> Result<Claimed> {
    claim_one(&connection, &queue).await
}
