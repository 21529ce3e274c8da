//! What becomes of those who are left when a process is killed, or stopped.

use std::process::Command;
use std::time::Duration;

use pymq::ErrorKind;
use tokio::time::timeout;

use crate::children::{item, read};
use crate::place::{Place, until};

#[tokio::test]
async fn two_processes_publish_queue_and_call_without_a_server() {
    let place = Place::new();
    let bus = place.bus().await;
    let server = place.child("server", 0);
    server.has_said("serving").await;
    assert_eq!(bus.stub::<_, i64>("sum").call((2, 3)).await.expect("a result"), 5);

    let subscriber = place.child("subscriber", 0);
    subscriber.has_said("subscribed").await;
    let received = bus.topic("news").publish(&"hello".to_owned()).await.expect("published");
    assert_eq!(received, Some(1));

    let producer = place.child("producer", 7);
    let first = bus.queue::<String>("items").get().await.expect("an item");
    assert_eq!(read(&first), (7, 0));
    drop(producer);
}

#[tokio::test]
async fn a_subscriber_that_is_killed_is_not_counted_any_more() {
    let place = Place::new();
    let bus = place.bus().await;
    let mut subscriber = place.child("subscriber", 0);
    subscriber.has_said("subscribed").await;
    let news = bus.topic::<&str>("news");
    assert_eq!(news.publish(&"hello").await.expect("published"), Some(1));
    subscriber.kill();
    assert_eq!(news.publish(&"hello").await.expect("published"), Some(0));
}

#[tokio::test]
async fn a_call_ends_when_its_provider_is_killed() {
    let place = Place::new();
    let bus = place.bus().await;
    let mut server = place.child("server", 0);
    server.has_said("serving").await;
    let called = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.stub::<_, i64>("endless").call(()).await })
    };
    server.has_said("called").await;
    server.kill();
    let ended = tokio::time::timeout(Duration::from_secs(180), called).await.expect("it ends");
    let error = ended.expect("no panic").expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::ProviderLost, "{error}");
}

#[tokio::test]
async fn a_call_to_all_names_those_who_are_killed_in_it() {
    let place = Place::new();
    let bus = place.bus().await;
    let mut servers = [place.child("server", 0), place.child("server", 1)];
    for server in &servers {
        server.has_said("serving").await;
    }
    let called = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.stub::<_, i64>("endless").call_all(()).await })
    };
    for server in &mut servers {
        server.has_said("called").await;
        server.kill();
    }
    let ended = tokio::time::timeout(Duration::from_secs(180), called).await.expect("it ends");
    let replies = ended.expect("no panic").expect("it was sent");
    let kinds: Vec<_> =
        replies.into_iter().map(|reply| reply.result.map_err(|e| e.kind())).collect();
    assert_eq!(kinds, [Err(ErrorKind::ProviderLost), Err(ErrorKind::ProviderLost)]);
    // Nobody is waited for who is gone for good.
    let nobody = bus.stub::<_, i64>("endless").call(()).await.expect_err("nobody is there");
    assert_eq!(nobody.kind(), ErrorKind::NoSuchRemote);
}

#[tokio::test]
async fn items_outlive_every_process_that_used_the_bus() {
    let place = Place::new();
    let mut producer = place.child("producer", 1);
    producer.has_said("put 1 99").await;
    let put = producer.kill().iter().filter(|line| line.starts_with("put ")).count();
    let bus = place.bus().await;
    let queue = bus.queue::<String>("items");
    for number in 0..put {
        assert_eq!(read(&queue.get().await.expect("an item")), (1, number));
    }
}

#[tokio::test]
async fn what_a_dead_consumer_held_comes_back_to_the_head_and_counted() {
    let place = Place::new();
    let bus = place.bus().await;
    let queue = bus.queue::<String>("held");
    queue.put_many(&[item(0, 0), item(0, 1), item(0, 2)]).await.expect("put");
    let mut holder = place.child("holder", 0);
    holder.has_said("holding").await;
    assert_eq!(queue.stats().await.expect("stats").leased, 2);
    holder.kill();
    until("the death to be noticed", async || {
        queue.stats().await.is_ok_and(|stats| stats.leased == 0)
    })
    .await;
    for (number, deliveries) in [(0, 2), (1, 2), (2, 1)] {
        let delivery = queue.claim().await.expect("an item");
        assert_eq!((read(&delivery), delivery.deliveries()), ((0, number), deliveries));
        delivery.ack().await.expect("acknowledged");
    }
}

#[tokio::test]
async fn what_a_stopped_consumer_held_comes_back_when_its_lease_is_over_and_it_is_told() {
    let place = Place::new();
    let bus = place.bus().await;
    let queue = bus.queue::<String>("held");
    queue.put(&item(0, 0)).await.expect("put");
    let sleeper = place.child("sleeper", 0);
    sleeper.has_said("holding").await;
    let signal = |which: &str| {
        let sent = Command::new("kill").args([which, &sleeper.process.id().to_string()]).status();
        assert!(sent.expect("kill can be run").success());
    };
    // Stopped with the lock it would hold up everybody, who wait for as long as they are willing to.
    loop {
        signal("-STOP");
        if timeout(Duration::from_secs(1), queue.stats()).await.is_ok_and(|counted| counted.is_ok())
        {
            break;
        }
        signal("-CONT");
    }
    let delivery = queue.claim().await.expect("an item");
    assert_eq!((read(&delivery), delivery.deliveries()), ((0, 0), 2));
    delivery.ack().await.expect("it is ours now");
    signal("-CONT");
    sleeper.has_said("late LeaseLost").await;
}
