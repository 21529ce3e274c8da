//! What a provider knows of the calls it was given: those that run, and replies it still keeps.
//!
//! Each identity runs once: a request that comes again meets its running call, or the reply that
//! [`kept`](super::kept) still has.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::kept::Kept;
use super::{ACK_AFTER, BEAT_EVERY};
use crate::name::Id;
use crate::wire::ResponseKind;

/// Whether the caller still waits; shared by a call and its provider.
#[derive(Debug, Default)]
pub(super) struct Cancellation {
    cancelled: AtomicBool,
    notify: Notify,
}

impl Cancellation {
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(super) async fn cancelled(&self) {
        let notified = self.notify.notified();
        if !self.is_cancelled() {
            notified.await;
        }
    }
}

/// The calls of one provider.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    running: HashMap<Id, Running>,
    kept: Kept,
}

#[derive(Debug)]
struct Running {
    inbox: Id,
    /// When to say next that it is alive, and how.
    due: Instant,
    next: ResponseKind,
    received: Instant,
    cancellation: Arc<Cancellation>,
}

/// What a request turns out to be.
pub(super) enum Seen {
    /// New: it is to be run.
    New(Arc<Cancellation>),
    /// It is running.
    Running,
    /// It ran; this was the reply.
    Done(Bytes),
}

impl InFlight {
    pub(super) fn see(&mut self, call: Id, inbox: Id) -> Seen {
        if let Some(reply) = self.kept.get(call) {
            return Seen::Done(reply);
        }
        if self.running.contains_key(&call) {
            return Seen::Running;
        }
        let now = Instant::now();
        let cancellation = Arc::<Cancellation>::default();
        self.running.insert(
            call,
            Running {
                inbox,
                due: now + ACK_AFTER,
                next: ResponseKind::Ack,
                received: now,
                cancellation: Arc::clone(&cancellation),
            },
        );
        Seen::New(cancellation)
    }

    /// Notes that a call is over, and keeps its reply.
    pub(super) fn finish(&mut self, call: Id, reply: &[u8]) {
        self.running.remove(&call);
        self.kept.keep(call, reply);
    }

    /// Cancels a call; what it still answers goes nowhere.
    pub(super) fn cancel(&self, call: Id) {
        if let Some(running) = self.running.get(&call) {
            running.cancellation.cancel();
        }
    }

    /// Which callers are to be told now that their calls are alive.
    pub(super) fn due(&mut self) -> Vec<(Id, Id, ResponseKind)> {
        let now = Instant::now();
        let mut due = Vec::new();
        for (call, running) in self.running.iter_mut().filter(|(_, running)| running.due <= now) {
            due.push((*call, running.inbox, running.next));
            running.next = ResponseKind::Beat;
            let first_beat = running.received + BEAT_EVERY;
            running.due = if first_beat > now { first_beat } else { now + BEAT_EVERY };
        }
        due
    }

    /// When [`due`](Self::due) has something to say next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.running.values().map(|running| running.due).min()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::REPLIES_KEPT;
    use super::super::kept::KEPT_BYTES;
    use super::*;

