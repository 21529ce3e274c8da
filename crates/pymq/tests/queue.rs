//! Queues as users see them, on every transport.

use std::time::Duration;

use futures_util::StreamExt;
use place::Place;
use pymq::{Bus, ErrorKind, Shelf, Wait};

mod jobs;
mod place;
mod worker;

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
    many_items_are_put_and_got_in_one_go,
    more_items_than_a_queue_holds_are_put_as_there_is_space,
    items_with_a_time_limit_are_put_all_or_none,
    an_item_that_is_too_large_is_refused_with_its_neighbours,
    neighbours_of_an_item_of_another_type_are_delivered,
    prefetched_items_are_handed_out_in_order_and_go_back_uncounted,
    getters_of_a_prefetching_handle_leave_each_other_nothing_to_wait_for,
    purging_takes_what_was_fetched_ahead,
    deliveries_are_a_stream_that_ends_with_the_queue,
    a_dropped_stream_loses_nothing,
    a_stream_that_nobody_waits_for_keeps_no_item_from_others,
    a_delivery_comes_apart_and_its_lease_can_be_extended,
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
    assert_eq!(dead.iter().flatten().collect::<Vec<_>>(), ["no number"]);
}

async fn a_full_queue_says_so_and_makes_room(place: &Place) {
    let bus = place.bus().await;
    let queue = bus.queue::<u32>("small").maxsize(1);
    queue.put(&1).await.expect("put");
    let full = queue.try_put(&2).await.expect_err("full");
    assert_eq!((full.kind(), full.object()), (ErrorKind::Full, queue.name()));
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

async fn many_items_are_put_and_got_in_one_go(place: &Place) {
    let [putter, getter] = places(place).await;
    let numbers: Vec<u32> = (0..700).collect();
    putter.put_many(&numbers).await.expect("put");
    assert_eq!(getter.get_many(300, Wait::Forever).await.expect("got"), numbers[..300]);
    let claimed = getter.claim_many(1000, Wait::Forever).await.expect("claimed");
    assert_eq!(claimed.iter().map(|job| **job).collect::<Vec<_>>(), numbers[300..]);
    for job in claimed {
        assert_eq!(job.deliveries(), 1);
        job.ack().await.expect("confirmed");
    }
    let none = getter.get_many(10, Duration::from_millis(10)).await.expect("no error");
    assert!(none.is_empty());
    assert!(getter.claim_many(10, Wait::No).await.expect("no error").is_empty());
    putter.put_many(&[]).await.expect("nothing is put");
    putter.join().await.expect("all is done");
}

async fn more_items_than_a_queue_holds_are_put_as_there_is_space(place: &Place) {
    let bus = place.bus().await;
    let queue = bus.queue::<u32>("small").maxsize(3);
    let putting = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.put_many(&(0..20).collect::<Vec<_>>()).await })
    };
    for number in 0..20 {
        assert_eq!(queue.get().await.expect("got"), number);
        assert!(queue.len().await.expect("counted") <= 3);
    }
    putting.await.expect("no panic").expect("put");

    let putting = {
        let queue = queue.clone();
        tokio::spawn(async move { queue.put_many(&(0..20).collect::<Vec<_>>()).await })
    };
    assert_eq!(queue.get().await.expect("got"), 0);
    queue.shut_down().await.expect("shut down");
    let error = putting.await.expect("no panic").expect_err("it was shut down halfway");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
}

async fn items_with_a_time_limit_are_put_all_or_none(place: &Place) {
    let bus = place.bus().await;
    let queue = bus.queue::<u32>("small").maxsize(3);
    queue.put(&1).await.expect("put");
    for wait in [Wait::No, Duration::from_millis(20).into()] {
        let full = queue.put_many_with(&[2, 3, 4], wait).await.expect_err("full");
        assert_eq!(full.kind(), ErrorKind::Full);
        assert_eq!(queue.len().await.expect("counted"), 1);
        let never = queue.put_many_with(&[2, 3, 4, 5], wait).await.expect_err("too many");
        assert_eq!(never.kind(), ErrorKind::Config);
    }
    queue.put_many_with(&[2, 3], Wait::No).await.expect("there is space for two");
    assert_eq!(queue.get_many(3, Wait::Forever).await.expect("got"), [1, 2, 3]);
}

