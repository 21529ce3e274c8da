//! What travels beside a value: it arrives with it, and is never taken for a part of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use place::Place;
use pymq::wire::{LARGEST_METADATA, Metadata};
use pymq::{ErrorKind, Event, PutOptions, Shelf, Wait};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

mod place;

everywhere!(
    what_a_publisher_says_arrives_with_each_event_and_not_in_it,
    a_pattern_subscriber_learns_topic_and_headers,
    what_a_producer_says_comes_with_each_delivery_of_an_item,
    what_was_said_stays_with_a_dead_letter_that_nobody_can_read,
    whoever_says_nothing_sends_not_a_byte_more,
    too_much_is_refused_by_every_door,
    a_map_of_a_users_own_is_no_metadata,
);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sold {
    item: String,
}

impl Event for Sold {
    const TOPIC: &'static str = "shop.Sold";
}

fn said() -> Metadata {
    Metadata::default().header("tenant", "north").passed("trace", "7f3a").id("order-17")
}

/// Everything but the time, which is the sender's own.
fn check(metadata: &Metadata) {
    assert_eq!((metadata.get("tenant"), metadata.get("trace")), (Some("north"), Some("7f3a")));
    assert_eq!(metadata.identity(), Some("order-17"));
    let sent = metadata.sent().expect("it says when it was sent");
    assert!(sent <= SystemTime::now() && sent > SystemTime::now() - Duration::from_secs(600));
}

fn values() -> [Value; 9] {
    [
        json!(null),
        json!(true),
        json!(-7),
        json!(1.5),
        json!("text"),
        json!([1, [2, null]]),
        json!({}),
        json!({"a": {"__type": "dict"}}),
        json!({"__type": "int", "__obj": 3, "__meta": {"headers": {"a": "b"}}}),
    ]
}

async fn what_a_publisher_says_arrives_with_each_event_and_not_in_it(place: &Place) {
    let [sender, receiver] = place.buses().await;
    let mut any = receiver.topic::<Value>("any").subscribe().await.expect("subscribed");
    let topic = sender.topic::<Value>("any").metadata(said());
    for value in values() {
        for _ in 0..2 {
            topic.publish(&value).await.expect("published");
        }
        assert_eq!(any.recv().await.expect("open").expect("read"), value);
        let message = any.recv_message().await.expect("open").expect("read");
        assert_eq!((message.value, message.topic.as_str()), (value, "any"));
        check(&message.metadata);
    }
    let mut sold = receiver.subscribe::<Sold>().await.expect("subscribed");
    let event = Sold { item: "tea".to_owned() };
    sender.topic(Sold::TOPIC).metadata(said()).publish(&event).await.expect("published");
    assert_eq!(sold.recv().await.expect("open").expect("read"), event);
}

async fn a_pattern_subscriber_learns_topic_and_headers(place: &Place) {
    let [sender, receiver] = place.buses().await;
    let mut sales = receiver.pattern::<u32>("shop.*").await.expect("subscribed");
    sender.topic("shop.till").metadata(said()).publish(&3).await.expect("published");
    sender.topic("shop.web").publish(&4).await.expect("published");
    let first = sales.recv_message().await.expect("open").expect("read");
    assert_eq!((first.topic.as_str(), first.value), ("shop.till", 3));
    check(&first.metadata);
    let second = sales.recv_message().await.expect("open").expect("read");
    assert_eq!((second.topic.as_str(), second.metadata), ("shop.web", Metadata::default()));
}

async fn what_a_producer_says_comes_with_each_delivery_of_an_item(place: &Place) {
    let [sender, receiver] = place.buses().await;
    let jobs = receiver.queue::<Value>("jobs");
    let told = sender.queue::<Value>("jobs").metadata(said()).maxsize(100);
    for value in values() {
        told.put(&value).await.expect("put");
        assert_eq!(
            jobs.peek(Shelf::Waiting, 1).await.expect("looked").remove(0).expect("read"),
            value
        );
        let delivery = jobs.claim().await.expect("claimed");
        assert_eq!((delivery.item(), delivery.deliveries()), (&value, 1));
        assert_eq!(delivery.queue(), "jobs");
        check(delivery.metadata());
        delivery.requeue().await.expect("given back");
        let delivery = jobs.claim().await.expect("claimed");
        assert_eq!(delivery.deliveries(), 2);
        check(delivery.metadata());
        delivery.ack().await.expect("done");
    }
    told.put_many(&values()).await.expect("put");
    assert_eq!(jobs.get_many(100, Wait::Forever).await.expect("taken"), values());
    if !sender.capabilities().put_options {
        return;
    }
    let later = PutOptions::new().delay(Duration::from_millis(1));
    told.put_with(&json!("later"), later).await.expect("put");
    let late = jobs.claim().await.expect("claimed");
    check(late.metadata());
    late.ack().await.expect("done");
}

async fn what_was_said_stays_with_a_dead_letter_that_nobody_can_read(place: &Place) {
    let bus = place.bus().await;
    let texts = bus.queue::<String>("texts").metadata(said());
    texts.put(&"tea".to_owned()).await.expect("put");
    texts.claim().await.expect("claimed").reject().await.expect("given up");
    let numbers = bus.queue::<u32>("texts");
    let letters = numbers.dead_letters().read(0, 10).await.expect("read");
    assert!(letters[0].item().is_err());
    check(letters[0].metadata());
    let letters = texts.dead_letters().read(0, 10).await.expect("read");
    assert_eq!(letters[0].item().ok().map(String::as_str), Some("tea"));
    check(letters[0].metadata());
    assert_eq!(texts.redrive(10).await.expect("moved"), 1);
    let again = texts.claim().await.expect("claimed");
    check(again.metadata());
    again.ack().await.expect("done");
}

async fn whoever_says_nothing_sends_not_a_byte_more(place: &Place) {
    let bus = place.bus().await;
    bus.queue("q").metadata(Metadata::default()).put(&json!([1])).await.expect("put");
    let delivery = bus.byte_queue("q").claim(Wait::No).await.expect("claimed").expect("one");
    assert_eq!(&delivery.payload()[..], b"[1]");
    delivery.ack_soon();
}

async fn too_much_is_refused_by_every_door(place: &Place) {
    let bus = place.bus().await;
    let much = || Metadata::default().header("a", "x".repeat(LARGEST_METADATA));
    let refused = [
        bus.topic("t").metadata(much()).publish(&1).await.expect_err("too much"),
        bus.queue("q").metadata(much()).put(&1).await.expect_err("too much"),
        bus.stub::<(), ()>("f").metadata(much()).call(()).await.expect_err("too much"),
    ];
    for error in refused {
        assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    }
    let large = Value::from("x".repeat((16 << 20) - 100));
    let topic = bus.topic("t").metadata(said());
    let error = topic.publish(&large).await.expect_err("too large with it");
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
    let error = bus.queue("q").metadata(said()).put(&large).await.expect_err("too large with it");
    assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
}

async fn a_map_of_a_users_own_is_no_metadata(place: &Place) {
    let bus = place.bus().await;
    let mut maps = bus.pattern::<BTreeMap<String, Value>>("m*").await.expect("subscribed");
    for map in [
        json!({"__meta": {"headers": {"a": "b"}}}),
        json!({"__meta": {"headers": {"a": "b"}}, "__type": "int", "x": 1}),
    ] {
        bus.topic("m").publish(&map).await.expect("published");
        let message = maps.recv_message().await.expect("open").expect("read");
        assert_eq!(json!(message.value), map);
        assert_eq!(message.metadata, Metadata::default());
    }
}
