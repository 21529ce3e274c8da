//! The blocking shell as programs without a runtime use it, in memory and over Redis.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use place::Place;
use pymq::blocking::{self, Bus};
use pymq::wire::Metadata;
use pymq::{ErrorKind, Event, Filter, Put, PutOptions, Retry, Shelf, Wait};
use serde::{Deserialize, Serialize};

mod place;

/// Runs each journey, a `fn(&Place)`, in memory and over Redis, failing one that hangs.
macro_rules! everywhere_blocking {
    ($($journey:ident),* $(,)?) => {
        mod memory {
            $(#[test]
            fn $journey() {
                super::guarded(super::Place::memory(), super::$journey);
            })*
        }

        #[cfg(feature = "redis")]
        mod redis {
            $(#[test]
            fn $journey() {
                super::guarded(super::Place::redis(), super::$journey);
            })*
        }
    };
}

everywhere_blocking!(
    events_are_iterators,
    a_wait_for_an_event_ends_at_its_timeout,
    a_call_runs_on_a_thread_of_the_pool_that_may_wait,
    deadlines_and_headers_reach_the_thread_of_a_function_and_its_nested_calls,
    what_is_said_beside_a_value_arrives_with_it,
    a_panic_is_an_answer,
    all_answers_are_an_iterator,
    a_drained_bus_ends_its_iterators,
    a_bus_is_used_from_many_threads,
    everything_may_be_dropped_in_any_order,
    items_are_put_got_and_claimed,
    a_worker_serves_a_queue_on_threads_that_may_wait,
    a_handler_that_drains_its_own_bus_does_not_wait_for_itself,
);

