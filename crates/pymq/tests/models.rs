//! A queue against a simple picture of one: whatever is put, taken, given back, dropped and given up in
//! any order, nothing is lost or doubled, and the order and the counts of deliveries are right.
//!
//! Items are few and often equal, since Redis tells them apart by their bytes. The picture has no
//! clocks and no connections: what leases do when a process dies is tried with real processes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use place::Place;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};
use pymq::transport::{Letters, Settlement, Shelf, Wait};
use pymq::{Bus, ByteDelivery, ByteQueue};

mod place;

const MAX_DELIVERIES: u32 = 3;

/// What somebody does; of two handles on two connections, and of the deliveries that are open.
#[derive(Clone, Debug)]
enum Step {
    Put {
        handle: usize,
        items: Vec<u8>,
    },
    Claim {
        handle: usize,
        limit: usize,
    },
    /// Claims, and gives up unless the answer is there at once.
    GiveUp {
        handle: usize,
        limit: usize,
    },
    Settle {
        open: usize,
        how: Settlement,
    },
    Drop {
        open: usize,
    },
    GiveBack {
        open: usize,
    },
    Redrive {
        limit: usize,
    },
    Purge {
        shelf: Shelf,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let how = prop_oneof![
        Just(Settlement::Ack),
        Just(Settlement::Requeue),
        Just(Settlement::Return),
        Just(Settlement::Reject),
    ];
    let shelf = prop_oneof![Just(Shelf::Waiting), Just(Shelf::Dead)];
    prop_oneof![
        4 => (0..2_usize, proptest::collection::vec(0..3_u8, 1..4))
            .prop_map(|(handle, items)| Step::Put { handle, items }),
        4 => (0..2_usize, 1..4_usize).prop_map(|(handle, limit)| Step::Claim { handle, limit }),
        1 => (0..2_usize, 1..4_usize).prop_map(|(handle, limit)| Step::GiveUp { handle, limit }),
        4 => (any::<usize>(), how).prop_map(|(open, how)| Step::Settle { open, how }),
        2 => any::<usize>().prop_map(|open| Step::Drop { open }),
        1 => any::<usize>().prop_map(|open| Step::GiveBack { open }),
        1 => (1..3_usize).prop_map(|limit| Step::Redrive { limit }),
        1 => shelf.prop_map(|shelf| Step::Purge { shelf }),
    ]
}

type Item = (Bytes, u32);

/// The picture: items with how often they were handed out.
#[derive(Debug, Default)]
struct Picture {
    waiting: VecDeque<Item>,
    dead: VecDeque<Bytes>,
}

impl Picture {
    fn settle(&mut self, (payload, deliveries): Item, how: Settlement) {
        match how {
            Settlement::Ack => {}
            Settlement::Reject => self.dead.push_back(payload),
            Settlement::Requeue if deliveries >= MAX_DELIVERIES => self.dead.push_back(payload),
            Settlement::Requeue => self.waiting.push_front((payload, deliveries)),
            Settlement::Return => self.waiting.push_front((payload, deliveries - 1)),
        }
    }
}

/// The queue and its picture.
struct Both {
    handles: [ByteQueue; 2],
    open: Vec<ByteDelivery>,
    picture: Picture,
}

impl Both {
    fn new(buses: &[Bus; 2], name: &str) -> Self {
        let handle =
            |bus: &Bus| bus.byte_queue(name).with(|spec| spec.max_deliveries = MAX_DELIVERIES);
        let handles = [handle(&buses[0]), handle(&buses[1])];
        Self { handles, open: Vec::new(), picture: Picture::default() }
    }

