//! Rules of patterns among [`Events`](crate::transport::Events).

use bytes::Bytes;

use super::{Broker, fresh, message, topic};
use crate::error::Result;
use crate::transport::{Filter, Subscription, Transport};

/// Pattern, text, and whether they match: what Redis's `PSUBSCRIBE` does with them.
const GLOBS: [(&str, &str, bool); 38] = [
    ("*", "", true),
    ("*", "anything at all", true),
    ("**", "anything", true),
    ("", "", true),
    ("", "a", false),
    ("a", "a", true),
    ("a", "A", false),
    ("a", "ab", false),
    ("shop.*", "shop.OrderPlaced", true),
    ("shop.*", "shop.", true),
    ("shop.*", "shop", false),
    ("*.OrderPlaced", "shop.OrderPlaced", true),
    ("*.*", "a.b", true),
    ("*.*", "ab", false),
    ("a*b*c", "aXbYbZc", true),
    ("a*b*c", "aXcYb", false),
    ("a*", "line\nbreak", false),
    ("*break", "line\r\nbreak", true),
    ("h?llo", "hello", true),
    ("h?llo", "hllo", false),
    ("h??", "h\u{e9}", true),
    ("h?", "h\u{e9}", false),
    ("h[ae]llo", "hallo", true),
    ("h[ae]llo", "hillo", false),
    ("h[^e]llo", "hallo", true),
    ("h[^e]llo", "hello", false),
    ("h[a-c]llo", "hbllo", true),
    ("h[a-c]llo", "hdllo", false),
    ("h[c-a]llo", "hbllo", true),
    ("h[\\]]llo", "h]llo", true),
    ("\\*", "*", true),
    ("\\*", "x", false),
    ("a\\?b", "a?b", true),
    ("a\\?b", "axb", false),
    ("a\\", "a\\", true),
    ("{a,b}", "a", false),
    ("{a,b}", "{a,b}", true),
    ("[abc", "b", true),
];

/// Patterns are globs by Redis's rules, byte for byte.
pub async fn patterns_follow_redis_globs(broker: &impl Broker) -> Result<()> {
    let connection = broker.connect().await?;
    for (glob, text, expected) in GLOBS {
        let begin = fresh("globs");
        let (pattern, name) = (format!("{begin}{glob}"), format!("{begin}{text}"));
        let caught = catches(&*connection, &pattern, &name).await?;
        assert_eq!(caught, expected, "{glob:?} against {text:?}");
    }
    Ok(())
}

/// Whether a subscription to `pattern` receives what is published to `name`.
///
/// The exact subscription beside it shows when to stop waiting for the pattern's copy of the first
/// message: all of it precedes the second, since one topic's messages keep their order.
async fn catches(connection: &dyn Transport, pattern: &str, name: &str) -> Result<bool> {
    let filters = [topic(name), Filter::Pattern(pattern.to_owned())];
    let mut subscription = connection.subscribe(&filters).await?;
    connection.publish(name, Bytes::from_static(b"first")).await?;
    connection.publish(name, Bytes::from_static(b"second")).await?;
    let mut caught = false;
    loop {
        let arrived = message(&mut subscription).await;
        assert_eq!(&*arrived.topic, name);
        match arrived.pattern.as_deref() {
            Some(by) => {
                assert_eq!(by, pattern);
                caught |= arrived.payload == "first";
            }
            None if arrived.payload == "second" => return Ok(caught),
            None => {}
        }
    }
}

/// A subscription gets a message once for every filter that matches, told apart by the pattern.
pub async fn exact_and_pattern_both_deliver(broker: &impl Broker) -> Result<()> {
    let (subscriber, publisher) = (broker.connect().await?, broker.connect().await?);
    let name = fresh("both");
    let (all, some) = (format!("{name}*"), format!("{name}?"));
    let whole = format!("{name}x");
    let filters = [topic(&whole), Filter::Pattern(all.clone()), Filter::Pattern(some.clone())];
    let mut subscription = subscriber.subscribe(&filters).await?;
    // Another subscription of the same connection shares nothing with it.
    let mut other = subscriber.subscribe(&[Filter::Pattern(all.clone())]).await?;
    publisher.publish(&whole, Bytes::from_static(b"event")).await?;
    let mut patterns = caught_by(&mut subscription, 3).await;
    patterns.sort();
    assert_eq!(patterns, [None, Some(all.clone()), Some(some)]);
    assert_eq!(caught_by(&mut other, 1).await, [Some(all)]);
    publisher.publish(&name, Bytes::from_static(b"by one only")).await?;
    assert_eq!(message(&mut subscription).await.payload, "by one only");
    assert_eq!(message(&mut other).await.payload, "by one only");
    Ok(())
}

async fn caught_by(subscription: &mut Subscription, count: usize) -> Vec<Option<String>> {
    let mut patterns = Vec::new();
    for _ in 0..count {
        let arrived = message(subscription).await;
        assert_eq!(arrived.payload, "event");
        patterns.push(arrived.pattern.map(|pattern| pattern.to_string()));
    }
    patterns
}
