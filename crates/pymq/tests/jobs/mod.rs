//! Queues that jobs run on: later, once, first, again; and the dead letters, on every transport that
//! has them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;
use pymq::wire::Metadata;
use pymq::{Delivery, ErrorKind, Put, PutOptions, Queue, Reason, Retry, Shelf, Wait};
use tokio::time::Instant;

use super::until;
use crate::everywhere;
use crate::place::Place;

everywhere!(
    options_that_cannot_be_are_refused_where_they_are_given,
    no_length_of_time_is_too_long,
    a_handler_that_takes_the_delivery_settles_it_or_leaves_it_to_its_result,
    a_delivery_that_a_handler_hands_on_is_its_new_holders,
    what_a_cancelled_handler_held_comes_back,
    a_dead_letter_is_an_item_or_the_reason_why_it_is_none,
    dead_letters_are_chosen_by_what_they_tell,
    a_stopped_handle_takes_no_more_and_others_go_on,
    a_worker_of_a_stopped_handle_finishes_what_it_has_in_hand,
    items_are_taken_from_several_queues_in_order_of_preference,
    several_queues_end_when_all_are_shut_down,
    a_bus_that_closes_returns_uncounted_what_was_fetched_ahead,
    names_that_a_put_refuses_are_refused_everywhere,
    how_long_the_first_item_has_waited_is_told_where_its_sender_says_when_it_was_sent,
    dead_letters_whatever_their_size_are_chosen_page_by_page,
);

async fn jobs(place: &Place) -> Queue<u32> {
    place.bus().await.queue("jobs")
}

async fn options_that_cannot_be_are_refused_where_they_are_given(place: &Place) {
    let queue = jobs(place).await;
    let new = PutOptions::new;
    for (options, word) in [
        (new().id(""), "empty id"),
        (new().id("x".repeat(513)), "512 bytes"),
        (new().id("x").within(Duration::ZERO), "no time"),
        (new().priority(1), "no priorities"),
        (new().priority(10), "0 to 9"),
    ] {
        let refused = queue.put_with(&1, options).await.expect_err(word);
        assert_eq!((refused.kind(), refused.object()), (ErrorKind::Config, "jobs"), "{refused}");
    }
    let refused = queue.put_many_with(&[1, 2], new().id("both")).await.expect_err("one id");
    assert_eq!((refused.kind(), refused.object()), (ErrorKind::Config, "jobs"), "{refused}");
    assert_eq!(queue.stats().await.expect("stats").unfinished(), 0);
}

async fn no_length_of_time_is_too_long(place: &Place) {
    let bus = place.bus().await;
    let queue = bus.queue::<u32>("jobs").lease(Duration::MAX).prefetch(4).maxsize(100);
    queue.put_timeout(&1, Duration::MAX).await.expect("put");
    let job = queue.claim_timeout(Duration::MAX).await.expect("asked").expect("there is one");
    job.extend(Duration::MAX).await.expect("extended");
    if bus.capabilities().put_options {
        job.requeue_after(Duration::MAX).await.expect("given back");
        let never = PutOptions::new().delay(Duration::MAX);
        queue.put_with(&2, never).await.expect("put");
        let far = SystemTime::now() + Duration::from_secs(1 << 33);
        queue.put_with(&3, PutOptions::new().at(far)).await.expect("put");
        assert_eq!(queue.stats().await.expect("stats").delayed, 3);
        let ever = PutOptions::new().id("ever").within(Duration::MAX);
        assert_eq!(queue.put_with(&4, ever.clone()).await.expect("put"), Put::Done);
        assert_eq!(queue.put_with(&4, ever).await.expect("put"), Put::Already);
    } else {
        job.ack().await.expect("done");
    }
    let brief = bus.queue::<u32>("brief").lease(Duration::ZERO);
    brief.put(&1).await.expect("put");
    assert_eq!(brief.get().await.expect("got"), 1);
}

