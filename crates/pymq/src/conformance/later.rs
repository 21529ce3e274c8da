//! Rules of [`Queues`](crate::transport::Queues) on items for later, ids, priorities, dead letters. Of what
//! a transport says it lacks nothing is asked here: `unsupported_is_said` does.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::future::FutureExt;

use super::{Broker, claim_one, counts, fresh_queue, kind, numbered, take_one};
use crate::error::{ErrorKind, Result};
use crate::transport::{
    Claimed, Failure, Letters, Put, PutOptions, QueueSpec, Reason, SettleOptions, Settlement,
    Shelf, Transport, Wait,
};

/// Long enough that nobody waits for it, and no more than any clock can hold.
const LONG: Duration = Duration::from_secs(1000);

async fn put_later(
    connection: &Arc<dyn Transport>,
    queue: &Arc<QueueSpec>,
    number: usize,
    delay: Duration,
) -> Result<()> {
    let later = PutOptions::new().delay(delay);
    assert_eq!(connection.push(queue, vec![numbered(number)], later).await?, Put::Done);
    Ok(())
}

/// What was claimed, once it is acknowledged.
async fn acked(
    connection: &Arc<dyn Transport>,
    queue: &Arc<QueueSpec>,
    claimed: Vec<Claimed>,
) -> Result<Vec<Bytes>> {
    let mut payloads = Vec::new();
    for Claimed { payload, receipt, .. } in claimed {
        connection.settle(queue, receipt, Settlement::Ack, SettleOptions::default()).await?;
        payloads.push(payload);
    }
    Ok(payloads)
}

/// An item that is due later is given to nobody before, counted apart, and to whoever waits then.
pub async fn an_item_for_later_comes_when_it_is_due(broker: &impl Broker) -> Result<()> {
    let (producer, consumer) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("later"));
    if !producer.capabilities().put_options {
        return Ok(());
    }
    put_later(&producer, &queue, 0, LONG).await?;
    let stats = consumer.stats(&queue).await?;
    assert_eq!((stats.waiting, stats.delayed, stats.unfinished()), (0, 1, 1));
    assert_eq!(consumer.peek(&queue, Shelf::Delayed, 9).await?, [numbered(0)]);
    assert!(consumer.peek(&queue, Shelf::Waiting, 9).await?.is_empty());
    assert!(consumer.claim(&queue, 1, Wait::No).await?.is_empty());
    let delay = Duration::from_millis(300);
    assert!(consumer.claim(&queue, 1, Wait::at_most(delay / 10)).await?.is_empty());
    let begun = Instant::now();
    put_later(&producer, &queue, 1, delay).await?;
    let taken = take_one(&consumer, &queue, Settlement::Ack).await?;
    assert_eq!(taken, (numbered(1), 1));
    assert!(begun.elapsed() >= delay, "it came after {:?}", begun.elapsed());
    assert_eq!(consumer.stats(&queue).await?.unfinished(), 1);
    Ok(())
}