fn guarded(place: Place, journey: fn(&Place)) {
    let (done, over) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        journey(&place);
        let _ = done.send(());
    });
    if over.recv_timeout(Duration::from_secs(60)) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("the journey hangs");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn buses<const N: usize>(place: &Place) -> [Bus; N] {
    [(); N].map(|()| Bus::connect(&place.url()).expect("the broker is there"))
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Placed {
    id: u64,
}

impl Event for Placed {
    const TOPIC: &'static str = "shop.Placed";
}

fn events_are_iterators(place: &Place) {
    let [publisher, subscriber] = buses(place);
    let mut placed = subscriber.subscribe::<Placed>().expect("subscribed");
    let all = [Filter::Pattern("shop.*".to_owned())];
    let mut all = subscriber.subscribe_to::<Placed>(&all).expect("subscribed");
    let mut same = subscriber.pattern::<Placed>("*.Placed").expect("subscribed");
    for id in 0..3 {
        publisher.publish(&Placed { id }).expect("published");
    }
    let ids: Vec<_> = placed.by_ref().take(3).map(|event| event.expect("an event").id).collect();
    assert_eq!(ids, [0, 1, 2]);
    for stream in [&mut all, &mut same] {
        let (topic, event) = stream.next().expect("open").expect("an event");
        assert_eq!((topic.as_str(), event), ("shop.Placed", Placed { id: 0 }));
    }
}

fn a_wait_for_an_event_ends_at_its_timeout(place: &Place) {
    let [bus] = buses(place);
    let topic = bus.topic::<u32>("t");
    let mut events = topic.subscribe().expect("subscribed");
    let error = events.next_within(Duration::from_millis(20)).expect_err("nothing came");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    topic.publish(&1).expect("published");
    let event = events.next_within(Duration::from_secs(60)).expect("in time").expect("open");
    assert_eq!(event.expect("an event"), 1);
}

fn a_call_runs_on_a_thread_of_the_pool_that_may_wait(place: &Place) {
    let [caller, provider] = buses(place);
    let (sender, received) = mpsc::sync_channel::<i64>(0);
    let received = std::sync::Mutex::new(received);
    // The first call waits for the second, which could not run if either held the bus's thread up.
    let meet = move |(n,): (i64,)| match n {
        0 => received.lock().map_err(|_| "poisoned")?.recv().map_err(|_| "nobody came"),
        n => sender.send(n).map(|()| 0).map_err(|_| "nobody waits"),
    };
    let service = provider.expose_fn("meet", meet).expect("exposed");
    let stub = caller.stub::<(i64,), i64>("meet");
    let first = std::thread::spawn({
        let stub = stub.clone();
        move || stub.call((0,))
    });
    assert_eq!(stub.timeout(Duration::from_secs(60)).call((7,)).expect("answered"), 0);
    assert_eq!(first.join().expect("no panic").expect("answered"), 7);
    assert_eq!(service.functions().collect::<Vec<_>>(), ["meet"]);
    service.drain();
    let error = stub.call((7,)).expect_err("it is gone");
    assert_eq!(error.kind(), ErrorKind::NoSuchRemote);
}

fn deadlines_and_headers_reach_the_thread_of_a_function_and_its_nested_calls(place: &Place) {
    let [caller, middle, last] = buses(place);
    let see = |(): ()| {
        let call = pymq::rpc::current_call().ok_or("no call runs here")?;
        let header = |name| call.metadata().get(name).unwrap_or("none").to_owned();
        Ok::<_, &str>((header("trace"), header("own"), call.left().is_some()))
    };
    let _see = last.expose_fn("see", see).expect("exposed");
    let inner = middle.stub::<(), (String, String, bool)>("see");
    let _pass = middle
        .expose_fn("pass", move |(): ()| inner.call(()).map_err(|error| error.to_string()))
        .expect("exposed");
    let metadata = Metadata::default().passed("trace", "7").header("own", "mine");
    let outer = caller.stub::<(), (String, String, bool)>("pass").timeout(Duration::from_secs(30));
    let seen = outer.metadata(metadata).call(()).expect("answered");
    assert_eq!(seen, ("7".to_owned(), "none".to_owned(), true));
    assert!(pymq::rpc::current_call().is_none());
}

fn what_is_said_beside_a_value_arrives_with_it(place: &Place) {
    let [sender, receiver] = buses(place);
    let north = || Metadata::default().header("tenant", "north");
    let mut events = receiver.topic::<u32>("t").subscribe().expect("subscribed");
    let pattern = [Filter::Pattern("t*".to_owned())];
    let mut patterns = receiver.subscribe_to::<u32>(&pattern).expect("subscribed");
    sender.topic("t").metadata(north()).publish(&1).expect("published");
    for message in [events.next_message(), patterns.next_message()] {
        let message = message.expect("open").expect("read");
        assert_eq!((message.value, message.topic.as_str()), (1, "t"));
        assert_eq!(message.metadata.get("tenant"), Some("north"));
    }
    sender.queue("q").metadata(north()).put(&1).expect("put");
    let delivery = receiver.queue::<u32>("q").claim().expect("claimed");
    assert_eq!(delivery.metadata().get("tenant"), Some("north"));
    delivery.ack().expect("done");
}

fn a_panic_is_an_answer(place: &Place) {
    let [bus] = buses(place);
    let fail = |(fail,): (bool,)| {
        assert!(!fail, "as asked");
        Ok::<_, String>(1)
    };
    let _service = bus.expose_fn("f", fail).expect("exposed");
    let stub = bus.stub::<(bool,), i64>("f");
    let error = stub.call((true,)).expect_err("it panics");
    assert_eq!(error.remote().expect("its words").type_name, "Panic");
    assert_eq!(stub.call((false,)).expect("served"), 1);
}

fn all_answers_are_an_iterator(place: &Place) {
    let [caller, one, two] = buses(place);
    let offer = |price: i64| {
        pymq::rpc::Function::new("offer", &["count"], move |arguments| {
            let count: Option<i64> = arguments.take()?;
            Ok(async move { Ok::<_, String>(price * count.unwrap_or(1)) })
        })
    };
    let _one = one.expose(offer(3)).expect("exposed");
    let _two = two.expose(offer(4)).expect("exposed");
    let twice = caller.stub::<(), i64>("offer").keywords(&HashMap::from([("count", 2)]));
    let twice = twice.expect("a map").options(pymq::CallOptions::default());
    let prices = |replies: &mut dyn Iterator<Item = pymq::StubReply<i64>>| {
        let mut prices: Vec<_> = replies.map(|reply| reply.result.expect("a price")).collect();
        prices.sort();
        prices
    };
    let mut replies = twice.call_all_iter(()).expect("both are there");
    assert_eq!(prices(&mut replies), [6, 8]);
    let replies = twice.call_all(()).expect("both are there");
    assert_eq!(prices(&mut replies.into_iter()), [6, 8]);
}

fn a_drained_bus_ends_its_iterators(place: &Place) {
    let [bus] = buses(place);
    let events = bus.subscribe::<Placed>().expect("subscribed");
    bus.drain().expect("drained");
    assert_eq!(events.count(), 0);
    let error = bus.publish(&Placed { id: 1 }).expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Closed);
    bus.close().expect("closing again does nothing");
}