async fn a_handler_that_takes_the_delivery_settles_it_or_leaves_it_to_its_result(place: &Place) {
    let queue = jobs(place).await.retry(Retry::at_once()).max_deliveries(2);
    queue.put_many(&[1, 2, 3, 4]).await.expect("put");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handler = {
        let seen = Arc::clone(&seen);
        move |job: Delivery<u32>| {
            seen.lock().expect("no panic").push((*job, job.deliveries()));
            async move {
                match *job {
                    1 => job.ack().await.map_err(|error| error.to_string()),
                    2 => {
                        job.reject_because("not this one").await.map_err(|error| error.to_string())
                    }
                    3 => Ok(()),
                    _ => Err("it never works".to_owned()),
                }
            }
        }
    };
    let worker = queue.work_deliveries(1, handler).expect("it began");
    queue.join().await.expect("all is done, or dead");
    worker.drain().await.expect("drained");
    let seen = seen.lock().expect("no panic").clone();
    assert_eq!(seen, [(1, 1), (2, 1), (3, 1), (4, 1), (4, 2)]);
    assert_eq!(queue.dead_letters().len().await.expect("counted"), 2);
}

async fn a_delivery_that_a_handler_hands_on_is_its_new_holders(place: &Place) {
    let queue = jobs(place).await;
    queue.put(&1).await.expect("put");
    let (handed, mut on) = tokio::sync::mpsc::unbounded_channel();
    let worker = queue.work_deliveries(1, move |job: Delivery<u32>| {
        let sent = handed.send(job).map_err(|_| "nobody takes it");
        async move { sent }
    });
    let worker = worker.expect("it began");
    let job = on.recv().await.expect("it is handed on");
    worker.drain().await.expect("drained");
    assert_eq!(queue.stats().await.expect("stats").leased, 1);
    drop(job);
    let again = queue.claim().await.expect("claimed");
    assert_eq!((*again, again.deliveries()), (1, 2));
}

async fn what_a_cancelled_handler_held_comes_back(place: &Place) {
    let queue = jobs(place).await;
    queue.put(&1).await.expect("put");
    let begun = Arc::new(tokio::sync::Notify::new());
    let beginning = Arc::clone(&begun);
    let worker = queue.work_deliveries(1, move |job: Delivery<u32>| {
        let beginning = Arc::clone(&beginning);
        async move {
            beginning.notify_one();
            std::future::pending::<()>().await;
            job.ack().await
        }
    });
    begun.notified().await;
    drop(worker.expect("it began"));
    let again = queue.claim().await.expect("claimed");
    assert_eq!((*again, again.deliveries()), (1, 2));
}

async fn a_dead_letter_is_an_item_or_the_reason_why_it_is_none(place: &Place) {
    let bus = place.bus().await;
    let queue = bus.queue::<u32>("jobs").max_deliveries(1);
    bus.queue::<&str>("jobs").put(&"no number").await.expect("put");
    queue.put_many(&[1, 2, 3, 4]).await.expect("put");
    let worker = queue.work(1, |number| async move {
        match number {
            1 => Err("one is too small"),
            2 => panic!("two is too much"),
            _ => Ok(()),
        }
    });
    queue.join().await.expect("all is done, or dead");
    worker.expect("it began").drain().await.expect("drained");
    let letters = queue.dead_letters().read(0, 10).await.expect("read");
    assert_eq!(letters.len(), 3);
    let undecodable = letters[0].item().expect_err("it is a text");
    assert_eq!(undecodable.kind(), ErrorKind::Decode);
    assert_eq!(&letters[0].payload()[..], b"\"no number\"");
    assert_eq!((letters[1].item().ok(), letters[2].item().ok()), (Some(&1), Some(&2)));
    let peeked = queue.peek(Shelf::Dead, 10).await.expect("peeked");
    assert_eq!(peeked.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true]);
    if !bus.capabilities().letters {
        return;
    }
    let told: Vec<_> = letters.iter().map(pymq::Letter::failure).collect();
    assert_eq!(told[0].reason, Reason::Undecodable);
    assert_eq!((told[1].reason, &*told[1].words), (Reason::Failed, "one is too small"));
    assert_eq!((&*told[2].error, &*told[2].words), ("panic", "two is too much"));
    let here = format!(":{}", std::process::id());
    for letter in &letters {
        assert!(letter.failure().origin.ends_with(&here), "{letter:?}");
        assert_eq!(letter.deliveries(), Some(1));
        assert!(letter.died().is_some());
    }
}