async fn an_item_that_is_too_large_is_refused_with_its_neighbours(place: &Place) {
    let bus = place.bus().await;
    let queue = bus.byte_queue("bytes");
    let large = vec![b'1'; (16 << 20) + 1];
    let items = vec![b"1".to_vec().into(), large.into()];
    let error = queue.put(items, Wait::Forever).await.expect_err("too large");
    assert_eq!((error.kind(), error.object()), (ErrorKind::Encode, "bytes"));
    let text = "x".repeat(16 << 20);
    let error = bus.queue::<String>("texts").put(&text).await.expect_err("too large");
    assert_eq!((error.kind(), error.object()), (ErrorKind::Encode, "texts"));
    assert_eq!(queue.stats().await.expect("stats").waiting, 0);
}

async fn neighbours_of_an_item_of_another_type_are_delivered(place: &Place) {
    let bus = place.bus().await;
    let texts = bus.queue::<String>("jobs");
    let numbers = bus.queue::<u32>("jobs");
    numbers.put(&1).await.expect("put");
    texts.put_many(&["no".to_owned(), "number".to_owned()]).await.expect("put");
    numbers.put(&2).await.expect("put");
    let claimed = numbers.claim_many(4, Wait::Forever).await.expect("two of them are numbers");
    assert_eq!(claimed.iter().map(|job| **job).collect::<Vec<_>>(), [1, 2]);
    until(async || numbers.stats().await.expect("stats").dead == 2).await;
    drop(claimed);
    assert_eq!(texts.redrive(10).await.expect("back"), 2);
    until(async || numbers.stats().await.expect("stats").leased == 0).await;
    numbers.purge().await.expect("purged");
    texts.put_many(&["no".to_owned(), "number".to_owned()]).await.expect("put");
    let error = numbers.get_many(4, Wait::Forever).await.expect_err("none is a number");
    assert_eq!((error.kind(), error.object()), (ErrorKind::Decode, "jobs"));
    let dead = texts.peek(Shelf::Dead, 10).await.expect("peeked");
    assert_eq!(dead.iter().flatten().collect::<Vec<_>>(), ["no", "number"]);
}

async fn prefetched_items_are_handed_out_in_order_and_go_back_uncounted(place: &Place) {
    let [putter, getter] = places(place).await;
    putter.put_many(&(0..10).collect::<Vec<_>>()).await.expect("put");
    let greedy = getter.clone().prefetch(6);
    assert_eq!(greedy.get().await.expect("got"), 0);
    until(async || putter.stats().await.expect("stats").leased == 5).await;
    assert_eq!((putter.len().await.ok(), greedy.len().await.ok()), (Some(4), Some(9)));
    let twin = greedy.clone();
    assert_eq!(twin.get_many(2, Wait::Forever).await.expect("got"), [1, 2]);
    drop(twin);
    assert_eq!(greedy.try_get().await.expect("got"), Some(3));
    greedy.give_back();
    until(async || putter.stats().await.expect("stats").waiting == 6).await;
    let claimed = greedy.claim().await.expect("claimed");
    assert_eq!((*claimed, claimed.deliveries()), (4, 1));
    claimed.ack().await.expect("confirmed");
    // Claimed by another in the moment in which they are on their way back, they would be out of
    // their order.
    drop(greedy);
    until(async || putter.stats().await.expect("stats").leased == 0).await;
    let rest = getter.claim_many(10, Wait::Forever).await.expect("claimed");
    assert_eq!(
        rest.iter().map(|job| (**job, job.deliveries())).collect::<Vec<_>>(),
        [(5, 1), (6, 1), (7, 1), (8, 1), (9, 1)]
    );
}

async fn getters_of_a_prefetching_handle_leave_each_other_nothing_to_wait_for(place: &Place) {
    let [putter, getter] = places(place).await;
    let greedy = getter.prefetch(100);
    let getting: Vec<_> = (0..20)
        .map(|_| {
            let greedy = greedy.clone();
            tokio::spawn(async move { greedy.get().await })
        })
        .collect();
    assert!(greedy.get_timeout(Duration::from_millis(10)).await.expect("no error").is_none());
    assert!(greedy.try_get().await.expect("no error").is_none());
    putter.put_many(&(0..20).collect::<Vec<_>>()).await.expect("put");
    let mut got = Vec::new();
    for getting in getting {
        got.push(getting.await.expect("no panic").expect("got"));
    }
    got.sort_unstable();
    assert_eq!(got, (0..20).collect::<Vec<_>>());
}

async fn purging_takes_what_was_fetched_ahead(place: &Place) {
    let [putter, getter] = places(place).await;
    let greedy = getter.prefetch(10);
    putter.put_many(&[1, 2, 3]).await.expect("put");
    assert_eq!(greedy.get().await.expect("got"), 1);
    assert_eq!(greedy.purge().await.expect("purged"), 2);
    putter.join().await.expect("nothing is left");
}

