//! Events as users see them, on every transport.

use futures_util::StreamExt;
use place::Place;
use pymq::{ErrorKind, Event};
use serde::{Deserialize, Serialize};

mod place;

everywhere!(
    an_event_reaches_its_subscribers,
    a_pattern_gives_the_topic_with_the_event,
    an_unsubscribed_stream_is_gone_at_the_broker,
    an_event_of_another_shape_is_an_error_and_the_stream_goes_on,
    a_subscriber_that_is_too_slow_is_told,
    a_closed_bus_ends_its_streams,
);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Placed {
    id: u64,
}

impl Event for Placed {
    const TOPIC: &'static str = "shop.Placed";
}

async fn an_event_reaches_its_subscribers(place: &Place) {
    let [publisher, one, two] = place.buses().await;
    let mut first = one.subscribe::<Placed>().await.expect("subscribed");
    let mut second = two.subscribe::<Placed>().await.expect("subscribed");
    let receivers = publisher.publish(&Placed { id: 3 }).await.expect("published");
    assert_eq!(receivers, Some(2));
    assert_eq!(first.next().await.expect("open").expect("an event"), Placed { id: 3 });
    assert_eq!(second.next().await.expect("open").expect("an event"), Placed { id: 3 });
}

async fn a_pattern_gives_the_topic_with_the_event(place: &Place) {
    let [publisher, listener] = place.buses().await;
    let mut all = listener.pattern::<Placed>("shop.*").await.expect("subscribed");
    publisher.topic("other").publish(&1).await.expect("published");
    publisher.publish(&Placed { id: 4 }).await.expect("published");
    let (topic, event) = all.next().await.expect("open").expect("an event");
    assert_eq!((topic.as_str(), event), ("shop.Placed", Placed { id: 4 }));
}

async fn an_unsubscribed_stream_is_gone_at_the_broker(place: &Place) {
    let [publisher, listener] = place.buses().await;
    let events = listener.subscribe::<Placed>().await.expect("subscribed");
    events.unsubscribe().await.expect("unsubscribed");
    assert_eq!(publisher.publish(&Placed { id: 1 }).await.expect("published"), Some(0));
}

async fn an_event_of_another_shape_is_an_error_and_the_stream_goes_on(place: &Place) {
    let bus = place.bus().await;
    let mut events = bus.subscribe::<Placed>().await.expect("subscribed");
    for junk in ["\"text\"", "{", "", "{\"id\": -1}"] {
        let payload = bytes::Bytes::from(junk);
        bus.publish_bytes(Placed::TOPIC, payload).await.expect("published");
        let error = events.next().await.expect("open").expect_err("junk");
        assert_eq!(error.kind(), ErrorKind::Decode, "{junk}");
    }
    bus.publish(&Placed { id: 5 }).await.expect("published");
    assert_eq!(events.next().await.expect("open").expect("an event"), Placed { id: 5 });
}

async fn a_subscriber_that_is_too_slow_is_told(place: &Place) {
    const MANY: u64 = 70_000;
    let [publisher, listener] = place.buses().await;
    let mut events = listener.subscribe::<Placed>().await.expect("subscribed");
    for id in 0..MANY {
        publisher.publish(&Placed { id }).await.expect("published");
    }
    let error = events.next().await.expect("open").expect_err("more than a mailbox holds");
    assert_eq!(error.kind(), ErrorKind::Lagged);
    let next = events.next().await.expect("open").expect("the stream goes on");
    assert!(next.id > 0 && next.id < MANY);
}

async fn a_closed_bus_ends_its_streams(place: &Place) {
    let bus = place.bus().await;
    let mut events = bus.subscribe::<Placed>().await.expect("subscribed");
    bus.close().await.expect("closed");
    assert!(events.next().await.is_none());
    assert_eq!(bus.publish(&Placed { id: 1 }).await.expect_err("closed").kind(), ErrorKind::Closed);
    bus.close().await.expect("closing again does nothing");
}
