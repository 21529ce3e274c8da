//! Workers as users see them, on every transport.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pymq::{ErrorKind, Queue, Retry};
use tokio::sync::{Notify, Semaphore};

use super::until;
use crate::everywhere;
use crate::place::Place;

everywhere!(
    a_worker_serves_so_many_items_at_once_and_no_more,
    an_item_whose_handler_fails_comes_again_until_it_is_a_dead_letter,
    a_panic_in_a_handler_is_its_items_affair_alone,
    an_item_of_another_type_does_not_stop_a_worker,
    draining_finishes_what_is_in_hand_and_returns_the_rest,
    a_drain_that_takes_too_long_is_broken_off_and_gives_back,
    a_dropped_worker_gives_back_what_it_had_in_hand,
    a_worker_ends_when_its_queue_is_shut_down_and_empty,
    a_worker_ends_with_its_bus,
    a_worker_that_could_serve_nothing_is_refused,
);

async fn a_worker_serves_so_many_items_at_once_and_no_more(place: &Place) {
    let queue = queue(place).await;
    let (gate, running, most) =
        (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)), Arc::default());
    let worker = {
        let (gate, running, most): (_, _, Arc<AtomicUsize>) =
            (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
        queue.work(3, move |_: u32| {
            let (gate, running, most) =
                (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
            async move {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                gate.acquire().await.expect("it is never closed").forget();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, String>(())
            }
        })
    };
    queue.put_many(&(0..10).collect::<Vec<_>>()).await.expect("put");
    until(async || running.load(Ordering::SeqCst) == 3).await;
    assert_eq!(queue.stats().await.expect("stats").waiting, 7);
    gate.add_permits(10);
    queue.join().await.expect("all is done");
    assert_eq!(most.load(Ordering::SeqCst), 3);
    worker.expect("it began").drain().await.expect("drained");
}

async fn an_item_whose_handler_fails_comes_again_until_it_is_a_dead_letter(place: &Place) {
    let queue = queue(place).await.max_deliveries(3).retry(Retry::at_once());
    let tries = Arc::new(Mutex::new(Vec::new()));
    let worker = {
        let tries = Arc::clone(&tries);
        queue.work(1, move |number| {
            tries.lock().expect("no panic").push(number);
            async move { if number == 2 { Err("I do not like it") } else { Ok(()) } }
        })
    };
    queue.put_many(&[1, 2, 3]).await.expect("put");
    queue.join().await.expect("all is done, or dead");
    worker.expect("it began").drain().await.expect("drained");
    assert_eq!(*tries.lock().expect("no panic"), [1, 2, 2, 2, 3]);
    let dead = queue.peek(pymq::Shelf::Dead, 9).await.expect("peeked");
    assert_eq!(dead.iter().flatten().collect::<Vec<_>>(), [&2]);
}

async fn a_panic_in_a_handler_is_its_items_affair_alone(place: &Place) {
    let queue = queue(place).await.max_deliveries(2).retry(Retry::at_once());
    let done = Done::default();
    let worker = {
        let done = done.clone();
        queue.work(2, move |number| {
            assert_ne!(number, 2, "a handler may panic before its future is made");
            let done = done.clone();
            async move {
                assert_ne!(number, 3, "and in it");
                done.add(number);
                Ok::<_, String>(())
            }
        })
    };
    queue.put_many(&[1, 2, 3, 4]).await.expect("put");
    queue.join().await.expect("all is done, or dead");
    worker.expect("it began").drain().await.expect("drained");
    assert_eq!(done.sorted(), [1, 4]);
    assert_eq!(queue.stats().await.expect("stats").dead, 2);
}

async fn an_item_of_another_type_does_not_stop_a_worker(place: &Place) {
    let bus = place.bus().await;
    let (texts, queue) = (bus.queue::<&str>("jobs"), bus.queue::<u32>("jobs"));
    texts.put(&"no number").await.expect("put");
    queue.put(&1).await.expect("put");
    let done = Done::default();
    let worker = queue.work(1, done.handler()).expect("it began");
    queue.join().await.expect("all is done, or dead");
    worker.drain().await.expect("drained");
    assert_eq!(done.sorted(), [1]);
    assert_eq!(queue.stats().await.expect("stats").dead, 1);
}

async fn draining_finishes_what_is_in_hand_and_returns_the_rest(place: &Place) {
    let queue = queue(place).await;
    let hand = Hand::default();
    let worker = queue.clone().prefetch(10).work(1, hand.handler()).expect("it began");
    queue.put_many(&[1, 2, 3]).await.expect("put");
    until(async || queue.stats().await.expect("stats").leased == 3).await;
    hand.begun.notified().await;
    let drain = tokio::spawn(worker.drain());
    // What was fetched ahead goes back at once; the one in hand stays.
    until(async || queue.stats().await.expect("stats").waiting == 2).await;
    assert!(!drain.is_finished());
    hand.goes_on.notify_one();
    drain.await.expect("no panic").expect("drained");
    assert_eq!(hand.done.sorted(), [1]);
    assert_eq!(queue.stats().await.expect("stats").leased, 0);
    for number in [2, 3] {
        let next = queue.claim().await.expect("claimed");
        assert_eq!((*next, next.deliveries()), (number, 1));
        next.ack().await.expect("confirmed");
    }
}

async fn a_drain_that_takes_too_long_is_broken_off_and_gives_back(place: &Place) {
    let queue = queue(place).await;
    let hand = Hand::default();
    let worker = queue.work(1, hand.handler()).expect("it began");
    queue.put(&1).await.expect("put");
    hand.begun.notified().await;
    let grace = Duration::from_millis(20);
    assert!(tokio::time::timeout(grace, worker.drain()).await.is_err(), "nobody lets it go on");
    let again = queue.claim().await.expect("claimed");
    assert_eq!((*again, again.deliveries()), (1, 2));
    assert!(hand.done.sorted().is_empty());
}

async fn a_dropped_worker_gives_back_what_it_had_in_hand(place: &Place) {
    let queue = queue(place).await;
    let hand = Hand::default();
    let worker = queue.work(1, hand.handler()).expect("it began");
    queue.put(&1).await.expect("put");
    hand.begun.notified().await;
    std::thread::spawn(move || drop(worker)).join().expect("it needs no runtime");
    let again = queue.claim().await.expect("claimed");
    assert_eq!((*again, again.deliveries()), (1, 2));
    // It claims no more, either.
    queue.put(&2).await.expect("put");
    assert_eq!(queue.get().await.expect("got"), 2);
}

async fn a_worker_ends_when_its_queue_is_shut_down_and_empty(place: &Place) {
    let queue = queue(place).await.retry(Retry::at_once());
    let (done, tried) = (Done::default(), Arc::new(AtomicUsize::new(0)));
    let fail = Arc::new(Notify::new());
    let worker = {
        let (done, tried, fail) = (done.clone(), Arc::clone(&tried), Arc::clone(&fail));
        queue.work(8, move |number| {
            let fails = number == 5 && tried.fetch_add(1, Ordering::SeqCst) == 0;
            let (done, fail) = (done.clone(), Arc::clone(&fail));
            async move {
                if fails {
                    fail.notified().await;
                    return Err("not yet");
                }
                done.add(number);
                Ok(())
            }
        })
    };
    let worker = worker.expect("it began");
    queue.put_many(&(0..20).collect::<Vec<_>>()).await.expect("put");
    queue.shut_down().await.expect("shut down");
    until(async || done.sorted().len() == 19).await;
    // The worker is told so together with us; then something comes back after all.
    assert_eq!(queue.get().await.expect_err("empty").kind(), ErrorKind::ShutDown);
    fail.notify_one();
    worker.ended().await;
    worker.drain().await.expect("it ended well");
    assert_eq!(done.sorted(), (0..20).collect::<Vec<_>>());
    assert_eq!(tried.load(Ordering::SeqCst), 2);
}

async fn a_worker_ends_with_its_bus(place: &Place) {
    let bus = place.bus().await;
    let worker = bus.queue::<u32>("jobs").work(1, Done::default().handler()).expect("it began");
    bus.close().await.expect("closed");
    worker.ended().await;
    worker.drain().await.expect("a bus that closes is a regular end");
}

async fn a_worker_that_could_serve_nothing_is_refused(place: &Place) {
    let queue = queue(place).await;
    let refused = queue.work(0, Done::default().handler()).expect_err("nothing at once");
    assert_eq!((refused.kind(), refused.object()), (ErrorKind::Config, "jobs"));
    let elsewhere = std::thread::spawn(move || queue.work(1, Done::default().handler()));
    let refused = elsewhere.join().expect("no panic").expect_err("there is no runtime");
    assert_eq!(refused.kind(), ErrorKind::Config);
}

#[cfg(feature = "redis")]
mod over_redis {
    use std::process::{Child, Command, Stdio};

    use pymq::Bus;

    use super::*;
    use crate::place::{guarded, server::RedisServer};

    const ADDRESS: &str = "PYMQ_TEST_WORKER_OF";
    /// For a process that lives until it is killed, though it may stand still for a while.
    const LEASE: Duration = Duration::from_secs(4);

    #[tokio::test]
    async fn a_worker_survives_lost_connections_and_loses_nothing() {
        guarded(async {
            let server = RedisServer::start();
            let bus = Bus::connect(&server.url()).await.expect("connected");
            let putter = Bus::connect(&server.url()).await.expect("connected");
            let (queue, putter) = (bus.queue::<u32>("jobs"), putter.queue::<u32>("jobs"));
            let done = Done::default();
            let worker = queue.work(4, done.handler()).expect("it began");
            let (mut raw, mut killed) = (server.raw(), 0);
            for number in 0..200 {
                putter.put(&number).await.expect("put");
                if number % 20 == 0 {
                    until(async || done.sorted().len() as u32 > number / 2).await;
                    let all = ["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"];
                    // Those that are on their way back from the last time are not there to be killed.
                    let enough = killed + 2;
                    until(async || {
                        killed += raw.run(&all).number();
                        killed >= enough
                    })
                    .await;
                    until(async || putter.len().await.is_ok()).await;
                }
            }
            until(async || putter.stats().await.is_ok_and(|s| s.waiting + s.leased == 0)).await;
            worker.drain().await.expect("drained");
            assert_eq!(done.sorted(), (0..200).collect::<Vec<_>>());
            assert!(killed >= 20, "only {killed} connections were killed");
        })
        .await;
    }

    #[tokio::test]
    async fn what_a_killed_worker_had_in_hand_is_served_by_others() {
        guarded(async {
            let server = RedisServer::start();
            let bus = Bus::connect(&server.url()).await.expect("connected");
            let queue = bus.queue::<u32>("jobs").lease(LEASE);
            queue.put_many(&(0..20).collect::<Vec<_>>()).await.expect("put");
            let mut doomed = Doomed::start(&server);
            // Three in hand, of which none is ever done, and five fetched ahead.
            until(async || queue.stats().await.expect("stats").leased == 8).await;
            doomed.kill();
            let done = Done::default();
            let worker = queue.work(2, done.handler()).expect("it began");
            queue.join().await.expect("all is done");
            worker.drain().await.expect("drained");
            assert_eq!(done.sorted(), (0..20).collect::<Vec<_>>());
            assert_eq!(queue.stats().await.expect("stats").dead, 0);
        })
        .await;
    }

    /// What the doomed process runs: a worker that takes items and does nothing with them.
    #[test]
    #[ignore = "the process that another test kills"]
    fn doomed_process() {
        let Ok(address) = std::env::var(ADDRESS) else { return };
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let bus = Bus::connect(&address).await.expect("connected");
            let queue = bus.queue::<u32>("jobs").lease(LEASE).prefetch(8);
            let never = |_: u32| std::future::pending::<Result<(), String>>();
            queue.work(3, never).expect("it began").ended().await;
        });
    }

    /// A process of this binary's; it does not outlive its test.
    struct Doomed(Child);

    impl Doomed {
        fn start(server: &RedisServer) -> Self {
            let binary = std::env::current_exe().expect("a test is a file");
            let process = Command::new(binary)
                .args(["--exact", "worker::over_redis::doomed_process", "--ignored"])
                .env(ADDRESS, server.url())
                .stdout(Stdio::null())
                .spawn();
            Self(process.expect("a test can be run"))
        }

        fn kill(&mut self) {
            // It may have ended by itself, which the test notices.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Drop for Doomed {
        fn drop(&mut self) {
            self.kill();
        }
    }
}

