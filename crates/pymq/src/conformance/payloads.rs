//! Rules of names and payloads, whichever way they go.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Broker, fresh, fresh_queue, message, take_one, topic};
use crate::error::Result;
use crate::name::{Address, Form, Id, Namespace};
use crate::transport::{Arrival, Filter, QueueSpec, Settlement, Transport, Wait};

const KEPT: Duration = Duration::from_secs(300);

/// A payload comes out as it went in, whatever its bytes are.
pub async fn payload_is_opaque(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let (name, queue) = (fresh("opaque"), Arc::new(fresh_queue("opaque")));
    let mut subscription = one.subscribe(&[topic(&name)]).await?;
    let addresses = [Form::Inbox, Form::List].map(|form| Address::new(fresh("opaque"), form));
    let mut inboxes = [one.open_inbox(&addresses[0]).await?, one.open_inbox(&addresses[1]).await?];
    for payload in payloads() {
        other.publish(&name, payload.clone()).await?;
        assert!(message(&mut subscription).await.payload == payload, "event");
        for (address, inbox) in addresses.iter().zip(&mut inboxes) {
            other.send(address, payload.clone(), KEPT).await?;
            let arrival = inbox.recv().await;
            assert!(arrival == Some(Arrival::Message(payload.clone())), "{:?}", address.form());
        }
        other.push(&queue, vec![payload.clone()], Wait::No.into()).await?;
        for how in [Settlement::Requeue, Settlement::Return, Settlement::Ack] {
            assert!(take_one(&one, &queue, how).await?.0 == payload, "item");
        }
    }
    Ok(())
}

fn payloads() -> Vec<Bytes> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let mebibyte: Vec<u8> = every_byte.iter().copied().cycle().take(1 << 20).collect();
    vec![
        Bytes::new(),
        Bytes::from_static(b"\0"),
        Bytes::from_static(b"{\"json\": true}"),
        Bytes::from_static(b"\r\n$5\r\nhello\r\n"),
        Bytes::from_static(b"\xff\xfe not UTF-8 \xc3"),
        Bytes::from(every_byte),
        Bytes::from(mebibyte),
    ]
}

/// Every name works that is UTF-8 and not empty; 60 KiB are tried.
pub async fn any_utf8_name_works(broker: &impl Broker) -> Result<()> {
    let (one, other) = (broker.connect().await?, broker.connect().await?);
    let space = Namespace::new("conformance {with} *odd* [characters]\r\n");
    let long = "x".repeat(60 << 10);
    for odd in [
        " ",
        "with spaces ",
        "line\r\nbreak",
        "\0nul\0",
        "globs*?[a-z]\\",
        "[^",
        "{braces}",
        "}{",
        "%s $1 'quoted' \"twice\"",
        "\u{1f980} \u{e9}\u{301}",
        ":::",
        &long,
    ] {
        // The odd characters both at the end and not.
        for name in [format!("{} {odd}", Id::random()), format!("{odd}{}", Id::random())] {
            carries(&one, &other, &space, &name).await?;
        }
    }
    Ok(())
}

/// Uses one name for everything that has a name.
async fn carries(
    one: &Arc<dyn Transport>,
    other: &Arc<dyn Transport>,
    space: &Namespace,
    name: &str,
) -> Result<()> {
    let payload = Bytes::from_static(b"payload");
    let whole = space.whole(name);
    let literal: String = name.chars().flat_map(escaped).collect();
    let pattern = space.whole_pattern(&literal);
    let filters = [Filter::Topic(whole.clone()), Filter::Pattern(pattern.clone())];
    let mut subscription = one.subscribe(&filters).await?;
    other.publish(&whole, payload.clone()).await?;
    let mut patterns = Vec::new();
    for _ in 0..2 {
        let arrived = message(&mut subscription).await;
        assert_eq!((&*arrived.topic, &arrived.payload), (&*whole, &payload));
        patterns.push(arrived.pattern.map(|pattern| pattern.to_string()));
    }
    patterns.sort();
    assert_eq!(patterns, [None, Some(pattern)]);

    let queue = Arc::new(QueueSpec::new(whole));
    other.push(&queue, vec![payload.clone()], Wait::No.into()).await?;
    for (how, deliveries) in [(Settlement::Requeue, 1), (Settlement::Ack, 2)] {
        assert_eq!(take_one(one, &queue, how).await?, (payload.clone(), deliveries));
    }
    for form in [Form::Inbox, Form::List] {
        let address = Address::new(space.whole(&format!("{form:?} {name}")), form);
        other.send(&address, payload.clone(), KEPT).await?;
        let mut inbox = one.open_inbox(&address).await?;
        assert_eq!(inbox.recv().await, Some(Arrival::Message(payload.clone())));
    }
    Ok(())
}

/// A character as a pattern has it literally.
fn escaped(character: char) -> impl Iterator<Item = char> {
    let escape = matches!(character, '*' | '?' | '[' | '\\').then_some('\\');
    escape.into_iter().chain([character])
}