fn a_bus_is_used_from_many_threads(place: &Place) {
    let [bus] = buses(place);
    let double = |(n,): (u64,)| Ok::<_, String>(n * 2);
    let _service = bus.expose_fn("double", double).expect("exposed");
    std::thread::scope(|threads| {
        for n in 0..8 {
            let stub = bus.stub::<(u64,), u64>("double");
            threads.spawn(move || assert_eq!(stub.call((n,)).expect("answered"), n * 2));
        }
    });
}

fn everything_may_be_dropped_in_any_order(place: &Place) {
    let [bus] = buses(place);
    let kept = bus.clone();
    let echo = move |(n,): (u64,)| kept.topic("echo").publish(&n);
    let service = bus.expose_fn("echo", echo).expect("exposed");
    let mut events = bus.topic::<u64>("echo").subscribe().expect("subscribed");
    let stub = bus.stub::<(u64,), Option<usize>>("echo");
    drop(bus);
    stub.call((3,)).expect("the bus lives with its handles");
    assert_eq!(events.next().expect("open").expect("an event"), 3);
    drop((service, stub));
    drop(events);
}

fn items_are_put_got_and_claimed(place: &Place) {
    let [bus, other] = buses(place);
    let jobs = bus.queue::<u32>("jobs").maxsize(3).max_deliveries(2);
    jobs.put_many(&[1, 2]).expect("put");
    jobs.put_timeout(&3, Duration::from_secs(60)).expect("put");
    assert_eq!(jobs.try_put(&4).expect_err("it is full").kind(), ErrorKind::Full);
    let first = jobs.peek(Shelf::Waiting, 1).expect("looked");
    assert_eq!(first.iter().flatten().collect::<Vec<_>>(), [&1]);
    assert_eq!(jobs.get().expect("got"), 1);

    let job = jobs.claim().expect("claimed");
    assert_eq!((*job, job.deliveries()), (2, 1));
    job.extend(Duration::from_secs(60)).expect("it is ours");
    job.requeue().expect("given back");
    let job = jobs.try_claim().expect("asked").expect("it came back");
    assert_eq!((*job, job.deliveries()), (2, 2));
    job.reject().expect("given up");
    assert_eq!(jobs.redrive(10).expect("moved"), 1);

    // What is dropped comes back, to another consumer too.
    drop(jobs.claim_many(10, Wait::No).expect("claimed"));
    while jobs.stats().expect("asked").waiting < 2 {
        std::thread::yield_now();
    }
    jobs.shut_down().expect("shut down");
    let theirs = other.queue::<u32>("jobs");
    let mut items = Vec::new();
    for delivery in theirs.deliveries() {
        let delivery = delivery.expect("an item");
        items.push(*delivery);
        delivery.ack().expect("acknowledged");
    }
    items.sort();
    assert_eq!(items, [2, 3]);
    assert!(theirs.is_empty().expect("asked"));
    assert_eq!(theirs.get().expect_err("shut down").kind(), ErrorKind::ShutDown);
    assert_eq!(theirs.purge().expect("and open again"), 0);
    assert_eq!(theirs.try_get().expect("asked"), None);
    assert_eq!(theirs.get_timeout(Duration::from_millis(10)).expect("asked"), None);
}