    async fn go(&mut self, step: Step) {
        match step {
            Step::Put { handle, items } => {
                let items: Vec<Bytes> =
                    items.iter().map(|item| Bytes::from(item.to_string())).collect();
                self.picture.waiting.extend(items.iter().map(|item| (item.clone(), 0)));
                self.handles[handle].put(items, Wait::No).await.expect("put");
            }
            Step::Claim { handle, limit } => self.claim(handle, limit).await,
            Step::GiveUp { handle, limit } => {
                let claim = self.handles[handle].clone();
                if let Some(claimed) = claim.claim_many(limit, Wait::Forever).now_or_never() {
                    self.note(limit, claimed.expect("claimed"));
                }
            }
            Step::Settle { open, how } => {
                let Some((delivery, item)) = self.take(open) else { return };
                delivery.settle(how).await.expect("it is ours");
                self.picture.settle(item, how);
            }
            Step::Drop { open } => {
                let Some((delivery, item)) = self.take(open) else { return };
                drop(delivery);
                self.picture.settle(item, Settlement::Requeue);
            }
            Step::GiveBack { open } => {
                let Some((delivery, item)) = self.take(open) else { return };
                delivery.give_back();
                self.picture.settle(item, Settlement::Return);
            }
            Step::Redrive { limit } => {
                let count = limit.min(self.picture.dead.len());
                let items = self.picture.dead.drain(..count).map(|item| (item, 0));
                self.picture.waiting.extend(items);
                let redriven = self.handles[0].redrive(Letters::Oldest(limit), None).await;
                assert_eq!(redriven.expect("redriven"), count);
            }
            Step::Purge { shelf } => {
                self.handles[0].purge(shelf).await.expect("purged");
                match shelf {
                    Shelf::Waiting => self.picture.waiting.clear(),
                    Shelf::Dead => self.picture.dead.clear(),
                    Shelf::Delayed => {}
                }
            }
        }
        self.compare().await;
    }

    async fn claim(&mut self, handle: usize, limit: usize) {
        let claimed = self.handles[handle].claim_many(limit, Wait::No).await.expect("claimed");
        self.note(limit, claimed);
    }

    fn note(&mut self, limit: usize, claimed: Vec<ByteDelivery>) {
        let there = limit.min(self.picture.waiting.len());
        assert!(claimed.len() <= there && claimed.is_empty() == (there == 0), "{claimed:?}");
        for delivery in claimed {
            let (payload, deliveries) = self.picture.waiting.pop_front().expect("counted above");
            assert_eq!((delivery.payload(), delivery.deliveries()), (&payload, deliveries + 1));
            self.open.push(delivery);
        }
    }

    fn take(&mut self, open: usize) -> Option<(ByteDelivery, Item)> {
        let place = open.checked_rem(self.open.len())?;
        let delivery = self.open.remove(place);
        let item = (delivery.payload().clone(), delivery.deliveries());
        Some((delivery, item))
    }

    /// What was dropped or given up is settled soon, so the counts are awaited.
    async fn compare(&self) {
        let Picture { waiting, dead } = &self.picture;
        let expected = (waiting.len(), self.open.len(), dead.len());
        let guard = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            // By each, since each first ends what it has under way itself.
            let mut stats = Vec::new();
            for handle in &self.handles {
                let counted = handle.stats().await.expect("stats");
                stats.push((counted.waiting, counted.leased, counted.dead));
            }
            if stats.iter().all(|counted| *counted == expected) {
                break;
            }
            assert!(tokio::time::Instant::now() < guard, "{stats:?} instead of {expected:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let shelf = async |shelf| self.handles[1].peek(shelf, 1000).await.expect("peeked");
        assert!(shelf(Shelf::Waiting).await.iter().eq(waiting.iter().map(|(item, _)| item)));
        assert!(shelf(Shelf::Dead).await.iter().eq(dead));
    }
}

fn histories_on(place: &Place, count: u32) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let buses = runtime.block_on(place.buses::<2>());
    // Histories that failed once were saved beside this file, and come first.
    let config = ProptestConfig {
        cases: count,
        source_file: Some(file!()),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("saved"))),
        ..ProptestConfig::default()
    };
    let number = AtomicU32::new(0);
    let steps = proptest::collection::vec(step(), 1..40);
    let result = TestRunner::new(config).run(&steps, |steps| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        runtime.block_on(place::guarded(async {
            let mut both = Both::new(&buses, &format!("queue{number}"));
            for step in steps {
                both.go(step).await;
            }
        }));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn a_queue_in_memory_is_as_pictured() {
    histories_on(&Place::memory(), 256);
}

#[cfg(feature = "redis")]
#[test]
fn a_queue_on_redis_is_as_pictured() {
    histories_on(&Place::redis(), 32);
}
