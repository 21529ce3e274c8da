//! Histories of a queue in memory: those who put, those who wait for items, and those who go.

use std::sync::Arc;

use bytes::Bytes;
use shuttle::future::block_on;
use shuttle::thread;
use tokio::sync::oneshot;

use self::store::{Signal, Store};
use self::waiters::{Claim, Push};
use crate::transport::{Claimed, PutOptions, QueueSpec, SettleOptions, Settlement, Shelf, Wait};

#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq/src/transport/memory/dead_letters.rs"]
mod dead_letters;
#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq/src/transport/memory/leases.rs"]
mod leases;
#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq/src/transport/memory/unleased.rs"]
mod unleased;
#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq/src/transport/memory/put_ids.rs"]
mod put_ids;
#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq/src/transport/memory/queue.rs"]
mod queue;
#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq/src/transport/memory/store.rs"]
mod store;
#[allow(dead_code, reason = "the histories use a part of it")]
#[path = "../../../crates/pymq/src/transport/memory/waiters.rs"]
mod waiters;

/// Names a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct ConnectionId(u64);

const NAME: &str = "queue";

fn put(store: &Store, spec: &QueueSpec, item: u8) {
    let (items, options) = (vec![Bytes::from(vec![item])], PutOptions::from(Wait::No));
    let pushed = store.with(|state, after| state.queue(NAME).push(spec, items, options, after));
    assert!(matches!(pushed, Ok(Push::Done)), "there is space");
}

/// Takes an item as the transport does: at once, or in the line. Who does not wait gives its place up,
/// as a future does that is dropped; who waits may be told that its connection was closed.
fn take(store: &Store, spec: &QueueSpec, me: ConnectionId, waits: bool) -> Vec<Claimed> {
    let (ring, bell) = oneshot::channel();
    let ticket = store.with(|state, after| {
        let queue = state.queue(NAME);
        match queue.claim(me, spec, 1, after).expect("the queue is open") {
            Claim::Taken(items) => Err(items),
            Claim::Empty => Ok(queue.wait_for_items(me, 1, ring, after)),
        }
    });
    let ticket = match ticket {
        Ok(ticket) => ticket,
        Err(items) => return items,
    };
    if !waits {
        store.with(|state, after| state.queue(NAME).give_up(ticket, after));
        return Vec::new();
    }
    match block_on(bell).expect("whoever stands in the line is told") {
        Ok(turn) => assert_eq!(turn, Signal::Come),
        Err(_) => return Vec::new(),
    }
    store.with(|state, _| state.queue(NAME).collect(me, spec, ticket, 1))
}

fn new() -> Arc<(Store, QueueSpec)> {
    Arc::new((Store::default(), QueueSpec::new(NAME)))
}

fn taker(
    queue: &Arc<(Store, QueueSpec)>,
    me: u64,
    waits: bool,
) -> thread::JoinHandle<Vec<Claimed>> {
    let queue = Arc::clone(queue);
    thread::spawn(move || take(&queue.0, &queue.1, ConnectionId(me), waits))
}

/// An item goes to one taker, uncounted by those who gave up, and none is lost.
pub fn an_item_goes_to_one_whoever_gives_up() {
    let queue = new();
    let (quitter, patient) = (taker(&queue, 1, false), taker(&queue, 2, true));
    for item in [0, 1] {
        put(&queue.0, &queue.1, item);
    }
    let mut taken = quitter.join().expect("the quitter does not panic");
    let got = patient.join().expect("the patient one does not panic");
    assert_eq!(got.len(), 1);
    taken.extend(got);
    assert!(taken.iter().all(|item| item.deliveries == 1));
    let left = queue.0.with(|state, _| state.queue(NAME).peek(Shelf::Waiting, 9));
    let mut all: Vec<Bytes> = taken.into_iter().map(|item| item.payload).chain(left).collect();
    all.sort();
    assert_eq!(all, [vec![0], vec![1]]);
}

/// A connection that closes while an item is dealt to it neither keeps nor doubles it.
pub fn a_connection_that_closes_leaves_every_item_once() {
    let queue = new();
    let waiting = taker(&queue, 1, true);
    let closing = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.0.leave(ConnectionId(1)))
    };
    put(&queue.0, &queue.1, 0);
    closing.join().expect("who closes does not panic");
    waiting.join().expect("who waits does not panic");
    let stats = queue.0.with(|state, _| state.queue(NAME).stats());
    assert_eq!(stats.waiting + stats.leased, 1);
}

/// Of two who end one lease, one does.
pub fn a_lease_ends_once() {
    let queue = new();
    put(&queue.0, &queue.1, 0);
    let number = take(&queue.0, &queue.1, ConnectionId(1), true)[0].receipt.number;
    let settlers = [Settlement::Ack, Settlement::Requeue].map(|how| {
        let queue = Arc::clone(&queue);
        thread::spawn(move || {
            let options = SettleOptions::default();
            queue.0.with(|state, after| state.queue(NAME).settle(number, how, options, after))
        })
    });
    let ended = settlers.map(|settler| settler.join().expect("a settler does not panic"));
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
}