fn a_worker_serves_a_queue_on_threads_that_may_wait(place: &Place) {
    let [bus] = buses(place);
    let jobs = bus.queue::<u32>("jobs").max_deliveries(1);
    jobs.put_many(&[0, 1, 2, 3]).expect("put");
    // Two handlers meet, so they run side by side; the others fail or panic.
    let meeting = std::sync::Barrier::new(2);
    let handler = move |item| match item {
        0 | 3 => {
            meeting.wait();
            Ok(())
        }
        1 => Err("no such thing"),
        _ => panic!("as asked"),
    };
    let worker = jobs.work(2, handler).expect("started");
    jobs.join().expect("done");
    assert_eq!(jobs.stats().expect("asked").dead, 2);
    jobs.shut_down().expect("shut down");
    worker.join();
    worker.drain().expect("it ended by itself");
}

fn a_handler_that_drains_its_own_bus_does_not_wait_for_itself(place: &Place) {
    let [bus, other] = buses(place);
    let jobs = bus.queue::<u32>("jobs");
    jobs.put(&1).expect("put");
    let own = bus.clone();
    let _worker = jobs.work(1, move |_| own.drain()).expect("started");
    // The last of the states says that it is closed.
    assert_eq!(bus.states().last().expect("there is one").word(), "closed");
    let left = other.queue::<u32>("jobs").stats().expect("counted");
    assert_eq!((left.unfinished(), left.dead), (0, 0), "the item was done before");
}

/// What only memory can do so far is tried there.
#[test]
fn jobs_are_put_for_later_once_and_first_and_their_dead_letters_told() {
    let bus = Bus::connect("memory://").expect("connected");
    let jobs = bus.queue::<u32>("jobs").priorities(true).retry(Retry::never());
    let later = PutOptions::new().delay(Duration::from_millis(20));
    jobs.put_with(&1, later).expect("put");
    jobs.put_many_with(&[2, 3], PutOptions::new().priority(9)).expect("put");
    let once = PutOptions::new().id("four");
    assert_eq!(jobs.put_with(&4, once.clone()).expect("put"), Put::Done);
    assert_eq!(jobs.put_with(&4, once).expect("put"), Put::Already);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let worker = jobs.work_deliveries(1, {
        let seen = Arc::clone(&seen);
        move |job: blocking::Delivery<u32>| {
            seen.lock().expect("no panic").push(*job);
            match *job {
                2 => job.reject_because("two").map_err(|error| error.to_string()),
                3 => Err("three".to_owned()),
                _ => Ok(()),
            }
        }
    });
    jobs.join().expect("done");
    worker.expect("started").drain().expect("drained");
    assert_eq!(*seen.lock().expect("no panic"), [2, 3, 4, 1]);
    let letters = jobs.dead_letters();
    let words: Vec<_> = letters.read(0, 9).expect("read");
    let words: Vec<_> = words.iter().map(|letter| letter.failure().words.clone()).collect();
    assert_eq!(words, ["two", "three"]);
    assert_eq!(letters.discard_where(|letter| letter.item().ok() == Some(&2)).expect("gone"), 1);
    assert_eq!(letters.redrive().expect("moved"), 1);
    jobs.stop();
    let mut deliveries = jobs.deliveries();
    assert!(deliveries.next().is_none(), "it ends normally");
}

#[test]
fn an_address_that_cannot_be_used_is_an_error() {
    let error = Bus::connect("carrier-pigeon://loft").expect_err("no such transport");
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn an_async_function_that_waits_on_the_buss_own_thread_is_answered_with_a_panic() {
    let bus = Bus::connect("memory://").expect("connected");
    let inner = bus.clone();
    let function = pymq::rpc::Function::of_one_value("f", move |(): ()| {
        let inner = inner.clone();
        async move { inner.topic("t").publish(&1) }
    });
    let _service = bus.expose(function).expect("exposed");
    let error = bus.stub::<(), Option<usize>>("f").call(()).expect_err("it would hang");
    assert_eq!(error.remote().expect("its words").type_name, "Panic");
}

#[tokio::test]
async fn inside_of_async_code_it_waits_and_does_not_panic() {
    let bus = Bus::connect("memory://").expect("connected");
    let service = bus.expose(blocking::function("f", |(): ()| Ok::<_, String>(1)));
    let _service = service.expect("exposed");
    assert_eq!(bus.stub::<(), i64>("f").call(()).expect("answered"), 1);
}