/// The numbers that were served; some may have been served twice.
#[derive(Clone, Default)]
struct Done(Arc<Mutex<BTreeSet<u32>>>);

impl Done {
    fn add(&self, number: u32) {
        self.0.lock().expect("no panic under the lock").insert(number);
    }

    fn sorted(&self) -> Vec<u32> {
        self.0.lock().expect("no panic under the lock").iter().copied().collect()
    }

    fn handler(&self) -> impl Fn(u32) -> std::future::Ready<Result<(), String>> + use<> {
        let done = self.clone();
        move |number| {
            done.add(number);
            std::future::ready(Ok(()))
        }
    }
}

/// A handler that says when it has begun, and goes on when it may.
#[derive(Clone, Default)]
struct Hand {
    begun: Arc<Notify>,
    goes_on: Arc<Notify>,
    done: Done,
}

impl Hand {
    fn handler(&self) -> impl Fn(u32) -> futures_util::future::BoxFuture<'static, Served> + use<> {
        let hand = self.clone();
        move |number| {
            let hand = hand.clone();
            Box::pin(async move {
                hand.begun.notify_one();
                hand.goes_on.notified().await;
                hand.done.add(number);
                Ok(())
            })
        }
    }
}

type Served = Result<(), String>;

async fn queue(place: &Place) -> Queue<u32> {
    place.bus().await.queue("jobs")
}