async fn deliveries_are_a_stream_that_ends_with_the_queue(place: &Place) {
    let [putter, getter] = place.buses().await;
    let (putter, getter) = (putter.queue::<u32>("jobs"), getter.queue::<u32>("jobs"));
    let mut deliveries = getter.deliveries();
    let wait = tokio::time::timeout(Duration::from_millis(10), deliveries.recv()).await;
    assert!(wait.is_err(), "there is nothing yet");
    putter.put_many(&[1, 2]).await.expect("put");
    place.bus().await.queue::<&str>("jobs").put(&"three").await.expect("put");
    putter.put(&4).await.expect("put");
    putter.shut_down().await.expect("shut down");
    let mut seen = Vec::new();
    while let Some(delivery) = deliveries.next().await {
        match delivery {
            Ok(delivery) => {
                seen.push(Ok(*delivery));
                delivery.ack().await.expect("confirmed");
            }
            Err(error) => seen.push(Err(error.kind())),
        }
    }
    assert_eq!(seen, [Ok(1), Ok(2), Err(ErrorKind::Decode), Ok(4)]);
    assert!(deliveries.next().await.is_none(), "ended is ended");
    putter.join().await.expect("all is done");
    assert_eq!(putter.stats().await.expect("stats").dead, 1);
}

async fn a_dropped_stream_loses_nothing(place: &Place) {
    let [putter, getter] = places(place).await;
    let mut deliveries = getter.deliveries();
    let wait = tokio::time::timeout(Duration::from_millis(10), deliveries.next()).await;
    assert!(wait.is_err(), "there is nothing yet");
    putter.put(&1).await.expect("put");
    // The stream has a claim under way that this item answers.
    if place.deals() {
        until(async || putter.stats().await.expect("stats").leased == 1).await;
    }
    std::thread::spawn(move || drop(deliveries)).join().expect("no panic");
    let again = putter.claim().await.expect("claimed");
    assert_eq!((*again, again.deliveries()), (1, 1));
}

async fn a_stream_that_nobody_waits_for_keeps_no_item_from_others(place: &Place) {
    let [putter, getter] = places(place).await;
    for getter in [getter.clone(), getter.prefetch(10)] {
        let mut stream = getter.deliveries();
        assert!(tokio::time::timeout(Duration::from_millis(20), stream.recv()).await.is_err());
        putter.put(&1).await.expect("put");
        assert_eq!(getter.get().await.expect("nobody else waits"), 1);
        putter.put(&2).await.expect("put");
        let delivery = stream.recv().await.expect("open").expect("an item");
        assert_eq!(*delivery, 2);
        delivery.ack().await.expect("confirmed");
    }
}

async fn a_delivery_comes_apart_and_its_lease_can_be_extended(place: &Place) {
    let [putter, getter] = places(place).await;
    putter.put(&1).await.expect("put");
    let delivery = getter.claim().await.expect("claimed");
    delivery.extend(Duration::from_secs(60)).await.expect("extended");
    let (item, delivery) = delivery.into_parts();
    assert_eq!(item, 1);
    delivery.extend(Duration::MAX).await.expect("extended");
    delivery.ack_soon();
    putter.join().await.expect("it was confirmed");
}

/// Drops a delivery when the runtime that its bus lived on is gone.
fn outlive_the_runtime(place: &Place) {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (first, second) = (runtime().expect("a runtime"), runtime().expect("a runtime"));
    let jobs = |bus: Bus| bus.queue::<u32>("jobs").lease(Duration::from_millis(500));
    let other = jobs(second.block_on(place.bus()));
    let delivery = first.block_on(async {
        let queue = jobs(place.bus().await);
        queue.put(&1).await.expect("put");
        queue.claim().await.expect("claimed")
    });
    drop(first);
    drop(delivery);
    let again = second.block_on(async { other.claim().await });
    assert_eq!(again.expect("it comes back").deliveries(), 2);
}

#[test]
fn a_delivery_may_outlive_its_runtime_in_memory() {
    outlive_the_runtime(&Place::memory());
}

#[cfg(feature = "redis")]
#[test]
fn a_delivery_may_outlive_its_runtime_over_redis() {
    outlive_the_runtime(&Place::redis());
}

