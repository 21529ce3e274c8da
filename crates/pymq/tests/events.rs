//! Events as users see them, on every transport.

use futures_util::StreamExt;
use place::Place;
use pymq::{ErrorKind, Event, Filter};
use serde::{Deserialize, Serialize};

mod place;

everywhere!(
    an_event_reaches_its_subscribers,
    a_pattern_gives_the_topic_with_the_event,
    an_unsubscribed_stream_is_gone_at_the_broker,
    an_event_of_another_shape_is_an_error_and_the_stream_goes_on,
    a_subscriber_that_is_too_slow_is_told,
    a_closed_bus_ends_its_streams,
    several_topics_and_patterns_are_one_stream,
    a_drained_bus_ends_its_streams_when_what_had_arrived_is_read,
    what_is_posted_keeps_its_place_among_what_is_published,
    a_bus_that_closes_sends_what_was_posted,
    what_can_be_known_at_once_is_an_error_of_a_post_too,
    another_process_is_heard_where_the_capabilities_say_so_and_nowhere_else,
);

/// Where a child of these tests finds the address that it publishes to.
const ADDRESS: &str = "PYMQ_TEST_PUBLISH_TO";

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
    let [publisher, subscriber] = place.buses().await;
    let mut all = subscriber.pattern::<Placed>("shop.*").await.expect("subscribed");
    publisher.topic("other").publish(&1).await.expect("published");
    publisher.publish(&Placed { id: 4 }).await.expect("published");
    let (topic, event) = all.next().await.expect("open").expect("an event");
    assert_eq!((topic.as_str(), event), ("shop.Placed", Placed { id: 4 }));
}

async fn an_unsubscribed_stream_is_gone_at_the_broker(place: &Place) {
    let [publisher, subscriber] = place.buses().await;
    let events = subscriber.subscribe::<Placed>().await.expect("subscribed");
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
    let [publisher, subscriber] = place.buses().await;
    let mut events = subscriber.subscribe::<Placed>().await.expect("subscribed");
    for id in 0..MANY {
        publisher.post(&Placed { id }).await.expect("posted");
    }
    publisher.ping().await.expect("all are sent");
    // What is still on its way can fill the mailbox again, which is told again.
    let mut missed = 0;
    let next = loop {
        match events.next().await.expect("open") {
            Ok(next) => break next,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Lagged);
                missed += error.missed().expect("a slow subscriber is told how many");
            }
        }
    };
    assert!(missed > 0, "more than a mailbox holds");
    assert_eq!(next.id, missed);
}

async fn a_closed_bus_ends_its_streams(place: &Place) {
    let bus = place.bus().await;
    let mut events = bus.subscribe::<Placed>().await.expect("subscribed");
    bus.close().await.expect("closed");
    assert!(events.next().await.is_none());
    assert_eq!(bus.publish(&Placed { id: 1 }).await.expect_err("closed").kind(), ErrorKind::Closed);
    bus.close().await.expect("closing again does nothing");
}

async fn several_topics_and_patterns_are_one_stream(place: &Place) {
    let [publisher, subscriber] = place.buses().await;
    let filters = [Filter::Topic("till".to_owned()), Filter::Pattern("shop.*".to_owned())];
    let mut both = subscriber.subscribe_to::<u32>(&filters).await.expect("subscribed");
    for (topic, amount) in [("other", 1), ("till", 2), ("shop.north", 3)] {
        publisher.topic(topic).publish(&amount).await.expect("published");
    }
    let mut seen = vec![
        both.next().await.expect("open").expect("an event"),
        both.next().await.expect("open").expect("an event"),
    ];
    seen.sort();
    assert_eq!(seen, [("shop.north".to_owned(), 3), ("till".to_owned(), 2)]);
    both.unsubscribe().await.expect("unsubscribed");
    assert_eq!(publisher.topic("till").publish(&4).await.expect("published"), Some(0));
    let error = subscriber.subscribe_to::<u32>(&[]).await.expect_err("nothing to subscribe to");
    assert_eq!(error.kind(), ErrorKind::Config);
}

