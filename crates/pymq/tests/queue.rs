//! Queues as users see them, on every transport.

use std::time::Duration;

use place::Place;
use pymq::ErrorKind;
use pymq::transport::Shelf;

mod place;

everywhere!(
    what_is_put_is_got_in_order,
    a_get_without_an_item_waits_for_one,
    a_dropped_delivery_comes_back_first_and_counted,
    a_delivery_is_dropped_on_a_thread_without_a_runtime,
    a_confirmed_item_is_gone,
    join_waits_until_all_is_done,
    an_item_of_another_type_becomes_a_dead_letter,
    a_full_queue_says_so_and_makes_room,
    a_queue_that_is_shut_down_says_so,
    got_items_do_not_come_back,
);

async fn what_is_put_is_got_in_order(place: &Place) {
    let [putter, getter] = places(place).await;
    for number in 0..100 {
        putter.put(&number).await.expect("put");
    }
    for number in 0..100 {
        assert_eq!(getter.get().await.expect("got"), number);
    }
    assert_eq!(getter.try_get().await.expect("empty"), None);
}

async fn a_get_without_an_item_waits_for_one(place: &Place) {
    let [putter, getter] = places(place).await;
    assert_eq!(getter.get_timeout(Duration::from_millis(20)).await.expect("no error"), None);
    let waiting = tokio::spawn(async move { getter.get().await });
    putter.put(&7).await.expect("put");
    assert_eq!(waiting.await.expect("no panic").expect("got"), 7);
}

async fn a_dropped_delivery_comes_back_first_and_counted(place: &Place) {
    let [putter, getter] = places(place).await;
    putter.put(&1).await.expect("put");
    putter.put(&2).await.expect("put");
    let delivery = getter.claim().await.expect("claimed");
    assert_eq!((*delivery, delivery.deliveries()), (1, 1));
    delivery.requeue().await.expect("given back");
    let delivery = getter.claim().await.expect("claimed");
    assert_eq!((*delivery, delivery.deliveries()), (1, 2));
    drop(delivery);
    // A drop does not wait for the broker, so the next item may overtake this one time.
    let mut rest = vec![getter.get().await.expect("got"), getter.get().await.expect("got")];
    rest.sort_unstable();
    assert_eq!(rest, [1, 2]);
}

async fn a_delivery_is_dropped_on_a_thread_without_a_runtime(place: &Place) {
    let [putter, getter] = places(place).await;
    putter.put(&1).await.expect("put");
    let delivery = getter.claim().await.expect("claimed");
    std::thread::spawn(move || drop(delivery)).join().expect("no panic");
    assert_eq!(getter.get().await.expect("back"), 1);
}

async fn a_confirmed_item_is_gone(place: &Place) {
    let [putter, getter] = places(place).await;
    putter.put(&1).await.expect("put");
    getter.claim().await.expect("claimed").ack().await.expect("confirmed");
    let stats = putter.stats().await.expect("stats");
    assert_eq!((stats.waiting, stats.leased, stats.dead), (0, 0, 0));
}

async fn join_waits_until_all_is_done(place: &Place) {
    let [putter, getter] = places(place).await;
    putter.put(&1).await.expect("put");
    let delivery = getter.claim().await.expect("claimed");
    let joining = {
        let putter = putter.clone();
        tokio::spawn(async move { putter.join().await })
    };
    assert_eq!(putter.stats().await.expect("stats").leased, 1);
    assert!(!joining.is_finished());
    delivery.ack().await.expect("confirmed");
    joining.await.expect("no panic").expect("joined");
}

async fn an_item_of_another_type_becomes_a_dead_letter(place: &Place) {
    let bus = place.bus().await;
    bus.queue::<String>("jobs").put(&"no number".to_owned()).await.expect("put");
    let numbers = bus.queue::<u32>("jobs");
    numbers.put(&3).await.expect("put");
    assert_eq!(numbers.get().await.expect_err("a string").kind(), ErrorKind::Decode);
    assert_eq!(numbers.get().await.expect("the next one"), 3);
    let dead = bus.queue::<String>("jobs").peek(Shelf::Dead, 10).await.expect("peeked");
    assert_eq!(dead, ["no number"]);
}

async fn a_full_queue_says_so_and_makes_room(place: &Place) {
    let bus = place.bus().await;
    let queue = bus.queue::<u32>("small").maxsize(1);
    queue.put(&1).await.expect("put");
    assert_eq!(queue.try_put(&2).await.expect_err("full").kind(), ErrorKind::Full);
    let waiting = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.put(&2).await })
    };
    assert_eq!(queue.get().await.expect("got"), 1);
    waiting.await.expect("no panic").expect("put");
    assert_eq!(queue.get().await.expect("got"), 2);
}

async fn a_queue_that_is_shut_down_says_so(place: &Place) {
    let [putter, getter] = places(place).await;
    putter.put(&1).await.expect("put");
    putter.shut_down().await.expect("shut down");
    assert_eq!(putter.put(&2).await.expect_err("shut").kind(), ErrorKind::ShutDown);
    assert_eq!(getter.get().await.expect("the last one"), 1);
    assert_eq!(getter.get().await.expect_err("empty and shut").kind(), ErrorKind::ShutDown);
    putter.purge().await.expect("purged");
    putter.put(&3).await.expect("open again");
}

async fn got_items_do_not_come_back(place: &Place) {
    let bus = place.bus().await;
    let queue = bus.queue::<u32>("jobs");
    for number in 0..10 {
        queue.put(&number).await.expect("put");
        assert_eq!(queue.get().await.expect("got"), number);
    }
    bus.close().await.expect("closed");
    // In memory a place without a connection is gone, and with it what was in it.
    let stats = place.bus().await.queue::<u32>("jobs").stats().await.expect("stats");
    assert_eq!((stats.waiting, stats.leased), (0, 0));
}

async fn places(place: &Place) -> [pymq::Queue<u32>; 2] {
    let [one, two] = place.buses().await;
    // Queues keep their bus alive.
    [one.queue("jobs"), two.queue("jobs")]
}