/// Items for later come in the order of their time, whatever the order in which they were put; a
/// time that is past is now; one that comes while a claim waits for another is not waited past.
pub async fn items_for_later_come_in_the_order_of_their_time(broker: &impl Broker) -> Result<()> {
    let (producer, consumer) = (broker.connect().await?, broker.connect().await?);
    let queue = Arc::new(fresh_queue("order of time"));
    if !producer.capabilities().put_options {
        return Ok(());
    }
    put_later(&producer, &queue, 9, LONG).await?;
    let mut first = consumer.claim(&queue, 1, Wait::Forever);
    assert!((&mut first).now_or_never().is_none(), "nothing is due");
    let past = PutOptions::new().at(SystemTime::UNIX_EPOCH);
    producer.push(&queue, vec![numbered(0)], past).await?;
    assert_eq!(acked(&consumer, &queue, first.await?).await?, [numbered(0)]);
    // Far enough apart, at last, that no slow machine puts one when another is due.
    for apart in [500, 2000, 8000].map(Duration::from_millis) {
        let mut first = consumer.claim(&queue, 1, Wait::Forever);
        assert!((&mut first).now_or_never().is_none(), "nothing is due");
        let (begun, now) = (SystemTime::now(), Instant::now());
        for (number, times) in [(3, 3), (1, 1), (2, 2)] {
            let then = PutOptions::new().at(begun + apart * times);
            producer.push(&queue, vec![numbered(number)], then).await?;
        }
        let in_time = now.elapsed() < apart;
        let mut came = acked(&consumer, &queue, first.await?).await?;
        for _ in 0..2 {
            came.push(take_one(&consumer, &queue, Settlement::Ack).await?.0);
        }
        if in_time {
            assert_eq!(came, [1, 2, 3].map(numbered));
            break;
        }
    }
    assert_eq!(consumer.purge(&queue, Shelf::Waiting).await?, 1);
    assert_eq!(consumer.stats(&queue).await?.unfinished(), 0);
    Ok(())
}

/// Equal items for later stay as many as they are, and a bound counts them.
pub async fn items_for_later_are_counted_by_a_bound(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let mut queue = fresh_queue("bound of later");
    queue.maxsize = 3;
    let queue = Arc::new(queue);
    if !connection.capabilities().put_options {
        return Ok(());
    }
    let later = PutOptions::new().delay(LONG);
    connection.push(&queue, vec![numbered(0), numbered(0)], later).await?;
    connection.push(&queue, vec![numbered(1)], Wait::No.into()).await?;
    let full = connection.push(&queue, vec![numbered(2)], Wait::No.into()).await;
    assert_eq!(kind(full), Some(ErrorKind::Full));
    assert_eq!(connection.stats(&queue).await?.delayed, 2);
    assert_eq!(connection.purge(&queue, Shelf::Delayed).await?, 2);
    assert_eq!(counts(&connection, &queue).await?, (1, 0, 0));
    Ok(())
}

/// An item that is given back for later keeps its count, is overtaken, and is a dead letter where it
/// was its last delivery.
pub async fn an_item_given_back_for_later_comes_then(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    if !connection.capabilities().put_options {
        return Ok(());
    }
    // A machine may stand still until it is due, and nothing overtakes it: then for longer.
    for delay in [100, 400, 1600, 6400].map(Duration::from_millis) {
        let mut queue = fresh_queue("back later");
        queue.max_deliveries = 2;
        let queue = Arc::new(queue);
        connection.push(&queue, vec![numbered(0), numbered(1)], Wait::No.into()).await?;
        let Claimed { receipt, .. } = claim_one(&connection, &queue).await?;
        let (later, begun) = (|| SettleOptions::default().delay(delay), Instant::now());
        connection.settle(&queue, receipt, Settlement::Requeue, later()).await?;
        let next = take_one(&connection, &queue, Settlement::Ack).await?;
        if begun.elapsed() >= delay {
            continue;
        }
        assert_eq!(next, (numbered(1), 1));
        let Claimed { payload, deliveries, receipt } = claim_one(&connection, &queue).await?;
        assert_eq!((payload, deliveries), (numbered(0), 2));
        connection.settle(&queue, receipt, Settlement::Requeue, later()).await?;
        assert_eq!(counts(&connection, &queue).await?, (0, 0, 1));
        break;
    }
    Ok(())
}