async fn a_drained_bus_ends_its_streams_when_what_had_arrived_is_read(place: &Place) {
    let [publisher, subscriber] = place.buses().await;
    let mut events = subscriber.subscribe::<Placed>().await.expect("subscribed");
    let mut fence = subscriber.topic::<u32>("fence").subscribe().await.expect("subscribed");
    for id in 0..3 {
        publisher.publish(&Placed { id }).await.expect("published");
    }
    publisher.topic("fence").publish(&0).await.expect("published");
    fence.next().await.expect("open").expect("so the others have arrived too");
    subscriber.drain().await.expect("drained");
    assert_eq!(publisher.publish(&Placed { id: 9 }).await.expect("published"), Some(0));
    for id in 0..3 {
        assert_eq!(events.next().await.expect("not yet").expect("an event"), Placed { id });
    }
    assert!(events.next().await.is_none());
    subscriber.drain().await.expect("draining again does nothing");
}

async fn what_is_posted_keeps_its_place_among_what_is_published(place: &Place) {
    let [publisher, subscriber] = place.buses().await;
    let mut events = subscriber.subscribe::<Placed>().await.expect("subscribed");
    for id in 0..300 {
        match id % 3 {
            0 => drop(publisher.publish(&Placed { id }).await.expect("published")),
            _ => publisher.post(&Placed { id }).await.expect("posted"),
        }
    }
    for id in 0..300 {
        assert_eq!(events.next().await.expect("open").expect("an event"), Placed { id });
    }
    assert_eq!(publisher.health().lost_posts, 0);
}

async fn a_bus_that_closes_sends_what_was_posted(place: &Place) {
    let [publisher, subscriber] = place.buses().await;
    let mut events = subscriber.topic::<Vec<u64>>("numbers").subscribe().await.expect("subscribed");
    let topic = publisher.topic("numbers");
    // More than a socket takes at once.
    let many = 2_000;
    for id in 0..many {
        topic.post(&vec![id; 1_000]).await.expect("posted");
    }
    publisher.close().await.expect("closed");
    for id in 0..many {
        assert_eq!(events.next().await.expect("open").expect("an event")[0], id);
    }
    assert_eq!(publisher.health().lost_posts, 0);
}

async fn what_can_be_known_at_once_is_an_error_of_a_post_too(place: &Place) {
    let bus = place.bus().await;
    let error = bus.topic("t".repeat(1 << 20)).post(&1).await.expect_err("no name");
    assert_eq!(error.kind(), ErrorKind::Config);
    let error = bus.topic("t").post(&"x".repeat(17 << 20)).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Encode);
    bus.close().await.expect("closed");
    let error = bus.topic("t").post(&1).await.expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

async fn another_process_is_heard_where_the_capabilities_say_so_and_nowhere_else(place: &Place) {
    let bus = place.bus().await;
    let topic = bus.topic::<u32>("news");
    let mut news = topic.subscribe().await.expect("subscribed");
    let mut child = tokio::process::Command::new(std::env::current_exe().expect("this test"));
    let child = child.args(["--exact", "a_child_publishes"]).env(ADDRESS, place.url());
    let ended = child.stdout(std::process::Stdio::null()).status().await.expect("it began");
    assert!(ended.success(), "{ended}");
    topic.publish(&1).await.expect("published");
    let first = news.recv().await.expect("open").expect("an event");
    assert_eq!(first, u32::from(!bus.capabilities().cross_process));
}

/// The other process; a test of its own where no test has begun it.
#[tokio::test]
async fn a_child_publishes() {
    let address = std::env::var(ADDRESS).unwrap_or_else(|_| "memory://".to_owned());
    let bus = pymq::Bus::connect(&address).await.expect("the broker is there");
    bus.topic("news").publish(&0).await.expect("published");
    bus.close().await.expect("closed");
}