    #[tokio::test]
    async fn an_identity_runs_once_and_its_reply_is_kept() {
        let (mut calls, call, inbox) = (InFlight::default(), Id::random(), Id::random());
        assert!(matches!(calls.see(call, inbox), Seen::New(_)));
        assert!(matches!(calls.see(call, inbox), Seen::Running));
        calls.finish(call, b"reply");
        assert!(matches!(calls.see(call, inbox), Seen::Done(reply) if reply == "reply"));
        assert!(calls.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_is_acknowledged_once_and_then_beats() {
        let (mut calls, call, inbox) = (InFlight::default(), Id::random(), Id::random());
        calls.see(call, inbox);
        assert!(calls.due().is_empty());
        tokio::time::advance(ACK_AFTER).await;
        assert_eq!(calls.due(), [(call, inbox, ResponseKind::Ack)]);
        assert!(calls.due().is_empty());
        tokio::time::advance(BEAT_EVERY - ACK_AFTER).await;
        assert_eq!(calls.due(), [(call, inbox, ResponseKind::Beat)]);
        tokio::time::advance(BEAT_EVERY).await;
        assert_eq!(calls.due(), [(call, inbox, ResponseKind::Beat)]);
    }

    #[tokio::test(start_paused = true)]
    async fn kept_replies_are_bounded_by_time_and_size() {
        let mut calls = InFlight::default();
        let (old, large) = (Id::random(), Id::random());
        calls.finish(old, b"old");
        tokio::time::advance(REPLIES_KEPT).await;
        calls.finish(large, &vec![0; KEPT_BYTES]);
        assert!(matches!(calls.see(old, Id::random()), Seen::New(_)));
        assert!(matches!(calls.see(large, Id::random()), Seen::Done(_)));
        calls.finish(Id::random(), b"one more");
        assert!(matches!(calls.see(large, Id::random()), Seen::New(_)));
    }

    /// What may happen to a provider: one of a few calls comes, ends or is cancelled; time goes by.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        See(usize),
        Finish(usize),
        Cancel(usize),
        Wait(u64),
        Tell,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..3_usize).prop_map(Step::See),
            (0..3_usize).prop_map(Step::Finish),
            (0..3_usize).prop_map(Step::Cancel),
            (1..3000_u64).prop_map(Step::Wait),
            Just(Step::Tell),
        ]
    }

    /// A call that runs, as a simple picture has it.
    struct Pictured {
        cancellation: Arc<Cancellation>,
        cancelled: bool,
        told: Vec<ResponseKind>,
        received: Instant,
    }

    async fn as_pictured(steps: Vec<Step>) {
        let (mut calls, ids) = (InFlight::default(), [0; 3].map(|_| Id::random()));
        let mut running: HashMap<usize, Pictured> = HashMap::new();
        let mut finished: HashMap<usize, Instant> = HashMap::new();
        for step in steps {
            match step {
                Step::See(call) => match calls.see(ids[call], ids[call]) {
                    Seen::New(cancellation) => {
                        let again = finished.remove(&call);
                        assert!(again.is_none_or(|at| at.elapsed() >= REPLIES_KEPT), "ran twice");
                        let (cancelled, told, received) = (false, Vec::new(), Instant::now());
                        let new = Pictured { cancellation, cancelled, told, received };
                        assert!(running.insert(call, new).is_none(), "runs already");
                    }
                    Seen::Running => assert!(running.contains_key(&call)),
                    Seen::Done(reply) => {
                        assert!(finished.contains_key(&call));
                        assert_eq!(reply, ids[call].to_string());
                    }
                },
                // Only what runs ends.
                Step::Finish(call) => {
                    if running.remove(&call).is_some() {
                        calls.finish(ids[call], ids[call].to_string().as_bytes());
                        finished.insert(call, Instant::now());
                    }
                }
                Step::Cancel(call) => {
                    calls.cancel(ids[call]);
                    running.entry(call).and_modify(|pictured| pictured.cancelled = true);
                }
                Step::Wait(milliseconds) => {
                    tokio::time::advance(std::time::Duration::from_millis(milliseconds)).await;
                }
                Step::Tell => {
                    for (call, inbox, kind) in calls.due() {
                        assert_eq!(call, inbox);
                        let call = ids.iter().position(|id| *id == call).expect("one of ours");
                        running.get_mut(&call).expect("it runs").told.push(kind);
                    }
                    assert!(calls.due().is_empty(), "told twice at once");
                }
            }
            assert_eq!(calls.is_idle(), running.is_empty());
            assert_eq!(calls.next_due().is_none(), running.is_empty());
            for pictured in running.values() {
                let Pictured { cancellation, cancelled, told, received } = pictured;
                assert_eq!(cancellation.is_cancelled(), *cancelled);
                let acks = told.iter().filter(|kind| **kind == ResponseKind::Ack).count();
                assert!(acks <= 1 && told.first().is_none_or(|kind| *kind == ResponseKind::Ack));
                let beats = received.elapsed().as_millis() / BEAT_EVERY.as_millis();
                assert!(told.len() as u128 <= beats + 1, "{told:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(crate::proof::properties::examples(256))]

        #[test]
        fn calls_are_as_pictured(steps in proptest::collection::vec(step(), 1..60)) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime");
            runtime.block_on(as_pictured(steps));
        }
    }
}
