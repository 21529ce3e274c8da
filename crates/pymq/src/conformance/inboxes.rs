//! Rules of [`Inboxes`](crate::transport::Inboxes).

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Broker, fresh, kind, numbered, on_a_plain_thread, until};
use crate::error::{ErrorKind, Result};
use crate::name::{Address, Form};
use crate::transport::{Arrival, Inbox};

/// Long enough to be there when it is looked for.
const KEPT: Duration = Duration::from_secs(300);

fn address(what: &str, form: Form) -> Address {
    Address::new(fresh(what), form)
}

/// The payload that comes next; anything else that arrives breaks the rule.
async fn payload(inbox: &mut Inbox) -> Bytes {
    match inbox.recv().await {
        Some(Arrival::Message(payload)) => payload,
        other => panic!("expected a message, but there came {other:?}"),
    }
}

/// What is sent to an address arrives there, in order, and nowhere else.
pub async fn inbox_receives_what_is_sent(broker: &impl Broker) -> Result<()> {
    let (reader, sender) = (broker.connect().await?, broker.connect().await?);
    let (here, there) = (address("here", Form::Inbox), address("there", Form::Inbox));
    let mut inbox = reader.open_inbox(&here).await?;
    let mut other = reader.open_inbox(&there).await?;
    for number in 0..100 {
        let received = sender.send(&here, numbered(number), KEPT).await?;
        assert!(received, "the reader is there");
    }
    assert!(sender.send(&there, Bytes::from_static(b"there"), KEPT).await?);
    for number in 0..100 {
        assert_eq!(payload(&mut inbox).await, numbered(number));
    }
    assert_eq!(payload(&mut other).await, "there");
    Ok(())
}

/// If the reader is away the message is kept, and nobody is said to have received it.
pub async fn inbox_keeps_messages_while_its_reader_is_away(broker: &impl Broker) -> Result<()> {
    let (reader, sender) = (broker.connect().await?, broker.connect().await?);
    let here = address("away", Form::Inbox);
    assert!(!sender.send(&here, numbered(1), KEPT).await?);
    assert!(!sender.send(&here, numbered(2), KEPT).await?);
    let mut inbox = reader.open_inbox(&here).await?;
    assert_eq!(payload(&mut inbox).await, numbered(1));
    assert_eq!(payload(&mut inbox).await, numbered(2));
    drop(inbox);
    until(async || Ok(!sender.send(&here, numbered(3), KEPT).await?)).await?;
    assert!(!sender.send(&here, numbered(4), KEPT).await?);
    let mut inbox = reader.open_inbox(&here).await?;
    assert_eq!(payload(&mut inbox).await, numbered(3));
    assert_eq!(payload(&mut inbox).await, numbered(4));
    Ok(())
}

/// What is kept for a reader that does not come is kept for its time, and then no longer.
pub async fn what_an_inbox_keeps_expires(broker: &impl Broker) -> Result<()> {
    let (reader, sender) = (broker.connect().await?, broker.connect().await?);
    let addresses = [address("expires", Form::Inbox), address("expires", Form::List)];
    for here in &addresses {
        sender.send(here, Bytes::from_static(b"expired"), Duration::from_secs(1)).await?;
    }
    // The passing of time is the thing to wait for; a transport may count in whole seconds.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    for here in &addresses {
        sender.send(here, Bytes::from_static(b"fresh"), KEPT).await?;
        let mut inbox = reader.open_inbox(here).await?;
        assert_eq!(payload(&mut inbox).await, "fresh");
    }
    Ok(())
}

/// `recv_blocking` waits on the calling thread, which need not know a runtime, up to its deadline.
pub async fn inbox_waits_on_a_plain_thread(broker: &impl Broker) -> Result<()> {
    let (reader, sender) = (broker.connect().await?, broker.connect().await?);
    let here = address("blocking", Form::Inbox);
    let mut inbox = reader.open_inbox(&here).await?;
    let (mut inbox, late) = on_a_plain_thread(move || {
        let late = inbox.recv_blocking(Some(Instant::now() + Duration::from_millis(20)));
        (inbox, late)
    })
    .await;
    assert_eq!(kind(late), Some(ErrorKind::Timeout));
    let waiting = on_a_plain_thread(move || inbox.recv_blocking(None));
    let sending = sender.send(&here, Bytes::from_static(b"for a thread"), KEPT);
    let (arrived, sent) = tokio::join!(waiting, sending);
    assert!(sent?);
    assert_eq!(arrived?, Some(Arrival::Message(Bytes::from_static(b"for a thread"))));
    Ok(())
}

/// A list keeps what is sent to it before anybody has read it, and passes on what comes later.
pub async fn a_list_address_keeps_replies_from_the_start(broker: &impl Broker) -> Result<()> {
    let (reader, sender) = (broker.connect().await?, broker.connect().await?);
    let here = address("list", Form::List);
    assert!(!sender.send(&here, numbered(1), KEPT).await?);
    assert!(!sender.send(&here, numbered(2), KEPT).await?);
    let mut inbox = reader.open_inbox(&here).await?;
    for number in 1..=2 {
        assert_eq!(payload(&mut inbox).await, numbered(number));
    }
    sender.send(&here, numbered(3), KEPT).await?;
    assert_eq!(payload(&mut inbox).await, numbered(3));
    Ok(())
}
