//! What a provider knows of the calls it was given: those that are open, and those that are over.
//!
//! Each identity is executed once: a request that comes again meets its open call, the reply that
//! [`reply_cache`](super::reply_cache) still has, or the memory that it was [`executed`](super::executed).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use super::executed::Executed;
use super::id_map::IdMap;
use super::reply_cache::ReplyCache;
use super::{ACK_AFTER, BEAT_EVERY};
use crate::name::{Address, Id};
use crate::wire::ResponseKind;

/// How far a call is; shared by the call and its provider.
#[derive(Debug, Default)]
pub(super) struct Progress {
    begun: AtomicBool,
    cancelled: AtomicBool,
    notify: Notify,
}

impl Progress {
    /// From now on it may have been executed.
    pub(super) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

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

/// Where the outcome of a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recipient {
    /// The inbox of a caller of ours.
    Inbox(Id),
    /// The list of a caller of the original, which neither asks again nor wants signs of life.
    List(Address),
}

/// The calls of one provider.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    open: IdMap<Open>,
    kept: ReplyCache,
    executed: Executed,
}

/// A call that waits to run, or runs.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) recipient: Recipient,
    pub(super) progress: Arc<Progress>,
    /// When to say next that it is alive, and how.
    due: Option<Instant>,
    next: ResponseKind,
    received: Instant,
}

/// What a request turns out to be.
pub(super) enum Seen {
    /// New: it is to be run.
    New(Arc<Progress>),
    /// It waits or runs.
    Open,
    /// It ran; this was the reply.
    Done(Bytes),
    /// It ran, and its reply is not kept any more.
    Executed,
    /// It may have run: so many calls were executed since that the oldest are not remembered any more.
    Unknown,
}

impl InFlight {
    /// Looks at a request; `silent` is how long the caller of a repeated one has heard nothing.
    pub(super) fn see(&mut self, call: Id, recipient: Recipient, silent: Option<Duration>) -> Seen {
        if self.open.contains_key(&call) {
            return Seen::Open;
        }
        if let Some(reply) = self.kept.get(call) {
            return Seen::Done(reply);
        }
        if self.executed.contains(call) {
            return Seen::Executed;
        }
        if silent.is_some_and(|silent| self.executed.may_have_forgotten(silent)) {
            return Seen::Unknown;
        }
        let (now, progress) = (Instant::now(), Arc::<Progress>::default());
        let due = matches!(recipient, Recipient::Inbox(_)).then(|| now + ACK_AFTER);
        let open = Open {
            recipient,
            progress: Arc::clone(&progress),
            due,
            next: ResponseKind::Ack,
            received: now,
        };
        self.open.insert(call, open);
        Seen::New(progress)
    }

    /// Where the outcome of an open call goes.
    pub(super) fn recipient(&self, call: Id) -> Option<Recipient> {
        self.open.get(&call).map(|open| open.recipient.clone())
    }

    /// Notes that a call was executed, and keeps its reply for who asks again; says whether it was
    /// open.
    pub(super) fn finish(&mut self, call: Id, reply: &[u8]) -> bool {
        let Some(open) = self.open.remove(&call) else { return false };
        if matches!(open.recipient, Recipient::Inbox(_)) {
            self.executed.note(call);
            self.kept.keep(call, reply);
        }
        true
    }

    /// Forgets a call that is not begun; says whether it was open.
    pub(super) fn withdraw(&mut self, call: Id) -> bool {
        self.open.remove(&call).is_some()
    }

    /// How many calls are open.
    pub(super) fn open_calls(&self) -> usize {
        self.open.len()
    }

    /// Every call that is open.
    pub(super) fn all_open(&self) -> Vec<(Id, Recipient, Arc<Progress>)> {
        let open = self.open.iter();
        open.map(|(call, open)| (*call, open.recipient.clone(), Arc::clone(&open.progress)))
            .collect()
    }

    /// Cancels a call; what it still answers goes nowhere.
    pub(super) fn cancel(&self, call: Id) {
        if let Some(open) = self.open.get(&call) {
            open.progress.cancel();
        }
    }