async fn dead_letters_are_chosen_by_what_they_tell(place: &Place) {
    let bus = place.bus().await;
    if !bus.capabilities().letters {
        return;
    }
    let (queue, other) = (bus.queue::<u32>("jobs"), bus.queue::<u32>("other"));
    let all: Vec<u32> = (0..1200).collect();
    queue.put_many(&all).await.expect("put");
    // In portions, as transports have them.
    while queue.len().await.expect("counted") > 0 {
        for job in queue.claim_many(1200, Wait::No).await.expect("claimed") {
            let words = if *job % 3 == 0 { "disk full" } else { "bad" };
            job.reject_because(words).await.expect("rejected");
        }
    }
    let letters = queue.dead_letters();
    let full = letters.redrive_where(|letter| letter.failure().words == "disk full").await;
    assert_eq!(full.expect("moved"), 400);
    let odd = letters.discard_where(|letter| letter.item().is_ok_and(|item| item % 2 == 1)).await;
    assert_eq!(odd.expect("discarded"), 400);
    assert_eq!(letters.redrive_to(&other).await.expect("moved"), 400);
    assert!(letters.is_empty().await.expect("counted"));
    assert_eq!((queue.len().await.ok(), other.len().await.ok()), (Some(400), Some(400)));
    assert_eq!((queue.get().await.ok(), other.get().await.ok()), (Some(0), Some(2)));
    let elsewhere = place.bus().await.queue::<u32>("jobs");
    let refused = letters.redrive_to(&elsewhere).await.expect_err("it is another bus's");
    assert_eq!(refused.kind(), ErrorKind::Config);
}

async fn how_long_the_first_item_has_waited_is_told_where_its_sender_says_when_it_was_sent(
    place: &Place,
) {
    let bus = place.bus().await;
    let queue = bus.queue::<u32>("jobs");
    let hour = SystemTime::now() - Duration::from_secs(3600);
    let told = queue.clone().metadata(Metadata::default().sent_at(hour));
    let plain = bus.queue::<u32>("plain");
    for queue in [&queue, &plain] {
        assert_eq!(queue.stats().await.expect("stats").oldest, None);
    }
    told.put(&1).await.expect("put");
    plain.put(&1).await.expect("put");
    let known = bus.byte_queue("plain").counts().await.expect("counted").oldest.is_some();
    assert_eq!(plain.stats().await.expect("stats").oldest.is_some(), known);
    let age = queue.stats().await.expect("stats").oldest.expect("somebody says it");
    // What the broker knows itself is when the item came.
    assert_eq!(age >= Duration::from_secs(3599), !known, "{age:?}");
    let ahead = SystemTime::now() + Duration::from_secs(3600);
    queue.purge().await.expect("purged");
    queue.clone().metadata(Metadata::default().sent_at(ahead)).put(&1).await.expect("put");
    assert!(queue.stats().await.expect("stats").oldest.expect("told") < Duration::from_secs(60));
}

async fn dead_letters_whatever_their_size_are_chosen_page_by_page(place: &Place) {
    let bus = place.bus().await;
    if !bus.capabilities().letters {
        return;
    }
    let queue = bus.queue::<String>("jobs").max_deliveries(1);
    for number in 0..60 {
        let size = if number % 20 == 3 { 3 << 20 } else { 1 };
        queue.put(&"x".repeat(size)).await.expect("put");
        queue.claim().await.expect("claimed").requeue().await.expect("given up");
    }
    let mut seen = 0;
    let letters = queue.dead_letters();
    let moved = letters.redrive_where(|letter| {
        seen += 1;
        letter.payload().len() > 100
    });
    assert_eq!((moved.await.expect("moved"), seen), (3, 60));
    assert_eq!(letters.discard_where(|_| true).await.expect("discarded"), 57);
    assert_eq!(queue.len().await.expect("counted"), 3);
}

