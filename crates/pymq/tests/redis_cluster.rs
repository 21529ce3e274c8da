//! A cluster: every queue where its slot is, events and calls in one place, and all of it follows when
//! slots move and masters change.
#![cfg(feature = "redis")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pymq::transport::Severity;
use pymq::{Bus, ErrorKind, Wait};
use server::clustered::{Clustered, LONG};
use tokio::task::{JoinHandle, block_in_place};

mod server;

/// A test that waits for as long hangs.
const GUARD: Duration = Duration::from_secs(180);
const SHORT: Duration = Duration::from_millis(500);
/// Where events and calls are.
const HOME: &str = "{__pymq}";
const QUEUES: u32 = 6;

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let guard = Instant::now() + GUARD;
    while !holds().await {
        assert!(Instant::now() < guard, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Puts numbers into several queues until it is told to end; those that were confirmed.
fn produce(bus: &Bus, last: &Arc<AtomicU32>) -> JoinHandle<Vec<u32>> {
    let (bus, last) = (bus.clone(), Arc::clone(last));
    tokio::spawn(async move {
        let mut confirmed = Vec::new();
        for number in 0.. {
            match bus.queue(&format!("q{}", number % QUEUES)).put(&number).await {
                Ok(()) => confirmed.push(number),
                Err(error) => {
                    let told = [ErrorKind::Ambiguous, ErrorKind::Connection, ErrorKind::Server];
                    assert!(told.contains(&error.kind()), "{error}");
                }
            }
            if number >= last.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        confirmed
    })
}

/// Takes and confirms until it is told to end; what it had in hand.
fn consume(bus: &Bus, queue: u32, ended: &Arc<AtomicU32>) -> JoinHandle<HashSet<u32>> {
    let (queue, ended) = (bus.queue::<u32>(&format!("q{queue}")), Arc::clone(ended));
    tokio::spawn(async move {
        let mut seen = HashSet::new();
        while ended.load(Ordering::Relaxed) == 0 {
            match queue.claim_timeout(SHORT).await {
                Ok(Some(delivery)) => {
                    seen.insert(*delivery);
                    // Told or not, it is confirmed or comes again.
                    let _ = delivery.ack().await;
                }
                Ok(None) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        seen
    })
}

struct Life {
    bus: Bus,
    other: Bus,
    news: pymq::Events<u32>,
    wild: pymq::PatternEvents<u32>,
    _service: pymq::Service,
}

impl Life {
    async fn begin(url: &str) -> Self {
        let bus = Bus::connect(url).await.expect("connected");
        let other = Bus::connect(url).await.expect("connected");
        let news = bus.topic::<u32>("news").subscribe().await.expect("subscribed");
        let wild = bus.pattern::<u32>("ne*").await.expect("subscribed");
        let service = bus.expose_fn("f", |(): ()| async { Ok::<_, String>(7) });
        let service = service.await.expect("bound");
        Self { bus, other, news, wild, _service: service }
    }

    async fn goes_on(&mut self, after: &str) {
        until(&format!("both are counted after {after}"), async || {
            self.other.topic("news").publish(&9_u32).await.is_ok_and(|count| count == Some(2))
        })
        .await;
        until(&format!("an event is heard after {after}"), async || {
            let arrived = tokio::time::timeout(SHORT, self.news.recv()).await;
            arrived.is_ok_and(|event| event.expect("the bus is open").is_ok())
        })
        .await;
        until(&format!("a pattern catches it after {after}"), async || {
            let arrived = tokio::time::timeout(SHORT, self.wild.recv()).await;
            arrived.is_ok_and(|event| event.expect("the bus is open").is_ok())
        })
        .await;
        until(&format!("a call is answered after {after}"), async || {
            self.other.stub::<(), u32>("f").call(()).await.is_ok_and(|seven| seven == 7)
        })
        .await;
        let round = join_all((0..QUEUES).map(async |number| {
            let name = format!("probe{number}");
            let queue = self.other.queue::<u32>(&name);
            until(&format!("{name} works after {after}"), async || {
                queue.put(&number).await.is_ok()
                    && self
                        .bus
                        .queue::<u32>(&name)
                        .get_timeout(SHORT)
                        .await
                        .is_ok_and(|got| got == Some(number))
            })
            .await;
        }));
        round.await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_follows_slots_that_move_and_masters_that_change_and_no_item_is_lost() {
    let mut cluster = block_in_place(Clustered::start);
    cluster.set_patience(LONG);
    let mut life = Life::begin(&cluster.url()).await;
    let mut quiet = life.bus.topic::<u32>("quiet").subscribe().await.expect("subscribed");
    life.goes_on("the beginning").await;
    let nodes: HashSet<_> = (0..QUEUES)
        .map(|number| cluster.owner(cluster.slot_of(&format!("__eventbus:global:q{number}"))))
        .collect();
    assert!(nodes.len() > 1, "the queues lie on several nodes");

    let (last, ended) = (Arc::new(AtomicU32::new(u32::MAX)), Arc::new(AtomicU32::new(0)));
    let consumer = Bus::connect(&cluster.url()).await.expect("connected");
    let consumers: Vec<_> = (0..QUEUES).map(|queue| consume(&consumer, queue, &ended)).collect();
    let produced = produce(&life.other, &last);

    // Slots move back and forth, with what is leased in them, and that of events and calls.
    for round in 1..=2_usize {
        for name in ["__eventbus:global:q0", "__eventbus:global:q1", HOME] {
            let slot = cluster.slot_of(name);
            let to = (cluster.owner(slot) + round) % 3;
            block_in_place(|| cluster.move_slot(slot, to));
        }
        life.goes_on("slots have moved").await;
    }

    let told = tokio::time::timeout(GUARD, quiet.recv()).await.expect("something is told");
    let told = told.expect("the bus is open").expect_err("nothing was published");
    assert_eq!(told.kind(), ErrorKind::Lagged, "{told}");

    // By hand nothing is lost: the master waits until its replica has all.
    let home = cluster.owner(cluster.slot_of(HOME));
    block_in_place(|| {
        cluster.fail_over(home);
        cluster.until_whole();
    });
    life.goes_on("a failover by hand").await;

    last.store(0, Ordering::Relaxed);
    let confirmed = produced.await.expect("no panic");
    until("all is done", async || {
        let left = join_all((0..QUEUES).map(async |number| {
            let stats = life.bus.queue::<u32>(&format!("q{number}")).stats().await;
            stats.is_ok_and(|stats| stats.waiting + stats.leased == 0)
        }));
        left.await.into_iter().all(|empty| empty)
    })
    .await;
    ended.store(1, Ordering::Relaxed);
    let mut seen = HashSet::new();
    for consumer in consumers {
        seen.extend(consumer.await.expect("no panic"));
    }
    let lost: Vec<_> = confirmed.iter().filter(|number| !seen.contains(number)).collect();
    assert!(lost.is_empty(), "{} of {}: {lost:?}", lost.len(), confirmed.len());
    assert!(confirmed.len() > 30, "only {} puts were confirmed", confirmed.len());

    // Killed, the master of events and calls is replaced by its replica.
    let slot = cluster.slot_of(HOME);
    let killed = cluster.owner(slot);
    cluster.set_patience("1000");
    cluster.nodes[killed].kill();
    block_in_place(|| cluster.until_moved(slot, killed));
    life.goes_on("the master of events and calls was killed").await;
    life.bus.close().await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_comes_twice_or_late_and_no_call_is_executed_twice_while_their_slot_moves() {
    let cluster = Arc::new(block_in_place(|| Clustered::start_with(3, &[])));
    cluster.set_patience(LONG);
    let bus = async || Bus::connect(&cluster.url()).await.expect("connected");
    let (one, two, caller) = (bus().await, bus().await, bus().await);
    let executed = Arc::new(Mutex::new(HashMap::<u32, u32>::new()));
    let mut services = Vec::new();
    for bus in [&one, &two] {
        let executed = Arc::clone(&executed);
        let count = move |(number,): (u32,)| {
            *executed.lock().expect("no panic").entry(number).or_default() += 1;
            async move { Ok::<_, String>(number) }
        };
        services.push(bus.expose_fn("count", count).await.expect("bound"));
    }
    let mut news = one.topic::<u32>("news").subscribe().await.expect("subscribed");
    let called = Arc::new(AtomicU32::new(0));
    let moving = {
        let (cluster, called) = (Arc::clone(&cluster), Arc::clone(&called));
        tokio::task::spawn_blocking(move || {
            let slot = cluster.slot_of(HOME);
            for round in 1..=6 {
                cluster.move_slot(slot, (cluster.owner(slot) + 1) % 3);
                while called.load(Ordering::Relaxed) < round * 4 {
                    std::thread::sleep(SHORT / 50);
                }
            }
        })
    };
    let (stub, topic) = (caller.stub::<(u32,), u32>("count"), caller.topic::<u32>("news"));
    let mut number = 0;
    while !moving.is_finished() {
        // Whether it is waited for or not.
        for _ in 0..5 {
            number += 1;
            topic.post(&number).await.expect("posted");
        }
        number += 1;
        topic.publish(&number).await.expect("published");
        match stub.call((number,)).await {
            Ok(answer) => {
                assert_eq!(answer, number);
                called.fetch_add(1, Ordering::Relaxed);
            }
            // All providers may be on their way.
            Err(error) => {
                let honest = [ErrorKind::NoSuchRemote, ErrorKind::ProviderLost];
                assert!(honest.contains(&error.kind()), "{error}");
            }
        }
    }
    moving.await.expect("no panic");
    let twice: Vec<_> = executed.lock().expect("no panic").clone().into_iter().collect();
    assert!(twice.iter().all(|(_, times)| *times == 1), "{twice:?}");
    assert!(twice.len() > 20, "only {} of {number} were executed", twice.len());
    // The last event comes, and each before it once, in order.
    let last = u32::MAX;
    until("all listen again", async || {
        topic.publish(&last).await.is_ok_and(|count| count == Some(1))
    })
    .await;
    let (mut before, mut heard) = (0, 0);
    while before != last {
        let event = tokio::time::timeout(GUARD, news.recv()).await.expect("it comes");
        match event.expect("the bus is open") {
            Ok(event) if event == last => before = last,
            Ok(event) => {
                assert!(event > before, "{event} after {before}");
                (before, heard) = (event, heard + 1);
            }
            Err(gap) => assert_eq!(gap.kind(), ErrorKind::Lagged, "{gap}"),
        }
    }
    assert!(heard > 10, "only {heard} of {number} were heard");
}

/// A queue's key.
fn key(queue: &str) -> String {
    format!("__eventbus:global:{queue}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_leased_moves_with_its_slot() {
    let cluster = Clustered::shared();
    let bus = Bus::connect(&cluster.url()).await.expect("connected");
    let queue = bus.queue::<u32>("leased");
    queue.put_many(&[1, 2, 3]).await.expect("put");
    let (kept, dropped) = (queue.claim().await.expect("got"), queue.claim().await.expect("got"));
    let slot = cluster.slot_of(&key("leased"));
    let to = (cluster.owner(slot) + 1) % 3;
    block_in_place(|| cluster.move_slot(slot, to));
    kept.ack().await.expect("it is ours still");
    dropped.requeue().await.expect("it is ours still");
    assert_eq!(queue.get().await.expect("it is back at the head"), 2);
    assert_eq!(queue.get_timeout(GUARD).await.expect("got"), Some(3));
    let stats = queue.stats().await.expect("counted");
    assert_eq!((stats.waiting, stats.leased), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_is_stuck_on_its_way_holds_up_its_queue_alone() {
    let cluster = Clustered::shared();
    let bus = Bus::connect(&format!("{}?reconnect_wait=0.5", cluster.url())).await;
    let bus = bus.expect("connected");
    let (stuck, other) = (bus.queue::<u32>("stuck"), bus.queue::<u32>("beside it"));
    let patient = Bus::connect(&cluster.url()).await.expect("connected");
    patient.queue("stuck").put(&1_u32).await.expect("put");
    let slot = cluster.slot_of(&key("stuck"));
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    block_in_place(|| cluster.begin_moving(slot, from, to));
    let error = stuck.get_timeout(SHORT).await.expect_err("its keys are on their way");
    assert!(error.is_retryable(), "{error}");
    other.put(&2).await.expect("put");
    assert_eq!(other.get().await.expect("got"), 2);
    block_in_place(|| cluster.finish_moving(slot, from, to));
    assert_eq!(stuck.get_timeout(GUARD).await.expect("got"), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_from_several_queues_is_not_kept_from_the_others_by_one_that_is_stuck() {
    let cluster = Clustered::shared();
    let bus = Bus::connect(&format!("{}?reconnect_wait=0.5", cluster.url())).await;
    let bus = bus.expect("connected");
    let queues = ["stuck before others", "one of the others"].map(|name| bus.queue::<u32>(name));
    let [stuck, other] = &queues;
    stuck.put(&1).await.expect("put");
    let slot = cluster.slot_of(&key(stuck.name()));
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    block_in_place(|| cluster.begin_moving(slot, from, to));
    for (item, wait) in [(2, Wait::No), (3, Wait::from(GUARD)), (4, Wait::Forever)] {
        other.put(&item).await.expect("put");
        assert_eq!(pymq::get_any(&queues, wait).await.expect("got"), Some((1, item)), "{wait:?}");
    }
    for wait in [Wait::No, Wait::from(SHORT)] {
        let error = pymq::get_any(&queues, wait).await.expect_err("one of them is not empty");
        assert!(error.is_retryable(), "{wait:?}: {error}");
    }
    let waits = tokio::spawn({
        let queues = queues.clone();
        async move { pymq::get_any(&queues, Wait::Forever).await }
    });
    block_in_place(|| cluster.finish_moving(slot, from, to));
    let got = tokio::time::timeout(GUARD, waits).await.expect("it is there");
    assert_eq!(got.expect("no panic").expect("got"), Some((0, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_was_given_a_time_keeps_it_while_its_slot_is_on_its_way() {
    let cluster = Clustered::shared();
    // Whoever waits as long as for a lost connection hangs.
    let bus = Bus::connect(&format!("{}?reconnect_wait=3600", cluster.url())).await;
    let queue = bus.expect("connected").queue::<u32>("put while stuck");
    queue.put(&1).await.expect("put");
    let slot = cluster.slot_of(&key(queue.name()));
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    block_in_place(|| cluster.begin_moving(slot, from, to));
    let puts = async {
        queue.put_timeout(&2, SHORT).await.expect("the list is there yet");
        queue.try_put(&3).await.expect("the list is there yet");
        let many = queue.put_many_with(&[4, 5], Wait::from(SHORT)).await;
        many.expect("the list is there yet");
    };
    tokio::time::timeout(GUARD, puts).await.expect("each ends in its time");
    block_in_place(|| cluster.finish_moving(slot, from, to));
    assert_eq!(queue.get_many(9, Wait::from(GUARD)).await.expect("got"), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_while_a_slot_is_stuck_on_its_way_waits_on() {
    let cluster = Clustered::shared();
    let bus = Bus::connect(&cluster.url()).await.expect("connected");
    let queue = bus.queue::<u32>("stuck in a wait");
    queue.put(&1).await.expect("put");
    queue.claim().await.expect("got").ack().await.expect("it is ours");
    let waits = tokio::spawn({
        let queue = queue.clone();
        async move { queue.get().await }
    });
    // The consumer is registered still, and wants to be forgotten while nobody can look what it holds.
    let slot = cluster.slot_of(&key("stuck in a wait"));
    let (from, to) = (cluster.owner(slot), (cluster.owner(slot) + 1) % 3);
    block_in_place(|| cluster.begin_moving(slot, from, to));
    // Long enough for a wait that gives up to end; a right one waits on any machine.
    tokio::time::sleep(SHORT * 2).await;
    assert!(!waits.is_finished(), "{:?}", waits.await);
    block_in_place(|| cluster.finish_moving(slot, from, to));
    queue.put(&2).await.expect("put");
    let got = tokio::time::timeout(GUARD, waits).await.expect("it is there");
    assert_eq!(got.expect("no panic").expect("got"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_claim_left_with_nobody_while_its_slot_moved_comes_back() {
    let cluster = Clustered::shared();
    let slot = cluster.slot_of(&key("orphans"));
    let held = |who: &str| format!("__pymq:{{{}}}:held:{who}-1.5", key("orphans"));
    let leave = |item: &str, who: &str| {
        cluster.raw(cluster.owner(slot)).run(&["LPUSH", &held(who), item]);
    };
    let bus = Bus::connect(&cluster.url()).await.expect("connected");
    let queue = bus.queue::<u32>("orphans").lease(SHORT);
    let run = |words: &[&str]| cluster.raw(cluster.owner(slot)).run(words);
    let seconds = || run(&["TIME"]).texts()[0].parse::<f64>().expect("a time");
    let registry = format!("__pymq:{{{}}}:epochs", key("orphans"));
    let ends = |who: &str| match run(&["ZSCORE", &registry, &format!("{who}-1.5")]) {
        server::Answer::Text(end) => {
            Some(String::from_utf8_lossy(&end).parse::<f64>().expect("a time") / 1000.0)
        }
        _ => None,
    };
    let comes_back = async |item: u32, who: &str, found: &str| {
        let before = seconds();
        let gets = tokio::spawn({
            let queue = queue.clone();
            async move { queue.get_timeout(GUARD).await }
        });
        // However short our lease, who took it has time to say that it lives.
        until(found, async || ends(who).is_some() || gets.is_finished()).await;
        assert!(ends(who).is_none_or(|end| end >= before + 10.0), "{found}");
        // That time passes.
        run(&["ZADD", &registry, "XX", "1", &format!("{who}-1.5")]);
        assert_eq!(gets.await.expect("no panic").expect("got"), Some(item), "{found}");
    };
    leave("1", "dead");
    comes_back(1, "dead", "who begins to consume finds it").await;
    leave("2", "dead too");
    let to = (cluster.owner(slot) + 1) % 3;
    block_in_place(|| cluster.move_slot(slot, to));
    comes_back(2, "dead too", "who is there already finds it").await;
    // Whoever tidies leaves it to its taker for as long.
    leave("4", "dead as well");
    let left = bus.inspect().leftovers().await.expect("listed");
    let left = left.iter().find(|left| left.name == held("dead as well")).expect("it is found");
    let before = seconds();
    bus.inspect().tidy(left).await.expect("tidied");
    assert!(ends("dead as well").is_none_or(|end| end >= before + 10.0));
    run(&["DEL", &registry, &left.name]);
    // Who lives has said so by then; where the whole program stands still for as long, a lease is over.
    let other = Bus::connect(&cluster.url()).await.expect("connected");
    for lease in [SHORT, SHORT * 4, SHORT * 16] {
        let (ours, theirs) =
            (queue.clone().lease(lease), other.queue::<u32>("orphans").lease(lease));
        ours.put(&3).await.expect("put");
        let ours = ours.claim().await.expect("got");
        if theirs.get_timeout(lease * 3).await.expect("asked").is_none() {
            return ours.ack().await.expect("it is ours still");
        }
    }
    panic!("what lives is taken for dead");
}

#[tokio::test]
async fn letters_are_moved_to_a_queue_of_another_node_and_braces_are_letters_like_others() {
    let cluster = Clustered::shared();
    let bus = Bus::connect(&cluster.url()).await.expect("connected");
    let from = bus.queue::<u32>("a{b}c");
    let lies = |key: &str| cluster.owner(cluster.slot_of(key));
    let here = lies("__pymq:{__eventbus:global:a{b}c}:");
    let mut names = (0..).map(|number| format!("elsewhere{number}"));
    let name = names.find(|name| lies(&key(name)) != here).expect("there are other nodes");
    let to = bus.queue::<u32>(&name);
    from.put_many(&[1, 2, 3]).await.expect("put");
    for _ in 0..3 {
        from.claim().await.expect("got").reject().await.expect("it is ours");
    }
    let letters = from.dead_letters();
    assert_eq!(
        letters.redrive_where(|letter| matches!(letter.item(), Ok(2))).await.expect("moved"),
        1
    );
    assert_eq!(from.get().await.expect("got"), 2);
    assert_eq!(letters.redrive_to(&to).await.expect("moved"), 2);
    let got = to.get_many(5, Wait::from(GUARD)).await;
    assert_eq!(got.expect("got"), [1, 3]);
    assert_eq!(from.stats().await.expect("counted").dead, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_are_as_many_as_nodes_and_not_as_queues() {
    let cluster = Clustered::shared();
    let url = format!("{}?client_name=counted", cluster.url());
    let bus = Bus::connect(&url).await.expect("connected");
    let _news = bus.topic::<u32>("news").subscribe().await.expect("subscribed");
    join_all((0..30).map(async |number| {
        let queue = bus.queue::<u32>(&format!("many{number}"));
        queue.put(&number).await.expect("put");
        assert_eq!(queue.get().await.expect("got"), number);
    }))
    .await;
    let clients = |node: usize| {
        let list = cluster.raw(node).run(&["CLIENT", "LIST"]).text();
        list.lines().filter(|line| line.contains("name=counted ")).count()
    };
    let sockets = || (0..cluster.nodes.len()).map(clients).sum::<usize>();
    // For commands one to each of three nodes, to wait on four at most, and two: for subscriptions, and one
    // that asks who has which slots. Servers need a moment to see that one was ended.
    until("no more are kept", async || sockets() <= 3 * 5 + 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_at_a_cluster_sees_all_nodes() {
    let cluster = Clustered::shared();
    let seen = async || {
        let builder = Bus::builder(&cluster.url()).namespace("seen");
        builder.connect().await.expect("connected")
    };
    let (bus, other) = (seen().await, seen().await);
    let names: Vec<_> = (0..6).map(|number| format!("q{number}")).collect();
    for name in &names {
        other.queue(name).put(&1_u32).await.expect("put");
    }
    let held = other.queue::<u32>("q0").claim().await.expect("got");
    let _news = other.topic::<u32>("news").subscribe().await.expect("subscribed");
    assert_eq!(bus.inspect().queues().await.expect("listed"), names);
    let topics = bus.inspect().topics().await.expect("listed");
    assert_eq!(topics.iter().map(|topic| &*topic.name).collect::<Vec<_>>(), ["news"]);
    let holders = bus.inspect().holders("q0").await.expect("listed");
    assert_eq!(holders.iter().map(|holder| holder.items).sum::<usize>(), 1);
    let findings = bus.inspect().examine().await.expect("examined");
    let words = |subject: &str| -> Vec<_> {
        let of = findings.iter().filter(|finding| finding.subject == subject);
        of.map(|finding| finding.words.as_str()).collect()
    };
    assert_eq!(words("cluster"), ["3 nodes take writes, every slot has one"]);
    // What is so on all nodes is told once.
    assert_eq!(words("persistence").len(), 1, "{findings:?}");
    held.ack().await.expect("it is ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_at_a_cluster_of_which_a_node_is_gone_sees_what_the_others_know() {
    let settings = ["--cluster-require-full-coverage", "no"];
    let mut cluster = block_in_place(|| Clustered::start_with(3, &settings));
    block_in_place(|| cluster.set_patience(LONG));
    let bus = Bus::connect(&cluster.url()).await.expect("connected");
    let gone = (cluster.owner(cluster.slot_of(HOME)) + 1) % 3;
    let node = format!("127.0.0.1:{}", cluster.nodes[gone].port());
    let names: Vec<_> = (0..9).map(|number| format!("q{number}")).collect();
    for name in &names {
        bus.queue(name).put(&1_u32).await.expect("put");
    }
    let there = |name: &&String| cluster.owner(cluster.slot_of(&key(name))) != gone;
    let known: Vec<_> = names.iter().filter(there).cloned().collect();
    assert!(!known.is_empty() && known.len() < names.len(), "{known:?}");
    assert_eq!(bus.inspect().queues().await.expect("listed"), names);
    assert!(bus.health().absent_nodes.is_empty());

    cluster.nodes[gone].kill();
    assert_eq!(bus.inspect().queues().await.expect("listed"), known);
    assert_eq!(bus.health().absent_nodes, [node.as_str()]);
    let findings = bus.inspect().examine().await.expect("examined");
    let named = findings.iter().filter(|finding| finding.subject == format!("node {node}"));
    assert_eq!(named.map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Broken]);
    assert!(findings.iter().any(|finding| finding.subject == "version"), "{findings:?}");
    assert!(bus.inspect().leftovers().await.expect("listed").is_empty());

    // What it had is gone with it; it is asked again.
    cluster.nodes[gone].restart();
    assert_eq!(bus.inspect().queues().await.expect("listed"), known);
    assert!(bus.health().absent_nodes.is_empty());

    cluster.nodes.iter_mut().for_each(server::RedisServer::kill);
    let error = bus.inspect().queues().await.expect_err("none answers");
    assert_eq!(error.kind(), ErrorKind::Connection, "{error}");
}

#[tokio::test]
async fn the_rules_of_the_page_suffice() {
    let (cluster, page) = (Clustered::shared(), include_str!("../../../SECURITY.md"));
    let block = |after: &str| -> Vec<&str> {
        let (_, rest) = page.split_once(after).expect("the page has it");
        rest.split("```").next().expect("it ends").split_whitespace().collect()
    };
    let more = page.split_once("On the nodes of a cluster").expect("the page has it").1;
    let more = more.split("```").nth(1).expect("it has rules").split_whitespace();
    let user = ["ACL", "SETUSER", "few", "reset"].into_iter();
    let words = user.chain(block("ACL SETUSER pymq-everything ")).chain(more);
    let words: Vec<_> = words.chain(["&__eventbus:global:ne*"]).collect();
    for node in &cluster.nodes {
        assert_eq!(node.raw().run(&words), server::Answer::Text(b"OK".to_vec()), "{words:?}");
    }
    let url = cluster.url().replace("://", "://few:PASSWORD@");
    let (mut life, other) = (Life::begin(&url).await, Bus::connect(&url).await.expect("connected"));
    life.goes_on("the beginning").await;
    let queue = other.queue::<u32>("few rights");
    queue.put(&1).await.expect("put");
    queue.claim().await.expect("got").ack().await.expect("it is ours");
}

#[tokio::test]
async fn what_a_cluster_cannot_do_is_refused_by_name() {
    let cluster = Clustered::shared();
    let url = cluster.url();
    let error = Bus::connect(&url.replace("+cluster", "")).await.expect_err("several hosts");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let one = format!("redis://127.0.0.1:{}", cluster.nodes[0].port());
    let error = Bus::connect(&one).await.expect_err("one node has not every key");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("redis+cluster://"), "{error}");
    for words in ["?db=1", "/1"] {
        let error = Bus::connect(&format!("{url}{words}")).await.expect_err("no such database");
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("database 0"), "{error}");
    }
    let alone = server::RedisServer::start();
    let error = Bus::connect(&format!("redis+cluster://127.0.0.1:{}", alone.port())).await;
    let error = error.expect_err("it is no node");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("no node of a cluster"), "{error}");
    let stranger = url.replace("://", "://me:wrong@");
    let error = Bus::connect(&stranger).await.expect_err("nobody has that password");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(!error.to_string().contains("wrong@"), "{error}");
    let nobody = "redis+cluster://127.0.0.1:1";
    let error = Bus::connect(&format!("{nobody}?connect_timeout=0.2")).await;
    assert_eq!(error.expect_err("nobody is there").kind(), ErrorKind::Connection);

    let bus = Bus::connect(&url).await.expect("connected");
    assert!(!bus.capabilities().originals);
}

#[tokio::test]
async fn one_node_is_enough_to_find_the_others_even_one_without_slots() {
    let cluster = Clustered::shared();
    for number in [2, 3] {
        let port = cluster.nodes[number].port();
        let hosts = format!("redis+cluster://127.0.0.1:1,127.0.0.1:{port}");
        let bus = Bus::connect(&hosts).await.expect("connected");
        bus.queue("found").put(&1_u32).await.expect("put");
        let other = Bus::connect(&cluster.url()).await.expect("connected");
        let got = other.queue::<u32>("found").get_many(5, Wait::from(GUARD)).await;
        assert_eq!(got.expect("got"), [1]);
    }
}

#[tokio::test]
async fn a_node_that_is_silent_does_not_keep_anybody_from_the_others() {
    let cluster = Clustered::shared();
    // Connections arrive there, and nobody answers.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a port");
    let place = hung.local_addr().expect("it has one");
    let hosts = cluster.url().replace("://", &format!("://{place},"));
    let hosts = format!("{hosts}?connect_timeout=1000");
    let connects = tokio::time::timeout(GUARD, Bus::connect(&hosts));
    let connected = connects.await.expect("the others were asked");
    connected.expect("connected").queue("beside").put(&1_u32).await.expect("put");
}
