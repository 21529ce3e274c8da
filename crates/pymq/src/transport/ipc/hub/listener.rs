//! The task of a connection on the runtime of its program: it takes the post.
//!
//! The invariant: while it says that it attends, whoever leaves post rings at its doorbell; when it goes,
//! be it with its runtime, the connection's thread is told to take over.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::unix::pipe::Receiver;
use tokio::runtime::Handle;

use super::super::heap::Heap;
use super::super::layout::{attended, bell, doorbell};
use super::super::peers;
use super::{AGAIN, BRIEF, Hub};

/// Has the runtime on which this is called take the post of a connection, where it can.
pub(in super::super) fn listen(hub: &Arc<Hub>) {
    let Ok(runtime) = Handle::try_current() else { return };
    let opened = hub.doorbells.own_pipe();
    // It panics on a runtime that has no part for descriptors.
    let received = opened.map(|pipe| std::panic::catch_unwind(|| Receiver::from_file(pipe)));
    match received {
        Ok(Ok(Ok(mut pipe))) => {
            let attending = Attending::begin(Arc::clone(hub));
            runtime.spawn(async move { attending.take(&mut pipe).await });
        }
        Ok(Ok(Err(error))) | Err(error) => {
            tracing::debug!(%error, "a thread takes the post, since there is no pipe");
        }
        Ok(Err(_)) => tracing::debug!("a thread takes the post: the runtime does no I/O"),
    }
}

/// As long as it lives, others ring at the doorbell.
struct Attending(Arc<Hub>);

impl Attending {
    fn begin(hub: Arc<Hub>) -> Self {
        hub.attended.store(true, Ordering::SeqCst);
        hub.memory.store(attended(hub.slot), 1);
        Self(hub)
    }

    /// Takes the post until the connection ends or is lost.
    async fn take(&self, pipe: &mut Receiver) {
        let hub = &*self.0;
        let mut patience = BRIEF;
        while !hub.is_ending() {
            let pieces = self.pieces();
            if pieces == 0 {
                // Nothing is there that would take the lock.
                self.rest(pipe).await;
                continue;
            }
            let several = pieces > 1;
            match hub.take_handful(patience) {
                // Whoever got it runs first: what has come meanwhile needs nobody to ring.
                Ok(Some(left)) if left || several => tokio::task::yield_now().await,
                Ok(Some(_)) => self.rest(pipe).await,
                // Somebody else has the lock; from now on the runtime does not wait for it.
                Ok(None) => {
                    tokio::time::sleep(AGAIN).await;
                    patience = Duration::ZERO;
                    continue;
                }
                // The thread sees to it.
                Err(_) => return,
            }
            patience = BRIEF;
        }
    }

    fn pieces(&self) -> u64 {
        peers::pieces(&Heap::new(&self.0.memory), self.0.peer)
    }