async fn a_stopped_handle_takes_no_more_and_others_go_on(place: &Place) {
    let bus = place.bus().await;
    let (queue, other) = (bus.queue::<u32>("jobs").prefetch(10), bus.queue::<u32>("jobs"));
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.get().await }
    });
    let mut stream = queue.deliveries();
    queue.put_many(&[1, 2, 3]).await.expect("put");
    assert_eq!(waiting.await.expect("no panic").expect("got"), 1);
    let waiting = {
        let stream = stream.recv();
        tokio::pin!(stream);
        assert!((&mut stream).now_or_never().is_none(), "nothing waits");
        queue.stop();
        stream.await
    };
    assert!(waiting.is_none(), "a loop ends normally");
    assert_eq!(queue.get().await.expect_err("stopped").kind(), ErrorKind::Closed);
    assert_eq!(queue.clone().try_get().await.expect_err("stopped").kind(), ErrorKind::Closed);
    until(async || other.len().await.expect("counted") == 2).await;
    let mut rest = other.claim_many(9, Wait::No).await.expect("others go on");
    rest.sort_by_key(|job| **job);
    let rest: Vec<_> = rest.iter().map(|job| (**job, job.deliveries())).collect();
    assert_eq!(rest, [(2, 1), (3, 1)]);
    queue.put(&4).await.expect("it puts all the same");
}

