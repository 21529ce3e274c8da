//! Anyone is killed at any moment, and all is counted.

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::children::{PACK, read};
use crate::place::Place;

/// How long the storm lasts, in seconds.
fn length() -> Duration {
    let told = std::env::var("PYMQ_IPC_STORM").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(told.unwrap_or(3))
}

/// What was surely done, of all that were killed.
#[derive(Default)]
struct Tally {
    put: HashSet<(usize, usize)>,
    got: HashMap<(usize, usize), usize>,
    kills: HashMap<&'static str, usize>,
}

impl Tally {
    fn note(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |place: usize| words[place].parse::<usize>().expect("a number");
            match words[0] {
                "put" => drop(self.put.insert((number(1), number(2)))),
                "got" => *self.got.entry((number(1), number(2))).or_default() += 1,
                "error" => panic!("a child failed: {line}"),
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_torn_or_hung_when_anyone_is_killed_at_any_moment() {
    const ROLES: [&str; 7] =
        ["producer", "producer", "packer", "consumer", "consumer", "talker", "talker"];
    let place = Place::new();
    let witness = place.bus().await;
    let mut talk = witness.pattern::<String>("talk.*").await.expect("subscribed");
    let heard = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heard);
    let subscriber = tokio::spawn(async move {
        while let Some(event) = talk.recv().await {
            // Who cannot keep up loses events and is told; what comes is whole.
            if let Ok((_, event)) = event {
                read(&event);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let mut tally = Tally::default();
    let (mut next, mut packers) = (0, Vec::new());
    let mut start = |role: &'static str| {
        next += 1;
        packers.extend((role == "packer").then_some(next));
        (role, place.child(role, next))
    };
    let mut peers: Vec<_> = ROLES.into_iter().map(&mut start).collect();
    let (begun, mut chance) = (Instant::now(), seed());
    // On a busy machine it takes longer until enough has happened.
    let enough = |tally: &Tally| {
        tally.kills.len() == 4 && tally.put.len() > 100 && heard.load(Ordering::Relaxed) > 100
    };
    while begun.elapsed() < length() || !enough(&tally) {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Any moment of their lives.
        tokio::time::sleep(Duration::from_millis((chance >> 60) * 3)).await;
        let victim = (chance >> 33) as usize % peers.len();
        let (role, peer) = &mut peers[victim];
        tally.note(&peer.kill());
        *tally.kills.entry(role).or_default() += 1;
        let role = *role;
        peers[victim] = start(role);
    }
    // The producers go first, so that the others are killed in the middle of their work too.
    peers.sort_by_key(|(role, _)| !["producer", "packer"].contains(role));
    for (_, mut peer) in peers {
        tally.note(&peer.kill());
    }
    witness.close().await.expect("closed");
    subscriber.await.expect("no panic");

    // All are dead; what is left is there for whoever comes.
    let bus = place.bus().await;
    let queue = bus.queue::<String>("items").max_deliveries(0);
    // What the dead held is given back when they are found.
    while queue.stats().await.expect("stats").unfinished() > 0 {
        let claimed = queue.claim_timeout(Duration::from_millis(300)).await.expect("claims");
        if let Some(delivery) = claimed {
            *tally.got.entry(read(&delivery)).or_default() += 1;
            delivery.ack().await.expect("acknowledged");
        }
    }
    assert_eq!(queue.stats().await.expect("stats").dead, 0);

    let lost: Vec<_> = tally.put.iter().filter(|item| !tally.got.contains_key(item)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    // Who is killed between its work and its acknowledgement has done it, and another does it again.
    let again: usize = tally.got.values().map(|times| times - 1).sum();
    let consumers = tally.kills["consumer"] + 2;
    assert!(again <= consumers, "{again} came again, {consumers} consumers were killed");
    // One put at most of each producer was not told of.
    let untold = tally.got.keys().filter(|item| !tally.put.contains(item)).count();
    let puts = tally.kills["producer"] + 2 + PACK * (tally.kills["packer"] + 1);
    assert!(untold <= puts, "{untold} came that nobody had put");
    for packer in packers {
        let came = tally.got.keys().filter(|(producer, _)| *producer == packer).count();
        assert_eq!(came % PACK, 0, "a part of what packer {packer} had put in one step");
    }
    if std::env::var_os("PYMQ_IPC_STORM").is_some() {
        let (items, kills) = (tally.got.len(), tally.kills.values().sum::<usize>());
        let events = heard.load(Ordering::Relaxed);
        // Whoever asks for a long one wants to know how much it was.
        let told = writeln!(
            std::io::stderr(),
            "storm: {items} items, {kills} kills, {events} events; lost 0, torn 0, hung 0; {again} came \
             again to others, {untold} of puts that were killed"
        );
        told.expect("it can be written to");
    }
}

fn seed() -> u64 {
    let told = std::env::var("PYMQ_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    told.unwrap_or_else(|| std::process::id().into())
}