    /// Sleeps until somebody rings.
    async fn rest(&self, pipe: &mut Receiver) {
        let hub = &*self.0;
        hub.memory.drowse(doorbell(hub.slot));
        if self.pieces() > 0 || hub.is_ending() {
            return hub.memory.rise(doorbell(hub.slot));
        }
        // A byte that is not read now wakes it once more.
        let mut bytes = [0; 64];
        let rung = poll_fn(|context| {
            Pin::new(&mut *pipe).poll_read(context, &mut ReadBuf::new(&mut bytes))
        });
        tokio::select! {
            () = hub.doorbells.within.notified() => {}
            _ = rung => {}
        }
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        let hub = &self.0;
        if hub.is_parents() {
            return;
        }
        hub.attended.store(false, Ordering::SeqCst);
        // The slot of one that is lost, or ends, may be another one's.
        if hub.lost.get().is_none() && !hub.is_ending() {
            hub.memory.store(attended(hub.slot), 0);
            hub.memory.rise(doorbell(hub.slot));
        }
        hub.memory.ring(bell(hub.slot));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use bytes::Bytes;
    use tokio::runtime::{Builder, Runtime};

    use super::super::super::Ipc;
    use super::super::super::doorbell::PIPE;
    use super::*;
    use crate::transport::{Arrival, Events as _, Filter, Subscription, Transport as _};

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    /// A bus of one test, which goes with it.
    struct Place(String);

    impl Place {
        fn new(name: &str) -> Self {
            let directory = format!("/dev/shm/pymq-{name}-{}", std::process::id());
            std::fs::DirBuilder::new()
                .recursive(true)
                .create(&directory)
                .expect("a directory of our own");
            let own = std::os::unix::fs::PermissionsExt::from_mode(0o700);
            std::fs::set_permissions(&directory, own).expect("it is ours");
            Self(directory)
        }

        async fn connect(&self) -> Ipc {
            Ipc::connect(&format!("ipc://{}", self.0)).await.expect("a bus")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    async fn subscribe(bus: &Ipc) -> Subscription {
        bus.subscribe(&[Filter::Topic("topic".into())]).await.expect("it listens")
    }

    async fn hears(events: &mut Subscription, what: &'static str) {
        let arrival = events.recv().await.expect("the bus is open");
        let Arrival::Message(message) = arrival else { panic!("it was an event: {arrival:?}") };
        assert_eq!(message.payload, what);
    }

    #[test]
    fn the_runtime_takes_the_post_and_the_thread_sleeps_on() {
        let place = Place::new("listened");
        runtime().block_on(async {
            let (one, other) = (place.connect().await, place.connect().await);
            let mut events = subscribe(&one).await;
            while one.hub.memory.load(attended(one.hub.slot)) == 0 {
                tokio::task::yield_now().await;
            }
            let rung = || {
                one.hub.memory.half(bell(one.hub.slot)).map(|bell| bell.load(Ordering::SeqCst) >> 1)
            };
            let before = rung();
            for _ in 0..20 {
                other.publish("topic", Bytes::from("event")).await.expect("published");
                hears(&mut events, "event").await;
            }
            assert_eq!(rung(), before, "nobody rang for the thread");
            one.close().await.and(other.close().await).expect("closed");
        });
    }

    #[test]
    fn when_a_runtime_has_gone_the_thread_takes_the_post() {
        let place = Place::new("deserted");
        let gone = runtime();
        let one = gone.block_on(place.connect());
        drop(gone);
        runtime().block_on(async {
            let other = place.connect().await;
            let mut events = subscribe(&one).await;
            other.publish("topic", Bytes::from("event")).await.expect("published");
            hears(&mut events, "event").await;
            one.close().await.and(other.close().await).expect("closed");
        });
    }

    #[test]
    fn what_a_runtime_leaves_that_nobody_drives_comes_all_the_same() {
        let place = Place::new("undriven");
        let undriven = runtime();
        let one = undriven.block_on(place.connect());
        runtime().block_on(async {
            let other = place.connect().await;
            let mut events = subscribe(&one).await;
            // A single one, and more than a runtime should leave.
            for count in [1, 200] {
                for _ in 0..count {
                    other.publish("topic", Bytes::from("event")).await.expect("published");
                }
                for _ in 0..count {
                    hears(&mut events, "event").await;
                }
            }
            one.close().await.and(other.close().await).expect("closed");
        });
    }

    #[test]
    fn where_there_can_be_no_pipe_the_thread_takes_the_post() {
        let place = Place::new("pipeless");
        for slot in 0..4 {
            std::fs::write(format!("{}/{PIPE}{slot}", place.0), "no pipe").expect("a file");
        }
        runtime().block_on(async {
            let (one, other) = (place.connect().await, place.connect().await);
            let mut events = subscribe(&one).await;
            other.publish("topic", Bytes::from("event")).await.expect("published");
            hears(&mut events, "event").await;
            assert_eq!(one.hub.memory.load(attended(one.hub.slot)), 0);
            one.close().await.and(other.close().await).expect("closed");
        });
    }

    #[test]
    fn where_a_pipe_is_gone_the_thread_is_rung_for_every_event() {
        let place = Place::new("cleaned");
        runtime().block_on(async {
            let (one, other) = (place.connect().await, place.connect().await);
            let mut events = subscribe(&one).await;
            let asleep = async || {
                let word = one.hub.memory.half(doorbell(one.hub.slot)).expect("it is there");
                let soon = tokio::time::Instant::now() + Duration::from_secs(60);
                while word.load(Ordering::SeqCst) & 1 == 0 {
                    assert!(tokio::time::Instant::now() < soon, "it makes ready to be woken");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            asleep().await;
            std::fs::remove_file(format!("{}/{PIPE}{}", place.0, one.hub.slot)).expect("a pipe");
            for _ in 0..3 {
                other.publish("topic", Bytes::from("event")).await.expect("published");
                hears(&mut events, "event").await;
                asleep().await;
            }
            one.close().await.and(other.close().await).expect("closed");
        });
    }

    #[test]
    fn few_pipes_are_kept_open_and_none_of_those_who_are_gone() {
        let place = Place::new("crowd");
        runtime().block_on(async {
            let other = place.connect().await;
            let mut crowd = Vec::new();
            for _ in 0..40 {
                let one = place.connect().await;
                let events = subscribe(&one).await;
                crowd.push((one, events));
            }
            for _ in 0..3 {
                other.publish("topic", Bytes::from("event")).await.expect("published");
                for (_, events) in &mut crowd {
                    hears(events, "event").await;
                }
                assert!(other.hub.doorbells.kept() <= 16);
            }
            for (one, events) in crowd.drain(1..) {
                drop(events);
                one.close().await.expect("closed");
            }
            other.publish("topic", Bytes::from("event")).await.expect("published");
            hears(&mut crowd[0].1, "event").await;
            assert!(other.hub.doorbells.kept() <= 1);
            crowd[0].0.close().await.and(other.close().await).expect("closed");
        });
    }

    #[test]
    fn a_runtime_without_descriptors_and_a_program_without_a_runtime_are_served() {
        let place = Place::new("plain");
        let timers = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let one = timers.block_on(place.connect());
        let other = wait(place.connect());
        wait(async {
            let mut events = subscribe(&one).await;
            other.publish("topic", Bytes::from("event")).await.expect("published");
            hears(&mut events, "event").await;
        });
        wait(async { one.close().await.and(other.close().await) }).expect("closed");
    }

    /// Waits on the calling thread, without a runtime.
    fn wait<F: Future>(future: F) -> F::Output {
        let waker = crate::transport::unparking_waker();
        let mut context = std::task::Context::from_waker(&waker);
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut context) {
                std::task::Poll::Ready(output) => return output,
                std::task::Poll::Pending => thread::park(),
            }
        }
    }
}