async fn a_worker_of_a_stopped_handle_finishes_what_it_has_in_hand(place: &Place) {
    let bus = place.bus().await;
    let (queue, other) = (bus.queue::<u32>("jobs").prefetch(5), bus.queue::<u32>("jobs"));
    queue.put_many(&[1, 2, 3]).await.expect("put");
    let (begun, goes_on) =
        (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let worker = {
        let (begun, goes_on) = (Arc::clone(&begun), Arc::clone(&goes_on));
        queue.work(1, move |_| {
            let (begun, goes_on) = (Arc::clone(&begun), Arc::clone(&goes_on));
            async move {
                begun.notify_one();
                goes_on.notified().await;
                Ok::<_, String>(())
            }
        })
    };
    let worker = worker.expect("it began");
    begun.notified().await;
    queue.stop();
    goes_on.notify_one();
    worker.ended().await;
    worker.drain().await.expect("a regular end");
    until(async || other.stats().await.expect("stats").leased == 0).await;
    let rest = other.claim_many(9, Wait::No).await.expect("claimed");
    let rest: Vec<_> = rest.iter().map(|job| (**job, job.deliveries())).collect();
    assert_eq!(rest, [(2, 1), (3, 1)]);
}

async fn items_are_taken_from_several_queues_in_order_of_preference(place: &Place) {
    let bus = place.bus().await;
    let queues = ["urgent", "normal", "idle"].map(|name| bus.queue::<u32>(name));
    assert_eq!(pymq::get_any(&queues, Wait::No).await.expect("asked"), None);
    let brief = Duration::from_millis(10);
    assert_eq!(pymq::get_any(&queues, brief).await.expect("asked"), None);
    for (place, item) in [(2, 1), (1, 2), (0, 3), (1, 4)] {
        queues[place].put(&item).await.expect("put");
    }
    for expected in [(0, 3), (1, 2), (1, 4), (2, 1)] {
        let got = pymq::get_any(&queues, Wait::Forever).await.expect("got");
        assert_eq!(got, Some(expected));
    }
    let waiting = tokio::spawn({
        let queues = queues.clone();
        async move { pymq::claim_any(&queues, Wait::Forever).await }
    });
    tokio::task::yield_now().await;
    queues[1].put(&5).await.expect("put");
    let (which, job) = waiting.await.expect("no panic").expect("claimed").expect("an item");
    assert_eq!((which, *job), (1, 5));
    job.ack().await.expect("done");
    queues[2].put(&6).await.expect("put");
    assert_eq!(queues[2].get().await.expect("it was left to others"), 6);
    let none = pymq::get_any::<u32>(&[], Wait::No).await.expect_err("no queue");
    assert_eq!(none.kind(), ErrorKind::Config);
}

async fn several_queues_end_when_all_are_shut_down(place: &Place) {
    let bus = place.bus().await;
    let queues = ["one", "two"].map(|name| bus.queue::<u32>(name));
    let waiting = tokio::spawn({
        let queues = queues.clone();
        async move {
            (
                pymq::get_any(&queues, Wait::Forever).await,
                pymq::get_any(&queues, Wait::Forever).await,
            )
        }
    });
    queues[0].shut_down().await.expect("shut down");
    queues[1].put(&1).await.expect("put");
    queues[1].shut_down().await.expect("shut down");
    let (got, over) = waiting.await.expect("no panic");
    assert_eq!(got.expect("got"), Some((1, 1)));
    assert_eq!(over.expect_err("nothing will come").kind(), ErrorKind::ShutDown);
}

async fn a_bus_that_closes_returns_uncounted_what_was_fetched_ahead(place: &Place) {
    let other = jobs(place).await;
    for ends in ["close", "drain", "drop"] {
        other.put_many(&[1, 2, 3]).await.expect("put");
        let bus = place.bus().await;
        let greedy = bus.queue::<u32>("jobs").prefetch(10);
        assert_eq!(greedy.get().await.expect("got"), 1);
        until(async || other.stats().await.expect("stats").leased == 2).await;
        match ends {
            "close" => bus.close().await.expect("closed"),
            "drain" => bus.drain().await.expect("drained"),
            _ => drop((bus, greedy)),
        }
        // Claimed on their way back, they would be out of their order.
        until(async || other.stats().await.expect("stats").leased == 0).await;
        for expected in [2, 3] {
            let job = other.claim().await.expect("claimed");
            assert_eq!((*job, job.deliveries()), (expected, 1), "{ends}");
            job.ack().await.expect("done");
        }
    }
}

async fn names_that_a_put_refuses_are_refused_everywhere(place: &Place) {
    let bus = place.bus().await;
    let long = "x".repeat(1 << 20);
    let Err(refused) = bus.queue::<u32>(&long).put(&1).await else { return };
    assert_eq!(refused.kind(), ErrorKind::Config);
    let queue = bus.queue::<u32>(&long);
    let kinds = [
        queue.stats().await.err(),
        queue.peek(Shelf::Waiting, 1).await.err(),
        queue.purge().await.err(),
        queue.redrive(1).await.err(),
        queue.shut_down().await.err(),
        queue.try_get().await.err(),
        queue.dead_letters().read(0, 1).await.err(),
        queue.dead_letters().purge().await.err(),
        queue.join().await.err(),
    ];
    for refused in kinds {
        assert_eq!(refused.map(|error| error.kind()), Some(ErrorKind::Config));
    }
}

/// A thousand jobs, a dependency that is away for a minute, default options.
#[tokio::test(start_paused = true)]
async fn no_job_dies_of_a_dependency_that_is_away_for_a_minute() {
    let queue = jobs(&Place::memory()).await;
    queue.put_many(&(0..1000).collect::<Vec<_>>()).await.expect("put");
    let (begun, done) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let worker = {
        let done = Arc::clone(&done);
        queue.work(8, move |_| {
            let done = Arc::clone(&done);
            async move {
                if begun.elapsed() < Duration::from_secs(60) {
                    return Err("the database is away");
                }
                done.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        })
    };
    queue.join().await.expect("all is done");
    worker.expect("it began").drain().await.expect("drained");
    assert_eq!((done.load(Ordering::SeqCst), queue.stats().await.expect("stats").dead), (1000, 0));
    assert!(begun.elapsed() >= Duration::from_secs(60));
}

/// Ten thousand items that are due within a second, and consumers that wait for them.
#[tokio::test(start_paused = true)]
async fn items_for_later_are_all_given_out_and_none_early() {
    let place = Place::memory();
    let bus = place.bus().await;
    let queue = bus.queue::<u64>("later");
    let begun = Instant::now();
    let consumers: Vec<_> = (0..8)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(due) = queue.get().await {
                    assert!(begun.elapsed() >= Duration::from_micros(due), "{due} is early");
                    seen.push(due);
                }
                seen
            })
        })
        .collect();
    tokio::task::yield_now().await;
    for number in 0..10_000_u64 {
        let due = number * 7919 % 1_000_000;
        let later = PutOptions::new().delay(Duration::from_micros(due));
        queue.put_with(&due, later).await.expect("put");
    }
    queue.shut_down().await.expect("shut down");
    let mut seen = Vec::new();
    for consumer in consumers {
        seen.extend(consumer.await.expect("none came early"));
    }
    seen.sort_unstable();
    let mut expected: Vec<_> = (0..10_000_u64).map(|number| number * 7919 % 1_000_000).collect();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    assert!(begun.elapsed() < Duration::from_secs(2), "time stands still unless somebody waits");
}

