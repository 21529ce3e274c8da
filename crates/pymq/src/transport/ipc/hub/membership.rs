//! How a connection comes to a bus and leaves it.
//!
//! The invariant: a connection has a slot whose beacon its own thread has lit, from the moment at which it
//! is known to others until after it is not any more.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock};

use super::super::bus_directory::BusDirectory;
use super::super::bus_lock::{Aftermath, BusLock, PATIENCE, held};
use super::super::doorbell::Doorbells;
use super::super::heap::Heap;
use super::super::layout::{SLOTS, attended, beacon};
use super::super::locks::Light;
use super::super::mapping::Memory;
use super::super::peers;
use super::super::routes::Routes;
use super::super::system::{forks, thread};
use super::Hub;
use crate::error::Result;
use crate::transport::{Sender, State, StateSetter};

impl Hub {
    /// Joins the bus; on the thread that lives as long as the connection, since its life is what
    /// others see.
    pub(in super::super) fn join(place: BusDirectory, state: StateSetter) -> Result<(Self, Light)> {
        let forks = forks();
        loop {
            let memory = place.open()?;
            let Some(turn) = BusLock::take(&memory, PATIENCE) else {
                memory.check()?;
                return Err(held(&memory, "connect", "ipc://"));
            };
            if memory.is_deleted() {
                // Its last user has gone, and taken it along, between our two looks.
                continue;
            }
            let mut after = Aftermath::default();
            // Whoever died without anybody to notice leaves the slot to us.
            turn.step(&mut after, |step| {
                for slot in peers::slots(step) {
                    let peer = peers::in_slot(step, slot);
                    step.lives(peer);
                }
                Ok(())
            })?;
            let (slot, light) = free_slot(&memory)?;
            // Whoever was there before may have been killed.
            memory.store(attended(slot), 0);
            let peer = match turn.step(&mut after, |step| peers::join(step, slot)) {
                Ok(peer) => peer,
                Err(error) => {
                    memory.put_out(light);
                    return Err(error);
                }
            };
            turn.moved();
            let first = peers::in_ring(&Heap::new(&memory), 0);
            drop(turn);
            // It is to watch over us now.
            peers::ring(&memory, &[first]);
            let doorbells = Doorbells::new(place.directory(), slot);
            let hub = Self {
                memory,
                place,
                forks,
                slot,
                peer,
                thread: thread(),
                ending: AtomicBool::new(false),
                lost: OnceLock::new(),
                dozes: AtomicBool::new(false),
                lapsed: AtomicU64::new(0),
                attended: AtomicBool::new(false),
                doorbells,
                post: Mutex::default(),
                recipients: Mutex::default(),
                routes: Routes::default(),
                backlog: Mutex::default(),
                catching_up: Mutex::default(),
                dead_letter_log: Arc::default(),
                state,
            };
            return Ok((hub, light));
        }
    }

    /// Ends what this process keeps, and leaves the bus. When nothing is left on it, it is deleted.
    pub(in super::super) fn leave(&self, light: Light) {
        self.finish_backlog();
        let recipients = std::mem::take(&mut *self.recipients());
        recipients.subscriptions.values().for_each(|subscribed| subscribed.sender.close());
        recipients.seats.values().for_each(Sender::close);
        recipients.bells.values().for_each(|bell| bell.notify_one());
        // Without the lock it is as if we had been killed, which others will see to.
        let turn = BusLock::take(&self.memory, PATIENCE);
        let mut after = Aftermath::default();
        if let Some(turn) = &turn {
            // What cannot be done now, others will see to.
            let _ = self.give_everything_back(turn, &mut after);
            if turn.clear(&mut after).is_ok_and(|unused| unused) {
                self.place.delete(&self.memory);
            }
            turn.moved();
        }
        self.memory.put_out(light);
        drop(turn);
        self.see_to(after);
        self.state.set(State::Closed);
    }

    fn give_everything_back(&self, turn: &BusLock<'_>, after: &mut Aftermath) -> Result<()> {
        if !self.is_seated() {
            return Ok(());
        }
        while turn.step(after, |step| peers::unburden(step, self.slot))? {}
        turn.step(after, |step| peers::leave(step, self.slot))
    }
}