/// A queue that was shut down is empty when nothing is due later either.
pub async fn a_shut_down_queue_gives_out_what_is_due_later(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = Arc::new(fresh_queue("shut later"));
    if !connection.capabilities().put_options {
        return Ok(());
    }
    put_later(&connection, &queue, 0, LONG).await?;
    let mut waiting = connection.claim(&queue, 1, Wait::Forever);
    assert!((&mut waiting).now_or_never().is_none(), "nothing is due");
    connection.shut_down(&queue).await?;
    assert!(connection.claim(&queue, 1, Wait::No).await?.is_empty(), "not yet");
    assert!((&mut waiting).now_or_never().is_none(), "not yet");
    let queue = Arc::new(fresh_queue("shut soon"));
    put_later(&connection, &queue, 0, Duration::from_millis(100)).await?;
    let claim = || connection.claim(&queue, 1, Wait::Forever);
    let (first, second, shut) = tokio::join!(claim(), claim(), connection.shut_down(&queue));
    shut?;
    assert_eq!(first?.len(), 1);
    assert_eq!(kind(second), Some(ErrorKind::ShutDown));
    Ok(())
}

/// A put with an id is done once, whoever repeats it, until its window is over.
pub async fn a_put_with_an_id_is_done_once(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let mut queue = fresh_queue("ids");
    queue.maxsize = 3;
    let queue = Arc::new(queue);
    let put = async |connection: &Arc<dyn Transport>, id: &str| {
        let once = PutOptions::new().wait(Wait::No).id(id);
        connection.push(&queue, vec![numbered(0)], once).await
    };
    if !one.capabilities().put_options {
        return Ok(());
    }
    assert_eq!((put(&one, "a").await?, put(&one, "b").await?), (Put::Done, Put::Done));
    assert_eq!((put(&other, "a").await?, put(&one, "a").await?), (Put::Already, Put::Already));
    take_one(&other, &queue, Settlement::Ack).await?;
    assert_eq!(put(&other, "a").await?, Put::Already, "it is remembered beyond its item");
    let brief = PutOptions::new().id("brief").within(Duration::from_millis(50));
    for _ in 0..2 {
        assert_eq!(one.push(&queue, vec![numbered(1)], brief.clone()).await?, Put::Done);
        // Time is what has to pass: then it is forgotten on any machine.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Full: what was put is said to be, what was not is not remembered.
    assert_eq!(kind(put(&one, "c").await), Some(ErrorKind::Full));
    assert_eq!(put(&one, "b").await?, Put::Already);
    take_one(&other, &queue, Settlement::Ack).await?;
    assert_eq!(put(&one, "c").await?, Put::Done);
    Ok(())
}

/// Higher priorities come first, and first in first out within one; what comes back keeps its own.
pub async fn higher_priorities_come_first(broker: &impl Broker) -> Result<()> {
    let (producer, consumer) = (broker.connect().await?, broker.connect().await?);
    let mut queue = fresh_queue("priorities");
    queue.priorities = true;
    let queue = Arc::new(queue);
    let put = async |number: usize, priority: u8| {
        let options = PutOptions::new().priority(priority);
        producer.push(&queue, vec![numbered(number)], options).await
    };
    if !producer.capabilities().put_options {
        return Ok(());
    }
    for (number, priority) in [(4, 0), (2, 5), (0, 9), (3, 5), (5, 0), (1, 9)] {
        put(number, priority).await?;
    }
    assert_eq!(producer.stats(&queue).await?.waiting, 6);
    let all: Vec<Bytes> = (0..6).map(numbered).collect();
    assert_eq!(consumer.peek(&queue, Shelf::Waiting, 9).await?, all);
    take_one(&consumer, &queue, Settlement::Return).await?;
    assert_eq!(take_one(&consumer, &queue, Settlement::Requeue).await?, (numbered(0), 1));
    let claimed = consumer.claim(&queue, 9, Wait::No).await?;
    assert_eq!(claimed.into_iter().map(|item| item.payload).collect::<Vec<_>>(), all);
    Ok(())
}

/// A dead letter tells its bytes, and, where letters are kept, why it died, how often it was
/// delivered, and when.
pub async fn dead_letters_tell_why_they_died(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let mut queue = fresh_queue("letters");
    queue.max_deliveries = 1;
    let queue = Arc::new(queue);
    connection.push(&queue, (0..3).map(numbered).collect(), Wait::No.into()).await?;
    let failed =
        Failure::new(Reason::Failed).error("ValueError", "no such \"thing\"\n").origin("h:1");
    for (how, options) in [
        (Settlement::Requeue, SettleOptions::default().failure(failed.clone())),
        (Settlement::Requeue, SettleOptions::default()),
        (Settlement::Reject, SettleOptions::default()),
    ] {
        let Claimed { receipt, .. } = claim_one(&connection, &queue).await?;
        connection.settle(&queue, receipt, how, options).await?;
    }
    let letters = connection.letters(&queue, 0, 9).await?;
    let payloads: Vec<_> = letters.iter().map(|letter| letter.payload.clone()).collect();
    assert_eq!(payloads, (0..3).map(numbered).collect::<Vec<_>>());
    assert_eq!(connection.letters(&queue, 1, 1).await?[0].payload, numbered(1));
    assert!(connection.letters(&queue, 3, 9).await?.is_empty());
    if !connection.capabilities().letters {
        return Ok(());
    }
    assert_eq!(letters[0].failure, failed);
    let reasons = [letters[1].failure.reason, letters[2].failure.reason];
    assert_eq!(reasons, [Reason::TooManyDeliveries, Reason::Rejected]);
    for letter in letters {
        assert_eq!(letter.deliveries, Some(1));
        let age = letter.died.expect("it is written down").elapsed().unwrap_or_default();
        assert!(age < Duration::from_secs(3600), "it died {age:?} ago");
    }
    Ok(())
}

/// Dead letters are moved, elsewhere too, and discarded one by one, with their counts reset.
pub async fn dead_letters_are_moved_and_discarded_one_by_one(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let (queue, other) = (Arc::new(fresh_queue("chosen")), Arc::new(fresh_queue("elsewhere")));
    connection.push(&queue, (0..5).map(numbered).collect(), Wait::No.into()).await?;
    take_one(&connection, &queue, Settlement::Requeue).await?;
    for _ in 0..5 {
        take_one(&connection, &queue, Settlement::Reject).await?;
    }
    let letters = connection.letters(&queue, 0, 9).await?;
    let these = |numbers: &[usize]| {
        Letters::These(numbers.iter().map(|number| letters[*number].receipt.clone()).collect())
    };
    if !connection.capabilities().letters {
        return Ok(());
    }
    assert_eq!(connection.redrive(&queue, these(&[2, 0]), &queue).await?, 2);
    assert_eq!(connection.redrive(&queue, these(&[2, 0]), &queue).await?, 0, "they are gone");
    assert_eq!(connection.discard(&queue, these(&[1, 2])).await?, 1);
    assert_eq!(connection.redrive(&queue, Letters::Oldest(1), &other).await?, 1);
    assert_eq!(counts(&connection, &queue).await?, (2, 0, 1));
    assert_eq!(take_one(&connection, &queue, Settlement::Ack).await?, (numbered(0), 1));
    assert_eq!(take_one(&connection, &queue, Settlement::Ack).await?, (numbered(2), 1));
    assert_eq!(take_one(&connection, &other, Settlement::Ack).await?, (numbered(3), 1));
    assert_eq!(connection.discard(&queue, Letters::Oldest(usize::MAX)).await?, 1);
    assert_eq!(counts(&connection, &queue).await?, (0, 0, 0));
    Ok(())
}

/// No more dead letters are kept than the consumer's bound says; the oldest go.
pub async fn dead_letters_are_bounded(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let mut queue = fresh_queue("bounded letters");
    queue.max_dead_letters = 2;
    let queue = Arc::new(queue);
    if !connection.capabilities().letters {
        return Ok(());
    }
    connection.push(&queue, (0..4).map(numbered).collect(), Wait::No.into()).await?;
    for _ in 0..4 {
        take_one(&connection, &queue, Settlement::Reject).await?;
    }
    assert_eq!(connection.peek(&queue, Shelf::Dead, 9).await?, [numbered(2), numbered(3)]);
    Ok(())
}