/// Who keeps the time may go away at any moment; the next one keeps it.
#[tokio::test(start_paused = true)]
async fn a_claim_that_is_given_up_leaves_the_time_to_the_next() {
    let queue = jobs(&Place::memory()).await;
    let first = tokio::spawn({
        let queue = queue.clone();
        async move { queue.get_timeout(Duration::from_secs(5)).await }
    });
    tokio::task::yield_now().await;
    let second = tokio::spawn({
        let queue = queue.clone();
        async move { queue.get().await }
    });
    tokio::task::yield_now().await;
    let (begun, delay) = (Instant::now(), Duration::from_secs(10));
    queue.put_with(&1, PutOptions::new().delay(delay)).await.expect("put");
    assert_eq!(first.await.expect("no panic").expect("asked"), None);
    assert_eq!(second.await.expect("no panic").expect("got"), 1);
    assert_eq!(begun.elapsed().as_secs(), 10);
    // A later one that is due sooner is not waited past.
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.get().await }
    });
    queue.put_with(&2, PutOptions::new().delay(delay)).await.expect("put");
    tokio::task::yield_now().await;
    queue.put_with(&3, PutOptions::new().delay(delay / 2)).await.expect("put");
    assert_eq!(waiting.await.expect("no panic").expect("got"), 3);
    assert_eq!(begun.elapsed().as_secs(), 15);
}

/// Consumers on several threads, each of which keeps the time at times and gives up at others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_given_up_at_any_moment_lose_no_item_for_later() {
    const ITEMS: u64 = 4000;
    let place = Place::memory();
    let bus = place.bus().await;
    let queue = bus.queue::<u64>("later");
    let getting: Vec<_> = (1..=6_u64)
        .map(|number| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let (mut seen, mut given_up) = (Vec::new(), 0);
                loop {
                    let brief = Duration::from_micros(50 * number);
                    match tokio::time::timeout(brief, queue.claim()).await {
                        Ok(Ok(job)) => {
                            assert_eq!(job.deliveries(), 1);
                            seen.push(*job);
                            job.ack().await.expect("it is ours");
                        }
                        Ok(Err(over)) => {
                            assert_eq!(over.kind(), ErrorKind::ShutDown);
                            return (seen, given_up);
                        }
                        Err(_) => given_up += 1,
                    }
                }
            })
        })
        .collect();
    for number in 0..ITEMS {
        let later = PutOptions::new().delay(Duration::from_micros(number * 7919 % 300_000));
        queue.put_with(&number, later).await.expect("put");
    }
    queue.shut_down().await.expect("shut down");
    let (mut seen, mut given_up) = (Vec::new(), 0);
    for getting in getting {
        let (theirs, times) = getting.await.expect("no panic");
        seen.extend(theirs);
        given_up += times;
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..ITEMS).collect::<Vec<_>>());
    assert!(given_up > 0, "no claim was given up");
}