/// A slot in which nobody is, its beacon lit by this thread.
fn free_slot(memory: &Memory) -> Result<(u64, Light)> {
    let heap = Heap::new(memory);
    let mut free = (0..SLOTS).filter(|slot| peers::in_slot(&heap, *slot) == 0);
    let lit = free.find_map(|slot| Some((slot, memory.light(beacon(slot))?)));
    lit.ok_or_else(peers::full)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::mpsc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::super::super::layout::bell;
    use super::super::super::{Ipc, topics};
    use super::super::{Busy, Job, TAKEN_FOR_DEAD};
    use super::*;
    use crate::error::ErrorKind;
    use crate::transport::{
        Arrival, Events, Filter, QueueSpec, Queues, SettleOptions, Settlement, Shelf, Transport,
        Wait,
    };

    #[tokio::test]
    async fn whoever_is_taken_for_dead_does_nothing_in_the_name_of_who_came_after() {
        let directory = format!("/dev/shm/pymq-seated-{}", std::process::id());
        let url = format!("ipc://{directory}");
        let (other, dead) = (Ipc::connect(&url).await, Ipc::connect(&url).await);
        let (other, dead) = (other.expect("a bus"), dead.expect("a bus"));
        // As if its thread had ended.
        dead.hub.memory.free_lock(beacon(dead.hub.slot));
        let newest = loop {
            let newest = Ipc::connect(&url).await.expect("a bus");
            if newest.hub.slot == dead.hub.slot {
                break newest;
            }
        };
        assert_eq!(newest.hub.peer, dead.hub.peer, "it is what this test is about");
        let queue = Arc::new(QueueSpec::new("queue"));
        other.push(&queue, vec![Bytes::new()], Wait::No.into()).await.expect("put");
        let error = dead.claim(&queue, 1, Wait::No).await.expect_err("it is not there any more");
        assert_eq!(error.kind(), ErrorKind::Connection);
        // Nor does it put the other's beacon out.
        dead.close().await.expect("closed");
        assert_eq!(newest.claim(&queue, 1, Wait::No).await.expect("it is there").len(), 1);
        let (one, two) = tokio::join!(newest.close(), other.close());
        one.and(two).expect("closed");
        std::fs::remove_dir_all(directory).expect("it is there");
    }

    #[tokio::test]
    async fn whoever_is_taken_for_dead_while_it_waits_is_told() {
        let directory = format!("/dev/shm/pymq-told-{}", std::process::id());
        let url = format!("ipc://{directory}");
        let dead = Arc::new(Ipc::connect(&url).await.expect("a bus"));
        let queue = Arc::new(QueueSpec::new("queue"));
        let mut events = dead.subscribe(&[Filter::Topic("topic".into())]).await.expect("listens");
        let waiting = tokio::spawn({
            let (dead, queue) = (Arc::clone(&dead), Arc::clone(&queue));
            async move { dead.claim(&queue, 1, Wait::Forever).await }
        });
        while !matches!(dead.hub.busy(), Busy::Waiting) {
            tokio::task::yield_now().await;
        }
        dead.hub.memory.free_lock(beacon(dead.hub.slot));
        let why = "others took this connection for dead; connect a new one";
        let told = waiting.await.expect("no panic").expect_err("it is not there any more");
        assert_eq!((told.kind(), told.message()), (ErrorKind::Connection, why));
        let refused = events.recv().await.expect("it is told why");
        assert!(matches!(refused, Arrival::Refused(told) if *told == *TAKEN_FOR_DEAD));
        assert!(events.recv().await.is_none(), "and that is the end");
        let again = dead.publish("topic", Bytes::new()).await.expect_err("it is told again");
        assert_eq!((again.kind(), again.message()), (ErrorKind::Connection, why));
        dead.close().await.expect("closed");
        std::fs::remove_dir_all(directory).expect("it is there");
    }

    #[tokio::test]
    async fn what_waits_for_the_lock_is_done_in_order_however_often_it_is_late() {
        let directory = format!("/dev/shm/pymq-late-{}", std::process::id());
        let bus = Ipc::connect(&format!("ipc://{directory}")).await.expect("a bus");
        let (told, mut done) = tokio::sync::mpsc::unbounded_channel();
        let (times, next_told) = (AtomicU64::new(0), told.clone());
        // As if the lock were not free three times.
        let late = move |_: &Hub| {
            let times = times.fetch_add(1, Ordering::Relaxed);
            Ok(times == 3 && told.send(times).is_ok())
        };
        let next = move |_: &Hub| Ok(next_told.send(7).is_ok());
        bus.hub.lock_backlog().jobs.extend([Box::new(late) as Job, Box::new(next)]);
        bus.hub.memory.ring(bell(bus.hub.slot));
        assert_eq!((done.recv().await, done.recv().await), (Some(3), Some(7)));
        bus.close().await.expect("closed");
        std::fs::remove_dir_all(directory).expect("it is there");
    }

    #[tokio::test]
    async fn what_get_returned_while_the_lock_was_not_free_is_gone_though_its_bus_closes() {
        let directory = format!("/dev/shm/pymq-returned-{}", std::process::id());
        let url = format!("ipc://{directory}");
        let bus = Ipc::connect(&url).await.expect("a bus");
        let other = Ipc::connect(&url).await.expect("a bus");
        let queue = Arc::new(QueueSpec::new("queue"));
        bus.push(&queue, vec![Bytes::new()], Wait::No.into()).await.expect("put");
        let item = bus.claim(&queue, 1, Wait::No).await.expect("claimed").pop().expect("an item");
        let (held, holds) = mpsc::channel();
        let (go_on, told) = mpsc::channel::<()>();
        let hub = Arc::clone(&other.hub);
        let thread = std::thread::spawn(move || {
            let turn = BusLock::take(&hub.memory, PATIENCE).expect("the lock is free soon");
            held.send(()).expect("somebody waits");
            let _ = told.recv();
            drop(turn);
        });
        holds.recv().expect("it has the lock");
        let taken =
            bus.settle_soon(&queue, item.receipt, Settlement::Ack, SettleOptions::default());
        assert!(taken, "it will be done");
        // It ends from here on.
        let closed = bus.close();
        go_on.send(()).expect("it waits");
        closed.await.expect("closed");
        thread.join().expect("no panic");
        assert_eq!(other.stats(&queue).await.expect("stats").unfinished(), 0);
        other.close().await.expect("closed");
        std::fs::remove_dir_all(directory).expect("it is there");
    }

    #[tokio::test]
    async fn a_bus_that_is_gone_gives_its_memory_back_though_a_handle_on_it_is_kept() {
        let directory = format!("/dev/shm/pymq-vacated-{}", std::process::id());
        let bus = Ipc::connect(&format!("ipc://{directory}")).await.expect("a bus");
        let queue = Arc::new(QueueSpec::new("queue"));
        let item = Bytes::from(vec![7; 4 << 20]);
        bus.push(&queue, vec![item], Wait::No.into()).await.expect("put");
        assert!(bus.hub.memory.used() > 4 << 20);
        bus.purge(&queue, Shelf::Waiting).await.expect("purged");
        bus.close().await.expect("closed");
        assert!(bus.hub.memory.is_deleted(), "nothing lay there");
        assert!(bus.hub.memory.used() < 2 << 20, "{} bytes", bus.hub.memory.used());
        std::fs::remove_dir_all(directory).expect("it is there");
    }

    #[tokio::test]
    async fn a_subscription_ends_though_there_is_no_space_for_that() {
        let directory = format!("/dev/shm/pymq-ended-{}", std::process::id());
        let bus = Ipc::connect(&format!("ipc://{directory}")).await.expect("a bus");
        let filters: Vec<_> = (0..10_000).map(|n| Filter::Topic(format!("topic {n}"))).collect();
        let subscription = bus.subscribe(&filters).await.expect("listens");
        bus.hub.memory.full.store(true, Ordering::Relaxed);
        let at = bus.hub.recipients().subscriptions.values().next().expect("it is there").at;
        let ended = bus.hub.attempt(PATIENCE, "end", "", |step| topics::end(step, at));
        assert!(ended.is_err(), "it is what this test is about");
        subscription.end().await.expect("it is over for this process");
        assert!(bus.hub.recipients().subscriptions.is_empty());
        bus.close().await.expect("closed");
        std::fs::remove_dir_all(directory).expect("it is there");
    }

    #[tokio::test]
    async fn whoever_stops_with_the_lock_delays_others_within_their_timeouts_only() {
        let directory = format!("/dev/shm/pymq-held-{}", std::process::id());
        let url = format!("ipc://{directory}");
        let stopped = Ipc::connect(&url).await.expect("a bus");
        let other = Ipc::connect(&url).await.expect("a bus");
        let queue = Arc::new(QueueSpec::new("queue"));
        let (held, holds) = mpsc::channel();
        let (go_on, told) = mpsc::channel::<()>();
        let hub = Arc::clone(&stopped.hub);
        let thread = std::thread::spawn(move || {
            let turn = BusLock::take(&hub.memory, PATIENCE).expect("the lock is free soon");
            held.send(()).expect("somebody waits");
            let _ = told.recv();
            drop(turn);
        });
        holds.recv().expect("it has the lock");
        let wait = Wait::at_most(Duration::from_millis(50));
        let late = other.claim(&queue, 1, wait).await.expect_err("nothing can be known");
        assert_eq!(late.kind(), ErrorKind::Connection);
        let own = format!("process {} has the bus", std::process::id());
        assert!(late.message().starts_with(&own), "{late}");
        let full = other.push(&queue, vec![Bytes::new()], Wait::No.into()).await;
        assert_eq!(full.expect_err("it cannot be put").kind(), ErrorKind::Connection);
        // What waits as long as it takes goes on when the other does.
        let waiting = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                let put = other.push(&queue, vec![Bytes::new()], Wait::Forever.into()).await;
                put.map(|_| other)
            }
        });
        tokio::task::yield_now().await;
        go_on.send(()).expect("it waits");
        let other = waiting.await.expect("no panic").expect("it was put");
        thread.join().expect("no panic");
        assert_eq!(other.stats(&queue).await.expect("stats").waiting, 1);
        assert_eq!(other.publish("topic", Bytes::new()).await.expect("published"), Some(0));
        let (one, two) = tokio::join!(stopped.close(), other.close());
        one.and(two).expect("closed");
        std::fs::remove_dir_all(directory).expect("it is there");
    }
}
