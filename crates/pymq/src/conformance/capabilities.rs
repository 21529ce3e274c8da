//! The rule of [`Capabilities`](crate::transport::Capabilities): what they deny is asked for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{Broker, claim_one, counts, fresh, fresh_queue, kind, numbered, take_one};
use crate::error::{ErrorKind, Result};
use crate::transport::{
    Capabilities, Claimed, Filter, Letters, PutOptions, SettleOptions, Settlement, Transport, Wait,
};

/// What a transport's capabilities deny is answered with `Unsupported` and not done; what they claim
/// works. Processes of the original are others, and are counted.
pub async fn unsupported_is_said(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    // All fields by name: one that is added does not compile until it is asked for here.
    let Capabilities {
        receiver_count,
        counts_connections,
        cross_process,
        originals,
        put_options,
        letters,
    } = connection.capabilities();
    counting(&connection, receiver_count).await?;
    if receiver_count {
        subscribed_twice(&connection, counts_connections).await?;
    }
    assert!(!originals || (cross_process && receiver_count), "originals count as other processes");
    putting(&connection, put_options).await?;
    choosing_letters(&connection, letters).await
}

/// Whether something was refused, or done, as it is said.
fn tells<T>(result: Result<T>, able: bool) {
    match result {
        Ok(_) => assert!(able, "it was done, and the capabilities deny it"),
        Err(error) if able => panic!("the capabilities claim it: {error}"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    }
}

async fn counting(connection: &Arc<dyn Transport>, able: bool) -> Result<()> {
    let names = [fresh("unsupported")];
    let counted = connection.count(&names).await;
    let published = connection.publish_counted(&names, Bytes::new()).await;
    if able {
        assert_eq!((counted?, published?), (vec![0], vec![0]));
    } else {
        assert_eq!(kind(counted), Some(ErrorKind::Unsupported));
        assert_eq!(kind(published), Some(ErrorKind::Unsupported));
    }
    Ok(())
}

/// How two subscriptions of one connection are counted is how it is said.
async fn subscribed_twice(connection: &Arc<dyn Transport>, counts_connections: bool) -> Result<()> {
    let topic = fresh("twice");
    let filters = [Filter::Topic(topic.clone())];
    let _both = (connection.subscribe(&filters).await?, connection.subscribe(&filters).await?);
    let expected = if counts_connections { 1 } else { 2 };
    assert_eq!(connection.count(&[topic]).await?, [expected]);
    Ok(())
}

async fn putting(connection: &Arc<dyn Transport>, able: bool) -> Result<()> {
    /// Long enough that nobody waits for it.
    const LATER: Duration = Duration::from_secs(1000);
    let mut queue = fresh_queue("options of a put");
    queue.priorities = true;
    let queue = Arc::new(queue);
    let put = PutOptions::new;
    let options =
        [put().delay(LATER), put().at(SystemTime::now() + LATER), put().id("a"), put().priority(1)];
    for options in options {
        tells(connection.push(&queue, vec![numbered(0)], options).await, able);
    }
    let stats = connection.stats(&queue).await?;
    assert_eq!((stats.waiting, stats.delayed), if able { (2, 2) } else { (0, 0) });
    connection.push(&queue, vec![numbered(1)], Wait::No.into()).await?;
    let Claimed { receipt, .. } = claim_one(connection, &queue).await?;
    let later = SettleOptions::default().delay(LATER);
    let given_back = connection.settle(&queue, receipt.clone(), Settlement::Requeue, later).await;
    tells(given_back, able);
    if !able {
        // It is still held.
        connection.settle(&queue, receipt, Settlement::Ack, SettleOptions::default()).await?;
    }
    Ok(())
}

async fn choosing_letters(connection: &Arc<dyn Transport>, able: bool) -> Result<()> {
    let queue = Arc::new(fresh_queue("chosen letters"));
    connection.push(&queue, vec![numbered(0), numbered(1)], Wait::No.into()).await?;
    for _ in 0..2 {
        take_one(connection, &queue, Settlement::Reject).await?;
    }
    let letters = connection.letters(&queue, 0, 9).await?;
    let this = |place: usize| Letters::These(vec![letters[place].receipt.clone()]);
    tells(connection.redrive(&queue, this(0), &queue).await, able);
    tells(connection.discard(&queue, this(1)).await, able);
    let left = if able { (1, 0, 0) } else { (0, 0, 2) };
    assert_eq!(counts(connection, &queue).await?, left);
    Ok(())
}
