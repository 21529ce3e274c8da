//! Rules of [`Transport`] itself: closing and dropping.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::FutureExt;

use super::{
    Broker, claim_one, fresh, fresh_queue, kind, numbered, on_a_plain_thread, take_one, topic,
    until,
};
use crate::error::{ErrorKind, Result};
use crate::name::{Address, Form};
use crate::transport::{
    Letters, QueueSpec, Receipt, SettleOptions, Settlement, Shelf, Transport, Wait,
};

const KEPT: Duration = Duration::from_secs(300);

/// A subscription, an inbox and the future of an operation may be dropped on any thread, without a
/// runtime, and nothing is lost by it.
pub async fn dropping_needs_no_runtime(broker: &impl Broker) -> Result<()> {
    let (connection, other) = (broker.connect().await?, broker.connect().await?);
    let (name, queue) = (fresh("dropped"), Arc::new(fresh_queue("dropped")));
    let address = Address::new(fresh("dropped"), Form::Inbox);
    let subscription = connection.subscribe(&[topic(&name)]).await?;
    let inbox = connection.open_inbox(&address).await?;
    on_a_plain_thread(move || drop((subscription, inbox))).await;
    let mut claim = connection.claim(&queue, 1, Wait::Forever);
    assert!((&mut claim).now_or_never().is_none(), "there is nothing to claim");
    std::thread::scope(|scope| {
        scope.spawn(move || drop(claim));
    });

    until(async || Ok(!other.send(&address, numbered(0), KEPT).await?)).await?;
    if other.capabilities().receiver_count {
        let asked = [name];
        until(async || Ok(other.count(&asked).await? == [0])).await?;
    }
    other.push(&queue, vec![numbered(1)], Wait::No.into()).await?;
    assert_eq!(take_one(&other, &queue, Settlement::Ack).await?, (numbered(1), 1));
    Ok(())
}

/// Closing again does nothing, and closing one connection does nothing to another.
pub async fn close_is_idempotent(broker: &impl Broker) -> Result<()> {
    let (connection, other) = (broker.connect().await?, broker.connect().await?);
    let name = fresh("closed");
    let mut subscription = other.subscribe(&[topic(&name)]).await?;
    let (first, second) = tokio::join!(connection.close(), connection.close());
    first?;
    second?;
    connection.close().await?;
    other.publish(&name, Bytes::from_static(b"alive")).await?;
    assert_eq!(super::message(&mut subscription).await.payload, "alive");
    Ok(())
}

/// After `close` every operation fails with `Closed`.
pub async fn closed_says_closed(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let queue = Arc::new(fresh_queue("closed"));
    connection.push(&queue, vec![numbered(0)], Wait::No.into()).await?;
    let held = claim_one(&connection, &queue).await?;
    let counts = connection.capabilities().receiver_count;
    connection.close().await?;
    let closed = |operation| (operation, Some(ErrorKind::Closed));
    for (operation, error) in every_kind(&connection, &queue, held.receipt, counts).await {
        assert_eq!((operation, error), closed(operation));
    }
    Ok(())
}

/// What every operation of a connection fails with; counting ones only where they `count`.
async fn every_kind(
    connection: &Arc<dyn Transport>,
    queue: &Arc<QueueSpec>,
    receipt: Receipt,
    count: bool,
) -> Vec<(&'static str, Option<ErrorKind>)> {
    let (names, address) = ([fresh("closed")], Address::new(fresh("closed"), Form::Inbox));
    let (filters, payload) = ([topic(&names[0])], Bytes::new());
    let mut kinds = vec![
        ("publish", kind(connection.publish(&names[0], payload.clone()).await)),
        ("subscribe", kind(connection.subscribe(&filters).await)),
        ("ends", kind(connection.ends(&names[0]).await)),
        ("open_inbox", kind(connection.open_inbox(&address).await)),
        ("send", kind(connection.send(&address, payload.clone(), KEPT).await)),
        ("push", kind(connection.push(queue, vec![payload.clone()], Wait::Forever.into()).await)),
        ("claim", kind(connection.claim(queue, 1, Wait::Forever).await)),
        ("claim at once", kind(connection.claim(queue, 1, Wait::No).await)),
        ("extend", kind(connection.extend(queue, &receipt, KEPT).await)),
        (
            "settle",
            kind(
                connection.settle(queue, receipt, Settlement::Ack, SettleOptions::default()).await,
            ),
        ),
        ("stats", kind(connection.stats(queue).await)),
        ("peek", kind(connection.peek(queue, Shelf::Waiting, 1).await)),
        ("letters", kind(connection.letters(queue, 0, 1).await)),
        ("discard", kind(connection.discard(queue, Letters::Oldest(usize::MAX)).await)),
        ("purge", kind(connection.purge(queue, Shelf::Waiting).await)),
        ("redrive", kind(connection.redrive(queue, Letters::Oldest(1), queue).await)),
        ("shut_down", kind(connection.shut_down(queue).await)),
    ];
    if count {
        kinds.push(("count", kind(connection.count(&names).await)));
        kinds.push(("publish_counted", kind(connection.publish_counted(&names, payload).await)));
    }
    kinds
}

/// `close` ends what waits: subscriptions and inboxes end, operations fail with `Closed`.
pub async fn close_ends_what_waits(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    let empty = Arc::new(fresh_queue("empty"));
    let mut full = fresh_queue("full");
    full.maxsize = 1;
    let full = Arc::new(full);
    connection.push(&full, vec![numbered(0)], Wait::No.into()).await?;
    let addresses = ["inbox", "blocking"].map(|what| Address::new(fresh(what), Form::Inbox));
    let mut subscription = connection.subscribe(&[topic(&fresh("closed"))]).await?;
    let mut inbox = connection.open_inbox(&addresses[0]).await?;
    let mut blocking = connection.open_inbox(&addresses[1]).await?;
    let mut claim = connection.claim(&empty, 1, Wait::Forever);
    let mut push = connection.push(&full, vec![numbered(1)], Wait::Forever.into());
    assert!((&mut claim).now_or_never().is_none(), "there is nothing to claim");
    assert!((&mut push).now_or_never().is_none(), "there is no space");

    let waiting = async {
        let blocked = on_a_plain_thread(move || blocking.recv_blocking(None));
        tokio::join!(claim, push, subscription.recv(), inbox.recv(), blocked)
    };
    let ((claimed, pushed, event, letter, blocked), closed) =
        tokio::join!(waiting, connection.close());
    closed?;
    assert_eq!(kind(claimed), Some(ErrorKind::Closed));
    assert_eq!(kind(pushed), Some(ErrorKind::Closed));
    assert_eq!((event, letter, blocked?), (None, None, None));
    Ok(())
}