    /// Which callers are to be told now that their calls are alive.
    pub(super) fn due(&mut self) -> Vec<(Id, Id, ResponseKind)> {
        let now = Instant::now();
        let mut told = Vec::new();
        for (call, open) in &mut self.open {
            let (Recipient::Inbox(inbox), Some(due)) = (&open.recipient, open.due) else {
                continue;
            };
            if due > now {
                continue;
            }
            told.push((*call, *inbox, open.next));
            open.next = ResponseKind::Beat;
            let first_beat = open.received + BEAT_EVERY;
            open.due = Some(if first_beat > now { first_beat } else { now + BEAT_EVERY });
        }
        told
    }

    /// When [`due`](Self::due) has something to say next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.open.values().filter_map(|open| open.due).min()
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::REPLIES_KEPT;
    use super::super::reply_cache::KEPT_BYTES;
    use super::*;

    fn see(calls: &mut InFlight, call: Id, inbox: Id) -> Seen {
        calls.see(call, Recipient::Inbox(inbox), None)
    }

    #[tokio::test]
    async fn an_identity_runs_once_and_its_reply_is_kept() {
        let (mut calls, call, inbox) = (InFlight::default(), Id::random(), Id::random());
        assert!(matches!(see(&mut calls, call, inbox), Seen::New(_)));
        assert!(matches!(see(&mut calls, call, inbox), Seen::Open));
        assert!(calls.finish(call, b"reply") && !calls.finish(call, b"another"));
        assert!(matches!(see(&mut calls, call, inbox), Seen::Done(reply) if reply == "reply"));
        assert!(calls.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_call_is_acknowledged_once_and_then_beats() {
        let (mut calls, call, inbox) = (InFlight::default(), Id::random(), Id::random());
        see(&mut calls, call, inbox);
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
    async fn a_call_whose_reply_is_gone_is_not_executed_again() {
        let (mut calls, inbox) = (InFlight::default(), Id::random());
        let (old, large) = (Id::random(), Id::random());
        let run = |calls: &mut InFlight, call, reply: &[u8]| {
            assert!(matches!(see(calls, call, inbox), Seen::New(_)));
            assert!(calls.finish(call, reply));
        };
        run(&mut calls, old, b"old");
        tokio::time::advance(REPLIES_KEPT).await;
        run(&mut calls, large, &vec![0; KEPT_BYTES]);
        assert!(matches!(see(&mut calls, old, inbox), Seen::Executed));
        assert!(matches!(see(&mut calls, large, inbox), Seen::Done(_)));
        run(&mut calls, Id::random(), b"one more");
        assert!(matches!(see(&mut calls, large, inbox), Seen::Executed));
    }

    #[tokio::test]
    async fn a_call_that_was_not_begun_is_as_if_it_had_never_come() {
        let (mut calls, call, inbox) = (InFlight::default(), Id::random(), Id::random());
        assert!(matches!(see(&mut calls, call, inbox), Seen::New(_)));
        assert!(calls.withdraw(call) && !calls.withdraw(call));
        assert!(matches!(see(&mut calls, call, inbox), Seen::New(_)));
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
        progress: Arc<Progress>,
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
                Step::See(call) => match see(&mut calls, ids[call], ids[call]) {
                    Seen::New(progress) => {
                        let before = finished.remove(&call);
                        assert!(before.is_none_or(|at| at.elapsed() >= 2 * REPLIES_KEPT), "twice");
                        let (cancelled, told, received) = (false, Vec::new(), Instant::now());
                        let new = Pictured { progress, cancelled, told, received };
                        assert!(running.insert(call, new).is_none(), "runs already");
                    }
                    Seen::Open => assert!(running.contains_key(&call)),
                    Seen::Executed => assert!(finished[&call].elapsed() >= REPLIES_KEPT),
                    Seen::Unknown => panic!("nothing is forgotten so soon"),
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
                let Pictured { progress, cancelled, told, received } = pictured;
                assert_eq!(progress.is_cancelled(), *cancelled);
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