/// Commands count for little, round trips for much; the server counts what it reads.
#[cfg(feature = "redis")]
#[tokio::test]
async fn many_items_take_few_round_trips() {
    let server = place::server::RedisServer::start();
    let bus = Bus::connect(&server.url()).await.expect("connected");
    let mut raw = server.raw();
    let mut reads = || {
        let text = raw.run(&["INFO", "stats"]).text();
        let line = text.lines().find_map(|line| line.strip_prefix("total_reads_processed:"));
        line.expect("INFO counts reads").trim().parse::<u32>().expect("a number")
    };
    let jobs = bus.queue::<u32>("jobs").prefetch(100);
    let numbers: Vec<u32> = (0..100).collect();
    jobs.put(&0).await.expect("put");
    jobs.get().await.expect("everything is connected and known");
    let before = reads();
    jobs.put_many(&numbers).await.expect("put");
    for number in &numbers {
        assert_eq!(jobs.get().await.expect("got"), *number);
    }
    jobs.put_many(&numbers).await.expect("put");
    assert_eq!(jobs.get_many(100, Wait::Forever).await.expect("got"), numbers);
    let few = reads() - before;
    assert!(few < 50, "{few} reads for 200 items");
    let one_by_one = bus.queue::<u32>("jobs");
    for number in &numbers {
        one_by_one.put(number).await.expect("put");
    }
    assert!(reads() - before > few + 100, "the measure shows nothing");
}

/// As when this process slept for longer than its lease.
#[cfg(feature = "redis")]
#[tokio::test]
async fn what_was_fetched_ahead_and_is_somebody_elses_by_now_is_not_handed_out() {
    let server = place::server::RedisServer::start();
    let [bus, other] = [
        Bus::connect(&server.url()).await.expect("connected"),
        Bus::connect(&server.url()).await.expect("connected"),
    ];
    let lease = Duration::from_secs(3);
    let jobs = bus.queue::<u32>("jobs").lease(lease).prefetch(10);
    let theirs = other.queue::<u32>("jobs").lease(lease);
    jobs.put_many(&[1, 2, 3]).await.expect("put");
    assert_eq!(jobs.get().await.expect("got"), 1);
    until(async || theirs.stats().await.expect("stats").leased == 2).await;
    let mut raw = server.raw();
    let epochs = raw.run(&["KEYS", "__pymq:*:epochs"]).texts().remove(0);
    let holder = raw.run(&["ZRANGE", &epochs, "0", "-1"]).texts().remove(0);
    until(async || {
        raw.run(&["ZADD", &epochs, "XX", "0", &holder]);
        theirs.stats().await.expect("stats").waiting == 2
    })
    .await;
    assert_eq!(theirs.get_many(10, Wait::Forever).await.expect("got"), [2, 3]);
    // For more than half of the lease, after which its holder is not sure of it; longer does no harm.
    tokio::time::sleep(lease * 6 / 10).await;
    // A server that says nothing for a second is no empty queue.
    let mut asked = jobs.try_get().await;
    while asked.as_ref().is_err_and(pymq::Error::is_retryable) {
        asked = jobs.try_get().await;
    }
    assert_eq!(asked.expect("asked"), None);
    theirs.put(&4).await.expect("put");
    assert_eq!(jobs.get().await.expect("got"), 4);
    theirs.put_many(&[5, 6]).await.expect("put");
    assert_eq!(jobs.get().await.expect("got"), 5);
    // Where it is not kept, because all stood still, the item is the first in the line again.
    tokio::time::sleep(lease * 6 / 10).await;
    assert_eq!(jobs.get().await.expect("its lease was kept"), 6);
}

/// What a person has to read in an error of a queue to mend it.
#[tokio::test]
async fn errors_of_a_queue_name_the_item_the_bound_and_what_was_done() {
    let bus = Place::memory().bus().await;
    let large = vec![b"1".to_vec().into(), vec![b'1'; (16 << 20) + 1].into()];
    let error = bus.byte_queue("bytes").put(large, Wait::Forever).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Encode);
    assert!(error.message().contains("item 2 of 2: 16777217 bytes"), "{error}");
    assert!(error.message().contains("at most 16 MiB"), "{error}");
    let queue = bus.queue::<u32>("small").maxsize(3);
    let never = queue.put_many_with(&[1, 2, 3, 4], Wait::No).await.expect_err("too many");
    assert_eq!(never.kind(), ErrorKind::Config);
    assert!(never.message().contains("maxsize is 3"), "{never}");
    let many: Vec<u32> = (0..20).collect();
    let (put, ()) = tokio::join!(queue.put_many(&many), async {
        assert_eq!(queue.get().await.expect("got"), 0);
        queue.shut_down().await.expect("shut down");
    });
    let error = put.expect_err("it was shut down halfway");
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    assert!(error.message().contains("of 20 items were put"), "{error}");
}

async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let guard = tokio::time::Instant::now() + Duration::from_secs(180);
    while !holds().await {
        assert!(tokio::time::Instant::now() < guard, "it never holds");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn places(place: &Place) -> [pymq::Queue<u32>; 2] {
    let [one, two] = place.buses().await;
    // Queues keep their bus alive.
    [one.queue("jobs"), two.queue("jobs")]
}
