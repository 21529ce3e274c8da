//! Where a bus is awaited: within any tokio runtime. Elsewhere every operation says so, and once the
//! runtime that it was connected on has ended it is closed; nothing panics, nothing hangs.

use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use bytes::Bytes;
use place::Place;
use pymq::transport::Letters;
use pymq::wire::{Arguments, Metadata};
use pymq::{Bus, CallOptions, Delivery, ErrorKind, Filter, PutOptions, Shelf, Wait};
use tokio::runtime::{Builder, Runtime};

mod place;

/// A test that takes as long hangs.
const GUARD: Duration = Duration::from_secs(180);
const SHORT: Duration = Duration::from_millis(200);
/// How many items are held for the doors that settle one.
const HELD: u32 = 6;

/// Awaits on this thread, where there is no runtime.
fn outside<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Runs a journey on a thread of its own, which must end.
fn guarded(journey: impl FnOnce() + Send + 'static) {
    let (done, over) = channel::<()>();
    let thread = thread::spawn(move || {
        // Dropped at its end, or when it panics: that ends the wait.
        let _done = done;
        journey();
    });
    assert_ne!(over.recv_timeout(GUARD), Err(RecvTimeoutError::Timeout), "the journey hangs");
    thread.join().expect("it does not panic");
}

fn everywhere(journey: impl Fn(&Place) + Send + Sync + Clone + 'static) {
    let in_memory = journey.clone();
    guarded(move || in_memory(&Place::memory()));
    #[cfg(feature = "redis")]
    guarded(move || journey(&Place::redis()));
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// A bus, and deliveries of its queue `jobs` in hand.
async fn connected(place: &Place) -> (Bus, Vec<Delivery<u32>>) {
    let bus = place.bus().await;
    let jobs = bus.queue::<u32>("jobs");
    jobs.put_many(&(0..HELD).collect::<Vec<_>>()).await.expect("put");
    (bus, jobs.claim_many(HELD as usize, Wait::No).await.expect("claimed"))
}

/// Goes through every door, each of which says `kind`.
async fn every_door_says(kind: ErrorKind, bus: &Bus, held: Vec<Delivery<u32>>) {
    macro_rules! says {
        ($($what:literal: $operation:expr),* $(,)?) => {$(
            let error = $operation.await.map(drop).expect_err($what);
            assert_eq!(error.kind(), kind, "{}: {error}", $what);
        )*};
    }
    let bytes = Bytes::from_static(b"1");
    let filter = Filter::Topic("news".to_owned());
    let news = bus.topic::<u32>("news");
    says!(
        "publish": news.publish(&1),
        "publish bytes": bus.publish_bytes("news", bytes.clone()),
        "subscribe": news.subscribe(),
        "subscribe to a pattern": bus.pattern::<u32>("n*"),
        "subscribe to several": bus.subscribe_to::<u32>(std::slice::from_ref(&filter)),
        "subscribe to bytes": bus.subscribe_bytes(&filter),
        "ping": bus.ping(),
    );
    let jobs = bus.queue::<u32>("jobs");
    let ahead = jobs.clone().prefetch(10);
    let (queues, options) = ([jobs.clone(), ahead.clone()], PutOptions::new().delay(SHORT));
    says!(
        "put": jobs.put(&1),
        "try_put": jobs.try_put(&1),
        "put_timeout": jobs.put_timeout(&1, SHORT),
        "put_with": jobs.put_with(&1, options),
        "put_many": jobs.put_many(&[1, 2]),
        "put where there is a bound": jobs.clone().maxsize(1).put(&1),
        "get": jobs.get(),
        "try_get": jobs.try_get(),
        "get_timeout": jobs.get_timeout(SHORT),
        "get_many": jobs.get_many(9, SHORT),
        "get ahead": ahead.get(),
        "try_get ahead": ahead.try_get(),
        "get_timeout ahead": ahead.get_timeout(SHORT),
        "get_any": pymq::get_any(&queues, SHORT),
        "claim": jobs.claim(),
        "try_claim": jobs.try_claim(),
        "claim_timeout": jobs.claim_timeout(SHORT),
        "claim_many": jobs.claim_many(9, SHORT),
        "claim_any": pymq::claim_any(&queues, Wait::Forever),
        "len": jobs.len(),
        "is_empty": jobs.is_empty(),
        "stats": jobs.stats(),
        "join": jobs.join(),
        "peek": jobs.peek(Shelf::Waiting, 1),
        "purge": jobs.purge(),
        "redrive": jobs.redrive(1),
        "shut_down": jobs.shut_down(),
    );
    let (dead, letters) = (jobs.dead_letters(), bus.byte_queue("jobs"));
    says!(
        "dead letters, len": dead.len(),
        "dead letters, read": dead.read(0, 1),
        "dead letters, redrive": dead.redrive(),
        "dead letters, redrive_to": dead.redrive_to(&jobs),
        "dead letters, redrive_where": dead.redrive_where(|_| true),
        "dead letters, discard_where": dead.discard_where(|_| true),
        "dead letters, purge": dead.purge(),
        "discard": letters.discard(Letters::Oldest(1)),
    );
    let stub = bus.stub::<(u32,), u32>("f");
    let arguments = || Arguments {
        positional: Bytes::from_static(b"[1]"),
        keywords: Bytes::from_static(b"{}"),
        types: None,
    };
    says!(
        "expose": bus.expose_fn("f", |(n,): (u32,)| async move { Ok::<_, String>(n) }),
        "provide": bus.provide("f"),
        "call": stub.call((1,)),
        "call in time": stub.timeout(SHORT).call((1,)),
        "call_all": stub.call_all((1,)),
        "call_all in time": stub.timeout(SHORT).call_all((1,)),
        "call_all_stream": stub.call_all_stream((1,)),
        "call_bytes": bus.call_bytes("f", arguments(), Metadata::default(), CallOptions::default()),
        "call_all_bytes":
            bus.call_all_bytes("f", arguments(), Metadata::default(), CallOptions::default()),
    );
    let mut held = held.into_iter();
    let mut next = || held.next().expect("as many are held");
    let extended = next();
    says!(
        "extend": extended.extend(GUARD),
        "ack": extended.ack(),
        "requeue": next().requeue(),
        "requeue_after": next().requeue_after(SHORT),
        "reject": next().reject(),
        "reject_because": next().reject_because("no"),
    );
    next().ack_soon();
}

#[test]
fn outside_of_a_runtime_every_door_says_so_and_nothing_is_lost() {
    everywhere(|place| {
        let runtime = runtime();
        let (bus, held) = runtime.block_on(connected(place));
        outside(every_door_says(ErrorKind::Config, &bus, held));
        let jobs = bus.queue::<u32>("jobs");
        let refused = jobs.work(1, async |_: u32| Ok::<(), String>(())).expect_err("no runtime");
        assert_eq!(refused.kind(), ErrorKind::Config, "{refused}");
        let delivered = outside(jobs.deliveries().recv()).expect("an error");
        assert_eq!(delivered.expect_err("no runtime").kind(), ErrorKind::Config);
        let error = outside(jobs.get()).expect_err("no runtime");
        assert_eq!(error.kind(), ErrorKind::Config);
        let words = error.to_string();
        assert!(words.contains("tokio runtime") && words.contains("jobs"), "{words}");
        let left = HELD as usize - 1;
        let back = runtime.block_on(async {
            tokio::time::timeout(GUARD, async {
                while jobs.stats().await.expect("counted").waiting < left {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
        });
        back.expect("what could not be settled is back");
    });
}

#[test]
fn streams_are_read_and_handles_dropped_and_the_bus_closed_outside_of_a_runtime() {
    everywhere(|place| {
        let runtime = runtime();
        let (bus, held) = runtime.block_on(connected(place));
        let mut news = runtime.block_on(bus.topic::<u32>("news").subscribe()).expect("subscribed");
        let forever = |(): ()| async {
            std::future::pending::<()>().await;
            Ok::<_, String>(7)
        };
        let service = runtime.block_on(bus.expose_fn("slow", forever)).expect("exposed");
        let worker = {
            let _entered = runtime.enter();
            bus.queue::<u32>("others").work(1, async |_: u32| Ok::<(), String>(())).expect("works")
        };
        let stub = bus.stub::<(), u32>("slow");
        let mut replies = runtime.block_on(stub.call_all_stream(())).expect("called");
        let late = outside(replies.recv()).expect("an error").result.expect_err("no runtime");
        assert_eq!(late.kind(), ErrorKind::Config, "{late}");
        assert!(outside(replies.recv()).is_none(), "it has ended");
        runtime.block_on(bus.topic("news").publish(&1)).expect("published");
        assert_eq!(outside(news.recv()).expect("it came").expect("a number"), 1);
        drop((held, replies, service));
        outside(worker.drain()).expect("it ended well");
        let mut states = bus.states();
        assert!(outside(states.next()).expect("a state").is_connected());
        outside(bus.close()).expect("closed");
        assert!(outside(news.recv()).is_none(), "the bus is closed");
        assert_eq!(outside(states.next()).expect("the last").word(), "closed");
        let error = outside(bus.ping()).expect_err("closed");
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        outside(bus.drain()).expect("it is closed already");
    });
}

/// Goes through every door of a bus whose runtime has ended, each of which is closed.
async fn is_closed(bus: &Bus, held: Vec<Delivery<u32>>) {
    every_door_says(ErrorKind::Closed, bus, held).await;
    assert!(bus.queue::<u32>("jobs").deliveries().recv().await.is_none(), "no stream is left");
    bus.drain().await.expect("nothing is left to do");
    bus.close().await.expect("nothing is left to do");
    assert_eq!(bus.state().word(), "closed");
}

#[test]
fn a_bus_whose_runtime_has_ended_is_closed_at_every_door() {
    everywhere(|place| {
        let first = runtime();
        let (bus, held) = first.block_on(connected(place));
        drop(first);
        runtime().block_on(is_closed(&bus, held));
        let first = runtime();
        let bus = first.block_on(place.bus());
        let jobs = bus.queue::<u32>("others");
        first.block_on(jobs.put_many(&[1; HELD as usize])).expect("put");
        let held = first.block_on(jobs.claim_many(HELD as usize, Wait::No)).expect("claimed");
        drop(first);
        outside(is_closed(&bus, held));
    });
}

#[test]
fn what_lives_and_waits_while_its_runtime_ends_is_told() {
    everywhere(|place| {
        let first = runtime();
        let bus = first.block_on(place.bus());
        let mut news = first.block_on(bus.topic::<u32>("news").subscribe()).expect("subscribed");
        let (mut states, mut stream) = (bus.states(), bus.queue::<u32>("none").deliveries());
        let slow = |(): ()| async {
            std::future::pending::<()>().await;
            Ok::<_, String>(7)
        };
        let service = first.block_on(bus.expose_fn("slow", slow)).expect("exposed");
        let worker = {
            let _entered = first.enter();
            bus.queue::<u32>("others").work(1, async |_: u32| Ok::<(), String>(())).expect("works")
        };
        let (waits, waiting) = channel();
        let elsewhere = {
            let (stub, none) = (bus.stub::<(), u32>("slow"), bus.queue::<u32>("none"));
            thread::spawn(move || {
                runtime().block_on(async {
                    let waiting = tokio::join!(
                        stub.call(()),
                        none.get(),
                        none.get_timeout(GUARD * 2),
                        async {
                            // Usually all wait at the broker by then; one that is not there yet is told too.
                            tokio::time::sleep(SHORT).await;
                            waits.send(()).expect("somebody hears");
                        },
                    );
                    (waiting.0, waiting.1, waiting.2)
                })
            })
        };
        waiting.recv().expect("they wait");
        drop(first);
        let (called, got, in_time) = elsewhere.join().expect("no panic");
        let called = called.expect_err("nobody answers").kind();
        assert!(matches!(called, ErrorKind::Closed | ErrorKind::ProviderLost), "{called:?}");
        assert_eq!(got.expect_err("closed").kind(), ErrorKind::Closed);
        assert_eq!(in_time.expect_err("closed").kind(), ErrorKind::Closed);
        outside(async {
            assert!(news.recv().await.is_none(), "it has ended");
            assert!(stream.recv().await.is_none(), "it has ended");
            while let Some(state) = states.next().await {
                assert!(state.word() == "closed" || state.is_connected(), "{state}");
            }
            service.drain().await;
            worker.ended().await;
            let error = worker.drain().await.expect_err("its runtime has ended");
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        });
    });
}

#[test]
fn a_runtime_without_timers_is_refused_when_a_bus_is_connected() {
    let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
    let error = runtime.block_on(Bus::connect("memory://")).expect_err("it keeps no time");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[cfg(all(feature = "redis", unix))]
#[test]
fn a_runtime_without_sockets_is_refused_where_they_are_needed() {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let error = runtime.block_on(Bus::connect("redis://127.0.0.1:1")).expect_err("no sockets");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    runtime.block_on(Bus::connect("memory://")).expect("it needs none");
}
